#include "models/hifigan.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <span>
#include <string>
#include <utility>

#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tanh.h>

namespace tts {
namespace {

/// Frames that are taken through all layers at once: their samples stay in the second-level cache.
constexpr std::int64_t kPieceFrames = 16;

std::span<const float> span_of(const at::Tensor& x) {
  return {x.data_ptr<float>(), static_cast<std::size_t>(x.numel())};
}

}  // namespace

Hifigan::Hifigan(const WeightScope& weights, const HifiganConfig& config) : config_(config) {
  if (config.condition > 0) {
    condition_ = Linear(weights("cond").with(Precision::fp32), config.condition, config.channels, true);
  }
  const std::int64_t narrowest = config.channels >> config.rates.size();
  const bool bf16 = weights.precision() == Precision::bf16 && narrowest % 16 == 0 && config.in % 2 == 0;
  if (bf16) {
    bf16_ = std::make_shared<Bf16Hifigan>();
  }
  // [out, in, kernel] as [out, kernel, in].
  const auto view = [](const at::Tensor& by_tap, const at::Tensor& bias, std::int64_t dilation) {
    return Bf16Hifigan::Conv{.weight = by_tap.data_ptr<float>(),
                             .bias = bias.defined() ? span_of(bias) : std::span<const float>(),
                             .out = by_tap.size(0),
                             .kernel = by_tap.size(1),
                             .in = by_tap.size(2),
                             .dilation = dilation};
  };
  const auto by_tap = [](const at::Tensor& weight) { return weight.permute({0, 2, 1}).contiguous(); };

  const at::Tensor pre = weights("conv_pre").get("weight", {config.channels, config.in, 7});
  const at::Tensor pre_bias = weights("conv_pre").get("bias", {config.channels});
  const at::Tensor post = weights("conv_post").get("weight", {1, narrowest, 7});
  const at::Tensor post_bias = config.out_bias ? weights("conv_post").get("bias", {1}) : at::Tensor();
  if (bf16) {
    bf16_->set_first(view(by_tap(pre), pre_bias, 1));
    bf16_->set_last(view(by_tap(post), post_bias, 1));
  } else {
    pre_ = SampleConv(pre, pre_bias);
    post_ = SampleConv(post, post_bias);
  }
  std::int64_t channels = config.channels;
  std::int64_t n_block = 0;
  for (std::size_t i = 0; i < config.rates.size(); ++i) {
    const WeightScope up = weights("ups", static_cast<std::int64_t>(i));
    // Transposed convolution: axis 0 is the input channel, also for the weight norm.
    const at::Tensor up_weight = fold_weight_norm(up, "", {channels, channels / 2, config.kernels[i]});
    const at::Tensor up_bias = up.get("bias", {channels / 2});
    channels /= 2;
    if (bf16) {
      const Polyphase p = make_polyphase(up_weight, up_bias, config.rates[i]);
      bf16_->add_stage({.weight = p.weight.data_ptr<float>(),
                        .bias = span_of(p.bias),
                        .rate = config.rates[i],
                        .out = channels,
                        .taps = p.weight.size(1),
                        .in = p.weight.size(2),
                        .left = p.left,
                        .right = p.right});
    } else {
      ups_.emplace_back(up_weight, up_bias, config.rates[i]);
    }
    for (const std::int64_t kernel : config.block_kernels) {
      const WeightScope scope = weights("resblocks", n_block++);
      std::array<std::vector<at::Tensor>, 2> kept;  // alive until they are packed
      std::array<std::vector<Bf16Hifigan::Conv>, 2> views;
      ResBlock block;
      for (std::size_t m = 0; m < config.block_dilations.size(); ++m) {
        for (const std::size_t half : {0U, 1U}) {
          const WeightScope conv = scope(half == 0 ? "convs1" : "convs2", static_cast<std::int64_t>(m));
          const at::Tensor weight = fold_weight_norm(conv, "", {channels, channels, kernel});
          const at::Tensor bias = conv.get("bias", {channels});
          const std::int64_t dilation = half == 0 ? config.block_dilations[m] : 1;
          if (bf16) {
            kept[half].push_back(by_tap(weight));
            views[half].push_back(view(kept[half].back(), bias, dilation));
            kept[half].push_back(bias);
          } else {
            (half == 0 ? block.first : block.second).emplace_back(weight, bias, dilation);
          }
        }
      }
      if (bf16) {
        bf16_->add_block(views[0], views[1]);
      } else {
        blocks_.push_back(std::move(block));
      }
    }
  }
}

/// Walks through the layers of one step, each with the tensor it keeps between steps. Signals are [samples, channels].
class Hifigan::Cursor {
 public:
  Cursor(State& state, bool last) : state_(state), last_(last) {}

