#pragma once

#include <initializer_list>
#include <optional>
#include <string_view>

namespace tts {

/// What the configuration asks of a network that can compute with bfloat16 numbers as well.
enum class PrecisionChoice {
  automatic,  ///< bf16 where the CPU is faster with it, or with integers for it, and the guard lets it pass
  fp32,
  bf16,  ///< the same; where it cannot be, the log says so as a warning
};
/// "auto", "fp32", "bf16".
[[nodiscard]] constexpr const char* to_string(PrecisionChoice precision) noexcept {
  switch (precision) {
    case PrecisionChoice::automatic:
      return "auto";
    case PrecisionChoice::fp32:
      return "fp32";
    case PrecisionChoice::bf16:
      return "bf16";
  }
  return "";
}
[[nodiscard]] constexpr std::optional<PrecisionChoice> precision_choice_of(std::string_view name) noexcept {
  for (const auto precision : {PrecisionChoice::automatic, PrecisionChoice::fp32, PrecisionChoice::bf16}) {
    if (name == to_string(precision)) return precision;
  }
  return std::nullopt;
}

}  // namespace tts
