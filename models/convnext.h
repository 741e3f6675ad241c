#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "models/layers.h"

namespace tts {

/// ConvNeXt block (Liu et al. 2022, fig. 4) over frames whose depthwise kernel looks left only:
/// h + gate * W2 gelu(W1 norm(depthwise(h))), tanh GELU. Its state is the last kernel - 1 input frames.
struct CausalConvNext {
  at::Tensor taps;            ///< [kernel, channels]
  at::Tensor depthwise_bias;  ///< [channels]
  Linear in, out;

  CausalConvNext() = default;
  /// Keys "dwconv.{weight,bias}", "pwconv1", "pwconv2".
  CausalConvNext(const WeightScope& scope, std::int64_t channels, std::int64_t inner, std::int64_t kernel);

  /// What a stream starts with: zeros [kernel - 1, channels].
  [[nodiscard]] at::Tensor initial_past() const;
  /// h [frames, channels] is updated in place; `past` is moved on. gain, bias: of the norm; gate: of the residual.
  void step(at::Tensor& h, at::Tensor& past, const at::Tensor& gain, const at::Tensor& bias, double eps,
            const at::Tensor& gate) const;

 private:
  /// The same with rounded products, without leaving the cache between the steps. padded: past and h.
  void step_bf16(const at::Tensor& padded, at::Tensor& h, const at::Tensor& gain, const at::Tensor& bias, double eps,
                 const at::Tensor& gate) const;
};

/// Symmetric convolution in a stream: zeros before the first frame, span() / 2 frames of lookahead, zeros again
/// after the last. Its state is the last span() input frames.
struct LookaheadConv {
  FrameConv conv;

  [[nodiscard]] at::Tensor initial_past() const;
  /// x [frames, in]; returns the output frames that are certain now: [frames - lookahead (first call) .., out];
  /// with `last`, all that remain. May return no frames.
  [[nodiscard]] at::Tensor step(const at::Tensor& x, at::Tensor& past, bool last, bool relu = false) const;
  [[nodiscard]] std::int64_t lookahead() const { return conv.span() / 2; }
};

/// Frames of a stream of which only a tail is kept.
class FrameBuffer {
 public:
  /// x [frames, channels].
  void append(const at::Tensor& x);
  /// Frames [first, last), which must be kept still.
  [[nodiscard]] at::Tensor slice(std::int64_t first, std::int64_t last) const;
  /// Frames before `first` will not be asked for again.
  void drop_before(std::int64_t first);
  /// Frames appended so far.
  [[nodiscard]] std::int64_t size() const { return start_ + (rows_.defined() ? rows_.size(0) : 0); }

 private:
  at::Tensor rows_;
  std::int64_t start_ = 0;
};

}  // namespace tts
