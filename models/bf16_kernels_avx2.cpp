// Compiled for AVX2 and FMA. Numbers are kept as bfloat16 and multiplied as float32: no arithmetic is gained over
// float32 but that of the fast FIR filters, and half of the memory traffic.

#include <immintrin.h>

#include "models/bf16_kernels_impl.h"

namespace tts {
namespace {

#define TTS_INLINE [[gnu::always_inline]] inline

constexpr std::int64_t kLanes = 8;
using Vec = __m256;

TTS_INLINE Vec load(const float* from) {
  return _mm256_loadu_ps(from);
}

TTS_INLINE Vec load(const Bf16* from) {
  return _mm256_castsi256_ps(
      _mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))), 16));
}

TTS_INLINE void store(float* to, Vec v) {
  _mm256_storeu_ps(to, v);
}

/// To the nearest, ties to even; what is not a number stays none.
TTS_INLINE void store_rounded(Bf16* to, Vec v) {
  const __m256i bits = _mm256_castps_si256(v);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i up = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFF)));
  const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
  const __m256 is_nan = _mm256_cmp_ps(v, v, _CMP_UNORD_Q);
  const __m256i upper = _mm256_srli_epi32(
      _mm256_castps_si256(_mm256_blendv_ps(_mm256_castsi256_ps(up), _mm256_castsi256_ps(quiet), is_nan)), 16);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to),
                   _mm_packus_epi32(_mm256_castsi256_si128(upper), _mm256_extracti128_si256(upper, 1)));
}

TTS_INLINE Vec splat(float v) {
  return _mm256_set1_ps(v);
}

TTS_INLINE Vec fma(Vec a, Vec b, Vec c) {
  return _mm256_fmadd_ps(a, b, c);
}

TTS_INLINE Vec max(Vec a, Vec b) {
  return _mm256_max_ps(a, b);
}

TTS_INLINE Vec min(Vec a, Vec b) {
  return _mm256_min_ps(a, b);
}

TTS_INLINE float sum(Vec v) {
  const __m128 half = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  const __m128 pair = _mm_add_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_add_ss(pair, _mm_movehdup_ps(pair)));
}

TTS_INLINE Vec nearest_integer(Vec v) {
  return _mm256_round_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

/// v 2^n, n an integer from -126 to 127.
TTS_INLINE Vec scale(Vec v, Vec n) {
  const __m256i exponent = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
  return v * _mm256_castsi256_ps(exponent);
}

constexpr std::int64_t kColumns = 16;  // of the product's vectors
constexpr int kParts = 2;              // of such a vector
constexpr int kTileRows = 6;
constexpr std::int64_t kMostWidened = 32768;  // numbers, 128 KiB: six rows of BERT's longest

alignas(32) constexpr std::int32_t kSecond[kLanes] = {-65536, -65536, -65536, -65536, -65536, -65536, -65536, -65536};

/// Of every pair the first number (kPart 0) or the second. The mask stays in memory: registers are short.
template <int kPart>
TTS_INLINE Vec half_of(__m256i pairs) {
  if (kPart == 0) return _mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16));
  __m256i second;
  __asm__("vpand %2, %1, %0" : "=x"(second) : "x"(pairs), "m"(kSecond));
  return _mm256_castsi256_ps(second);
}

/// A number of the input, the first or second of a pair, times two vectors of weights.
template <int kPart>
TTS_INLINE void add_product(const Bf16* pair, Vec w0, Vec w1, Vec& sum0, Vec& sum1) {
  std::int32_t both;
  __builtin_memcpy(&both, pair, sizeof(both));
  const Vec x = half_of<kPart>(_mm256_set1_epi32(both));
  sum0 = fma(x, w0, sum0);
  sum1 = fma(x, w1, sum1);
}

/// Written out so that the number takes a register no longer than for this: twelve sums, two weights and it are nearly
/// all there are, and GCC, left to itself, reads ahead and keeps sums on the stack.
template <int kPart>
TTS_INLINE void add_product(const float* pair, Vec w0, Vec w1, Vec& sum0, Vec& sum1) {
  Vec x;
  __asm__("vbroadcastss %3, %2\n\tvfmadd231ps %2, %4, %0\n\tvfmadd231ps %2, %5, %1"
          : "+x"(sum0), "+x"(sum1), "=&x"(x)
          : "m"(pair[kPart]), "x"(w0), "x"(w1));
}

/// ahead: from the weights of one vector to those of the next.
template <int kPart, int kM, int kV, class Number>
TTS_INLINE void multiply(const Number* x, std::int64_t row_stride, const Bf16* weight, std::int64_t ahead,
                         Vec (&acc)[kM][kV]) {
  Vec w[kV];
#pragma GCC unroll 8
  for (int v = 0; v < kV; ++v) {
    const Bf16* from = weight + v / kParts * ahead + v % kParts * 2 * kLanes;
    w[v] = half_of<kPart>(_mm256_load_si256(reinterpret_cast<const __m256i*>(from)));
  }
#pragma GCC unroll 8
  for (int r = 0; r < kM; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kV; v += 2) {
      add_product<kPart>(x + r * row_stride, w[v], w[v + 1], acc[r][v], acc[r][v + 1]);
    }
  }
}

