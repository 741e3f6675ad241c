#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace tts {

/// Where networks are to run.
struct DeviceChoice {
  enum class Kind {
    automatic,  ///< a GPU where the build knows them and the machine has one
    cpu,
    cuda,  ///< that or nothing
  };
  Kind kind = Kind::cpu;
  int index = 0;  ///< of several GPUs

  [[nodiscard]] bool operator==(const DeviceChoice&) const = default;
};

/// "auto", "cpu", "cuda" (the first), "cuda:1".
[[nodiscard]] std::string to_string(const DeviceChoice& choice);
[[nodiscard]] std::optional<DeviceChoice> device_choice_of(std::string_view name);

/// The GPU that `choice` means on this machine, or nothing: the CPU. Throws ModelError when it asks for one that is not
/// there, with the reason.
[[nodiscard]] std::optional<int> cuda_device_of(const DeviceChoice& choice);
/// Segments whose tokens are usually drawn together on such a device: up to there a decode step hardly takes longer.
[[nodiscard]] int usual_slots(const DeviceChoice& choice);

}  // namespace tts
