#include "models/fit_speaker.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <c10/core/InferenceMode.h>

#include "models/cfm.h"
#include "models/feature_encoder.h"
#include "models/layers.h"
#include "models/noise.h"
#include "models/time_embedding.h"

namespace tts {
namespace {

constexpr double kNormEps = 1e-6;
constexpr double kMelPerFrame = AcousticModel::kMelPerFrame;
constexpr std::int64_t kLeastFrames = 50;   // a second
constexpr std::int64_t kHead = 24;          // mel frames of a crop that lack what is before them ..
constexpr std::int64_t kTail = 16;          // .. and what is after them
constexpr double kGoldenRatio = 0.6180339887498949;

// The networks once more, of operators that have a gradient: those of acoustic.h compute with kernels of our own.
// Frames are rows throughout; a weight is float32 and stays what it is.

struct Affine {
  at::Tensor weight, bias;
  Affine(const WeightScope& scope, std::int64_t in, std::int64_t out, bool pointwise_conv = false)
      : weight(pointwise_conv ? fold_weight_norm(scope, "", {out, in, 1}).squeeze(2) : scope.get("weight", {out, in})),
        bias(scope.get("bias", {out})) {}
  at::Tensor operator()(const at::Tensor& x) const { return at::linear(x, weight, bias); }
};

/// Symmetric convolution over frames.
struct Convolution {
  at::Tensor weight, bias;
  Convolution(const WeightScope& scope, std::int64_t in, std::int64_t out, std::int64_t kernel)
      : weight(fold_weight_norm(scope, "", {out, in, kernel})), bias(scope.get("bias", {out})) {}
  at::Tensor operator()(const at::Tensor& x) const {
    return at::conv1d(x.t().unsqueeze(0), weight, bias, 1, weight.size(2) / 2).squeeze(0).t();
  }
};

/// AttentionEncoder of semantic_encoder.h.
class Transformer {
 public:
  Transformer(const WeightScope& weights, const SemanticEncoderConfig& c) : config_(c) {
    for (std::int64_t i = 0; i < c.out_layers; ++i) {
      const WeightScope attention = weights("attn_layers", i);
      const std::int64_t width = c.hidden / c.heads;
      layers_.push_back({.q = {attention("conv_q"), c.hidden, c.hidden, true},
                         .k = {attention("conv_k"), c.hidden, c.hidden, true},
                         .v = {attention("conv_v"), c.hidden, c.hidden, true},
                         .out = {attention("conv_o"), c.hidden, c.hidden, true},
                         .relative_key = attention.get("emb_rel_k", {1, 2 * kReach + 1, width}).squeeze(0),
                         .relative_value = attention.get("emb_rel_v", {1, 2 * kReach + 1, width}).squeeze(0),
                         .norm1 = LayerNorm(weights("norm_layers_1", i), c.hidden, 1e-5, "gamma", "beta"),
                         .norm2 = LayerNorm(weights("norm_layers_2", i), c.hidden, 1e-5, "gamma", "beta"),
                         .ffn1 = {weights("ffn_layers", i)("conv_1"), c.hidden, c.filter, c.kernel},
                         .ffn2 = {weights("ffn_layers", i)("conv_2"), c.filter, c.hidden, c.kernel}});
    }
  }

  [[nodiscard]] at::Tensor operator()(at::Tensor x) const {
    const at::Tensor frames = at::arange(x.size(0));
    const at::Tensor away = frames.unsqueeze(0) - frames.unsqueeze(1);  // [frames, keys]: key - frame
    for (const Layer& layer : layers_) {
      x = layer.norm1(x + attend_banded(layer, x, away));
      x = layer.norm2(x + layer.ffn2(at::relu(layer.ffn1(x))));
    }
    return x;
  }

 private:
  static constexpr std::int64_t kReach = AttentionEncoderConfig{}.relative;
  struct Layer {
    Affine q, k, v, out;
    at::Tensor relative_key, relative_value;
    LayerNorm norm1, norm2;
    Convolution ffn1, ffn2;
  };

