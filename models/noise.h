#pragma once

#include <cstdint>
#include <span>

namespace tts {

/// Standard normal numbers that are a pure function of (seed, stream, index): whoever asks for index i, in whatever
/// order and chunks, gets the same number. Counter-based: SplitMix64 (Steele et al. 2014) of the counter, then
/// Box-Muller on each pair of indices.
class GaussianNoise {
 public:
  /// Streams of one seed are independent of each other.
  GaussianNoise(std::uint64_t seed, std::uint64_t stream);
  /// out[i] = number first + i. first may be negative.
  void fill(std::int64_t first, std::span<float> out) const;

 private:
  std::uint64_t key_;
};

}  // namespace tts
