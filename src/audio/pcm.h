#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace tts {

/// PCM in this project: mono float in [-1, 1], passed as std::span<const float> and handed over as
/// std::vector<float>, with its rate beside it as `rate_hz`. Integers appear only at the edges (files, sockets).

inline constexpr float kS16Scale = 32768.0F;

/// Rounds to nearest, ties to even; clips to [-32768, 32767]; NaN becomes 0.
[[nodiscard]] inline std::int16_t to_s16(float sample) noexcept {
  const float scaled = sample * kS16Scale;
  if (std::isnan(scaled)) return 0;
  if (scaled >= 32767.0F) return 32767;
  if (scaled <= -32768.0F) return -32768;
  return static_cast<std::int16_t>(std::nearbyintf(scaled));
}

[[nodiscard]] inline float to_float(std::int16_t sample) noexcept {
  return static_cast<float>(sample) / kS16Scale;
}

/// Appends `pcm` to `out` as little-endian signed 16-bit samples.
inline void append_s16le(std::span<const float> pcm, std::vector<std::uint8_t>& out) {
  std::size_t at = out.size();
  out.resize(at + 2 * pcm.size());
  for (const float sample : pcm) {
    const auto bits = static_cast<std::uint16_t>(to_s16(sample));
    out[at++] = static_cast<std::uint8_t>(bits & 0xFFU);
    out[at++] = static_cast<std::uint8_t>(bits >> 8U);
  }
}

/// `pcm` as little-endian signed 16-bit samples.
[[nodiscard]] inline std::vector<std::uint8_t> to_s16le(std::span<const float> pcm) {
  std::vector<std::uint8_t> out;
  append_s16le(pcm, out);
  return out;
}

/// Little-endian signed 16-bit bytes to float; an odd last byte is left out.
[[nodiscard]] inline std::vector<float> from_s16le(std::span<const std::uint8_t> bytes) {
  std::vector<float> pcm(bytes.size() / 2);
  for (std::size_t i = 0; i < pcm.size(); ++i) {
    const auto bits = static_cast<std::uint16_t>(bytes[2 * i] | (bytes[2 * i + 1] << 8U));
    pcm[i] = to_float(static_cast<std::int16_t>(bits));
  }
  return pcm;
}

/// Samples of `samples` at `from_hz` when played at `to_hz`, rounded half up. Rates > 0, samples >= 0.
[[nodiscard]] constexpr std::int64_t scale_samples(std::int64_t samples, int from_hz, int to_hz) noexcept {
  return (2 * samples * to_hz + from_hz) / (2 * static_cast<std::int64_t>(from_hz));
}

}  // namespace tts
