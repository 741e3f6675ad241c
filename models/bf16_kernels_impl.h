#pragma once

#include "models/bf16_kernels.h"

// One accessor per instruction set; each lives in its own .cpp, compiled with that set's flags.
namespace tts {

#if defined(__x86_64__)
[[nodiscard]] const Bf16Kernels& bf16_kernels_avx2();
[[nodiscard]] const Bf16Kernels& bf16_kernels_avx512();
#endif

}  // namespace tts
