// AVX2 and FMA.
#define TTS_KERNELS_NAME avx2
#define TTS_KERNELS_ROWS 2
#include "models/kernels_low.inc"
