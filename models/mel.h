#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

namespace tts {

/// Magnitudes sqrt(re^2 + im^2 + 1e-8) of a short-time Fourier transform: periodic Hann window of n_fft samples, no
/// centring, (n_fft - hop) / 2 reflected samples at both ends.
/// wave [samples], samples > (n_fft - hop) / 2 -> [floor(samples / hop), n_fft / 2 + 1]. Throws ModelError when the
/// wave is shorter.
[[nodiscard]] at::Tensor magnitude_spectrogram(const at::Tensor& wave, std::int64_t n_fft, std::int64_t hop_samples);

/// What the reference encoder sees: n_fft 2048, hop 640 at 32 kHz. wave [samples] -> [frames, 1025].
[[nodiscard]] at::Tensor reference_spectrogram(const at::Tensor& wave);

struct MelConfig {
  std::int64_t rate_hz = 24000;
  std::int64_t n_fft = 1024;
  std::int64_t hop_samples = 256;
  std::int64_t bands = 100;
};
inline constexpr MelConfig kMelV3{24000, 1024, 256, 100};
inline constexpr MelConfig kMelV4{32000, 1280, 320, 100};

/// Corner frequencies of the bands on Slaney's scale, [bands + 2]: band b rises from [b], peaks at [b + 1], falls to [b
/// + 2].
[[nodiscard]] std::vector<double> mel_edges_hz(const MelConfig& config);

/// Log mel spectrogram of the flow-matching models: Slaney's scale and area normalisation from 0 to rate / 2, natural
/// logarithm with a floor of 1e-5 on the magnitude.
class MelFrontEnd {
 public:
  explicit MelFrontEnd(const MelConfig& config);
  /// wave [samples] -> [frames, bands].
  [[nodiscard]] at::Tensor operator()(const at::Tensor& wave) const;
  /// [bands, n_fft / 2 + 1].
  [[nodiscard]] const at::Tensor& filterbank() const { return filterbank_; }

 private:
  MelConfig config_;
  at::Tensor filterbank_;
};

/// torchaudio's default resampler: sinc with a Hann window, 6 zero crossings, roll-off 0.99.
/// wave [samples] at from_hz -> [ceil(samples * to_hz / from_hz)] at to_hz. For reference audio only, where upstream's
/// exact filter matters; playback uses src/audio.
[[nodiscard]] at::Tensor resample_sinc(const at::Tensor& wave, std::int64_t from_hz, std::int64_t to_hz);

}  // namespace tts
