#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>

#include "models/bf16_weight.h"
#include "models/kernels.h"
#include "models/weights.h"

namespace tts {

/// Is shown named intermediate results of a stage, under the reference implementation's module names. For parity
/// tests only; engine code passes null.
using Probe = std::function<void(std::string_view name, const at::Tensor& value)>;

/// Affine map of the last axis; also a convolution of kernel 1. The weight is packed once, for the precision of the
/// scope it comes from (kernels.h, bf16_weight.h). A row of the result depends on its own row of the input only, to the
/// last bit: this is what makes any chunking of a stream equal.
class Linear {
 public:
  Linear() = default;
  /// Reads "<scope>.weight" ([out, in], or [out, in, 1] when `pointwise_conv`) and "<scope>.bias".
  Linear(const WeightScope& scope, std::int64_t in, std::int64_t out, bool pointwise_conv = false);
  /// weight [out, in]; bias [out], or undefined for none.
  Linear(const at::Tensor& weight, const at::Tensor& bias, Precision precision = Precision::fp32);
  /// x [..., in] -> [..., out]; relu: max(y, 0).
  [[nodiscard]] at::Tensor operator()(const at::Tensor& x, bool relu = false) const;
  /// `rows` rows of `in` floats, `stride` apart and possibly overlapping -> [rows, out].
  [[nodiscard]] at::Tensor apply(const float* x, std::int64_t stride, std::int64_t rows, bool relu) const;
  [[nodiscard]] bool defined() const { return packed_ != nullptr || bf16_ != nullptr; }
  [[nodiscard]] std::int64_t in() const { return bf16_ ? bf16_->in() : packed_->in(); }
  [[nodiscard]] std::int64_t out() const { return bf16_ ? bf16_->out() : packed_->out(); }
  /// The rounded weight, for layers that join several steps; null in float32.
  [[nodiscard]] const Bf16Weight* bf16() const { return bf16_.get(); }

 private:
  std::shared_ptr<const PackedLinear> packed_;  ///< one of the two
  std::shared_ptr<const Bf16Weight> bf16_;
};

/// One-dimensional convolution over frames, stride 1, channels last: the frames under a kernel lie one after the other,
/// so it is one matrix product over overlapping rows.
class FrameConv {
 public:
  FrameConv() = default;
  /// weight [out, in, kernel], bias [out].
  FrameConv(const at::Tensor& weight, const at::Tensor& bias, Precision precision = Precision::fp32);
  /// Reads "<scope>.weight" [out, in, kernel] and "<scope>.bias".
  FrameConv(const WeightScope& scope, std::int64_t in, std::int64_t out, std::int64_t kernel);
  /// Frames of context a valid convolution consumes: kernel - 1.
  [[nodiscard]] std::int64_t span() const { return kernel_ - 1; }
  [[nodiscard]] std::int64_t in() const { return in_; }
  [[nodiscard]] std::int64_t out() const { return linear_.out(); }
  /// As Linear::bf16(), with the frames under the kernel as one row.
  [[nodiscard]] const Bf16Weight* bf16() const { return linear_.bf16(); }
  /// x [frames + span, in] -> [frames, out], no padding.
  [[nodiscard]] at::Tensor valid(const at::Tensor& x, bool relu = false) const;
  /// x [frames, in] -> [frames, out], span / 2 zero frames on both sides.
  [[nodiscard]] at::Tensor same(const at::Tensor& x, bool relu = false) const;

 private:
  Linear linear_;
  std::int64_t in_ = 0;
  std::int64_t kernel_ = 1;
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

/// Ids as the int64 tensor [n] that index_select and the embeddings take.
[[nodiscard]] at::Tensor to_index(std::span<const std::int32_t> ids);

/// Softmax attention without mask: q [tokens, heads * dim], k and v [keys, heads * dim] -> [tokens, heads * dim].
/// Scores are multiplied by `scale`.
[[nodiscard]] at::Tensor attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, std::int64_t heads,
                                double scale);

/// Throws ModelError "<what>: got [..], wanted [..]" unless x has this shape; -1 accepts any size.
void check_shape(const at::Tensor& x, at::IntArrayRef wanted, const char* what);

}  // namespace tts
