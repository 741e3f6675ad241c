#include "models/semantic_encoder.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <string>

#include <ATen/ops/baddbmm.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/upsample_linear1d.h>
#include <ATen/ops/zeros.h>

namespace tts {
namespace {

/// Eight sums side by side, so that the compiler may use vectors without changing the order.
float dot(const float* a, const float* b, std::int64_t n) {
  constexpr std::int64_t kLanes = 8;
  std::array<float, kLanes> sums{};
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (std::int64_t lane = 0; lane < kLanes; ++lane) {
      sums[static_cast<std::size_t>(lane)] += a[i + lane] * b[i + lane];
    }
  }
  for (; i < n; ++i) {
    sums[0] += a[i] * b[i];
  }
  return ((sums[0] + sums[4]) + (sums[1] + sums[5])) + ((sums[2] + sums[6]) + (sums[3] + sums[7]));
}

void add_scaled(float* __restrict to, const float* __restrict from, float factor, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) {
    to[i] += factor * from[i];
  }
}

/// Attention without relative positions, each row of q by itself. q [frames, channels], k and v [keys, channels].
at::Tensor cross_attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, std::int64_t heads) {
  at::Tensor out = at::empty_like(q);
  std::vector<float> scores(static_cast<std::size_t>(heads * k.size(0)));
  for (std::int64_t frame = 0; frame < q.size(0); ++frame) {
    kernels().attend(q.data_ptr<float>() + frame * q.size(1), k.data_ptr<float>(), v.data_ptr<float>(), k.size(0),
                     q.size(1), heads, scores.data(), out.data_ptr<float>() + frame * q.size(1));
  }
  return out;
}

}  // namespace

AttentionEncoder::AttentionEncoder(const WeightScope& weights, const AttentionEncoderConfig& config) : config_(config) {
  const std::int64_t channels = config.channels;
  const std::int64_t width = channels / config.heads;
  const double scale = 1.0 / std::sqrt(static_cast<double>(width));
  const std::int64_t positions = 2 * config.relative + 1;
  for (std::int64_t i = 0; i < config.layers; ++i) {
    const WeightScope attention = weights("attn_layers", i);
    std::vector<at::Tensor> weight;
    std::vector<at::Tensor> bias;
    for (const char* name : {"conv_q", "conv_k", "conv_v"}) {
      const double factor = weight.empty() ? scale : 1.0;
      weight.push_back(attention(name).get("weight", {channels, channels, 1}).squeeze(2) * factor);
      bias.push_back(attention(name).get("bias", {channels}) * factor);
    }
    layers_.push_back({
        .qkv = Linear(at::cat(weight), at::cat(bias), weights.precision()),
        .out = Linear(attention("conv_o"), channels, channels, true),
        .relative_key = attention.get("emb_rel_k", {1, positions, width}).squeeze(0),
        .relative_value = attention.get("emb_rel_v", {1, positions, width}).squeeze(0),
        .norm1 = LayerNorm(weights("norm_layers_1", i), channels, 1e-5, "gamma", "beta"),
        .norm2 = LayerNorm(weights("norm_layers_2", i), channels, 1e-5, "gamma", "beta"),
        .ffn1 = {FrameConv(weights("ffn_layers", i)("conv_1"), channels, config.filter, config.kernel)},
        .ffn2 = {FrameConv(weights("ffn_layers", i)("conv_2"), config.filter, channels, config.kernel)},
    });
  }
}

