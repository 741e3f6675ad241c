// Compiled for AVX512-BF16 and called only where the CPU has it. No standard library templates are called here: an
// inline function compiled with wider instructions could otherwise be the copy the linker keeps for everyone.

#include <immintrin.h>

#include "models/bf16_kernels.h"

namespace tts {

[[nodiscard]] const Bf16Kernels& bf16_kernels_avx512();

namespace {

#define TTS_INLINE [[gnu::always_inline]] inline

constexpr std::int64_t kLanes = 16;

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

TTS_INLINE __m512 leaky(__m512 v, __m512 slope) {
  return _mm512_max_ps(v, _mm512_mul_ps(v, slope));
}

TTS_INLINE void store_rounded(Bf16* to, __m512 v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), (__m256i)_mm512_cvtneps_pbh(v));
}

TTS_INLINE __m512 load_bf16(const Bf16* from) {
  return _mm512_castsi512_ps(
      _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))), 16));
}

void round(const FloatBlock& v, float slope, Bf16* to, std::int64_t to_stride) {
  const __m512 slopes = _mm512_set1_ps(slope);
  for (std::int64_t row = 0; row < v.rows; ++row) {
    const float* from = v.at + row * v.stride;
    Bf16* out = to + row * to_stride;
    std::int64_t i = 0;
    for (; i + kLanes <= v.columns; i += kLanes) store_rounded(out + i, leaky(_mm512_loadu_ps(from + i), slopes));
    if (i < v.columns) {
      const __mmask16 mask = first_lanes(v.columns - i);
      const __m512 x = leaky(_mm512_maskz_loadu_ps(mask, from + i), slopes);
      _mm256_mask_storeu_epi16(out + i, mask, (__m256i)_mm512_cvtneps_pbh(x));
    }
  }
}

void add(const FloatBlock& v, const float* base, float* y, float slope, Bf16* to, std::int64_t stride) {
  const __m512 slopes = _mm512_set1_ps(slope);
  for (std::int64_t row = 0; row < v.rows; ++row) {
    const float* from = v.at + row * v.stride;
    const std::int64_t at = row * stride;
    for (std::int64_t i = 0; i < v.columns; i += kLanes) {
      __m512 sum = _mm512_loadu_ps(from + i);
      if (base != nullptr) sum = _mm512_add_ps(sum, _mm512_loadu_ps(base + at + i));
      _mm512_storeu_ps(y + at + i, sum);
      if (to != nullptr) store_rounded(to + at + i, leaky(sum, slopes));
    }
  }
}

void mean(const float* const* x, std::int64_t count, std::int64_t n, float slope, Bf16* to) {
  const __m512 slopes = _mm512_set1_ps(slope);
  const __m512 share = _mm512_set1_ps(1.0F / static_cast<float>(count));
  for (std::int64_t i = 0; i < n; i += kLanes) {
    __m512 sum = _mm512_loadu_ps(x[0] + i);
    for (std::int64_t k = 1; k < count; ++k) sum = _mm512_add_ps(sum, _mm512_loadu_ps(x[k] + i));
    store_rounded(to + i, leaky(_mm512_mul_ps(sum, share), slopes));
  }
}

void split(const Bf16* const* x, std::int64_t n, Bf16* const* to) {
  for (std::int64_t i = 0; i < n; i += kLanes) {
    const __m512 x0 = load_bf16(x[0] + i);
    const __m512 x1 = load_bf16(x[1] + i);
    const __m512 x2 = load_bf16(x[2] + i);
    const __m512 x3 = load_bf16(x[3] + i);
    const __m512 x4 = load_bf16(x[4] + i);
    const __m512 x5 = load_bf16(x[5] + i);
    const __m512 x6 = load_bf16(x[6] + i);
    const __m512 a = _mm512_sub_ps(x0, x1);
    const __m512 b = _mm512_sub_ps(x2, x3);
    const __m512 c = _mm512_sub_ps(x1, x2);
    const __m512 d = _mm512_sub_ps(x3, x4);
    store_rounded(to[0] + i, _mm512_sub_ps(a, b));
    store_rounded(to[1] + i, b);
    store_rounded(to[2] + i, _mm512_sub_ps(b, _mm512_sub_ps(x4, x5)));
    store_rounded(to[3] + i, _mm512_sub_ps(x1, x3));
    store_rounded(to[4] + i, x3);
    store_rounded(to[5] + i, _mm512_sub_ps(x3, x5));
    store_rounded(to[6] + i, _mm512_sub_ps(c, d));
    store_rounded(to[7] + i, d);
    store_rounded(to[8] + i, _mm512_sub_ps(d, _mm512_sub_ps(x5, x6)));
  }
}