/// kM rows of a product, kV parts of vectors of columns from `column` on. first: row 0, tap 0 of the input, as bf16 or
/// widened to float.
template <int kM, int kV, class Number>
[[gnu::noinline]] void tile(const Bf16Product& p, const Number* first, std::int64_t row, std::int64_t column) {
  Vec acc[kM][kV];
  const float* start = p.start + row * p.start_stride + column;
#pragma GCC unroll 8
  for (int r = 0; r < kM; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kV; ++v) acc[r][v] = load(start + r * p.start_stride + v * kLanes);
  }
  if (p.more != nullptr) {
    const float* more = p.more + row * p.more_stride + column;
#pragma GCC unroll 8
    for (int r = 0; r < kM; ++r) {
#pragma GCC unroll 8
      for (int v = 0; v < kV; ++v) acc[r][v] = acc[r][v] + load(more + r * p.more_stride + v * kLanes);
    }
  }
  const std::int64_t stride = p.row_stride;
  const std::int64_t ahead = p.taps * p.pairs * 2 * kColumns;
  const Bf16* weight = p.weight + column / kColumns * ahead;
  for (std::int64_t tap = 0; tap < p.taps; ++tap) {
    const Number* x = first + row * stride + tap * p.tap_stride;
    for (std::int64_t i = 0; i < p.pairs; ++i) {
      multiply<0>(x, stride, weight, ahead, acc);
      multiply<1>(x, stride, weight, ahead, acc);
      weight += 2 * kColumns;
      x += 2;
    }
  }
  float* out = p.out + row * p.out_stride + column;
  const std::int64_t columns = p.columns - column;
#pragma GCC unroll 8
  for (int r = 0; r < kM; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kV; ++v) {
      const Vec made = p.relu ? max(acc[r][v], Vec{}) : acc[r][v];
      if (columns >= (v + 1) * kLanes) {
        store(out + r * p.out_stride + v * kLanes, made);
      } else {
        float whole[kLanes];
        store(whole, made);
        for (std::int64_t c = v * kLanes; c < columns; ++c) out[r * p.out_stride + c] = whole[c - v * kLanes];
      }
    }
  }
}

/// Rows [from, end) in tiles as even as can be, of all columns: one vector at a time, or two where rows are so few that
/// one would not keep the processor busy.
template <class Number>
void all_tiles(const Bf16Product& p, const Number* first, std::int64_t from, std::int64_t end) {
  std::int64_t vector = 0;
  if (end - from <= 2) {
    for (; vector + 2 <= p.vectors; vector += 2) {
      for (std::int64_t row = from; row < end; ++row) tile<1, 2 * kParts>(p, first, row, vector * kColumns);
    }
  }
  for (; vector < p.vectors; ++vector) {
    const std::int64_t column = vector * kColumns;
    std::int64_t tiles = (end - from + kTileRows - 1) / kTileRows;
    for (std::int64_t row = from; row < end; --tiles) {
      const std::int64_t m = (end - row + tiles - 1) / tiles;
      switch (m) {
        case 6:
          tile<6, kParts>(p, first, row, column);
          break;
        case 5:
          tile<5, kParts>(p, first, row, column);
          break;
        case 4:
          tile<4, kParts>(p, first, row, column);
          break;
        case 3:
          tile<3, kParts>(p, first, row, column);
          break;
        case 2:
          tile<2, kParts>(p, first, row, column);
          break;
        default:
          tile<1, kParts>(p, first, row, column);
          break;
      }
      row += m;
    }
  }
}

/// What all columns read is widened once, as many rows at a time as the second-level cache holds with the weights;
/// where rows are too few for that to pay, or too long, every number is widened where it is read.
void product(const Bf16Product& p) {
  const std::int64_t one = (p.taps - 1) * p.tap_stride + 2 * p.pairs;
  std::int64_t fit = 0;  // rows
  if (one <= kMostWidened) fit = p.row_stride == 0 ? p.rows : 1 + (kMostWidened - one) / p.row_stride;
  const std::int64_t at_once = fit / kTileRows * kTileRows;
  if (p.rows <= 2 || at_once == 0) return all_tiles(p, p.x, 0, p.rows);
  alignas(64) float widened[kMostWidened + kLanes];
  for (std::int64_t row = 0; row < p.rows; row += at_once) {
    const std::int64_t end = p.rows - row < at_once ? p.rows : row + at_once;
    const std::int64_t n = (end - row - 1) * p.row_stride + one;
    const Bf16* from = p.x + row * p.row_stride;
    std::int64_t i = 0;
    for (; i + kLanes <= n; i += kLanes) store(widened + i, load(from + i));
    for (; i < n; ++i) {
      const std::uint32_t bits = static_cast<std::uint32_t>(from[i]) << 16U;
      __builtin_memcpy(widened + i, &bits, sizeof(bits));
    }
    all_tiles(p, widened - row * p.row_stride, row, end);
  }
}

#include "models/bf16_kernels.inc"

}  // namespace

const Bf16Kernels& bf16_kernels_avx2() {
  static constexpr Bf16Kernels kSet = TTS_BF16_KERNELS("avx2", false, 1);
  return kSet;
}

}  // namespace tts
