#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

namespace tts {

/// bfloat16, as bits.
using Bf16 = std::uint16_t;

/// The nearest one, ties to even; NaN stays NaN.
[[nodiscard]] inline Bf16 to_bf16(float value) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if (std::isnan(value)) return static_cast<Bf16>((bits >> 16U) | 0x40U);
  return static_cast<Bf16>((bits + 0x7FFFU + ((bits >> 16U) & 1U)) >> 16U);
}

}  // namespace tts
