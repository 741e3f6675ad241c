#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace tts {

inline constexpr std::int64_t kFbankRateHz = 16'000;
inline constexpr std::int64_t kFbankBands = 80;
inline constexpr std::int64_t kFbankWindow = 400;  ///< samples of a frame, 25 ms
inline constexpr std::int64_t kFbankShift = 160;   ///< samples between frames, 10 ms

/// Log mel energies as Kaldi makes them, without dither, energy and mean subtraction: only whole frames, each with its
/// mean removed, pre-emphasis 0.97 and Povey's window; 512-point power spectrum; triangles on mel = 1127 ln(1 + f /
/// 700) from 20 to 8000 Hz; natural logarithm with a floor of float32's epsilon. wave [samples] at 16 kHz in [-1, 1] ->
/// [1 + (samples - 400) / 160, 80]. Throws ModelError below 400 samples.
[[nodiscard]] at::Tensor kaldi_fbank(const at::Tensor& wave);

}  // namespace tts
