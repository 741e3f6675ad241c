// AVX-512 F, DQ, VL, BW. Tile: 6 rows by 4 vectors.
#define TTS_KERNELS_NAME avx512
#define TTS_KERNELS_LANES 16
#define TTS_KERNELS_VECTORS 4
#define TTS_KERNELS_ROWS 6
#include "models/kernels.inc"
