#include "models/bigvgan.h"

#include <cmath>
#include <numbers>
#include <numeric>
#include <string>

#include <ATen/ops/clamp.h>
#include <ATen/ops/conv1d.h>
#include <ATen/ops/conv_transpose1d.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/replication_pad1d.h>
#include <ATen/ops/sin.h>
#include <ATen/ops/zeros.h>

namespace tts {
namespace {

constexpr int kTaps = 12;

/// Modified Bessel function of the first kind, order 0, by its series.
double bessel_i0(double x) {
  double sum = 1.0;
  double term = 1.0;
  for (int k = 1; k < 40; ++k) {
    term *= (x / (2.0 * k)) * (x / (2.0 * k));
    sum += term;
  }
  return sum;
}

/// [2, 1, 7]: for output 2n and 2n + 1, the taps on inputs n - 3 .. n + 3, times 2 for the doubled rate.
at::Tensor up_filter() {
  const auto f = SnakeActivation::filter();
  at::Tensor weight = at::zeros({2, 1, 7}, at::kFloat);
  auto* w = weight.data_ptr<float>();
  for (std::size_t i = 0; i < 6; ++i) {
    w[i] = 2.0F * static_cast<float>(f[11 - 2 * i]);
    w[7 + 1 + i] = 2.0F * static_cast<float>(f[10 - 2 * i]);
  }
  return weight;
}

at::Tensor down_filter() {
  const auto f = SnakeActivation::filter();
  at::Tensor weight = at::empty({1, 1, kTaps}, at::kFloat);
  for (std::size_t i = 0; i < f.size(); ++i) {
    weight.data_ptr<float>()[i] = static_cast<float>(f[i]);
  }
  return weight;
}

}  // namespace

std::array<double, 12> SnakeActivation::filter() {
  const double attenuation = 2.285 * (kTaps / 2 - 1) * std::numbers::pi * 1.2 + 7.95;
  const double beta = 0.1102 * (attenuation - 8.7);
  std::array<double, 12> f{};
  for (std::size_t k = 0; k < f.size(); ++k) {
    const double t = static_cast<double>(k) - 5.5;
    const double edge = t / 5.5;
    const double kaiser = bessel_i0(beta * std::sqrt(std::max(0.0, 1.0 - edge * edge))) / bessel_i0(beta);
    const double x = std::numbers::pi * t / 2.0;
    f[k] = kaiser * std::sin(x) / x;
  }
  const double sum = std::accumulate(f.begin(), f.end(), 0.0);
  for (double& tap : f) {
    tap /= sum;
  }
  return f;
}

SnakeActivation::SnakeActivation(const WeightScope& scope, std::int64_t channels)
    : alpha(scope("act").get("alpha", {channels}).exp().view({1, channels, 1})),
      beta((scope("act").get("beta", {channels}).exp() + 1e-9).reciprocal().view({1, channels, 1})) {}

at::Tensor SnakeActivation::double_rate(const at::Tensor& x) {
  static const at::Tensor weight = up_filter();
  const at::Tensor rows = x.reshape({-1, 1, x.size(2)});
  const at::Tensor phases = at::conv1d(at::replication_pad1d(rows, {3, 3}), weight);  // [rows, 2, frames]
  return phases.transpose(1, 2).reshape({x.size(0), x.size(1), 2 * x.size(2)});
}

at::Tensor SnakeActivation::halve_rate(const at::Tensor& x) {
  static const at::Tensor weight = down_filter();
  const at::Tensor rows = x.reshape({-1, 1, x.size(2)});
  return at::conv1d(at::replication_pad1d(rows, {5, 5}), weight, {}, 2).view({x.size(0), x.size(1), x.size(2) / 2});
}

at::Tensor SnakeActivation::bend(const at::Tensor& x) const {
  return x + at::sin(x * alpha).square_().mul_(beta);
}

at::Tensor SnakeActivation::operator()(const at::Tensor& x) const {
  return halve_rate(bend(double_rate(x)));
}

Bigvgan::Bigvgan(const WeightScope& weights, const BigvganConfig& config) : config_(config) {
  const auto conv = [](const WeightScope& scope, at::IntArrayRef shape, std::int64_t out) {
    return Conv{fold_weight_norm(scope, "", shape), scope.get("bias", {out})};
  };
  pre_ = conv(weights("conv_pre"), {config.channels, config.in, 7}, config.channels);
  std::int64_t channels = config.channels;
  std::int64_t n_block = 0;
  for (std::size_t i = 0; i < config.rates.size(); ++i) {
    ups_.push_back(conv(weights("ups", static_cast<std::int64_t>(i))("0"), {channels, channels / 2, config.kernels[i]},
                        channels / 2));
    channels /= 2;
    for (const std::int64_t kernel : config.block_kernels) {
      const WeightScope scope = weights("resblocks", n_block++);
      Block block{.first = {}, .second = {}, .activations = {}, .kernel = kernel};
      for (std::int64_t m = 0; m < static_cast<std::int64_t>(config.block_dilations.size()); ++m) {
        block.first.push_back(conv(scope("convs1", m), {channels, channels, kernel}, channels));
        block.second.push_back(conv(scope("convs2", m), {channels, channels, kernel}, channels));
        block.activations.emplace_back(scope("activations", 2 * m), channels);
        block.activations.emplace_back(scope("activations", 2 * m + 1), channels);
      }
      blocks_.push_back(std::move(block));
    }
  }
  out_activation_ = SnakeActivation(weights("activation_post"), channels);
  post_.weight = fold_weight_norm(weights, "conv_post", {1, channels, 7});
}

at::Tensor Bigvgan::forward(const at::Tensor& mel, const Probe* probe) const {
  check_shape(mel, {-1, config_.in, -1}, "vocoder input");
  const auto show = [&](const std::string& name, const at::Tensor& value) {
    if (probe != nullptr) {
      (*probe)(name, value.clone());
    }
  };
  at::Tensor x = at::conv1d(mel, pre_.weight, pre_.bias, 1, 3);
  show("conv_pre", x);
  const std::size_t per_stage = config_.block_kernels.size();
  for (std::size_t i = 0; i < ups_.size(); ++i) {
    x = at::conv_transpose1d(x, ups_[i].weight, ups_[i].bias, config_.rates[i],
                             (config_.kernels[i] - config_.rates[i]) / 2);
    show("ups." + std::to_string(i) + ".0", x);
    at::Tensor sum;
    for (std::size_t j = 0; j < per_stage; ++j) {
      const std::size_t n = i * per_stage + j;
      const Block& block = blocks_[n];
      at::Tensor y = x;
      for (std::size_t m = 0; m < block.first.size(); ++m) {
        const std::int64_t dilation = config_.block_dilations[m];
        const std::int64_t span = block.kernel - 1;
        const at::Tensor activated = block.activations[2 * m](y);
        if (probe != nullptr && n == 0 && m == 0) {
          show("resblocks.0.activations.0.upsample", SnakeActivation::double_rate(y));
          show("resblocks.0.activations.0", activated);
        }
        at::Tensor t =
            at::conv1d(activated, block.first[m].weight, block.first[m].bias, 1, span * dilation / 2, dilation);
        t = at::conv1d(block.activations[2 * m + 1](t), block.second[m].weight, block.second[m].bias, 1, span / 2);
        y = t.add_(y);
      }
      show("resblocks." + std::to_string(n), y);
      sum = sum.defined() ? sum.add_(y) : y;
    }
    x = sum.div_(static_cast<double>(per_stage));
  }
  x = out_activation_(x);
  show("activation_post", x);
  x = at::conv1d(x, post_.weight, {}, 1, 3);
  show("conv_post", x);
  return at::clamp(x, -1.0, 1.0).squeeze(1);
}

}  // namespace tts