at::Tensor AttentionEncoder::attention(const Layer& layer, const at::Tensor& x) const {
  const std::int64_t frames = x.size(0);
  const std::int64_t heads = config_.heads;
  const std::int64_t width = config_.channels / heads;
  const std::int64_t r = config_.relative;
  const at::Tensor qkv = layer.qkv(x).view({frames, 3, heads, width}).permute({1, 2, 0, 3}).contiguous();
  const at::Tensor q = qkv[0];  // [heads, frames, width]

  // Row a of `padded` holds, from column a on, its 2r + 1 terms for keys a - r .. a + r: column b + r is key b.
  const std::int64_t padded_width = frames + 2 * r;
  const auto band_of = [&](const at::Tensor& t) {
    return t.as_strided({heads, frames, 2 * r + 1}, {frames * padded_width, padded_width + 1, 1});
  };
  at::Tensor padded = at::zeros({heads, frames, padded_width}, x.options());
  band_of(padded).copy_(at::matmul(q, layer.relative_key.t()));
  const at::Tensor scores = at::baddbmm(padded.narrow(2, r, frames), q, qkv[1].transpose(1, 2));
  const at::Tensor p = at::softmax(scores, -1);  // [heads, frames, keys]
  padded.zero_();
  padded.narrow(2, r, frames).copy_(p);
  const at::Tensor out = at::bmm(p, qkv[2]) + at::matmul(band_of(padded), layer.relative_value);
  return layer.out(out.transpose(0, 1).reshape({frames, heads * width}));
}

/// Attention of the frames [first, last) of `qkv` to the keys in their windows only, frame by frame in one order of
/// summation: the cost is linear and a frame's result is the same to the last bit in whatever stretch of frames it is
/// computed.
at::Tensor AttentionEncoder::banded_attention(const Layer& layer, const at::Tensor& qkv, std::int64_t first,
                                              std::int64_t last) const {
  const std::int64_t channels = config_.channels;
  const std::int64_t width = channels / config_.heads;
  const std::int64_t r = config_.relative;
  const auto* rows = qkv.data_ptr<float>();
  const auto* relative_key = layer.relative_key.data_ptr<float>();
  const auto* relative_value = layer.relative_value.data_ptr<float>();
  at::Tensor attended = at::zeros({last - first, channels}, qkv.options());
  auto* out = attended.data_ptr<float>();
  std::vector<float> p(static_cast<std::size_t>(config_.window->left + config_.window->right + 1));
  for (std::int64_t frame = first; frame < last; ++frame) {
    const std::int64_t from = std::max<std::int64_t>(0, frame - config_.window->left);
    const std::int64_t to = std::min(qkv.size(0) - 1, frame + config_.window->right);
    for (std::int64_t at = 0; at < channels; at += width) {
      const float* q = rows + frame * 3 * channels + at;
      float largest = -std::numeric_limits<float>::infinity();
      for (std::int64_t key = from; key <= to; ++key) {
        float score = dot(q, rows + (key * 3 + 1) * channels + at, width);
        if (std::abs(key - frame) <= r) {
          score += dot(q, relative_key + (key - frame + r) * width, width);
        }
        p[static_cast<std::size_t>(key - from)] = score;
        largest = std::max(largest, score);
      }
      float total = 0;
      for (std::int64_t key = from; key <= to; ++key) {
        float& score = p[static_cast<std::size_t>(key - from)];
        score = std::exp(score - largest);
        total += score;
      }
      float* sum = out + (frame - first) * channels + at;
      for (std::int64_t key = from; key <= to; ++key) {
        const float weight = p[static_cast<std::size_t>(key - from)] / total;
        add_scaled(sum, rows + (key * 3 + 2) * channels + at, weight, width);
        if (std::abs(key - frame) <= r) {
          add_scaled(sum, relative_value + (key - frame + r) * width, weight, width);
        }
      }
    }
  }
  return layer.out(attended);
}

at::Tensor AttentionEncoder::encode(at::Tensor x) const {
  check_shape(x, {-1, config_.channels}, "encoder input");
  for (const Layer& layer : layers_) {
    x = layer.norm1(x + (config_.window ? banded_attention(layer, layer.qkv(x), 0, x.size(0)) : attention(layer, x)));
    x = layer.norm2(x + layer.ffn2.conv.same(layer.ffn1.conv.same(x, true)));
  }
  return x;
}

AttentionEncoder::State AttentionEncoder::initial_state() const {
  State state;
  for (const Layer& layer : layers_) {
    State::Layer& mine = state.layers.emplace_back();
    mine.past1 = layer.ffn1.initial_past();
    mine.past2 = layer.ffn2.initial_past();
  }
  return state;
}

