#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>

#include "models/weights.h"

namespace tts {

/// Is shown named intermediate results of a stage, under the reference implementation's module names. For parity
/// tests only; engine code passes null.
using Probe = std::function<void(std::string_view name, const at::Tensor& value)>;

/// Affine map of the last axis; also a convolution of kernel 1.
struct Linear {
  at::Tensor weight_t;  ///< [in, out]: a transposed view of the stored [out, in]
  at::Tensor bias;      ///< [out], or undefined

  Linear() = default;
  /// Reads "<scope>.weight" ([out, in], or [out, in, 1] when `pointwise_conv`) and "<scope>.bias".
  Linear(const WeightScope& scope, std::int64_t in, std::int64_t out, bool pointwise_conv = false,
         bool with_bias = true);
  Linear(const at::Tensor& weight, at::Tensor bias);
  /// x [..., in] -> [..., out].
  [[nodiscard]] at::Tensor operator()(const at::Tensor& x) const;
};

/// One-dimensional convolution over frames, stride 1, channels last: one matrix product per tap.
struct FrameConv {
  std::vector<at::Tensor> taps;  ///< kernel x [in, out]
  at::Tensor bias;               ///< [out], or undefined
  std::int64_t dilation = 1;

  FrameConv() = default;
  /// weight [out, in, kernel].
  FrameConv(const at::Tensor& weight, at::Tensor bias, std::int64_t dilation = 1);
  /// Reads "<scope>.weight" [out, in, kernel] and "<scope>.bias".
  FrameConv(const WeightScope& scope, std::int64_t in, std::int64_t out, std::int64_t kernel,
            std::int64_t dilation = 1);
  /// Frames of context a valid convolution consumes: (kernel - 1) * dilation.
  [[nodiscard]] std::int64_t span() const;
  /// x [frames + span, in] -> [frames, out], no padding.
  [[nodiscard]] at::Tensor valid(const at::Tensor& x) const;
  /// x [frames, in] -> [frames, out], span / 2 zero frames on both sides.
  [[nodiscard]] at::Tensor same(const at::Tensor& x) const;
};

/// Layer norm over the last axis.
struct LayerNorm {
  at::Tensor gain, bias;  ///< [channels]
  double eps = 1e-5;

  LayerNorm() = default;
  LayerNorm(const WeightScope& scope, std::int64_t channels, double eps, const char* gain_name = "weight",
            const char* bias_name = "bias");
  [[nodiscard]] at::Tensor operator()(const at::Tensor& x) const;
};

/// Softmax attention without mask: q [tokens, heads * dim], k and v [keys, heads * dim] -> [tokens, heads * dim].
/// Scores are multiplied by `scale`.
[[nodiscard]] at::Tensor attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, std::int64_t heads,
                                double scale);

/// Throws ModelError "<what>: got [..], wanted [..]" unless x has this shape; -1 accepts any size.
void check_shape(const at::Tensor& x, at::IntArrayRef wanted, const char* what);

}  // namespace tts
