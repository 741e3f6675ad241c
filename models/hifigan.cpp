#include "models/hifigan.h"

#include <string>

#include <ATen/ops/conv1d.h>
#include <ATen/ops/conv_transpose1d.h>
#include <ATen/ops/leaky_relu.h>
#include <ATen/ops/tanh.h>

namespace tts {

Hifigan::Hifigan(const WeightScope& weights, const HifiganConfig& config) : config_(config) {
  pre_ = {weights("conv_pre").get("weight", {config.channels, config.in, 7}),
          weights("conv_pre").get("bias", {config.channels})};
  if (config.condition > 0) {
    condition_ = {weights("cond").get("weight", {config.channels, config.condition, 1}),
                  weights("cond").get("bias", {config.channels})};
  }
  std::int64_t channels = config.channels;
  std::int64_t n_block = 0;
  for (std::size_t i = 0; i < config.rates.size(); ++i) {
    const WeightScope up = weights("ups", static_cast<std::int64_t>(i));
    // Transposed convolution: axis 0 is the input channel, also for the weight norm.
    ups_.push_back(
        {fold_weight_norm(up, "", {channels, channels / 2, config.kernels[i]}), up.get("bias", {channels / 2})});
    channels /= 2;
    for (const std::int64_t kernel : config.block_kernels) {
      const WeightScope scope = weights("resblocks", n_block++);
      ResBlock block{.first = {}, .second = {}, .kernel = kernel};
      for (std::int64_t m = 0; m < static_cast<std::int64_t>(config.block_dilations.size()); ++m) {
        const WeightScope first = scope("convs1", m);
        const WeightScope second = scope("convs2", m);
        block.first.push_back(
            {fold_weight_norm(first, "", {channels, channels, kernel}), first.get("bias", {channels})});
        block.second.push_back(
            {fold_weight_norm(second, "", {channels, channels, kernel}), second.get("bias", {channels})});
      }
      blocks_.push_back(std::move(block));
    }
  }
  post_.weight = weights("conv_post").get("weight", {1, channels, 7});
  if (config.out_bias) {
    post_.bias = weights("conv_post").get("bias", {1});
  }
}

at::Tensor Hifigan::residual(const ResBlock& block, at::Tensor x) const {
  for (std::size_t m = 0; m < block.first.size(); ++m) {
    const std::int64_t dilation = config_.block_dilations[m];
    const std::int64_t span = block.kernel - 1;
    at::Tensor t = at::conv1d(at::leaky_relu(x, 0.1), block.first[m].weight, block.first[m].bias, 1,
                              span * dilation / 2, dilation);
    t = at::conv1d(at::leaky_relu_(t, 0.1), block.second[m].weight, block.second[m].bias, 1, span / 2);
    x = t.add_(x);
  }
  return x;
}

at::Tensor Hifigan::forward(const at::Tensor& mel, const at::Tensor& condition, const Probe* probe) const {
  check_shape(mel, {-1, config_.in, -1}, "vocoder input");
  const auto show = [&](const std::string& name, const at::Tensor& value) {
    if (probe != nullptr) {
      (*probe)(name, value.clone());  // later stages work in place
    }
  };
  at::Tensor x = at::conv1d(mel, pre_.weight, pre_.bias, 1, 3);
  show("dec.conv_pre", x);
  if (config_.condition > 0) {
    check_shape(condition, {mel.size(0), config_.condition, 1}, "vocoder speaker embedding");
    x = x + at::conv1d(condition, condition_.weight, condition_.bias);
  }
  const std::size_t per_stage = config_.block_kernels.size();
  for (std::size_t i = 0; i < ups_.size(); ++i) {
    x = at::conv_transpose1d(at::leaky_relu_(x, 0.1), ups_[i].weight, ups_[i].bias, config_.rates[i],
                             (config_.kernels[i] - config_.rates[i]) / 2);
    show("dec.ups." + std::to_string(i), x);
    at::Tensor sum;
    for (std::size_t j = 0; j < per_stage; ++j) {
      const at::Tensor y = residual(blocks_[i * per_stage + j], x);
      show("dec.resblocks." + std::to_string(i * per_stage + j), y);
      sum = sum.defined() ? sum.add_(y) : y;
    }
    x = sum.div_(static_cast<double>(per_stage));
  }
  x = at::conv1d(at::leaky_relu_(x, 0.01), post_.weight, post_.bias, 1, 3);  // 0.01 here, 0.1 everywhere else
  show("dec.conv_post", x);
  return at::tanh(x).squeeze(1);
}

std::int64_t Hifigan::hop_samples() const {
  std::int64_t hop = 1;
  for (const std::int64_t rate : config_.rates) {
    hop *= rate;
  }
  return hop;
}

}  // namespace tts
