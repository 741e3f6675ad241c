#pragma once

#include <cstdint>

namespace tts {

/// Products of 16-bit integers where the CPU has none of bfloat16 (AVX2: vpmaddwd). A column of weights has one scale;
/// a run of inputs becomes integers with a power of two of its own. The sum over a run is an exact integer, whatever
/// its order, and cannot overflow: inputs are at most kMostInput, a column's weights in any run at most kMostRun
/// together.
struct FixedPoint {
  static constexpr std::int64_t kRun = 256;  ///< numbers at most
  static constexpr std::int32_t kMostInput = 8192;
  static constexpr std::int32_t kMostRun = 262143;

  /// Integers to the unit of a column [taps, in], no run of which reaches across taps: as many as int16 and kMostRun
  /// allow. 0 where all weights are; NaN where one is not finite.
  [[nodiscard]] static float fineness(const float* column, std::int64_t taps, std::int64_t in);
};

}  // namespace tts
