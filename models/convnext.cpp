#include "models/convnext.h"

#include <algorithm>

#include <ATen/ops/addcmul.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/zeros.h>

namespace tts {

CausalConvNext::CausalConvNext(const WeightScope& scope, std::int64_t channels, std::int64_t inner, std::int64_t kernel)
    : depthwise_bias(scope("dwconv").get("bias", {channels})),
      in(scope("pwconv1"), channels, inner),
      out(scope("pwconv2"), inner, channels) {
  const at::Tensor by_tap = scope("dwconv").get("weight", {channels, 1, kernel}).squeeze(1).t().contiguous();
  for (std::int64_t tap = 0; tap < kernel; ++tap) {
    taps.push_back(by_tap[tap]);
  }
}

at::Tensor CausalConvNext::initial_past() const {
  return at::zeros({static_cast<std::int64_t>(taps.size()) - 1, depthwise_bias.size(0)}, depthwise_bias.options());
}

void CausalConvNext::step(at::Tensor& h, at::Tensor& past, const at::Tensor& gain, const at::Tensor& bias, double eps,
                          const at::Tensor& gate) const {
  const std::int64_t frames = h.size(0);
  const at::Tensor padded = at::cat({past, h});
  at::Tensor y = at::addcmul(depthwise_bias, padded.narrow(0, 0, frames), taps[0]);
  for (std::size_t tap = 1; tap < taps.size(); ++tap) {
    y.addcmul_(padded.narrow(0, static_cast<std::int64_t>(tap), frames), taps[tap]);
  }
  past = padded.narrow(0, frames, past.size(0)).clone();
  y = at::layer_norm(y, {y.size(1)}, gain, bias, eps);
  h.addcmul_(gate, out(at::gelu(in(y), "tanh")));
}

at::Tensor LookaheadConv::initial_past() const {
  return at::zeros({lookahead(), conv.in()}, at::kFloat);
}

at::Tensor LookaheadConv::step(const at::Tensor& x, at::Tensor& past, bool last) const {
  std::vector<at::Tensor> parts{past, x};
  if (last) {
    parts.push_back(at::zeros({conv.span() - lookahead(), x.size(1)}, x.options()));
  }
  const at::Tensor all = at::cat(parts);
  const std::int64_t n_out = std::max<std::int64_t>(0, all.size(0) - conv.span());
  past = all.narrow(0, n_out, all.size(0) - n_out).clone();
  return n_out > 0 ? conv.valid(all) : at::zeros({0, conv.out()}, x.options());
}

void FrameBuffer::append(const at::Tensor& x) {
  if (x.size(0) > 0) {
    rows_ = rows_.defined() && rows_.size(0) > 0 ? at::cat({rows_, x}) : x;
  }
}

at::Tensor FrameBuffer::slice(std::int64_t first, std::int64_t last) const {
  if (first < start_ || last > size() || first > last) {
    throw ModelError("frame buffer: got [" + std::to_string(first) + ", " + std::to_string(last) +
                     "), wanted within [" + std::to_string(start_) + ", " + std::to_string(size()) + ")");
  }
  return rows_.narrow(0, first - start_, last - first);
}

void FrameBuffer::drop_before(std::int64_t first) {
  const std::int64_t n = std::min(first, size()) - start_;
  if (n > 0) {
    rows_ = rows_.narrow(0, n, rows_.size(0) - n).clone();
    start_ += n;
  }
}

}  // namespace tts
