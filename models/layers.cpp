#include "models/layers.h"

#include <string>
#include <utility>

#include <ATen/ops/addmm.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/softmax.h>

namespace tts {

Linear::Linear(const at::Tensor& weight, at::Tensor bias_in) : weight_t(weight.t()), bias(std::move(bias_in)) {}

Linear::Linear(const WeightScope& scope, std::int64_t in, std::int64_t out, bool pointwise_conv, bool with_bias) {
  weight_t = pointwise_conv ? scope.get("weight", {out, in, 1}).squeeze(2).t() : scope.get("weight", {out, in}).t();
  if (with_bias) {
    bias = scope.get("bias", {out});
  }
}

at::Tensor Linear::operator()(const at::Tensor& x) const {
  if (x.dim() == 2) {
    return bias.defined() ? at::addmm(bias, x, weight_t) : at::mm(x, weight_t);
  }
  const at::Tensor rows = x.reshape({-1, x.size(-1)});
  std::vector<std::int64_t> shape = x.sizes().vec();
  shape.back() = weight_t.size(1);
  return (bias.defined() ? at::addmm(bias, rows, weight_t) : at::mm(rows, weight_t)).view(shape);
}

FrameConv::FrameConv(const at::Tensor& weight, at::Tensor bias_in, std::int64_t dilation_in)
    : bias(std::move(bias_in)), dilation(dilation_in) {
  const at::Tensor by_tap = weight.permute({2, 1, 0}).contiguous();  // [kernel, in, out]
  taps.reserve(static_cast<std::size_t>(by_tap.size(0)));
  for (std::int64_t tap = 0; tap < by_tap.size(0); ++tap) {
    taps.push_back(by_tap.select(0, tap));
  }
}

FrameConv::FrameConv(const WeightScope& scope, std::int64_t in, std::int64_t out, std::int64_t kernel,
                     std::int64_t dilation_in)
    : FrameConv(scope.get("weight", {out, in, kernel}), scope.get("bias", {out}), dilation_in) {}

std::int64_t FrameConv::span() const {
  return (static_cast<std::int64_t>(taps.size()) - 1) * dilation;
}

at::Tensor FrameConv::valid(const at::Tensor& x) const {
  const std::int64_t frames = x.size(0) - span();
  at::Tensor out =
      bias.defined() ? at::addmm(bias, x.narrow(0, 0, frames), taps[0]) : at::mm(x.narrow(0, 0, frames), taps[0]);
  for (std::size_t tap = 1; tap < taps.size(); ++tap) {
    out.addmm_(x.narrow(0, static_cast<std::int64_t>(tap) * dilation, frames), taps[tap]);
  }
  return out;
}

at::Tensor FrameConv::same(const at::Tensor& x) const {
  if (span() == 0) {
    return valid(x);
  }
  return valid(at::constant_pad_nd(x, {0, 0, span() / 2, span() - span() / 2}));
}

LayerNorm::LayerNorm(const WeightScope& scope, std::int64_t channels, double eps_in, const char* gain_name,
                     const char* bias_name)
    : gain(scope.get(gain_name, {channels})), bias(scope.get(bias_name, {channels})), eps(eps_in) {}

at::Tensor LayerNorm::operator()(const at::Tensor& x) const {
  return at::layer_norm(x, {x.size(-1)}, gain, bias, eps);
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
