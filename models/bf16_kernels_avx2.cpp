// Compiled for AVX2 and FMA, which multiply no bfloat16 but 16-bit integers, twice as many a cycle as float32: vpmaddwd
// takes pairs. So weights are integers with a scale for each column, and every run of the input becomes integers with a
// power of two of its own where it is read. Sums of integers have no rounding and no order.

#include <immintrin.h>

#include "models/bf16_kernels_impl.h"
#include "models/fixed_point.h"

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

#include "models/fixed_point_avx2.inc"

constexpr std::int64_t kColumns = 16;  // of the product's vectors
constexpr int kParts = 2;              // of such a vector
constexpr std::int64_t kRun = FixedPoint::kRun;
constexpr std::int64_t kMostFixed = 65536;  // numbers, 128 KiB: what of a second-level cache weights can spare
constexpr std::int64_t kLeastUnit = 16;     // a power of two has to be worth its number
constexpr std::int64_t kMostUnits = kMostFixed / kLeastUnit;

/// `count` numbers, even and at most kRun, as integers times a power of two, which is returned. All that is within 2^-5
/// of the largest keeps every bit.
float to_fixed(const Bf16* x, std::int64_t count, std::int16_t* to) {
  const auto read = [](const Bf16* from) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)); };
  const auto magnitude = [](__m256i v) { return _mm256_and_si256(v, _mm256_set1_epi16(0x7FFF)); };
  constexpr std::int64_t kAtOnce = 2 * kLanes;
  const std::int64_t whole = count / kAtOnce * kAtOnce;
  const auto rest_bytes = static_cast<std::size_t>(count - whole) * sizeof(Bf16);
  alignas(32) Bf16 rest[kAtOnce] = {};
  __m256i largest = _mm256_setzero_si256();
  if (rest_bytes > 0) {
    __builtin_memcpy(rest, x + whole, rest_bytes);
    largest = magnitude(read(rest));
  }
  for (std::int64_t i = 0; i < whole; i += kAtOnce) largest = _mm256_max_epu16(largest, magnitude(read(x + i)));
  // The largest is the smallest of the complements, which there is an instruction for.
  const __m128i most = _mm_max_epu16(_mm256_castsi256_si128(largest), _mm256_extracti128_si256(largest, 1));
  const __m128i least = _mm_minpos_epu16(_mm_xor_si128(most, _mm_set1_epi32(-1)));
  const Powers powers = powers_of(0xFFFFU - static_cast<std::uint32_t>(_mm_extract_epi16(least, 0)));
  const Vec up = splat(powers.up);
  const auto fixed = [&](__m256i pairs) {
    // Taken apart and put together within the same halves, so the order stays. Infinity times zero becomes INT_MIN,
    // which the power of two makes NaN as it does the rest.
    const Vec low = _mm256_castsi256_ps(_mm256_unpacklo_epi16(_mm256_setzero_si256(), pairs));
    const Vec high = _mm256_castsi256_ps(_mm256_unpackhi_epi16(_mm256_setzero_si256(), pairs));
    return _mm256_packs_epi32(_mm256_cvtps_epi32(low * up), _mm256_cvtps_epi32(high * up));
  };
  for (std::int64_t i = 0; i < whole; i += kAtOnce) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + i), fixed(read(x + i)));
  }
  if (rest_bytes > 0) {
    _mm256_store_si256(reinterpret_cast<__m256i*>(rest), fixed(read(rest)));
    __builtin_memcpy(to + whole, rest, rest_bytes);
  }
  return powers.down;
}

/// Of how many units, of how many numbers each, a product's input consists, and which of them a row and tap meets. A
/// unit is made integers once, in runs with a power of two each. How it is cut depends on the strides alone, so a row
/// is the same in any company.
struct Grid {
  std::int64_t unit;      ///< numbers
  std::int64_t runs;      ///< of a unit
  std::int64_t row_step;  ///< units
  std::int64_t tap_step;
  std::int64_t pieces;  ///< units of a tap
  bool gathered;        ///< a unit is a tap of a row, wherever it lies; else units are `stride` numbers apart
  std::int64_t stride;

  [[nodiscard]] std::int64_t units(std::int64_t rows, std::int64_t taps) const {
    return (rows - 1) * row_step + (taps - 1) * tap_step + pieces;
  }
};

std::int64_t common_divisor(std::int64_t a, std::int64_t b) {
  while (b != 0) {
    const std::int64_t rest = a % b;
    a = b;
    b = rest;
  }
  return a;
}

