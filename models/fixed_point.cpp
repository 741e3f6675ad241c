#include "models/fixed_point.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace tts {

static_assert(static_cast<std::int64_t>(FixedPoint::kMostInput) * FixedPoint::kMostRun <= INT32_MAX);

float FixedPoint::fineness(const float* column, std::int64_t taps, std::int64_t in) {
  double largest = 0;
  double most = 0;
  double all = 0;
  for (std::int64_t tap = 0; tap < taps; ++tap) {
    const auto size = [&](std::int64_t i) { return std::abs(static_cast<double>(column[tap * in + i])); };
    double run = 0;
    for (std::int64_t i = 0; i < in; ++i) {
      run += size(i);
      all += size(i);
      if (i >= kRun) run -= size(i - kRun);
      largest = std::max(largest, size(i));
      most = std::max(most, run);
    }
  }
  if (!std::isfinite(all)) return std::numeric_limits<float>::quiet_NaN();
  if (largest == 0) return 0;
  constexpr double kRounded = kMostRun - (kRun / 2 + 1);  // each of a run's integers may be rounded up by a half
  return static_cast<float>(std::min(32767 / largest, kRounded / most));
}

}  // namespace tts
