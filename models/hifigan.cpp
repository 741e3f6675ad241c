#include "models/hifigan.h"

#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include <ATen/ops/cat.h>
#include <ATen/ops/conv1d.h>
#include <ATen/ops/conv_transpose1d.h>
#include <ATen/ops/leaky_relu.h>
#include <ATen/ops/tanh.h>
#include <ATen/ops/zeros.h>

namespace tts {
namespace {
constexpr std::array<std::int64_t, 1> kNoPadding{0};
}

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

/// Walks through the layers of one step, each with the tensor it keeps between steps. Signals are [1, channels, n].
class Hifigan::Cursor {
 public:
  Cursor(State& state, bool last) : state_(state), last_(last) {}

  /// "Same" convolution of a stream.
  at::Tensor conv(const at::Tensor& x, const Conv& conv, std::int64_t kernel, std::int64_t dilation) {
    const std::int64_t pad = (kernel - 1) * dilation / 2;
    const at::Tensor in = extend(x, pad, pad);
    return in.size(2) > 2 * pad ? at::conv1d(in, conv.weight, conv.bias, 1, at::IntArrayRef(kNoPadding), dilation)
                                : at::zeros({1, conv.weight.size(0), 0}, x.options());
  }

  /// Transposed convolution by `rate`, (kernel - rate) / 2 samples cut off both ends of the whole.
  at::Tensor up(const at::Tensor& x, const Conv& conv, std::int64_t kernel, std::int64_t rate) {
    const auto [left, right] = reach(kernel, rate);
    const at::Tensor in = extend(x, left, right);
    const std::int64_t frames = in.size(2) - left - right;
    if (frames <= 0) {
      return at::zeros({1, conv.weight.size(1), 0}, x.options());
    }
    const std::int64_t first = rate * left + (kernel - rate) / 2;
    return at::conv_transpose1d(in, conv.weight, conv.bias, rate).narrow(2, first, rate * frames);
  }

  /// Keeps x until `n` more samples of it are asked for: returns the next n.
  at::Tensor delay(const at::Tensor& x, std::int64_t n) {
    at::Tensor& held = next();
    at::Tensor all = join(held, x);
    held = all.narrow(2, n, all.size(2) - n);
    return all.narrow(2, 0, n);
  }
  /// Samples the next delay() could return if given x.
  [[nodiscard]] std::int64_t ready(std::size_t ahead, const at::Tensor& x) const {
    const std::size_t at = at_ + ahead;
    return x.size(2) + (at < state_.held.size() && state_.held[at].defined() ? state_.held[at].size(2) : 0);
  }

  /// Input frames before and behind an input frame that its `rate` output samples depend on.
  static std::pair<std::int64_t, std::int64_t> reach(std::int64_t kernel, std::int64_t rate) {
    const std::int64_t cut = (kernel - rate) / 2;
    return {(kernel - 1 - cut) / rate, (rate - 1 + cut) / rate};
  }

 private:
  at::Tensor& next() {
    if (at_ == state_.held.size()) {
      state_.held.emplace_back();
    }
    return state_.held[at_++];
  }

  static at::Tensor join(const at::Tensor& a, const at::Tensor& b) {
    return !a.defined() || a.size(2) == 0 ? b : b.size(2) == 0 ? a : at::cat({a, b}, 2);
  }

  /// x behind what is held of its past, zeros at the ends of the whole; the last left + right samples are held on.
  at::Tensor extend(const at::Tensor& x, std::int64_t left, std::int64_t right) {
    at::Tensor& held = next();
    if (!held.defined()) {
      held = at::zeros({1, x.size(1), left}, x.options());
    }
    at::Tensor in = join(held, x);
    if (last_) {
      in = join(in, at::zeros({1, x.size(1), right}, x.options()));
    }
    const std::int64_t keep = std::min(in.size(2), left + right);
    held = in.narrow(2, in.size(2) - keep, keep);
    return in;
  }

  State& state_;
  const bool last_;
  std::size_t at_ = 0;
};

Hifigan::State Hifigan::initial_state(const at::Tensor& condition) const {
  State state;
  if (config_.condition > 0) {
    check_shape(condition, {config_.condition}, "vocoder speaker embedding");
    state.condition = at::conv1d(condition.view({1, -1, 1}), condition_.weight, condition_.bias);
  }
  return state;
}

at::Tensor Hifigan::step(const at::Tensor& frames, State& state, bool last) const {
  check_shape(frames, {-1, config_.in}, "vocoder input");
  if (state.ended) {
    throw ModelError("vocoder: got frames after the last, wanted none");
  }
  state.ended = last;
  Cursor cursor(state, last);
  at::Tensor x = cursor.conv(frames.t().unsqueeze(0), pre_, 7, 1);
  if (state.condition.defined()) {
    x = x + state.condition;
  }
  const std::size_t per_stage = config_.block_kernels.size();
  for (std::size_t i = 0; i < ups_.size(); ++i) {
    x = cursor.up(at::leaky_relu(x, 0.1), ups_[i], config_.kernels[i], config_.rates[i]);
    std::vector<at::Tensor> outs;
    for (std::size_t j = 0; j < per_stage; ++j) {
      const ResBlock& block = blocks_[i * per_stage + j];
      at::Tensor y = x;
      for (std::size_t m = 0; m < block.first.size(); ++m) {
        at::Tensor t = cursor.conv(at::leaky_relu(y, 0.1), block.first[m], block.kernel, config_.block_dilations[m]);
        t = cursor.conv(at::leaky_relu_(t, 0.1), block.second[m], block.kernel, 1);
        y = t.add_(cursor.delay(y, t.size(2)));
      }
      outs.push_back(y);
    }
    // The wider blocks are behind the narrower ones.
    std::int64_t n = cursor.ready(0, outs[0]);
    for (std::size_t j = 1; j < per_stage; ++j) {
      n = std::min(n, cursor.ready(j, outs[j]));
    }
    at::Tensor sum;
    for (const at::Tensor& out : outs) {
      const at::Tensor y = cursor.delay(out, n);
      sum = sum.defined() ? sum + y : y;
    }
    x = sum / static_cast<double>(per_stage);
  }
  return at::tanh(cursor.conv(at::leaky_relu(x, 0.01), post_, 7, 1)).view({-1});
}

std::int64_t Hifigan::certain_samples(std::int64_t n_frames) const {
  std::int64_t n = n_frames - 3;
  for (std::size_t i = 0; i < ups_.size(); ++i) {
    n = std::max<std::int64_t>(0, n - Cursor::reach(config_.kernels[i], config_.rates[i]).second) * config_.rates[i];
    std::int64_t behind = 0;
    for (const std::int64_t kernel : config_.block_kernels) {
      std::int64_t sum = 0;
      for (const std::int64_t dilation : config_.block_dilations) {
        sum += (kernel - 1) * (dilation + 1) / 2;
      }
      behind = std::max(behind, sum);
    }
    n -= behind;
  }
  return std::max<std::int64_t>(0, n - 3);
}

std::int64_t Hifigan::hop_samples() const {
  std::int64_t hop = 1;
  for (const std::int64_t rate : config_.rates) {
    hop *= rate;
  }
  return hop;
}

}  // namespace tts