  [[nodiscard]] at::Tensor attend_banded(const Layer& layer, const at::Tensor& x, const at::Tensor& away) const {
    const std::int64_t n = x.size(0);
    const std::int64_t heads = config_.heads;
    const auto split = [&](const at::Tensor& y) { return y.view({n, heads, -1}).transpose(0, 1); };
    const at::Tensor q = split(layer.q(x)) / std::sqrt(static_cast<double>(config_.hidden / heads));
    const at::Tensor index = (away.clamp(-kReach, kReach) + kReach).unsqueeze(0).expand({heads, n, n});
    const at::Tensor near = (away.abs() <= kReach).to(at::kFloat);
    at::Tensor scores = at::matmul(q, split(layer.k(x)).transpose(1, 2)) +
                        at::matmul(q, layer.relative_key.t()).gather(2, index) * near;
    if (config_.window) {
      const at::Tensor outside = at::logical_or(away < -config_.window->left, away > config_.window->right);
      scores = scores.masked_fill(outside, -INFINITY);
    }
    const at::Tensor p = at::softmax(scores, -1);
    const at::Tensor by_distance = at::zeros({heads, n, 2 * kReach + 1}).scatter_add(2, index, p * near);
    const at::Tensor y = at::matmul(p, split(layer.v(x))) + at::matmul(by_distance, layer.relative_value);
    return layer.out(y.transpose(0, 1).reshape({n, config_.hidden}));
  }

  SemanticEncoderConfig config_;
  std::vector<Layer> layers_;
};

/// bridge, nearest frames and wns1: FeatureEncoder of feature_encoder.h.
class Features {
 public:
  Features(const WeightScope& weights, const AcousticConfig& c)
      : channels_(c.feature_dim),
        layers_(c.wns_layers),
        bridge_(weights("bridge.0"), c.hidden, channels_, true),
        pre_(weights("wns1.pre"), channels_, channels_, true),
        proj_(weights("wns1.proj"), channels_, channels_, true),
        condition_(weights("wns1.enc.cond_layer"), c.mrte_dim, 2 * channels_ * layers_, true) {
    const WeightScope enc = weights("wns1.enc");
    for (std::int64_t i = 0; i < layers_; ++i) {
      in_.emplace_back(enc("in_layers", i), channels_, 2 * channels_, 5);
      out_.emplace_back(enc("res_skip_layers", i), channels_, i + 1 < layers_ ? 2 * channels_ : channels_, true);
    }
  }

  /// encoded [frames, hidden], style [mrte_dim], conditioning [layers, 2 * channels] -> [mel frames, channels].
  [[nodiscard]] at::Tensor operator()(const at::Tensor& encoded, const at::Tensor& style,
                                      const at::Tensor& conditioning) const {
    const at::Tensor given = condition_(style).view({layers_, 2 * channels_}) + conditioning;
    at::Tensor x = pre_(resize_nearest(at::leaky_relu(bridge_(encoded), 0.01), kMelPerFrame));
    at::Tensor sum = at::zeros_like(x);
    for (std::int64_t i = 0; i < layers_; ++i) {
      const auto n = static_cast<std::size_t>(i);
      const auto parts = (in_[n](x) + given[i]).chunk(2, 1);
      const at::Tensor y = out_[n](at::tanh(parts[0]) * at::sigmoid(parts[1]));
      if (i + 1 < layers_) x = x + y.narrow(1, 0, channels_);
      sum = sum + y.narrow(1, y.size(1) - channels_, channels_);
    }
    return proj_(sum);
  }

 private:
  std::int64_t channels_, layers_;
  Affine bridge_, pre_, proj_, condition_;
  std::vector<Convolution> in_;
  std::vector<Affine> out_;
};

/// CausalFlow of causal_flow.h, from the first frame on.
class Flow {
 public:
  Flow(const WeightScope& weights, const CausalFlowConfig& c, const FlowSchedule& schedule)
      : dim_(c.dim),
        schedule_(schedule),
        in_(weights("input_embed.proj"), c.mel + c.features, c.dim),
        out_(weights("proj_out"), c.dim, c.mel) {
    const Affine time_in(weights("time_embed.time_mlp.0"), kTimeFeatures, c.dim);
    const Affine time_out(weights("time_embed.time_mlp.2"), c.dim, c.dim);
    std::vector<at::Tensor> times;
    for (const auto& [time, width] : flow_calls(schedule)) {
      times.push_back(at::silu(time_out(at::silu(time_in(time_features(time))))));
    }
    const at::Tensor all = at::cat(times);
    out_norms_ = Affine(weights("norm_out.linear"), c.dim, 2 * c.dim)(all);
    for (std::int64_t i = 0; i < c.layers; ++i) {
      const WeightScope block = weights("blocks", i);
      const WeightScope depthwise = block("dwconv");
      blocks_.push_back({.taps = depthwise.get("weight", {c.dim, 1, c.kernel}).squeeze(1).t().contiguous(),
                         .bias = depthwise.get("bias", {c.dim}),
                         .norms = Affine(block("ada"), c.dim, 3 * c.dim)(all),
                         .in = {block("pwconv1"), c.dim, c.inner},
                         .out = {block("pwconv2"), c.inner, c.dim}});
    }
  }