at::Tensor AttentionEncoder::step(const Layer& layer, const at::Tensor& x, State::Layer& state, bool last) const {
  state.qkv.append(layer.qkv(x));
  state.input.append(x);
  const std::int64_t total = state.input.size();
  const std::int64_t first = state.attended.size();
  const std::int64_t ready = last ? total : std::max(first, total - config_.window->right);
  const std::int64_t base = std::max<std::int64_t>(0, first - config_.window->left);
  const at::Tensor heard = banded_attention(layer, state.qkv.slice(base, total), first - base, ready - base);
  const at::Tensor attended = layer.norm1(state.input.slice(first, ready) + heard);
  state.attended.append(attended);
  state.input.drop_before(ready);
  state.qkv.drop_before(ready - config_.window->left);

  const at::Tensor inner = layer.ffn1.step(attended, state.past1, last, true);
  const at::Tensor y = layer.ffn2.step(inner, state.past2, last);
  const std::int64_t done = state.done + y.size(0);
  const at::Tensor out = layer.norm2(state.attended.slice(state.done, done) + y);
  state.attended.drop_before(done);
  state.done = done;
  return out;
}

at::Tensor AttentionEncoder::step(at::Tensor x, State& state, bool last) const {
  check_shape(x, {-1, config_.channels}, "encoder input");
  if (!config_.window) {
    state.whole.append(x);
    return last ? encode(state.whole.slice(0, state.whole.size())) : x.narrow(0, 0, 0);
  }
  for (std::size_t i = 0; i < layers_.size(); ++i) x = step(layers_[i], x, state.layers[i], last);
  return x;
}

std::optional<std::int64_t> AttentionEncoder::lookahead() const {
  if (!config_.window) {
    return std::nullopt;
  }
  return config_.layers * (config_.window->right + 2 * (config_.kernel / 2));
}

namespace {
AttentionEncoderConfig encoder_config(const SemanticEncoderConfig& config, std::int64_t layers, bool windowed) {
  return {.layers = layers,
          .channels = config.hidden,
          .heads = config.heads,
          .filter = config.filter,
          .kernel = config.kernel,
          .relative = 4,
          .window = windowed ? config.window : std::nullopt};
}
}  // namespace

SemanticEncoder::SemanticEncoder(const WeightScope& weights, const SemanticEncoderConfig& config)
    : config_(config),
      semantic_in_(weights("ssl_proj"), config.features, config.hidden, true),
      semantic_encoder_(weights("encoder_ssl"), encoder_config(config, config.semantic_layers, true)),
      embedding_(weights("text_embedding").get("weight", {config.phonemes, config.hidden})),
      text_encoder_(weights("encoder_text"), encoder_config(config, config.text_layers, false)),
      cross_in_(weights("mrte.c_pre"), config.hidden, config.cross_hidden, true),
      cross_text_(weights("mrte.text_pre"), config.hidden, config.cross_hidden, true),
      cross_q_(weights("mrte.cross_attention.conv_q"), config.cross_hidden, config.cross_hidden, true),
      cross_k_(weights("mrte.cross_attention.conv_k"), config.cross_hidden, config.cross_hidden, true),
      cross_v_(weights("mrte.cross_attention.conv_v"), config.cross_hidden, config.cross_hidden, true),
      cross_o_(weights("mrte.cross_attention.conv_o"), config.cross_hidden, config.cross_hidden, true),
      cross_out_(weights("mrte.c_post"), config.cross_hidden, config.hidden, true),
      out_encoder_(weights("encoder2"), encoder_config(config, config.out_layers, true)) {
  if (config.project) {
    project_ = Linear(weights("proj").with(Precision::fp32), config.hidden, 2 * config.hidden, true);
  }
}

