#include "models/bf16_kernels.h"

#include "models/bf16_kernels_impl.h"

namespace tts {

std::vector<const Bf16Kernels*> supported_bf16_kernels() {
  std::vector<const Bf16Kernels*> found;
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bf16")) {
    found.push_back(&bf16_kernels_avx512());
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) found.push_back(&bf16_kernels_avx2());
#endif
  return found;
}

const Bf16Kernels* bf16_kernels() {
  static const Bf16Kernels* const best = []() -> const Bf16Kernels* {
    const auto all = supported_bf16_kernels();
    if (all.empty()) return nullptr;
#if defined(__x86_64__)
    if (all.front()->fixed_point && __builtin_cpu_supports("avx512f")) return nullptr;
#endif
    return all.front();
  }();
  return best;
}

}  // namespace tts
