#include "models/noise.h"

#include <cmath>
#include <numbers>

namespace tts {
namespace {

constexpr std::uint64_t kGamma = 0x9E3779B97F4A7C15ULL;

std::uint64_t mix(std::uint64_t z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
  return z ^ (z >> 31);
}

/// 24 random bits to (0, 1].
float unit(std::uint64_t bits) {
  return static_cast<float>((bits >> 40) + 1) * 0x1p-24F;
}

}  // namespace

GaussianNoise::GaussianNoise(std::uint64_t seed, std::uint64_t stream)
    : key_(mix(mix(seed + kGamma) ^ ((stream + 1) * kGamma))) {}

void GaussianNoise::fill(std::int64_t first, std::span<float> out) const {
  const auto n = static_cast<std::int64_t>(out.size());
  std::int64_t i = 0;
  while (i < n) {
    const auto index = static_cast<std::uint64_t>(first + i);
    const std::uint64_t pair = index >> 1;  // neighbours 2k and 2k + 1 share one draw, negative indices included
    const float radius = std::sqrt(-2.0F * std::log(unit(mix(key_ + 2 * pair * kGamma))));
    const float angle = 2.0F * std::numbers::pi_v<float> * unit(mix(key_ + (2 * pair + 1) * kGamma));
    if ((index & 1U) == 0) {
      out[static_cast<std::size_t>(i++)] = radius * std::cos(angle);
      if (i < n) {
        out[static_cast<std::size_t>(i++)] = radius * std::sin(angle);
      }
    } else {
      out[static_cast<std::size_t>(i++)] = radius * std::sin(angle);
    }
  }
}

}  // namespace tts
