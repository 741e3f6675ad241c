// AVX2 and FMA. Tile: 6 rows by 2 vectors.
#define TTS_KERNELS_NAME avx2
#define TTS_KERNELS_LANES 8
#define TTS_KERNELS_VECTORS 2
#define TTS_KERNELS_ROWS 6
#include "models/kernels.inc"
