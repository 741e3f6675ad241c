#pragma once

#include <cstdint>
#include <vector>

#include "models/bf16.h"

namespace tts {

/// One panel of a product of bfloat16 numbers with float32 sums: out[r, c] = start[r, c] + more[r, c] +
/// the sum over taps and channels of x[r, tap, channel] w[tap, channel, c]. The order of the sum is the same for every
/// row, whatever rows are computed with it. With Bf16Kernels::fixed_point weights are 16-bit integers times a scale of
/// their column.
struct Bf16Product {
  const Bf16* x = nullptr;      ///< row r, tap t begins at x + r * row_stride + t * tap_stride
  std::int64_t row_stride = 0;  ///< all strides in elements
  std::int64_t tap_stride = 0;
  std::int64_t taps = 1;
  std::int64_t pairs = 0;        ///< channels / 2
  /// [vectors / n, taps, pairs, 16 * n, 2] with n of Bf16Kernels::beside, see there; bfloat16, or int16 as bits.
  const std::uint16_t* weight = nullptr;
  const float* scale = nullptr;  ///< with fixed_point: [vectors, 16]
  std::int64_t vectors = 1;      ///< of 16 columns; 1..4, with `beside` 1 any number
  std::int64_t columns = 16;     ///< that are stored, more than 16 * (vectors - 1)
  std::int64_t rows = 0;
  const float* start = nullptr;   ///< read in whole vectors; not null
  std::int64_t start_stride = 0;  ///< 0: the same for every row, as a bias is
  const float* more = nullptr;    ///< or null
  std::int64_t more_stride = 0;
  float* out = nullptr;  ///< may be `start` or `more`
  std::int64_t out_stride = 0;
  bool relu = false;
};

/// A block of float32 numbers: row r begins at at + r * stride.
struct FloatBlock {
  const float* at = nullptr;
  std::int64_t stride = 0;
  std::int64_t rows = 0;
  std::int64_t columns = 0;  ///< a multiple of 16, but in round()
};

/// The loops of the bfloat16 path for one instruction set. Single-threaded and without state.
struct Bf16Kernels {
  static constexpr std::int64_t kMostVectors = 4;

  const char* name;  ///< "avx512_bf16" or "avx2"
  bool fixed_point;  ///< the CPU multiplies pairs of integers, not of bfloat16; see fixed_point.h
  /// As many vectors as a product takes at once: their weights lie beside each other, on 64-byte boundaries. 1, or as
  /// many as there are (kMostVectors).
  std::int64_t beside;
  void (*product)(const Bf16Product& p);
  /// to = leaky ReLU of v with this slope (1: none), rounded to the nearest.
  void (*round)(const FloatBlock& v, float slope, Bf16* to, std::int64_t to_stride);
  /// y = base + v (base null: v); to = rounded leaky ReLU of y, unless `to` is null. y may be base; rows of base, y and
  /// to are all `stride` apart.
  void (*add)(const FloatBlock& v, const float* base, float* y, float slope, Bf16* to, std::int64_t stride);
  /// to = rounded leaky ReLU of the mean of `count` arrays of n numbers, n a multiple of 16.
  void (*mean)(const float* const* x, std::int64_t count, std::int64_t n, float slope, Bf16* to);
  /// Two levels of the fast FIR transform of models/fir_conv.cpp: x are 7 rows, `to` its 9 sequences; n numbers each, a
  /// multiple of 16.
  void (*split)(const Bf16* const* x, std::int64_t n, Bf16* const* to);
  /// to = GELU of v, in its tanh form, rounded.
  void (*gelu)(const FloatBlock& v, Bf16* to, std::int64_t to_stride);
  /// y += gate * v, gate [columns].
  void (*add_gated)(const FloatBlock& v, const float* gate, float* y, std::int64_t y_stride);
  /// to = tanh(a) * sigmoid(b), rounded; b of a's shape.
  void (*gate)(const FloatBlock& a, const float* b, Bf16* to, std::int64_t to_stride);
  /// Causal depthwise convolution over the rows of x ([rows + taps - 1, channels]), layer norm, rounded. channels: a
  /// multiple of 16, at most kMostNormed. weight [taps, channels].
  void (*depthwise_norm)(const float* x, std::int64_t rows, std::int64_t channels, const float* weight,
                         std::int64_t taps, const float* depthwise_bias, const float* gain, const float* bias,
                         float eps, Bf16* to);
};

constexpr std::int64_t kMostNormed = 1024;

/// The best set this CPU runs, chosen once; null where it has neither AVX512-BF16 nor AVX2, and where it has AVX-512
/// without BF16, whose float32 vectors multiply as much a cycle as AVX2's integers.
[[nodiscard]] const Bf16Kernels* bf16_kernels();
/// All sets this CPU runs, best first; for tests.
[[nodiscard]] std::vector<const Bf16Kernels*> supported_bf16_kernels();

}  // namespace tts
