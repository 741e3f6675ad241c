#include "models/layers.h"

#include <algorithm>
#include <span>
#include <string>
#include <utility>

#include <ATen/ops/bmm.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/softmax.h>

namespace tts {

Linear::Linear(const at::Tensor& weight, const at::Tensor& bias, Precision precision) {
  const at::Tensor w = weight.contiguous();
  const at::Tensor b = bias.defined() ? bias.contiguous() : at::Tensor();
  const auto offsets = b.defined() ? std::span<const float>(b.data_ptr<float>(), static_cast<std::size_t>(b.numel()))
                                   : std::span<const float>();
  if (precision == Precision::bf16) {
    bf16_ = std::make_shared<Bf16Weight>(w.data_ptr<float>(), w.size(0), 1, w.size(1), offsets);
  } else {
    packed_ = std::make_shared<PackedLinear>(kernels(), w.data_ptr<float>(), w.size(0), w.size(1), offsets);
  }
}

Linear::Linear(const WeightScope& scope, std::int64_t in, std::int64_t out, bool pointwise_conv)
    : Linear(pointwise_conv ? scope.get("weight", {out, in, 1}).squeeze(2) : scope.get("weight", {out, in}),
             scope.get("bias", {out}), scope.precision()) {}

at::Tensor Linear::operator()(const at::Tensor& x, bool relu) const {
  if (x.size(-1) != in()) {
    throw ModelError("linear layer: got " + to_string(x.sizes()) + ", wanted [.., " + std::to_string(in()) + "]");
  }
  if (x.dim() == 2 && x.stride(1) == 1) {
    return apply(x.data_ptr<float>(), x.stride(0), x.size(0), relu);
  }
  const at::Tensor rows = x.contiguous();
  std::vector<std::int64_t> shape = x.sizes().vec();
  shape.back() = out();
  return apply(rows.data_ptr<float>(), in(), rows.numel() / in(), relu).view(shape);
}

at::Tensor Linear::apply(const float* x, std::int64_t stride, std::int64_t rows, bool relu) const {
  at::Tensor y = at::empty({rows, out()}, at::kFloat);
  auto* to = y.data_ptr<float>();
  if (bf16_) {
    bf16_->apply(x, stride, rows, to, relu);
    return y;
  }
  packed_->apply(x, stride, rows, to, out(), relu);
  return y;
}

FrameConv::FrameConv(const at::Tensor& weight, const at::Tensor& bias, Precision precision)
    : linear_(weight.permute({0, 2, 1}).reshape({weight.size(0), weight.size(1) * weight.size(2)}), bias, precision),
      in_(weight.size(1)),
      kernel_(weight.size(2)) {}

FrameConv::FrameConv(const WeightScope& scope, std::int64_t in, std::int64_t out, std::int64_t kernel)
    : FrameConv(scope.get("weight", {out, in, kernel}), scope.get("bias", {out}), scope.precision()) {}

at::Tensor FrameConv::valid(const at::Tensor& x, bool relu) const {
  check_shape(x, {-1, in_}, "convolution input");
  const at::Tensor rows = x.contiguous();
  return linear_.apply(rows.data_ptr<float>(), in_, std::max<std::int64_t>(0, x.size(0) - span()), relu);
}

at::Tensor FrameConv::same(const at::Tensor& x, bool relu) const {
  return valid(span() > 0 ? at::constant_pad_nd(x, {0, 0, span() / 2, span() - span() / 2}) : x, relu);
}

LayerNorm::LayerNorm(const WeightScope& scope, std::int64_t channels, double eps_in, const char* gain_name,
                     const char* bias_name)
    : gain(scope.get(gain_name, {channels})), bias(scope.get(bias_name, {channels})), eps(eps_in) {}

at::Tensor LayerNorm::operator()(const at::Tensor& x) const {
  return at::layer_norm(x, {x.size(-1)}, gain, bias, eps);
}

at::Tensor to_index(std::span<const std::int32_t> ids) {
  at::Tensor out = at::empty({static_cast<std::int64_t>(ids.size())}, at::kLong);
  std::copy(ids.begin(), ids.end(), out.data_ptr<std::int64_t>());
  return out;
}

at::Tensor attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, std::int64_t heads, double scale) {
  const std::int64_t dim = q.size(1) / heads;
  const auto split = [&](const at::Tensor& x) { return x.view({x.size(0), heads, dim}).transpose(0, 1); };
  const at::Tensor scores = at::bmm(split(q) * scale, split(k).transpose(1, 2));
  return at::bmm(at::softmax(scores, -1), split(v)).transpose(0, 1).reshape({q.size(0), heads * dim});
}

void check_shape(const at::Tensor& x, at::IntArrayRef wanted, const char* what) {
  bool same = x.defined() && x.dim() == static_cast<std::int64_t>(wanted.size());
  for (std::size_t i = 0; same && i < wanted.size(); ++i) {
    same = wanted[i] < 0 || x.size(static_cast<std::int64_t>(i)) == wanted[i];
  }
  if (!same) {
    throw ModelError(std::string(what) + ": got " + (x.defined() ? to_string(x.sizes()) : std::string("nothing")) +
                     ", wanted " + to_string(wanted) + " (-1: any)");
  }
}

}  // namespace tts