  /// mu [frames, features], x [frames, mel] the noise, which becomes the normalised mel.
  [[nodiscard]] at::Tensor operator()(const at::Tensor& mu, const at::Tensor& x, const SpeakerFit& fit) const {
    const at::Tensor given = at::linear(mu, in_.weight.narrow(1, x.size(1), mu.size(1)), in_.bias);
    const at::Tensor weight = in_.weight.narrow(1, 0, x.size(1));
    solve_flow(x, schedule_, [&](const at::Tensor& at_x, std::size_t call) {
      const auto n = static_cast<std::int64_t>(call);
      at::Tensor h = at::linear(at_x, weight) + given;
      for (std::size_t i = 0; i < blocks_.size(); ++i) {
        const Block& b = blocks_[i];
        const auto norms = (b.norms[n] + fit.norms[static_cast<std::int64_t>(i)]).chunk(3);
        const at::Tensor padded = at::constant_pad_nd(h, {0, 0, b.taps.size(0) - 1, 0});
        at::Tensor y = b.bias;
        for (std::int64_t tap = 0; tap < b.taps.size(0); ++tap) {
          y = at::addcmul(y, padded.narrow(0, tap, h.size(0)), b.taps[tap]);
        }
        y = at::layer_norm(y, {dim_}, norms[1] + 1, norms[0], kNormEps);
        h = at::addcmul(h, norms[2], b.out(at::gelu(b.in(y), "tanh")));
      }
      const auto norms = (out_norms_[n] + fit.out_norm).chunk(2);
      return out_(at::layer_norm(h, {dim_}, norms[0] + 1, norms[1], kNormEps));
    });
    return x;
  }

 private:
  struct Block {
    at::Tensor taps, bias, norms;  ///< norms [calls, 3 * dim]: shift, scale, gate
    Affine in, out;
  };
  std::int64_t dim_;
  FlowSchedule schedule_;
  Affine in_, out_;
  at::Tensor out_norms_;  ///< [calls, 2 * dim]: scale, shift
  std::vector<Block> blocks_;
};

/// The networks and one recording, which is ready up to where the speaker comes in.
class Fitting {
 public:
  Fitting(const WeightScope& acoustic, const AcousticConfig& config, const FitTarget& target)
      : cross_out_(acoustic("enc_p.mrte.c_post"), config.mrte_dim, config.hidden, true),
        encoder_(acoustic("enc_p.encoder2"), config.encoder()),
        features_(acoustic, config),
        flow_(acoustic("cfm.estimator"), config.flow_network(), config.flow),
        temperature_(config.flow.temperature) {
    check_shape(target.mel, {-1, config.estimator.mel}, "fit: mel");
    check_shape(target.ge, {config.mrte_dim}, "fit: ge");
    const Quantizer quantizer(acoustic("quantizer"), {config.codes, config.code_dim, 2});
    const SemanticEncoder encoder(acoustic("enc_p"), config.encoder());
    mixed_ = encoder.mix(quantizer.decode(to_index(target.tokens)), encoder.encode_text(to_index(target.phonemes)));
    const auto frames = static_cast<std::int64_t>(static_cast<double>(target.mel.size(0)) / kMelPerFrame);
    mixed_ = mixed_.narrow(0, 0, std::min(mixed_.size(0), frames));
    mel_ = normalize_mel(target.mel.clone());  // a tensor of another mode has no place in a graph
    ge_ = target.ge.clone();
  }

  [[nodiscard]] std::int64_t frames() const { return mixed_.size(0); }

