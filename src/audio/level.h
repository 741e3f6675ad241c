#pragma once

#include <span>

namespace tts {

/// Largest magnitude; 0 for no samples.
[[nodiscard]] float peak(std::span<const float> pcm) noexcept;
/// Root mean square; 0 for no samples.
[[nodiscard]] float rms(std::span<const float> pcm) noexcept;
/// Amplitude to decibels of full scale; -120 at and below 1e-6.
[[nodiscard]] float to_dbfs(float amplitude) noexcept;

/// Programme loudness in LUFS (ITU-R BS.1770-4, mono: K-weighting, 400 ms blocks with 75 % overlap, absolute gate
/// -70, relative gate -10). -120 when shorter than one block or when nothing passes the gates. rate_hz >= 8000.
[[nodiscard]] double loudness_lufs(std::span<const float> pcm, int rate_hz);

/// Keeps samples within +-0.98 and leaves those within +-0.7 as they are: between, a smooth bend (tanh), sample by
/// sample, so that pieces are limited as the whole would be and nothing is held back. No order of loud sounds is
/// changed.
void limit_peaks(std::span<float> pcm) noexcept;

}  // namespace tts
