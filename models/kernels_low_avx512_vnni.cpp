// AVX-512 F, DQ, VL, BW and VNNI: products of bytes. Tile: 6 rows by 4 vectors.
#if !defined(__AVX512VNNI__)
#error "compiled without its flags; see CMakeLists.txt"
#endif
#define TTS_KERNELS_NAME avx512_vnni
#define TTS_KERNELS_LANES 16
#define TTS_KERNELS_ROWS 6
#define TTS_KERNELS_FAST_HALF false
#define TTS_KERNELS_FAST_INT8 true
#define TTS_KERNELS_LINEAR "models/kernels_low_linear.inc"
#include "models/kernels_low.inc"
