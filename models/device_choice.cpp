#include "models/device_choice.h"

#include <charconv>
#include <system_error>

#include "models/model_error.h"
#if defined(SONORANT_CUDA)
#include "models/cuda/t2s_cuda.h"
#endif

namespace tts {

std::string to_string(const DeviceChoice& choice) {
  switch (choice.kind) {
    case DeviceChoice::Kind::automatic:
      return "auto";
    case DeviceChoice::Kind::cpu:
      return "cpu";
    case DeviceChoice::Kind::cuda:
      return "cuda:" + std::to_string(choice.index);
  }
  return "";
}

std::optional<DeviceChoice> device_choice_of(std::string_view name) {
  if (name == "auto") return DeviceChoice{DeviceChoice::Kind::automatic};
  if (name == "cpu") return DeviceChoice{DeviceChoice::Kind::cpu};
  if (name == "cuda") return DeviceChoice{DeviceChoice::Kind::cuda};
  constexpr std::string_view kPrefix = "cuda:";
  if (!name.starts_with(kPrefix)) return std::nullopt;
  name.remove_prefix(kPrefix.size());
  DeviceChoice choice{DeviceChoice::Kind::cuda};
  constexpr int kMost = 63;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), choice.index);
  if (error != std::errc() || end != name.data() + name.size() || choice.index < 0 || choice.index > kMost) {
    return std::nullopt;
  }
  return choice;
}

std::optional<int> cuda_device_of(const DeviceChoice& choice) {
  if (choice.kind == DeviceChoice::Kind::cpu) return std::nullopt;
#if defined(SONORANT_CUDA)
  const int n = cuda::device_count();
  if (choice.index < n) return choice.index;
  const std::string why =
      n == 0 ? "this machine has none that its driver and these kernels know" : "this machine has " + std::to_string(n);
#else
  const std::string why = "this program was built without CUDA (SONORANT_CUDA)";
#endif
  if (choice.kind == DeviceChoice::Kind::automatic) return std::nullopt;
  throw ModelError("no GPU " + to_string(choice) + ": " + why);
}

int usual_slots(const DeviceChoice& choice) {
  return cuda_device_of(choice) ? 256 : 32;
}

}  // namespace tts
