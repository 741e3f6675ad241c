// any CPU; right, not fast.
#define TTS_KERNELS_NAME base
#define TTS_KERNELS_ROWS 2
#include "models/kernels_low.inc"
