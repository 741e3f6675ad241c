#include "models/sine_positions.h"

#include <cmath>

namespace tts {

std::vector<float> sine_positions(std::int64_t count, std::int64_t dim) {
  // The reference's float32 arithmetic up to the angle; the sine itself in double.
  std::vector<float> table(static_cast<std::size_t>(count * dim));
  const auto step = static_cast<float>(-(std::log(10000.0) / static_cast<double>(dim)));
  for (std::int64_t j = 0; j < dim; j += 2) {
    const float frequency = std::exp(static_cast<float>(j) * step);
    for (std::int64_t p = 0; p < count; ++p) {
      const auto angle = static_cast<double>(static_cast<float>(p) * frequency);
      table[static_cast<std::size_t>(p * dim + j)] = static_cast<float>(std::sin(angle));
      table[static_cast<std::size_t>(p * dim + j + 1)] = static_cast<float>(std::cos(angle));
    }
  }
  return table;
}

}  // namespace tts