/// e^x to about 1e-7 relative, for |x| up to 87, beyond which it stays there. Range reduction by ln 2 in two parts,
/// then a degree-6 polynomial on [-ln2/2, ln2/2].
TTS_INLINE __m512 exp(__m512 x) {
  x = _mm512_min_ps(_mm512_max_ps(x, _mm512_set1_ps(-87.0F)), _mm512_set1_ps(87.0F));
  const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504088896341F)),
                                        _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375F), x);
  r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4F), r);
  __m512 p = _mm512_set1_ps(1.0F / 720.0F);
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0F / 120.0F));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0F / 24.0F));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0F / 6.0F));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.5F));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0F));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0F));
  return _mm512_scalef_ps(p, n);
}

TTS_INLINE __m512 sigmoid(__m512 x) {
  const __m512 one = _mm512_set1_ps(1.0F);
  return _mm512_div_ps(one, _mm512_add_ps(one, exp(_mm512_sub_ps(_mm512_setzero_ps(), x))));
}

void gelu(const FloatBlock& v, Bf16* to, std::int64_t to_stride) {
  for (std::int64_t row = 0; row < v.rows; ++row) {
    for (std::int64_t i = 0; i < v.columns; i += kLanes) {
      const __m512 x = _mm512_loadu_ps(v.at + row * v.stride + i);
      const __m512 cubic = _mm512_fmadd_ps(_mm512_mul_ps(x, x), _mm512_set1_ps(0.044715F), _mm512_set1_ps(1.0F));
      const __m512 u = _mm512_mul_ps(_mm512_mul_ps(x, _mm512_set1_ps(2.0F * 0.7978845608F)), cubic);
      store_rounded(to + row * to_stride + i, _mm512_mul_ps(x, sigmoid(u)));  // tanh(u / 2) = 2 sigmoid(u) - 1
    }
  }
}

void add_gated(const FloatBlock& v, const float* gate, float* y, std::int64_t y_stride) {
  for (std::int64_t row = 0; row < v.rows; ++row) {
    float* to = y + row * y_stride;
    for (std::int64_t i = 0; i < v.columns; i += kLanes) {
      _mm512_storeu_ps(to + i, _mm512_fmadd_ps(_mm512_loadu_ps(v.at + row * v.stride + i), _mm512_loadu_ps(gate + i),
                                               _mm512_loadu_ps(to + i)));
    }
  }
}

void gate(const FloatBlock& a, const float* b, Bf16* to, std::int64_t to_stride) {
  const __m512 two = _mm512_set1_ps(2.0F);
  const __m512 one = _mm512_set1_ps(1.0F);
  for (std::int64_t row = 0; row < a.rows; ++row) {
    for (std::int64_t i = 0; i < a.columns; i += kLanes) {
      const __m512 x = _mm512_loadu_ps(a.at + row * a.stride + i);
      const __m512 t = _mm512_fmsub_ps(two, sigmoid(_mm512_mul_ps(two, x)), one);  // tanh
      store_rounded(to + row * to_stride + i, _mm512_mul_ps(t, sigmoid(_mm512_loadu_ps(b + row * a.stride + i))));
    }
  }
}

void depthwise_norm(const float* x, std::int64_t rows, std::int64_t channels, const float* weight, std::int64_t taps,
                    const float* depthwise_bias, const float* gain, const float* bias, float eps, Bf16* to) {
  alignas(64) float y[kMostNormed];
  for (std::int64_t row = 0; row < rows; ++row) {
    __m512 sums = _mm512_setzero_ps();
    for (std::int64_t c = 0; c < channels; c += kLanes) {
      __m512 v = _mm512_loadu_ps(depthwise_bias + c);
      const float* from = x + row * channels + c;
      for (std::int64_t tap = 0; tap < taps; ++tap) {
        v = _mm512_fmadd_ps(_mm512_loadu_ps(from + tap * channels), _mm512_loadu_ps(weight + tap * channels + c), v);
      }
      _mm512_store_ps(y + c, v);
      sums = _mm512_add_ps(sums, v);
    }
    const __m512 mean = _mm512_set1_ps(_mm512_reduce_add_ps(sums) / static_cast<float>(channels));
    __m512 squares = _mm512_setzero_ps();
    for (std::int64_t c = 0; c < channels; c += kLanes) {
      const __m512 d = _mm512_sub_ps(_mm512_load_ps(y + c), mean);
      squares = _mm512_fmadd_ps(d, d, squares);
    }
    const float variance = _mm512_reduce_add_ps(squares) / static_cast<float>(channels);
    const __m512 scale = _mm512_set1_ps(1.0F / __builtin_sqrtf(variance + eps));
    for (std::int64_t c = 0; c < channels; c += kLanes) {
      const __m512 d = _mm512_mul_ps(_mm512_sub_ps(_mm512_load_ps(y + c), mean), scale);
      store_rounded(to + row * channels + c, _mm512_fmadd_ps(d, _mm512_loadu_ps(gain + c), _mm512_loadu_ps(bias + c)));
    }
  }
}

#undef TTS_INLINE

}  // namespace

const Bf16Kernels& bf16_kernels_avx512() {
  static constexpr Bf16Kernels kSet = {&product, &round,     &add,  &mean,          &split,
                                       &gelu,    &add_gated, &gate, &depthwise_norm};
  return kSet;
}

}  // namespace tts
