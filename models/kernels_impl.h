#pragma once

#include "models/kernels.h"

// One accessor per instruction set; each lives in its own .cpp, compiled with that set's flags from kernels.inc.
namespace tts {

[[nodiscard]] const Kernels& kernels_base();
#if defined(__x86_64__)
[[nodiscard]] const Kernels& kernels_avx2();
[[nodiscard]] const Kernels& kernels_avx512();
#endif

}  // namespace tts
