// AVX-512 F, DQ, VL, BW, VNNI and BF16: products of bytes and of bf16 pairs. Tile: 6 rows by 4 vectors.
#if !defined(__AVX512VNNI__) || !defined(__AVX512BF16__)
#error "compiled without its flags; see CMakeLists.txt"
#endif
#define TTS_KERNELS_NAME avx512_bf16
#define TTS_KERNELS_LANES 16
#define TTS_KERNELS_ROWS 6
#define TTS_KERNELS_FAST_HALF true
#define TTS_KERNELS_FAST_INT8 true
#define TTS_KERNELS_LINEAR "models/kernels_low_linear.inc"
#include "models/kernels_low.inc"
