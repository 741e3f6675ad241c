#include "models/hubert.h"

#include <array>
#include <cmath>
#include <cstdio>
#include <string>

#include <ATen/ops/conv1d.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/layer_norm.h>

#include "src/audio/resampler.h"

namespace tts {
namespace {

/// [out, in, kernel] -> [out, kernel * in]: one row product over frames that lie one after the other.
Linear frame_product(const at::Tensor& weight) {
  return {weight.permute({0, 2, 1}).reshape({weight.size(0), -1}), {}};
}

/// Weight norm with one gain per tap: W = v * g / ||v|| over the first two axes.
at::Tensor fold_tap_norm(const WeightScope& scope, at::IntArrayRef shape) {
  const bool pair = scope.has("weight_v");
  const bool parametrized = scope.has("parametrizations.weight.original1");
  if (!pair && !parametrized && scope.has("weight")) return scope.get("weight", shape);
  const bool newer = !pair && parametrized;
  const at::Tensor v = scope.get(newer ? "parametrizations.weight.original1" : "weight_v", shape);
  const at::Tensor g = scope.get(newer ? "parametrizations.weight.original0" : "weight_g", {1, 1, shape[2]});
  return (v * (g / v.square().sum(at::IntArrayRef{0, 1}, /*keepdim=*/true).sqrt())).contiguous();
}

void check_config(const HubertConfig& c) {
  const std::size_t n = c.conv_channels.size();
  if (n == 0 || c.conv_kernels.size() != n || c.conv_strides.size() != n) {
    throw ModelError("HuBERT: got " + std::to_string(n) + " convolution channels, " +
                     std::to_string(c.conv_kernels.size()) + " kernels and " + std::to_string(c.conv_strides.size()) +
                     " strides, wanted as many of each");
  }
  if (c.heads < 1 || c.hidden % c.heads != 0 || c.position_groups < 1 || c.hidden % c.position_groups != 0) {
    throw ModelError("HuBERT: hidden " + std::to_string(c.hidden) + " is no multiple of " + std::to_string(c.heads) +
                     " heads and " + std::to_string(c.position_groups) + " groups");
  }
}

}  // namespace

Hubert::Hubert(const WeightScope& weights, const HubertConfig& config) : config_(config) {
  check_config(config);
  const WeightScope extractor = weights("feature_extractor.conv_layers");
  std::int64_t in = 1;
  for (std::size_t i = 0; i < config.conv_channels.size(); ++i) {
    const std::int64_t out = config.conv_channels[i];
    const WeightScope layer = extractor(std::to_string(i));
    convs_.push_back(frame_product(layer.get("conv.weight", {out, in, config.conv_kernels[i]})));
    if (i == 0) {
      group_gain_ = layer.get("layer_norm.weight", {out});
      group_bias_ = layer.get("layer_norm.bias", {out});
    }
    in = out;
  }
  feature_norm_ = LayerNorm(weights("feature_projection.layer_norm"), in, config.eps);
  projection_ = Linear(weights("feature_projection.projection"), in, config.hidden);

  const WeightScope encoder = weights("encoder");
  const WeightScope position = encoder("pos_conv_embed.conv");
  position_weight_ =
      fold_tap_norm(position, {config.hidden, config.hidden / config.position_groups, config.position_kernel});
  position_bias_ = position.get("bias", {config.hidden});
  encoder_norm_ = LayerNorm(encoder("layer_norm"), config.hidden, config.eps);
  for (std::int64_t i = 0; i < config.layers; ++i) {
    const WeightScope layer = encoder("layers", i);
    const WeightScope attention = layer("attention");
    Block block;
    block.query = Linear(attention("q_proj"), config.hidden, config.hidden);
    block.key = Linear(attention("k_proj"), config.hidden, config.hidden);
    block.value = Linear(attention("v_proj"), config.hidden, config.hidden);
    block.out = Linear(attention("out_proj"), config.hidden, config.hidden);
    block.inner = Linear(layer("feed_forward.intermediate_dense"), config.hidden, config.ff);
    block.outer = Linear(layer("feed_forward.output_dense"), config.ff, config.hidden);
    block.attention_norm = LayerNorm(layer("layer_norm"), config.hidden, config.eps);
    block.final_norm = LayerNorm(layer("final_layer_norm"), config.hidden, config.eps);
    blocks_.push_back(std::move(block));
  }
}

std::int64_t Hubert::frames(std::int64_t samples) const {
  for (std::size_t i = 0; i < convs_.size(); ++i) {
    if (samples < config_.conv_kernels[i]) return 0;
    samples = (samples - config_.conv_kernels[i]) / config_.conv_strides[i] + 1;
  }
  return samples;
}

at::Tensor Hubert::convolve(const at::Tensor& wave, const Probe* probe) const {
  at::Tensor x = wave.contiguous().view({-1, 1});  // [samples, 1], then [frames, channels]
  for (std::size_t i = 0; i < convs_.size(); ++i) {
    const std::int64_t n = (x.size(0) - config_.conv_kernels[i]) / config_.conv_strides[i] + 1;
    x = convs_[i].apply(x.data_ptr<float>(), config_.conv_strides[i] * x.size(1), n, false);
    if (i == 0) {  // a group per channel: the norm is over the time of each
      x = at::layer_norm(x.t().contiguous(), {n}, {}, {}, config_.eps).t() * group_gain_ + group_bias_;
    }
    x = at::gelu(x.contiguous());
    if (probe != nullptr) (*probe)("conv" + std::to_string(i), x.t());
  }
  return x;
}

at::Tensor Hubert::forward(const at::Tensor& wave, const Probe* probe) const {
  check_shape(wave, {-1}, "HuBERT's waveform");
  if (frames(wave.size(0)) < 1) {
    throw ModelError("HuBERT's waveform: got " + std::to_string(wave.size(0)) + " samples, too few for one frame");
  }
  const auto show = [&](const std::string& name, const at::Tensor& value) {
    if (probe != nullptr) (*probe)(name, value);
  };
  at::Tensor x = projection_(feature_norm_(convolve(wave, probe)));  // [frames, hidden]
  show("projection", x);
  // An even kernel gives one frame too many; the last one is dropped.
  const at::Tensor position = at::conv1d(x.t().unsqueeze(0), position_weight_, position_bias_, 1,
                                         config_.position_kernel / 2, 1, config_.position_groups)
                                  .squeeze(0)
                                  .narrow(1, 0, x.size(0));
  x = encoder_norm_(x + at::gelu(position).t());
  show("encoder_in", x);
  const double scale = 1.0 / std::sqrt(static_cast<double>(config_.hidden / config_.heads));
  for (std::size_t i = 0; i < blocks_.size(); ++i) {
    const Block& b = blocks_[i];
    x = b.attention_norm(x + b.out(attend(b.query(x), b.key(x), b.value(x), config_.heads, scale)));
    x = b.final_norm(x + b.outer(at::gelu(b.inner(x))));
    show("layer" + std::to_string(i), x);
  }
  return x;
}

Result<std::vector<float>> make_hubert_wave(std::span<const float> pcm, int rate_hz) {
  Result<std::vector<float>> wave = resample(pcm, rate_hz, kHubertRateHz);
  if (!wave) return wave.error();
  const std::int64_t n =
      (static_cast<std::int64_t>(pcm.size()) * kHubertRateHz + rate_hz - 1) / static_cast<std::int64_t>(rate_hz);
  if (n < kMinReferenceSamples || n > kMaxReferenceSamples) {
    std::array<char, 32> seconds{};
    std::snprintf(seconds.data(), seconds.size(), "%.2f", static_cast<double>(pcm.size()) / rate_hz);
    return Error{Errc::bad_file, std::string("reference audio: got ") + seconds.data() + " s, wanted 3 to 10 s"};
  }
  wave->resize(static_cast<std::size_t>(n));  // at most one sample more or less than the resampler's rounding
  wave->resize(static_cast<std::size_t>(n + kHubertTailSamples), 0.0F);
  return wave;
}

}  // namespace tts
