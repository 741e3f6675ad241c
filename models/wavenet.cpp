#include "models/wavenet.h"

#include <ATen/ops/sigmoid.h>
#include <ATen/ops/tanh.h>
#include <ATen/ops/zeros_like.h>

namespace tts {

WaveNet::WaveNet(const WeightScope& weights, const WaveNetConfig& config)
    : config_(config),
      condition_(fold_weight_norm(weights, "cond_layer", {2 * config.channels * config.layers, config.condition, 1})
                     .squeeze(2),
                 weights("cond_layer").get("bias", {2 * config.channels * config.layers})) {
  for (std::int64_t i = 0; i < config.layers; ++i) {
    const WeightScope in = weights("in_layers", i);
    in_.emplace_back(fold_weight_norm(in, "", {2 * config.channels, config.channels, config.kernel}),
                     in.get("bias", {2 * config.channels}));
    const std::int64_t out = i + 1 < config.layers ? 2 * config.channels : config.channels;
    const WeightScope res_skip = weights("res_skip_layers", i);
    res_skip_.emplace_back(fold_weight_norm(res_skip, "", {out, config.channels, 1}).squeeze(2),
                           res_skip.get("bias", {out}));
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

}  // namespace tts
