#pragma once

#include "models/kernels_low.h"

// One accessor per instruction set; each lives in its own .cpp, compiled with that set's flags from kernels_low.inc.
namespace tts {

[[nodiscard]] const LowKernels& low_kernels_base();
#if defined(__x86_64__)
[[nodiscard]] const LowKernels& low_kernels_avx2();
[[nodiscard]] const LowKernels& low_kernels_avx512_vnni();
[[nodiscard]] const LowKernels& low_kernels_avx512_bf16();
#endif

}  // namespace tts
