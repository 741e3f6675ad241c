// any CPU: 128-bit vectors (SSE2, NEON). Tile: 4 rows by 2 vectors.
#define TTS_KERNELS_NAME base
#define TTS_KERNELS_LANES 4
#define TTS_KERNELS_VECTORS 2
#define TTS_KERNELS_ROWS 4
#include "models/kernels.inc"