  /// Of `count` 50 Hz frames from the first one on, a multiple of 8: 15 mel frames are 8 of them.
  [[nodiscard]] at::Tensor distance(std::int64_t first, std::int64_t count, const SpeakerFit& fit,
                                    std::uint64_t seed) const {
    const at::Tensor style = ge_ + fit.style;
    const at::Tensor encoded = encoder_(cross_out_(mixed_.narrow(0, first, count) + style));
    const at::Tensor mu = features_(encoded, style, fit.conditioning);
    const at::Tensor x = at::empty({mu.size(0), mel_.size(1)}, at::kFloat);
    GaussianNoise(seed, CausalFlow::kNoiseStream)
        .fill(0, {x.data_ptr<float>(), static_cast<std::size_t>(x.numel())});
    const at::Tensor made = flow_(mu, x.mul_(temperature_), fit);
    const std::int64_t head = first > 0 ? kHead : 0;
    const std::int64_t tail = first + count < frames() ? kTail : 0;
    const std::int64_t kept = made.size(0) - head - tail;
    const at::Tensor wanted = mel_.narrow(0, first / 8 * 15 + head, kept);
    return (made.narrow(0, head, kept) - wanted).abs().mean();
  }

 private:
  Affine cross_out_;
  Transformer encoder_;
  Features features_;
  Flow flow_;
  double temperature_;
  at::Tensor mixed_, mel_, ge_;
};

/// Where round `n` looks: spread evenly over the recording however many rounds there are.
std::int64_t crop_start(int n, std::int64_t frames, std::int64_t crop) {
  const double place = n * kGoldenRatio;
  return static_cast<std::int64_t>((place - std::floor(place)) * static_cast<double>((frames - crop) / 8 + 1)) * 8;
}

class Adam {
 public:
  explicit Adam(double rate) : rate_(rate) {}

  /// A step against the gradient of each; the gradients are gone then.
  void step(const std::array<at::Tensor*, 4>& values, double share) {
    const at::NoGradGuard without;
    ++steps_;
    for (std::size_t i = 0; i < values.size(); ++i) {
      const at::Tensor grad = values[i]->grad();
      if (!mean_[i].defined()) {
        mean_[i] = at::zeros_like(grad);
        square_[i] = at::zeros_like(grad);
      }
      mean_[i].mul_(kMean).add_(grad, 1 - kMean);
      square_[i].mul_(kSquare).addcmul_(grad, grad, 1 - kSquare);
      const at::Tensor spread = (square_[i] / (1 - std::pow(kSquare, steps_))).sqrt_().add_(kEps);
      values[i]->addcdiv_(mean_[i] / (1 - std::pow(kMean, steps_)), spread, -rate_ * share);
      values[i]->mutable_grad() = at::Tensor();
    }
  }

 private:
  static constexpr double kMean = 0.9, kSquare = 0.99, kEps = 1e-8;
  double rate_;
  int steps_ = 0;
  std::array<at::Tensor, 4> mean_, square_;
};

}  // namespace

std::optional<SpeakerFit> fit_speaker(const WeightScope& acoustic, const AcousticConfig& config,
                                      const FitTarget& target, const FitOptions& options, const FitProgress& progress) {
  if (options.rounds < 1) return std::nullopt;
  const c10::InferenceMode with_gradients(false);
  const Fitting fitting(acoustic, config, target);
  const std::int64_t frames = fitting.frames();
  if (frames < kLeastFrames) return std::nullopt;
  SpeakerFit fit = nothing_fitted(config);
  const auto distance = [&] {
    const at::NoGradGuard without;
    return fitting.distance(0, frames, fit, 0).item<double>();
  };
  const double before = distance();
  const auto values = fit.tensors();
  for (at::Tensor* value : values) value->requires_grad_();
  const std::int64_t crop = std::min(options.crop_frames, frames);
  Adam adam(options.rate);
  for (int round = 0; round < options.rounds; ++round) {
    const auto seed = static_cast<std::uint64_t>(round) + 1;
    fitting.distance(crop_start(round, frames, crop), crop, fit, seed).backward();
    adam.step(values, 0.5 + 0.5 * std::cos(std::numbers::pi * round / options.rounds));
    if (progress) progress(round + 1, options.rounds);
  }
  for (at::Tensor* value : values) *value = value->detach().clamp(-kMostFitted, kMostFitted);
  // Also when it is not a number, of a damaged network.
  if (!(distance() < before)) return std::nullopt;
  return fit;
}

double speaker_distance(const WeightScope& acoustic, const AcousticConfig& config, const FitTarget& target,
                        const SpeakerFit& fit, std::uint64_t seed) {
  const c10::InferenceMode inference;
  const Fitting fitting(acoustic, config, target);
  return fitting.distance(0, fitting.frames(), fit.defined() ? fit : nothing_fitted(config), seed).item<double>();
}

}  // namespace tts
