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
  taps = scope("dwconv").get("weight", {channels, 1, kernel}).squeeze(1).t().contiguous();
}

at::Tensor CausalConvNext::initial_past() const {
  return at::zeros({taps.size(0) - 1, taps.size(1)}, taps.options());
}

void CausalConvNext::step(at::Tensor& h, at::Tensor& past, const at::Tensor& gain, const at::Tensor& bias, double eps,
                          const at::Tensor& gate) const {
  const std::int64_t frames = h.size(0);
  const at::Tensor padded = at::cat({past, h});
  past = padded.narrow(0, frames, past.size(0)).clone();
  const std::int64_t channels = h.size(1);
  if (in.bf16() != nullptr && channels % 16 == 0 && in.out() % 16 == 0 && channels <= kMostNormed) {
    step_bf16(padded, h, gain, bias, eps, gate);
    return;
  }
  at::Tensor y = at::addcmul(depthwise_bias, padded.narrow(0, 0, frames), taps[0]);
  for (std::int64_t tap = 1; tap < taps.size(0); ++tap) {
    y.addcmul_(padded.narrow(0, tap, frames), taps[tap]);
  }
  y = at::layer_norm(y, {channels}, gain, bias, eps);
  h.addcmul_(gate, out(at::gelu(in(y), "tanh")));
}

void CausalConvNext::step_bf16(const at::Tensor& padded, at::Tensor& h, const at::Tensor& gain, const at::Tensor& bias,
                               double eps, const at::Tensor& gate) const {
  constexpr std::int64_t kRows = 24;
  const Bf16Kernels& k = *bf16_kernels();
  const std::int64_t channels = h.size(1);
  const std::int64_t inner = in.out();
  thread_local std::vector<Bf16> normed, active;
  thread_local std::vector<float> wide, narrow;
  normed.resize(static_cast<std::size_t>(kRows * channels));
  active.resize(static_cast<std::size_t>(kRows * inner));
  wide.resize(static_cast<std::size_t>(kRows * inner));
  narrow.resize(static_cast<std::size_t>(kRows * channels));
  h = h.contiguous();
  for (std::int64_t row = 0; row < h.size(0); row += kRows) {
    const std::int64_t rows = std::min(kRows, h.size(0) - row);
    k.depthwise_norm(padded.data_ptr<float>() + row * channels, rows, channels, taps.data_ptr<float>(), taps.size(0),
                     depthwise_bias.data_ptr<float>(), gain.data_ptr<float>(), bias.data_ptr<float>(),
                     static_cast<float>(eps), normed.data());
    in.bf16()->apply(normed.data(), channels, rows, wide.data(), inner);
    k.gelu({wide.data(), inner, rows, inner}, active.data(), inner);
    out.bf16()->apply(active.data(), inner, rows, narrow.data(), channels);
    k.add_gated({narrow.data(), channels, rows, channels}, gate.data_ptr<float>(), h.data_ptr<float>() + row * channels,
                channels);
  }
}

at::Tensor LookaheadConv::initial_past() const {
  return at::zeros({lookahead(), conv.in()}, at::kFloat);
}

at::Tensor LookaheadConv::step(const at::Tensor& x, at::Tensor& past, bool last, bool relu) const {
  std::vector<at::Tensor> parts{past, x};
  if (last) {
    parts.push_back(at::zeros({conv.span() - lookahead(), x.size(1)}, x.options()));
  }
  const at::Tensor all = at::cat(parts);
  const std::int64_t n_out = std::max<std::int64_t>(0, all.size(0) - conv.span());
  past = all.narrow(0, n_out, all.size(0) - n_out).clone();
  return n_out > 0 ? conv.valid(all, relu) : at::zeros({0, conv.out()}, x.options());
}

void FrameBuffer::append(const at::Tensor& x) {
  if (x.size(0) > 0 || !rows_.defined()) {
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
