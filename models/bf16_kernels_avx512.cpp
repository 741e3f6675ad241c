// Compiled for AVX512-BF16 and called only where the CPU has it.

#include <immintrin.h>

#include "models/bf16_kernels_impl.h"

namespace tts {
namespace {

#define TTS_INLINE [[gnu::always_inline]] inline

constexpr std::int64_t kLanes = 16;
using Vec = __m512;

TTS_INLINE __mmask16 first_lanes(std::int64_t n) {
  return static_cast<__mmask16>((1U << static_cast<unsigned>(n)) - 1U);
}

/// kM rows of a product, kV vectors of columns.
template <int kM, int kV>
TTS_INLINE void tile(const Bf16Product& p, std::int64_t row) {
  constexpr int kGroups = (kM + 2) / 3;  // rows share address registers in threes
  __m512 acc[kM][kV];
  const float* start = p.start + row * p.start_stride;
#pragma GCC unroll 12
  for (int r = 0; r < kM; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kV; ++v) acc[r][v] = _mm512_loadu_ps(start + r * p.start_stride + v * kLanes);
  }
  if (p.more != nullptr) {
    const float* more = p.more + row * p.more_stride;
#pragma GCC unroll 12
    for (int r = 0; r < kM; ++r) {
#pragma GCC unroll 4
      for (int v = 0; v < kV; ++v) {
        acc[r][v] = _mm512_add_ps(acc[r][v], _mm512_loadu_ps(more + r * p.more_stride + v * kLanes));
      }
    }
  }
  const std::int64_t stride = p.row_stride * static_cast<std::int64_t>(sizeof(Bf16));
  const Bf16* weight = p.weight;
  for (std::int64_t tap = 0; tap < p.taps; ++tap) {
    const char* x[kGroups];
    x[0] = reinterpret_cast<const char*>(p.x + row * p.row_stride + tap * p.tap_stride);
#pragma GCC unroll 4
    for (int g = 1; g < kGroups; ++g) x[g] = x[g - 1] + 3 * stride;
    for (std::int64_t i = 0; i < p.pairs; ++i) {
      __m512bh w[kV];
#pragma GCC unroll 4
      for (int v = 0; v < kV; ++v) w[v] = (__m512bh)_mm512_load_si512(weight + v * 2 * kLanes);
      weight += kV * 2 * kLanes;
#pragma GCC unroll 12
      for (int r = 0; r < kM; ++r) {
        std::int32_t pair;
        __builtin_memcpy(&pair, x[r / 3] + (r % 3) * stride, sizeof(pair));
        const auto xi = (__m512bh)_mm512_set1_epi32(pair);
#pragma GCC unroll 4
        for (int v = 0; v < kV; ++v) acc[r][v] = _mm512_dpbf16_ps(acc[r][v], xi, w[v]);
      }
#pragma GCC unroll 4
      for (int g = 0; g < kGroups; ++g) x[g] += 2 * sizeof(Bf16);
    }
  }
  if (p.relu) {
    const __m512 zero = _mm512_setzero_ps();
#pragma GCC unroll 12
    for (int r = 0; r < kM; ++r) {
#pragma GCC unroll 4
      for (int v = 0; v < kV; ++v) acc[r][v] = _mm512_max_ps(acc[r][v], zero);
    }
  }
  float* out = p.out + row * p.out_stride;
  const std::int64_t rest = p.columns - (kV - 1) * kLanes;
  if (rest == kLanes) {
#pragma GCC unroll 12
    for (int r = 0; r < kM; ++r) {
#pragma GCC unroll 4
      for (int v = 0; v < kV; ++v) _mm512_storeu_ps(out + r * p.out_stride + v * kLanes, acc[r][v]);
    }
  } else {
    const __mmask16 mask = first_lanes(rest);
#pragma GCC unroll 12
    for (int r = 0; r < kM; ++r) {
#pragma GCC unroll 4
      for (int v = 0; v < kV - 1; ++v) _mm512_storeu_ps(out + r * p.out_stride + v * kLanes, acc[r][v]);
      _mm512_mask_storeu_ps(out + r * p.out_stride + (kV - 1) * kLanes, mask, acc[r][kV - 1]);
    }
  }
}

template <int kM, int kV>
void tiles(const Bf16Product& p) {
  std::int64_t row = 0;
  for (; row + kM <= p.rows; row += kM) tile<kM, kV>(p, row);
  if (kM > 6 && row + 6 <= p.rows) {
    tile<6, kV>(p, row);
    row += 6;
  }
  if (row + 3 <= p.rows) {
    tile<3, kV>(p, row);
    row += 3;
  }
  if (row + 2 <= p.rows) {
    tile<2, kV>(p, row);
    row += 2;
  }
  if (row < p.rows) tile<1, kV>(p, row);
}

void product(const Bf16Product& p) {
  switch (p.vectors) {
    case 1:
      return tiles<12, 1>(p);
    case 2:
      return tiles<12, 2>(p);
    case 3:
      return tiles<6, 3>(p);
    default:
      return tiles<6, 4>(p);
  }
}

TTS_INLINE Vec load(const float* from) {
  return _mm512_loadu_ps(from);
}

TTS_INLINE Vec load(const Bf16* from) {
  return _mm512_castsi512_ps(
      _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))), 16));
}

TTS_INLINE void store(float* to, Vec v) {
  _mm512_storeu_ps(to, v);
}

TTS_INLINE void store_rounded(Bf16* to, Vec v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), (__m256i)_mm512_cvtneps_pbh(v));
}

TTS_INLINE Vec splat(float v) {
  return _mm512_set1_ps(v);
}

TTS_INLINE Vec fma(Vec a, Vec b, Vec c) {
  return _mm512_fmadd_ps(a, b, c);
}

TTS_INLINE Vec max(Vec a, Vec b) {
  return _mm512_max_ps(a, b);
}

TTS_INLINE Vec min(Vec a, Vec b) {
  return _mm512_min_ps(a, b);
}

TTS_INLINE float sum(Vec v) {
  return _mm512_reduce_add_ps(v);
}

TTS_INLINE Vec nearest_integer(Vec v) {
  return _mm512_roundscale_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

/// v 2^n, n an integer.
TTS_INLINE Vec scale(Vec v, Vec n) {
  return _mm512_scalef_ps(v, n);
}

#include "models/bf16_kernels.inc"

}  // namespace

const Bf16Kernels& bf16_kernels_avx512() {
  static constexpr Bf16Kernels kSet = TTS_BF16_KERNELS("avx512_bf16", false, Bf16Kernels::kMostVectors);
  return kSet;
}

}  // namespace tts
