// AVX2 and FMA.
#include <immintrin.h>
#define TTS_KERNELS_NAME avx2
#define TTS_KERNELS_LANES 8
#define TTS_KERNELS_ROWS 4
#define TTS_KERNELS_FAST_HALF true
#define TTS_KERNELS_FAST_INT8 true
#define TTS_KERNELS_LINEAR "models/kernels_low_linear_avx2.inc"
#include "models/kernels_low.inc"
