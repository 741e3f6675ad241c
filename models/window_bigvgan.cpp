#include "models/window_bigvgan.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/clamp.h>
#include <ATen/ops/conv1d.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/sin.h>
#include <ATen/ops/zeros.h>

namespace tts {
namespace {

/// x [n, 1, samples] with repetitions of its first and last sample.
at::Tensor repeat_edges(const at::Tensor& x, std::int64_t before, std::int64_t behind) {
  const std::int64_t last = x.size(2) - 1;
  return at::cat(
      {x.narrow(2, 0, 1).expand({x.size(0), 1, before}), x, x.narrow(2, last, 1).expand({x.size(0), 1, behind})}, 2);
}

}  // namespace

WindowBigvgan::WindowBigvgan(const WeightScope& weights, const BigvganConfig& config, const Placement& placement)
    : config_(config), placement_(placement) {
  const auto f = SnakeActivation::filter();
  at::Tensor up = at::zeros({2, 1, 7}, at::kFloat);  // samples 2n of inputs n - 3 .. n + 2, 2n + 1 of n - 2 .. n + 3
  at::Tensor down = at::zeros({1, 1, 12}, at::kFloat);
  for (std::size_t i = 0; i < 6; ++i) {
    up.data_ptr<float>()[i] = 2.0F * static_cast<float>(f[11 - 2 * i]);
    up.data_ptr<float>()[7 + i + 1] = 2.0F * static_cast<float>(f[10 - 2 * i]);
  }
  for (std::size_t i = 0; i < 12; ++i) down.data_ptr<float>()[i] = static_cast<float>(f[i]);
  up_ = up.to(placement.device);
  down_ = down.to(placement.device);

  const auto conv = [&](const WeightScope& scope, std::int64_t out, std::int64_t in, std::int64_t kernel,
                        std::int64_t dilation) {
    return WindowConv(fold_weight_norm(scope, "", {out, in, kernel}), scope.get("bias", {out}), placement, dilation);
  };
  pre_ = conv(weights("conv_pre"), config.channels, config.in, 7, 1);
  std::int64_t channels = config.channels;
  std::int64_t n_block = 0;
  for (std::size_t i = 0; i < config.rates.size(); ++i) {
    const WeightScope scope = weights("ups", static_cast<std::int64_t>(i))("0");
    ups_.emplace_back(fold_weight_norm(scope, "", {channels, channels / 2, config.kernels[i]}),
                      scope.get("bias", {channels / 2}), config.rates[i], placement);
    channels /= 2;
    for (const std::int64_t kernel : config.block_kernels) {
      const WeightScope at = weights("resblocks", n_block++);
      Block block;
      for (std::int64_t m = 0; m < static_cast<std::int64_t>(config.block_dilations.size()); ++m) {
        block.first.push_back(
            conv(at("convs1", m), channels, channels, kernel, config.block_dilations[static_cast<std::size_t>(m)]));
        block.second.push_back(conv(at("convs2", m), channels, channels, kernel, 1));
        block.snakes.push_back(load_snake(at("activations", 2 * m), channels));
        block.snakes.push_back(load_snake(at("activations", 2 * m + 1), channels));
      }
      blocks_.push_back(std::move(block));
    }
  }
  out_ = load_snake(weights("activation_post"), channels);
  post_ = WindowConv(fold_weight_norm(weights, "conv_post", {1, channels, 7}), {}, placement);
}

WindowBigvgan::Snake WindowBigvgan::load_snake(const WeightScope& scope, std::int64_t channels) const {
  const auto column = [&](const at::Tensor& t) { return t.view({channels, 1}).to(placement_.device); };
  return {column(scope("act").get("alpha", {channels}).exp()),
          column((scope("act").get("beta", {channels}).exp() + 1e-9).reciprocal())};
}

at::Tensor WindowBigvgan::activate(const at::Tensor& x, const Snake& snake) const {
  const std::int64_t batch = x.size(0);
  const std::int64_t channels = x.size(1);
  const std::int64_t n = x.size(2);
  const at::Tensor each = x.to(at::kFloat).reshape({batch * channels, 1, n});
  at::Tensor doubled = at::conv1d(repeat_edges(each, 3, 3), up_).transpose(1, 2).reshape({batch, channels, 2 * n});
  const at::Tensor wave = at::sin(doubled * snake.alpha);
  doubled = (doubled + wave * wave * snake.beta).view({batch * channels, 1, 2 * n});
  return at::conv1d(repeat_edges(doubled, 5, 6), down_, {}, 2).view({batch, channels, n}).to(x.scalar_type());
}

at::Tensor WindowBigvgan::forward(const at::Tensor& mel) const {
  at::Tensor x = pre_(mel.transpose(1, 2).to(placement_.type));
  const std::size_t per_stage = config_.block_kernels.size();
  for (std::size_t i = 0; i < ups_.size(); ++i) {
    x = ups_[i](x);
    at::Tensor sum;
    for (std::size_t j = 0; j < per_stage; ++j) {
      const Block& block = blocks_[i * per_stage + j];
      at::Tensor y = x;
      for (std::size_t m = 0; m < block.first.size(); ++m) {
        const at::Tensor t = block.first[m](activate(y, block.snakes[2 * m]));
        y = y + block.second[m](activate(t, block.snakes[2 * m + 1]));
      }
      sum = sum.defined() ? sum + y : y;
    }
    x = sum / static_cast<double>(per_stage);
  }
  return at::clamp(post_(activate(x, out_)).to(at::kFloat), -1.0, 1.0).squeeze(1).contiguous();
}

std::int64_t WindowBigvgan::context() const {
  return generator_context(config_, SnakeActivation::kContext + 1);
}

}  // namespace tts
