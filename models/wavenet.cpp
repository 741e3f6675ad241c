#include "models/wavenet.h"

#include <algorithm>
#include <functional>
#include <vector>

#include <ATen/ops/sigmoid.h>
#include <ATen/ops/tanh.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

namespace tts {

WaveNet::WaveNet(const WeightScope& weights, const WaveNetConfig& config)
    : config_(config),
      condition_(fold_weight_norm(weights, "cond_layer", {2 * config.channels * config.layers, config.condition, 1})
                     .squeeze(2),
                 weights("cond_layer").get("bias", {2 * config.channels * config.layers})) {  // float32: once a voice
  for (std::int64_t i = 0; i < config.layers; ++i) {
    const WeightScope in = weights("in_layers", i);
    in_.emplace_back(fold_weight_norm(in, "", {2 * config.channels, config.channels, config.kernel}),
                     in.get("bias", {2 * config.channels}), weights.precision());
    const std::int64_t out = i + 1 < config.layers ? 2 * config.channels : config.channels;
    const WeightScope res_skip = weights("res_skip_layers", i);
    res_skip_.emplace_back(fold_weight_norm(res_skip, "", {out, config.channels, 1}).squeeze(2),
                           res_skip.get("bias", {out}), weights.precision());
  }
}

at::Tensor WaveNet::prepare(const at::Tensor& condition) const {
  check_shape(condition, {config_.condition}, "WaveNet condition");
  return condition_(condition.unsqueeze(0)).view({config_.layers, 2 * config_.channels});
}

at::Tensor WaveNet::forward(at::Tensor x, const at::Tensor& prepared, std::int64_t n_valid) const {
  check_shape(x, {-1, config_.channels}, "WaveNet input");
  const std::int64_t c = config_.channels;
  const std::int64_t n_zero = x.size(0) - n_valid;
  if (n_zero == 0 && c % 16 == 0 && in_.front().bf16() != nullptr) {
    return forward_bf16(x, prepared);
  }
  at::Tensor out = at::zeros_like(x);
  for (std::size_t i = 0; i < in_.size(); ++i) {
    at::Tensor a = in_[i].same(x);
    a.add_(prepared[static_cast<std::int64_t>(i)]);
    const at::Tensor u = at::tanh(a.narrow(1, 0, c)) * at::sigmoid(a.narrow(1, c, c));
    const at::Tensor r = res_skip_[i](u);
    if (i + 1 < in_.size()) {
      x = x + r.narrow(1, 0, c);
      if (n_zero > 0) {
        x.narrow(0, n_valid, n_zero).zero_();
      }
      out.add_(r.narrow(1, c, c));
    } else {
      out.add_(r);
    }
  }
  if (n_zero > 0) {
    out.narrow(0, n_valid, n_zero).zero_();
  }
  return out;
}

/// The same with rounded products: a layer's input is rounded as it is made, and the conditioning is the start of the
/// sums.
at::Tensor WaveNet::forward_bf16(const at::Tensor& x, const at::Tensor& prepared) const {
  const Bf16Kernels& k = *bf16_kernels();
  const std::int64_t c = config_.channels;
  const std::int64_t frames = x.size(0);
  const std::int64_t span = config_.kernel - 1;
  const at::Tensor h = x.clone(at::MemoryFormat::Contiguous);
  at::Tensor out = at::zeros({frames, c}, at::kFloat);
  std::vector<Bf16> rounded(static_cast<std::size_t>((frames + span) * c), Bf16{0});
  Bf16* const middle = rounded.data() + span / 2 * c;
  std::vector<Bf16> gated(static_cast<std::size_t>(frames * c));
  std::vector<float> wide(static_cast<std::size_t>(frames * 2 * c));
  std::vector<float> start(static_cast<std::size_t>(2 * c));
  k.round({h.data_ptr<float>(), c, frames, c}, 1.0F, middle, c);
  for (std::size_t i = 0; i < in_.size(); ++i) {
    const Bf16Weight& in = *in_[i].bf16();
    const float* condition = prepared[static_cast<std::int64_t>(i)].data_ptr<float>();
    std::transform(condition, condition + 2 * c, in.bias(), start.begin(), std::plus<>());
    in.apply(rounded.data(), c, frames, wide.data(), 2 * c, false, start.data());
    k.gate({wide.data(), 2 * c, frames, c}, wide.data() + c, gated.data(), c);
    const Bf16Weight& res_skip = *res_skip_[i].bf16();
    const bool last = i + 1 == in_.size();
    res_skip.apply(gated.data(), c, frames, wide.data(), res_skip.out());
    if (!last) {
      k.add({wide.data(), 2 * c, frames, c}, h.data_ptr<float>(), h.data_ptr<float>(), 1.0F, middle, c);
    }
    k.add({wide.data() + (last ? 0 : c), res_skip.out(), frames, c}, out.data_ptr<float>(), out.data_ptr<float>(), 1.0F,
          nullptr, c);
  }
  return out;
}

}  // namespace tts
