#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "models/bf16_weight.h"
#include "models/row_window.h"

namespace tts {

/// Where a block of a convolution's results belongs: block row r is output row `row + r * row_step`, its columns begin
/// at `column`.
struct FirBlock {
  FloatBlock values;
  std::int64_t row = 0;
  std::int64_t row_step = 1;
  std::int64_t column = 0;
};

/// Dilated "same" convolution over the samples of a stream, in bfloat16. With `fast`, it is a fast FIR filter: output
/// samples are made four at a time from nine products of kernels a quarter as long (two levels of the two-parallel
/// transform, e.g. Parhi 1999, sec. 9.2), which takes 1.5 to 1.7 times fewer multiplications. The fours lie at fixed
/// places of the stream, so that a sample does not depend on how the stream is cut.
class FirConv {
 public:
  /// weight [out, kernel, in], kernel odd, in a multiple of 16 when fast; bias [out].
  FirConv(const float* weight, std::int64_t out, std::int64_t kernel, std::int64_t in, std::span<const float> bias,
          std::int64_t dilation, bool fast);

  /// Samples on either side of its own that an output sample depends on.
  [[nodiscard]] std::int64_t reach() const { return (kernel_ - 1) / 2 * dilation_; }
  /// Multiplications for a row of the output.
  [[nodiscard]] std::int64_t cost() const {
    return out_ * in_ * (parts_.size() == 1 ? kernel_ : static_cast<std::int64_t>(parts_.size()) * taps_ / 4);
  }
  /// Zero rows that the window of the input begins with.
  [[nodiscard]] std::int64_t past() const { return reach() + pad_ * dilation_; }
  /// Rows of the input before this one are not needed for output rows from `done` on.
  [[nodiscard]] std::int64_t first_needed(std::int64_t done) const;

  /// The last row up to `until` before which no work would be done again when the stream goes on there.
  [[nodiscard]] std::int64_t whole(std::int64_t until) const;

  /// Rows behind the window's end that run() reads: they must have been made readable by RowWindow::pad.
  [[nodiscard]] std::int64_t margin() const;
  using Sink = std::function<void(const FirBlock&)>;
  /// Output rows [from, until); those reach() from the window's end count on zeros behind it.
  void run(const RowWindow<Bf16>& x, std::int64_t from, std::int64_t until, const Sink& sink) const;

 private:
  void run_plain(const RowWindow<Bf16>& x, std::int64_t from, std::int64_t until, const Sink& sink) const;
  void run_fast(const RowWindow<Bf16>& x, std::int64_t from, std::int64_t until, const Sink& sink) const;

  std::int64_t out_ = 0;
  std::int64_t in_ = 0;
  std::int64_t kernel_ = 1;
  std::int64_t dilation_ = 1;
  std::int64_t pad_ = 0;           ///< zero taps before the kernel, to make it a multiple of four
  std::int64_t taps_ = 0;          ///< of a quarter
  std::vector<Bf16Weight> parts_;  ///< the whole, or nine quarters
};

}  // namespace tts