SemanticEncoder::Text SemanticEncoder::encode_text(const at::Tensor& phonemes, const Probe* probe) const {
  check_shape(phonemes, {-1}, "phonemes");
  if (phonemes.numel() == 0) {
    throw ModelError("phonemes: got none, wanted at least one");
  }
  const auto* ids = phonemes.data_ptr<std::int64_t>();
  for (std::int64_t i = 0; i < phonemes.numel(); ++i) {
    if (ids[i] < 0 || ids[i] >= config_.phonemes) {
      throw ModelError("phoneme " + std::to_string(i) + ": got " + std::to_string(ids[i]) + ", wanted 0.." +
                       std::to_string(config_.phonemes - 1));
    }
  }
  const at::Tensor embedded = embedding_.index_select(0, phonemes);
  const at::Tensor encoded = text_encoder_.encode(embedded);
  if (probe != nullptr) {
    (*probe)("enc_p.text_embedding", embedded.unsqueeze(0));
    (*probe)("enc_p.encoder_text", encoded.t().unsqueeze(0));
  }
  const at::Tensor text = cross_text_(encoded);
  return {cross_k_(text), cross_v_(text)};
}

at::Tensor SemanticEncoder::cross(const at::Tensor& semantic, const Text& text) const {
  const at::Tensor c = cross_in_(semantic);
  return cross_o_(cross_attend(cross_q_(c), text.key, text.value, config_.cross_heads)).add_(c);
}

at::Tensor SemanticEncoder::mix(const at::Tensor& frames, const Text& text, const Probe* probe) const {
  check_shape(frames, {-1, config_.features}, "semantic frames");
  const at::Tensor y = semantic_encoder_.encode(semantic_in_(frames));
  if (probe != nullptr) {
    (*probe)("enc_p.encoder_ssl", y.t().unsqueeze(0));
  }
  return cross(y, text);
}

at::Tensor SemanticEncoder::encode(const at::Tensor& frames, const Text& text, const at::Tensor& ge,
                                   const Probe* probe) const {
  check_shape(ge, {config_.cross_hidden}, "speaker embedding of the text encoder");
  at::Tensor y = cross_out_(mix(frames, text, probe).add_(ge));
  if (probe != nullptr) {
    (*probe)("enc_p.mrte", y.t().unsqueeze(0));
  }
  y = out_encoder_.encode(y);
  if (probe != nullptr) {
    (*probe)("enc_p.encoder2", y.t().unsqueeze(0));
  }
  return y;
}

at::Tensor SemanticEncoder::project(const at::Tensor& encoded) const {
  if (!project_.defined()) {
    throw ModelError("enc_p.proj: not loaded");
  }
  return project_(encoded);
}

SemanticEncoder::State SemanticEncoder::initial_state() const {
  return {.semantic = semantic_encoder_.initial_state(), .out = out_encoder_.initial_state()};
}

at::Tensor SemanticEncoder::step(const at::Tensor& frames, const Text& text, const at::Tensor& ge, State& state,
                                 bool last) const {
  check_shape(frames, {-1, config_.features}, "semantic frames");
  check_shape(ge, {config_.cross_hidden}, "speaker embedding of the text encoder");
  const at::Tensor y = semantic_encoder_.step(semantic_in_(frames), state.semantic, last);
  return out_encoder_.step(cross_out_(cross(y, text).add_(ge)), state.out, last);
}

std::optional<std::int64_t> SemanticEncoder::lookahead() const {
  const auto semantic = semantic_encoder_.lookahead();
  const auto out = out_encoder_.lookahead();
  if (!semantic || !out) return std::nullopt;
  return *semantic + *out;
}

std::int64_t frames_at_speed(std::int64_t n_frames, double speed) {
  return speed == 1.0 ? n_frames : static_cast<std::int64_t>(static_cast<double>(n_frames) / speed) + 1;
}

at::Tensor resize_linear(const at::Tensor& x, std::int64_t n_frames) {
  return at::upsample_linear1d(x.t().unsqueeze(0).contiguous(), {n_frames}, false).squeeze(0).t().contiguous();
}

}  // namespace tts
