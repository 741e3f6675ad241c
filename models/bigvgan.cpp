#include "models/bigvgan.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>
#include <string>
#include <utility>

#include <ATen/ops/cat.h>
#include <ATen/ops/clamp.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>

namespace tts {
namespace {

constexpr int kTaps = 12;
constexpr int kHalf = kTaps / 2;
/// Frames that are taken through all layers at once: few enough for the cache, enough to pay for reading the weights.
constexpr std::int64_t kPieceFrames = 24;
/// Numbers of an activation's doubled signal that are made at once.
constexpr std::int64_t kBlockNumbers = 8192;

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

/// Taps of one parity: of the samples at 2n (on inputs n - 3 .. n + 2) or 2n + 1 (on n - 2 .. n + 3), or of the way
/// back.
struct Filters {
  std::array<float, kHalf> even{}, odd{};
};
Filters up_filters() {
  const auto f = SnakeActivation::filter();
  Filters out;
  for (std::size_t i = 0; i < kHalf; ++i) {
    out.even[i] = 2.0F * static_cast<float>(f[11 - 2 * i]);
    out.odd[i] = 2.0F * static_cast<float>(f[10 - 2 * i]);
  }
  return out;
}
/// Of the sample at n: odd ones from 2n - 5, even ones from 2n - 4.
Filters down_filters() {
  const auto f = SnakeActivation::filter();
  Filters out;
  for (std::size_t i = 0; i < kHalf; ++i) {
    out.odd[i] = static_cast<float>(f[2 * i]);
    out.even[i] = static_cast<float>(f[2 * i + 1]);
  }
  return out;
}

/// y[i] = sum of w[k] x[i + k * stride].
void fir(const float* __restrict x, std::int64_t stride, const std::array<float, kHalf>& w, float* __restrict y,
         std::int64_t n) {
  const float w0 = w[0];
  const float w1 = w[1];
  const float w2 = w[2];
  const float w3 = w[3];
  const float w4 = w[4];
  const float w5 = w[5];
  for (std::int64_t i = 0; i < n; ++i) {
    y[i] = ((w0 * x[i] + w1 * x[i + stride]) + (w2 * x[i + 2 * stride] + w3 * x[i + 3 * stride])) +
           (w4 * x[i + 4 * stride] + w5 * x[i + 5 * stride]);
  }
}

/// The square of the sine, to about 1e-7: the angle less the nearest multiple of pi, whose sign does not matter.
inline float sine_squared(float angle) {
  constexpr float kRound = 12582912.0F;  // 1.5 * 2^23: adding it rounds to an integer
  const float n = (angle * std::numbers::inv_pi_v<float> + kRound) - kRound;
  const float r = ((angle - n * 3.140625F) - n * 9.67502593994140625e-4F) - n * 1.509957990978376432e-7F;
  const float q = r * r;
  float p = -2.5052108385e-8F;
  p = p * q + 2.7557319224e-6F;
  p = p * q - 1.9841269841e-4F;
  p = p * q + 8.3333333333e-3F;
  p = p * q - 1.6666666667e-1F;
  const float sine = p * q * r + r;
  return sine * sine;
}

/// x with `before` repetitions of its first and `behind` of its last row.
at::Tensor repeat_edges(const at::Tensor& x, std::int64_t before, std::int64_t behind) {
  const std::int64_t n = x.size(0);
  return at::cat({x.narrow(0, 0, 1).expand({before, x.size(1)}), x, x.narrow(0, n - 1, 1).expand({behind, x.size(1)})});
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

SnakeActivation::SnakeActivation(const WeightScope& scope, std::int64_t channels) {
  const at::Tensor alpha = scope("act").get("alpha", {channels}).exp();
  const at::Tensor beta = (scope("act").get("beta", {channels}).exp() + 1e-9).reciprocal();
  alpha_.assign(alpha.data_ptr<float>(), alpha.data_ptr<float>() + channels);
  beta_.assign(beta.data_ptr<float>(), beta.data_ptr<float>() + channels);
}

void SnakeActivation::bend(float* __restrict rows, std::int64_t n_rows) const {
  const auto channels = static_cast<std::int64_t>(alpha_.size());
  const float* __restrict alpha = alpha_.data();
  const float* __restrict beta = beta_.data();
  for (std::int64_t row = 0; row < n_rows; ++row) {
    float* __restrict x = rows + row * channels;
    for (std::int64_t c = 0; c < channels; ++c) {
      x[c] += sine_squared(x[c] * alpha[c]) * beta[c];
    }
  }
}

at::Tensor SnakeActivation::double_rate(const at::Tensor& x) {
  static const Filters up = up_filters();
  const std::int64_t n = x.size(0);
  const std::int64_t channels = x.size(1);
  const at::Tensor in = repeat_edges(x, 3, 3);  // row i is sample i - 3
  const at::Tensor phases = at::empty({2, n, channels}, at::kFloat);
  fir(in.data_ptr<float>(), channels, up.even, phases.data_ptr<float>(), n * channels);
  fir(in.data_ptr<float>() + channels, channels, up.odd, phases.data_ptr<float>() + n * channels, n * channels);
  return phases.transpose(0, 1).reshape({2 * n, channels});
}

at::Tensor SnakeActivation::bend(const at::Tensor& doubled) const {
  at::Tensor out = doubled.contiguous().clone();
  bend(out.data_ptr<float>(), out.size(0));
  return out;
}

at::Tensor SnakeActivation::operator()(const at::Tensor& x) const {
  return valid(repeat_edges(x, kContext, kContext), kContext, kContext);
}

at::Tensor SnakeActivation::valid(const at::Tensor& x, std::int64_t before, std::int64_t behind) const {
  static const Filters up = up_filters();
  static const Filters down = down_filters();
  const std::int64_t channels = x.size(1);
  const std::int64_t total = x.size(0);
  const std::int64_t n = std::max<std::int64_t>(0, total - 2 * kContext);
  at::Tensor out = at::empty({n, channels}, at::kFloat);
  const std::int64_t most = std::max<std::int64_t>(16, kBlockNumbers / channels);
  std::vector<float> even(static_cast<std::size_t>((most + kContext) * channels));
  std::vector<float> odd(even.size());
  std::vector<float> behind_odd(static_cast<std::size_t>(most * channels));
  for (std::int64_t first = 0; first < n; first += most) {
    const std::int64_t made = std::min(most, n - first);
    const std::int64_t rows = made + kContext;
    const float* in = x.data_ptr<float>() + first * channels;
    // Row e of `even` is sample 2i of the doubled signal for i = first + 3 + e, row o of `odd` is 2i + 1 for
    // i = first + 2 + o.
    fir(in, channels, up.even, even.data(), rows * channels);
    fir(in, channels, up.odd, odd.data(), rows * channels);
    bend(even.data(), rows);
    bend(odd.data(), rows);
    // The doubled signal repeats its own edges, which are not those of what is repeated of x.
    const auto row = [&](std::vector<float>& of, std::int64_t i, std::int64_t shift) {
      return of.data() + (i - first - shift) * channels;
    };
    for (std::int64_t i = first + 2; i < before; ++i) {
      const float* edge = row(even, before, 3);
      std::copy_n(edge, channels, row(odd, i, 2));
      if (i >= first + 3) std::copy_n(edge, channels, row(even, i, 3));
    }
    for (std::int64_t i = std::max(first + 2, total - behind); i <= first + made + 7; ++i) {
      const float* edge = row(odd, total - behind - 1, 2);
      if (i <= first + made + 6) std::copy_n(edge, channels, row(odd, i, 2));
      if (i >= first + 3) std::copy_n(edge, channels, row(even, i, 3));
    }
    float* to = out.data_ptr<float>() + first * channels;
    fir(even.data(), channels, down.even, to, made * channels);
    fir(odd.data(), channels, down.odd, behind_odd.data(), made * channels);
    for (std::int64_t i = 0; i < made * channels; ++i) {
      to[i] += behind_odd[static_cast<std::size_t>(i)];
    }
  }
  return out;
}

Bigvgan::Bigvgan(const WeightScope& weights, const BigvganConfig& config) : config_(config) {
  const auto conv = [](const WeightScope& scope, std::int64_t channels, std::int64_t in, std::int64_t kernel,
                       std::int64_t dilation) {
    return SampleConv(fold_weight_norm(scope, "", {channels, in, kernel}), scope.get("bias", {channels}), dilation);
  };
  pre_ = conv(weights("conv_pre"), config.channels, config.in, 7, 1);
  std::int64_t channels = config.channels;
  std::int64_t n_block = 0;
  for (std::size_t i = 0; i < config.rates.size(); ++i) {
    const WeightScope up = weights("ups", static_cast<std::int64_t>(i))("0");
    ups_.emplace_back(fold_weight_norm(up, "", {channels, channels / 2, config.kernels[i]}),
                      up.get("bias", {channels / 2}), config.rates[i]);
    channels /= 2;
    for (const std::int64_t kernel : config.block_kernels) {
      const WeightScope scope = weights("resblocks", n_block++);
      Block block;
      for (std::int64_t m = 0; m < static_cast<std::int64_t>(config.block_dilations.size()); ++m) {
        block.first.push_back(
            conv(scope("convs1", m), channels, channels, kernel, config.block_dilations[static_cast<std::size_t>(m)]));
        block.second.push_back(conv(scope("convs2", m), channels, channels, kernel, 1));
        block.activations.emplace_back(scope("activations", 2 * m), channels);
        block.activations.emplace_back(scope("activations", 2 * m + 1), channels);
      }
      blocks_.push_back(std::move(block));
    }
  }
  out_activation_ = SnakeActivation(weights("activation_post"), channels);
  post_ = SampleConv(fold_weight_norm(weights, "conv_post", {1, channels, 7}), {});
}

/// Walks through the layers of one step, each with what it keeps between steps. Signals are [samples, channels].
class Bigvgan::Cursor {
 public:
  Cursor(State& state, bool last) : state_(state), last_(last) {}

  /// "Same" convolution of a stream.
  at::Tensor conv(const at::Tensor& x, const SampleConv& conv) {
    return conv.valid(padded(x, conv.span() / 2, conv.span() / 2));
  }
  at::Tensor up(const at::Tensor& x, const SampleUpsampler& up) { return up.valid(padded(x, up.left(), up.right())); }

  at::Tensor activate(const at::Tensor& x, const SnakeActivation& activation) {
    constexpr std::int64_t kContext = SnakeActivation::kContext;
    State::Held& held = next();
    at::Tensor in = x;
    if (held.samples.defined()) {
      in = at::cat({held.samples, x});
    } else if (x.size(0) > 0) {
      in = repeat_edges(x, kContext, 0);
      held.first = -kContext;
    } else {
      return x;
    }
    const std::int64_t begin = held.first;
    const std::int64_t keep = std::min(in.size(0), 2 * kContext);
    held.samples = in.narrow(0, in.size(0) - keep, keep).clone();
    held.first += in.size(0) - keep;
    if (last_) in = repeat_edges(in, 0, kContext);
    return activation.valid(in.contiguous(), std::max<std::int64_t>(0, -begin), last_ ? kContext : 0);
  }

  /// Keeps x until `n` more samples of it are asked for: returns the next n.
  at::Tensor delay(const at::Tensor& x, std::int64_t n) { return tts::delay(next().samples, x, n); }
  /// Samples that the delay `ahead` places further on could return if given x.
  [[nodiscard]] std::int64_t ready(std::size_t ahead, const at::Tensor& x) const {
    const std::size_t at = at_ + ahead;
    return x.size(0) +
           (at < state_.held.size() && state_.held[at].samples.defined() ? state_.held[at].samples.size(0) : 0);
  }

 private:
  State::Held& next() {
    if (at_ == state_.held.size()) {
      state_.held.emplace_back();
    }
    return state_.held[at_++];
  }

  /// x behind what is held of its past, zeros at the ends of the whole; the last left + right samples are held on.
  at::Tensor padded(const at::Tensor& x, std::int64_t left, std::int64_t right) {
    at::Tensor& held = next().samples;
    const std::int64_t channels = x.size(1);
    std::vector<at::Tensor> parts{held.defined() ? held : at::zeros({left, channels}, at::kFloat), x};
    if (last_) {
      parts.push_back(at::zeros({right, channels}, at::kFloat));
    }
    at::Tensor in = at::cat(parts);
    const std::int64_t keep = std::min(in.size(0), left + right);
    held = in.narrow(0, in.size(0) - keep, keep).clone();
    return in;
  }

  State& state_;
  const bool last_;
  std::size_t at_ = 0;
};

at::Tensor Bigvgan::forward(const at::Tensor& mel, const Probe* probe) const {
  check_shape(mel, {-1, config_.in, -1}, "vocoder input");
  std::vector<at::Tensor> waves;
  for (std::int64_t b = 0; b < mel.size(0); ++b) {
    State state;
    const at::Tensor frames = mel[b].t();
    waves.push_back(probe != nullptr ? step_piece(frames, state, true, probe) : step(frames, state, true));
  }
  return at::stack(waves);
}

at::Tensor Bigvgan::step(const at::Tensor& frames, State& state, bool last) const {
  check_shape(frames, {-1, config_.in}, "vocoder input");
  if (state.ended) {
    throw ModelError("vocoder: got frames after the last, wanted none");
  }
  state.ended = last;
  return in_pieces(frames, kPieceFrames,
                   [&](const at::Tensor& piece, bool ends) { return step_piece(piece, state, last && ends, nullptr); });
}

at::Tensor Bigvgan::step_piece(const at::Tensor& frames, State& state, bool last, const Probe* probe) const {
  const auto show = [&](const std::string& name, const at::Tensor& value) {
    if (probe != nullptr) {
      (*probe)(name, value.t().unsqueeze(0).clone());
    }
  };
  Cursor cursor(state, last);
  at::Tensor x = cursor.conv(frames, pre_);
  show("conv_pre", x);
  const std::size_t per_stage = config_.block_kernels.size();
  for (std::size_t i = 0; i < ups_.size(); ++i) {
    x = cursor.up(x, ups_[i]);
    show("ups." + std::to_string(i) + ".0", x);
    std::vector<at::Tensor> outs;
    for (std::size_t j = 0; j < per_stage; ++j) {
      const std::size_t n = i * per_stage + j;
      const Block& block = blocks_[n];
      at::Tensor y = x;
      for (std::size_t m = 0; m < block.first.size(); ++m) {
        at::Tensor t = cursor.activate(y, block.activations[2 * m]);
        if (n == 0 && m == 0 && probe != nullptr) {
          show("resblocks.0.activations.0.upsample", SnakeActivation::double_rate(y));
          show("resblocks.0.activations.0", t);
        }
        t = cursor.activate(cursor.conv(t, block.first[m]), block.activations[2 * m + 1]);
        t = cursor.conv(t, block.second[m]);
        y = t.add_(cursor.delay(y, t.size(0)));
      }
      show("resblocks." + std::to_string(n), y);
      outs.push_back(y);
    }
    x = mean_of_blocks(cursor, outs);
  }
  x = cursor.activate(x, out_activation_);
  show("activation_post", x);
  x = cursor.conv(x, post_);
  show("conv_post", x);
  return at::clamp(x, -1.0, 1.0).view({-1});
}

}  // namespace tts