Grid grid_of(const Bf16Product& p) {
  const std::int64_t length = 2 * p.pairs;
  const auto runs = [](std::int64_t unit) { return (unit + kRun - 1) / kRun; };
  if (p.taps == 1 && p.row_stride >= length) return {length, runs(length), 1, 0, 1, false, p.row_stride};
  const std::int64_t unit = common_divisor(common_divisor(length, p.row_stride), p.taps > 1 ? p.tap_stride : 0);
  if (unit % 2 == 0 && (unit >= kLeastUnit || unit == length)) {
    return {unit, runs(unit), p.row_stride / unit, p.tap_stride / unit, length / unit, false, unit};
  }
  return {length, runs(length), p.taps, 1, 1, true, 0};
}

TTS_INLINE const std::int16_t* weights_of(const Bf16Product& p) {
  return reinterpret_cast<const std::int16_t*>(p.weight);
}

/// sums += powers * the sum over a run of kM rows. ahead: from the weights of one vector to those of the next.
template <int kM, int kV>
TTS_INLINE void add_run(const std::int16_t* x, std::int64_t row_stride, const float* powers, std::int64_t power_stride,
                        const std::int16_t* weight, std::int64_t ahead, std::int64_t pairs, float* sums) {
  __m256i acc[kM][kV];
#pragma GCC unroll 8
  for (int r = 0; r < kM; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kV; ++v) acc[r][v] = _mm256_setzero_si256();
  }
  for (std::int64_t i = 0; i < pairs; ++i) {
    __m256i w[kV];
#pragma GCC unroll 8
    for (int v = 0; v < kV; ++v) {
      const std::int16_t* from = weight + v / kParts * ahead + v % kParts * 2 * kLanes;
      w[v] = _mm256_load_si256(reinterpret_cast<const __m256i*>(from));
    }
#pragma GCC unroll 8
    for (int r = 0; r < kM; ++r) {
#pragma GCC unroll 8
      for (int v = 0; v < kV; v += 2) add_products(x + r * row_stride, w[v], w[v + 1], acc[r][v], acc[r][v + 1]);
    }
    weight += 2 * kColumns;
    x += 2;
  }
#pragma GCC unroll 8
  for (int r = 0; r < kM; ++r) {
    const Vec power = splat(powers[r * power_stride]);
#pragma GCC unroll 8
    for (int v = 0; v < kV; ++v) {
      float* sum = sums + (r * kV + v) * kLanes;
      store(sum, fma(_mm256_cvtepi32_ps(acc[r][v]), power, load(sum)));
    }
  }
}

/// Of `columns` numbers the first that there are, if there are any.
TTS_INLINE void store_some(float* to, Vec v, std::int64_t columns) {
  if (columns >= kLanes) return store(to, v);
  float whole[kLanes];
  store(whole, v);
  for (std::int64_t c = 0; c < columns; ++c) to[c] = whole[c];
}

/// What remains to be done with the sums of kM rows from `row` on, kV parts of vectors from `column` on.
template <int kM, int kV>
TTS_INLINE void finish(const Bf16Product& p, const float* sums, std::int64_t row, std::int64_t column) {
  for (std::int64_t r = 0; r < kM; ++r) {
    const float* start = p.start + (row + r) * p.start_stride + column;
    const float* more = p.more == nullptr ? nullptr : p.more + (row + r) * p.more_stride + column;
    float* out = p.out + (row + r) * p.out_stride + column;
    Vec made[kV];
    for (std::int64_t v = 0; v < kV; ++v) {
      made[v] = load(start + v * kLanes);
      if (more != nullptr) made[v] = made[v] + load(more + v * kLanes);
      made[v] = fma(load(sums + (r * kV + v) * kLanes), load(p.scale + column + v * kLanes), made[v]);
      if (p.relu) made[v] = max(made[v], Vec{});
    }
    for (std::int64_t v = 0; v < kV; ++v) store_some(out + v * kLanes, made[v], p.columns - column - v * kLanes);
  }
}

/// A stretch of rows whose units are integers.
struct Fixed {
  const std::int16_t* numbers;
  const float* powers;
  std::int64_t row;  ///< the first
};

