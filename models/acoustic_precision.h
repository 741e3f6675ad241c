#pragma once

#include <initializer_list>
#include <optional>
#include <string_view>

namespace tts {

/// What the configuration asks of the acoustic networks of a voice.
enum class AcousticPrecision {
  automatic,  ///< bf16 where the CPU has instructions for it and the guard lets it pass
  fp32,
  bf16,  ///< the same; where it cannot be, the log says so as a warning
};
/// "auto", "fp32", "bf16".
[[nodiscard]] constexpr const char* to_string(AcousticPrecision precision) noexcept {
  switch (precision) {
    case AcousticPrecision::automatic:
      return "auto";
    case AcousticPrecision::fp32:
      return "fp32";
    case AcousticPrecision::bf16:
      return "bf16";
  }
  return "";
}
[[nodiscard]] constexpr std::optional<AcousticPrecision> acoustic_precision_of(std::string_view name) noexcept {
  for (const auto precision : {AcousticPrecision::automatic, AcousticPrecision::fp32, AcousticPrecision::bf16}) {
    if (name == to_string(precision)) return precision;
  }
  return std::nullopt;
}

}  // namespace tts