  /// "Same" convolution of a stream, leaky ReLU with this slope before it (1: none).
  at::Tensor conv(const at::Tensor& x, const SampleConv& conv, float slope) {
    return conv.valid(extend(x, conv.span() / 2, conv.span() / 2, slope));
  }
  at::Tensor up(const at::Tensor& x, const SampleUpsampler& up, float slope) {
    return up.valid(extend(x, up.left(), up.right(), slope));
  }

  /// Keeps x until `n` more samples of it are asked for: returns the next n.
  at::Tensor delay(const at::Tensor& x, std::int64_t n) { return tts::delay(next(), x, n); }
  /// Samples that the delay `ahead` places further on could return if given x.
  [[nodiscard]] std::int64_t ready(std::size_t ahead, const at::Tensor& x) const {
    const std::size_t at = at_ + ahead;
    return x.size(0) + (at < state_.held.size() && state_.held[at].defined() ? state_.held[at].size(0) : 0);
  }

 private:
  at::Tensor& next() {
    if (at_ == state_.held.size()) {
      state_.held.emplace_back();
    }
    return state_.held[at_++];
  }

  /// x, activated, behind what is held of its past, zeros at the ends of the whole; the last left + right samples are
  /// held on.
  at::Tensor extend(const at::Tensor& x, std::int64_t left, std::int64_t right, float slope) {
    at::Tensor& held = next();
    const std::int64_t channels = x.size(1);
    const std::int64_t n_held = held.defined() ? held.size(0) : left;
    const std::int64_t n = x.size(0);
    const std::int64_t total = n_held + n + (last_ ? right : 0);
    at::Tensor in = at::empty({total, channels}, at::kFloat);
    auto* to = in.data_ptr<float>();
    if (held.defined()) {
      std::copy_n(held.data_ptr<float>(), n_held * channels, to);
    } else {
      std::fill_n(to, n_held * channels, 0.0F);
    }
    to += n_held * channels;
    const at::Tensor rows = x.contiguous();
    const auto* from = rows.data_ptr<float>();
    for (std::int64_t i = 0; i < n * channels; ++i) {
      to[i] = std::max(from[i], slope * from[i]);
    }
    std::fill_n(to + n * channels, in.numel() - (n_held + n) * channels, 0.0F);
    const std::int64_t keep = std::min(total, left + right);
    held = in.narrow(0, total - keep, keep).clone();
    return in;
  }