template <int kM, int kV>
[[gnu::noinline]] void tile(const Bf16Product& p, const Grid& grid, const Fixed& x, std::int64_t row,
                            std::int64_t column) {
  alignas(32) float memory[kM * kV * kLanes];
#pragma GCC unroll 16
  for (int i = 0; i < kM * kV; ++i) store(memory + i * kLanes, Vec{});  // a loop would become a call of memset
  float* sums = memory;
  __asm__("" : "+r"(sums) : : "memory");  // they stay there: GCC would carry them from run to run by way of a copy
  const std::int64_t ahead = p.taps * p.pairs * 2 * kColumns;
  const std::int16_t* weight = weights_of(p) + column / kColumns * ahead;
  for (std::int64_t tap = 0; tap < p.taps; ++tap) {
    for (std::int64_t piece = 0; piece < grid.pieces; ++piece) {
      const std::int64_t at = (row - x.row) * grid.row_step + tap * grid.tap_step + piece;
      for (std::int64_t run = 0; run < grid.runs; ++run) {
        const std::int64_t left = grid.unit - run * kRun;
        const std::int64_t pairs = (left < kRun ? left : kRun) / 2;
        add_run<kM, kV>(x.numbers + at * grid.unit + run * kRun, grid.row_step * grid.unit,
                        x.powers + at * grid.runs + run, grid.row_step * grid.runs, weight, ahead, pairs, sums);
        weight += pairs * 2 * kColumns;
      }
    }
  }
  finish<kM, kV>(p, sums, row, column);
}

struct FixedTiles {
  const Bf16Product& p;
  const Grid& grid;
  const Fixed& x;
  std::int64_t column;
  template <int kM>
  TTS_INLINE void rows(std::int64_t row) const {
    tile<kM, kParts>(p, grid, x, row, column);
  }
};

/// Rows [x.row, end), of all columns: one vector at a time, or two where rows are so few that one would not keep the
/// processor busy.
void all_tiles(const Bf16Product& p, const Grid& grid, const Fixed& x, std::int64_t end) {
  std::int64_t vector = 0;
  if (end - x.row <= 2) {
    for (; vector + 2 <= p.vectors; vector += 2) {
      for (std::int64_t row = x.row; row < end; ++row) tile<1, 2 * kParts>(p, grid, x, row, vector * kColumns);
    }
  }
  for (; vector < p.vectors; ++vector) in_tiles(x.row, end, FixedTiles{p, grid, x, vector * kColumns});
}

/// Rows too long to be kept: every run is made integers where it is needed, once for each vector of columns.
void long_rows(const Bf16Product& p) {
  std::int16_t numbers[kRun];
  for (std::int64_t row = 0; row < p.rows; ++row) {
    for (std::int64_t column = 0; column < p.vectors * kColumns; column += kColumns) {
      alignas(32) float sums[kColumns] = {};
      const std::int16_t* weight = weights_of(p) + column * p.taps * p.pairs * 2;
      for (std::int64_t tap = 0; tap < p.taps; ++tap) {
        for (std::int64_t i = 0; i < 2 * p.pairs; i += kRun) {
          const std::int64_t count = 2 * p.pairs - i < kRun ? 2 * p.pairs - i : kRun;
          const float power = to_fixed(p.x + row * p.row_stride + tap * p.tap_stride + i, count, numbers);
          add_run<1, kParts>(numbers, 0, &power, 0, weight, 0, count / 2, sums);
          weight += count * kColumns;
        }
      }
      finish<1, kParts>(p, sums, row, column);
    }
  }
}

/// The input is made integers once for all columns, as many rows at a time as there is room for.
void product(const Bf16Product& p) {
  const Grid grid = grid_of(p);
  // Short rows are units of their own, shorter than kLeastUnit.
  const std::int64_t room = grid.unit < kLeastUnit ? kMostUnits : kMostFixed / grid.unit;
  const std::int64_t one = grid.units(1, p.taps);
  if (one > room) return long_rows(p);
  const std::int64_t fit = grid.row_step == 0 ? p.rows : 1 + (room - one) / grid.row_step;
  const std::int64_t at_once = fit < kTileRows ? fit : fit / kTileRows * kTileRows;
  alignas(32) std::int16_t numbers[kMostFixed];
  float powers[kMostUnits];
  for (std::int64_t row = 0; row < p.rows; row += at_once) {
    const std::int64_t end = p.rows - row < at_once ? p.rows : row + at_once;
    const std::int64_t count = grid.units(end - row, p.taps);
    const Bf16* first = p.x + row * p.row_stride;
    for (std::int64_t i = 0; i < count; ++i) {
      const Bf16* from =
          first + (grid.gathered ? i / p.taps * p.row_stride + i % p.taps * p.tap_stride : i * grid.stride);
      for (std::int64_t run = 0; run < grid.runs; ++run) {
        const std::int64_t left = grid.unit - run * kRun;
        powers[i * grid.runs + run] =
            to_fixed(from + run * kRun, left < kRun ? left : kRun, numbers + i * grid.unit + run * kRun);
      }
    }
    all_tiles(p, grid, {numbers, powers, row}, end);
  }
}

#include "models/bf16_kernels.inc"

}  // namespace

const Bf16Kernels& bf16_kernels_avx2() {
  static constexpr Bf16Kernels kSet = TTS_BF16_KERNELS("avx2", true, 1);
  return kSet;
}

}  // namespace tts
