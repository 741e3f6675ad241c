#pragma once

#include <cmath>
#include <cstddef>
#include <numbers>
#include <span>
#include <utility>
#include <vector>

namespace tts {

enum class Fade {
  equal_power,  ///< for sides that are unrelated: sin^2 + cos^2 = 1 keeps the energy
  linear,       ///< for sides that are nearly the same signal: weights sum to 1 and keep the amplitude
};

/// Weights {old side, new side} of sample `i` of an overlap of `n` samples; taken at the middle of each sample, so
/// that the weights of i and n - 1 - i mirror each other.
[[nodiscard]] inline std::pair<float, float> fade_weights(Fade fade, std::size_t i, std::size_t n) noexcept {
  const float t = (static_cast<float>(i) + 0.5F) / static_cast<float>(n);
  if (fade == Fade::linear) return {1.0F - t, t};
  const float angle = t * std::numbers::pi_v<float> / 2.0F;
  return {std::cos(angle), std::sin(angle)};
}

/// `before` fades into `after`; both hold the same stretch of time. The shorter length counts.
[[nodiscard]] inline std::vector<float> crossfade(std::span<const float> before, std::span<const float> after,
                                                  Fade fade) {
  const std::size_t n = before.size() < after.size() ? before.size() : after.size();
  std::vector<float> out(n);
  for (std::size_t i = 0; i < n; ++i) {
    const auto [down, up] = fade_weights(fade, i, n);
    out[i] = down * before[i] + up * after[i];
  }
  return out;
}

}  // namespace tts