  State& state_;
  const bool last_;
  std::size_t at_ = 0;
};

at::Tensor Hifigan::forward(const at::Tensor& mel, const at::Tensor& condition, const Probe* probe) const {
  check_shape(mel, {-1, config_.in, -1}, "vocoder input");
  if (config_.condition > 0) {
    check_shape(condition, {mel.size(0), config_.condition, 1}, "vocoder speaker embedding");
  }
  std::vector<at::Tensor> waves;
  for (std::int64_t b = 0; b < mel.size(0); ++b) {
    State state = initial_state(config_.condition > 0 ? condition[b].reshape({-1}) : at::Tensor());
    const at::Tensor frames = mel[b].t();
    waves.push_back(probe != nullptr && !is_bf16() ? step_piece(frames, state, true, probe)
                                                   : step(frames, state, true));
  }
  return at::stack(waves);
}

Hifigan::State Hifigan::initial_state(const at::Tensor& condition) const {
  State state;
  if (config_.condition > 0) {
    check_shape(condition, {config_.condition}, "vocoder speaker embedding");
    state.condition = condition_(condition.unsqueeze(0)).squeeze(0);
  }
  if (is_bf16()) {
    state.bf16 = bf16_->initial_state(state.condition.defined() ? span_of(state.condition) : std::span<const float>());
  }
  return state;
}

at::Tensor Hifigan::step(const at::Tensor& frames, State& state, bool last) const {
  check_shape(frames, {-1, config_.in}, "vocoder input");
  if (state.ended) {
    throw ModelError("vocoder: got frames after the last, wanted none");
  }
  state.ended = last;
  const std::int64_t n = frames.size(0);
  if (is_bf16()) {
    const at::Tensor rows = frames.contiguous();
    const std::vector<float> wave = bf16_->step(rows.data_ptr<float>(), n, state.bf16, last);
    at::Tensor out = at::empty({static_cast<std::int64_t>(wave.size())}, at::kFloat);
    std::copy(wave.begin(), wave.end(), out.data_ptr<float>());
    return out;
  }
  return in_pieces(frames, kPieceFrames,
                   [&](const at::Tensor& piece, bool ends) { return step_piece(piece, state, last && ends, nullptr); });
}

at::Tensor Hifigan::step_piece(const at::Tensor& frames, State& state, bool last, const Probe* probe) const {
  const auto show = [&](const std::string& name, const at::Tensor& value) {
    if (probe != nullptr) {
      (*probe)(name, value.t().unsqueeze(0));
    }
  };
  Cursor cursor(state, last);
  at::Tensor x = cursor.conv(frames, pre_, 1.0F);
  show("dec.conv_pre", x);
  if (state.condition.defined()) {
    x = x + state.condition;
  }
  const std::size_t per_stage = config_.block_kernels.size();
  for (std::size_t i = 0; i < ups_.size(); ++i) {
    x = cursor.up(x, ups_[i], 0.1F);
    show("dec.ups." + std::to_string(i), x);
    std::vector<at::Tensor> outs;
    for (std::size_t j = 0; j < per_stage; ++j) {
      const ResBlock& block = blocks_[i * per_stage + j];
      at::Tensor y = x;
      for (std::size_t m = 0; m < block.first.size(); ++m) {
        const at::Tensor t = cursor.conv(cursor.conv(y, block.first[m], 0.1F), block.second[m], 0.1F);
        y = at::Tensor(t).add_(cursor.delay(y, t.size(0)));
      }
      show("dec.resblocks." + std::to_string(i * per_stage + j), y);
      outs.push_back(y);
    }
    x = mean_of_blocks(cursor, outs);
  }
  x = cursor.conv(x, post_, 0.01F);  // 0.01 here, 0.1 everywhere else
  show("dec.conv_post", x);
  return at::tanh(x).view({-1});
}

std::int64_t Hifigan::certain_samples(std::int64_t n_frames) const {
  constexpr std::int64_t kReach = 3;  // of the first and the last convolution
  std::int64_t n = n_frames - kReach;
  for (std::size_t i = 0; i < config_.rates.size(); ++i) {
    const std::int64_t rate = config_.rates[i];
    const std::int64_t ahead = (rate - 1 + (config_.kernels[i] - rate) / 2) / rate;
    n = std::max<std::int64_t>(0, n - ahead) * rate;
    std::int64_t behind = 0;  // of the widest block
    for (const std::int64_t kernel : config_.block_kernels) {
      std::int64_t sum = 0;
      for (const std::int64_t dilation : config_.block_dilations) {
        sum += (kernel - 1) * (dilation + 1) / 2;
      }
      behind = std::max(behind, sum);
    }
    n -= behind;
  }
  return std::max<std::int64_t>(0, n - kReach);
}

std::int64_t Hifigan::hop_samples() const {
  std::int64_t hop = 1;
  for (const std::int64_t rate : config_.rates) {
    hop *= rate;
  }
  return hop;
}

}  // namespace tts
