#include "models/bf16_kernels.h"

namespace tts {

#if defined(__x86_64__)
[[nodiscard]] const Bf16Kernels& bf16_kernels_avx512();
#endif

const Bf16Kernels* bf16_kernels() {
#if defined(__x86_64__)
  static const bool able = [] {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512bf16");
  }();
  return able ? &bf16_kernels_avx512() : nullptr;
#else
  return nullptr;
#endif
}

}  // namespace tts
