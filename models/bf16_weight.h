#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "models/bf16_kernels.h"
#include "models/kernels.h"

namespace tts {

/// The weight of a product or convolution, rounded to bfloat16, or to integers with a scale for each column, and packed
/// once for Bf16Kernels::product: panels of at most 64 columns. A panel leaves out the first and last taps in which all
/// its weights are zero.
class Bf16Weight {
 public:
  Bf16Weight() = default;
  /// weight [out, taps, in]; bias [out], or empty for none. Needs bf16_kernels(), for which it is packed unless for
  /// others.
  Bf16Weight(const float* weight, std::int64_t out, std::int64_t taps, std::int64_t in, std::span<const float> bias,
             const Bf16Kernels& kernels = *bf16_kernels());

  struct Panel {
    std::int64_t first = 0;  ///< column
    std::int64_t columns = 0;
    std::int64_t vectors = 0;
    std::int64_t first_tap = 0;
    std::int64_t taps = 0;
    std::int64_t at = 0;  ///< in the packed weights
  };
  [[nodiscard]] std::span<const Panel> panels() const { return panels_; }
  /// The panel's product without rows, start, more and out: row 0, tap 0 of the input is at x.
  [[nodiscard]] Bf16Product product(const Panel& panel, const Bf16* x, std::int64_t row_stride,
                                    std::int64_t tap_stride) const;
  /// Padded with zeros to whole vectors.
  [[nodiscard]] const float* bias() const { return bias_.data(); }
  [[nodiscard]] std::int64_t in() const { return in_; }  ///< channels of a tap
  [[nodiscard]] std::int64_t out() const { return out_; }
  [[nodiscard]] std::int64_t taps() const { return taps_; }
  /// Columns rounded up to whole vectors.
  [[nodiscard]] std::int64_t padded_out() const { return static_cast<std::int64_t>(bias_.size()); }

  /// y [rows, out] = x W^T + bias. x: `rows` rows of taps * in floats, `stride` apart and possibly overlapping.
  void apply(const float* x, std::int64_t stride, std::int64_t rows, float* y, bool relu) const;
  /// The same of rounded rows; `start` instead of the bias, unless null: [padded_out].
  void apply(const Bf16* x, std::int64_t stride, std::int64_t rows, float* y, std::int64_t y_stride, bool relu = false,
             const float* start = nullptr) const;

 private:
  std::int64_t out_ = 0;
  std::int64_t taps_ = 0;
  std::int64_t in_ = 0;
  std::vector<Panel> panels_;
  bool joined_ = false;  ///< all panels are one to the kernels
  AlignedBuffer<std::uint16_t> packed_;
  FloatBuffer scale_;  ///< [padded_out], of integers
  FloatBuffer bias_;
};

}  // namespace tts
