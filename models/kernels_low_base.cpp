// any CPU; right, not fast.
#define TTS_KERNELS_NAME base
#define TTS_KERNELS_LANES 16
#define TTS_KERNELS_ROWS 2
#define TTS_KERNELS_FAST_HALF false
#define TTS_KERNELS_FAST_INT8 false
#define TTS_KERNELS_LINEAR "models/kernels_low_linear.inc"
#include "models/kernels_low.inc"
