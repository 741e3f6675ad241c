#pragma once

#include <cstdint>
#include <vector>

namespace tts {

/// The T2S's table of positions [count, dim], sine and cosine interleaved (Vaswani et al. 2017, sec. 3.5).
[[nodiscard]] std::vector<float> sine_positions(std::int64_t count, std::int64_t dim);

}  // namespace tts
