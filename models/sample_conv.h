#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>

#include "models/kernels.h"

namespace tts {

/// Dilated convolution over many samples of few channels, channels last: the convolutions of a waveform generator. A
/// matrix product over overlapping rows (kernels.h); a dilation is undone by taking the samples apart into as many
/// sequences, and where a sample has fewer channels than the product's panel, several samples are made by one row. No
/// shape costs anything the first time, as it does in a library that compiles its loops.
class SampleConv {
 public:
  SampleConv() = default;
  /// weight [out, in, kernel]; bias [out], or undefined for none.
  SampleConv(const at::Tensor& weight, const at::Tensor& bias, std::int64_t dilation = 1);
  /// Samples that a valid convolution consumes.
  [[nodiscard]] std::int64_t span() const { return (kernel_ - 1) * dilation_; }
  /// x [samples + span, in] -> [samples, out], no padding. x must be contiguous.
  [[nodiscard]] at::Tensor valid(const at::Tensor& x) const;

 private:
  void dense(const float* x, std::int64_t samples, float* y) const;

  std::shared_ptr<const PackedLinear> packed_;
  std::int64_t in_ = 0;
  std::int64_t out_ = 0;
  std::int64_t kernel_ = 1;
  std::int64_t dilation_ = 1;
  std::int64_t group_ = 1;  ///< samples a row makes
};

/// A transposed convolution as a convolution that makes `rate` samples of each frame.
struct Polyphase {
  at::Tensor weight;                 ///< [rate * out, taps, in]
  at::Tensor bias;                   ///< [rate * out]
  std::int64_t left = 0, right = 0;  ///< input frames before and behind its own that a frame's samples depend on
};
/// weight [in, out, kernel], bias [out]; (kernel - rate) / 2 samples are cut off both ends of the whole.
[[nodiscard]] Polyphase make_polyphase(const at::Tensor& weight, const at::Tensor& bias, std::int64_t rate);

/// Transposed convolution by a whole rate, (kernel - rate) / 2 samples cut off both ends of the whole: one matrix
/// product that makes `rate` samples of each frame.
class SampleUpsampler {
 public:
  SampleUpsampler() = default;
  /// weight [in, out, kernel], bias [out].
  SampleUpsampler(const at::Tensor& weight, const at::Tensor& bias, std::int64_t rate);
  /// Input frames before and behind its own that a frame's samples depend on.
  [[nodiscard]] std::int64_t left() const { return left_; }
  [[nodiscard]] std::int64_t right() const { return right_; }
  /// x [frames + left + right, in] -> [frames * rate, out]. x must be contiguous.
  [[nodiscard]] at::Tensor valid(const at::Tensor& x) const;

 private:
  std::shared_ptr<const PackedLinear> packed_;
  std::int64_t in_ = 0;
  std::int64_t out_ = 0;
  std::int64_t rate_ = 1;
  std::int64_t left_ = 0;
  std::int64_t right_ = 0;
};

/// Runs `step` over at most `most` frames at a time, telling it which piece is the last, and joins what it returns: the
/// memory a vocoder takes does not grow with its input. frames [n, channels].
template <class Step>
[[nodiscard]] at::Tensor in_pieces(const at::Tensor& frames, std::int64_t most, const Step& step) {
  const std::int64_t n = frames.size(0);
  if (n <= most) {
    return step(frames, true);
  }
  std::vector<at::Tensor> out;
  for (std::int64_t at = 0; at < n; at += most) {
    const std::int64_t piece = std::min(most, n - at);
    out.push_back(step(frames.narrow(0, at, piece), at + piece == n));
  }
  return at::cat(out);
}

/// Keeps x behind what is held until `n` more samples are asked for: returns the next n. x [samples, channels].
[[nodiscard]] at::Tensor delay(at::Tensor& held, const at::Tensor& x, std::int64_t n);

/// Mean of what the residual blocks of a stage gave, of which the wider ones are behind the narrower ones: `cursor` has
/// ready() and delay() for each, in their order.
template <class Cursor>
[[nodiscard]] at::Tensor mean_of_blocks(Cursor& cursor, const std::vector<at::Tensor>& outs) {
  std::int64_t n = cursor.ready(0, outs[0]);
  for (std::size_t j = 1; j < outs.size(); ++j) {
    n = std::min(n, cursor.ready(j, outs[j]));
  }
  at::Tensor sum;
  for (const at::Tensor& out : outs) {
    const at::Tensor y = cursor.delay(out, n);
    sum = sum.defined() ? sum.add_(y) : y.clone();
  }
  return sum.div_(static_cast<double>(outs.size()));
}

}  // namespace tts
