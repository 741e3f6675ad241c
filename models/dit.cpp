#include "models/dit.h"

#include <algorithm>
#include <cmath>
#include <string>

#include <ATen/ops/cat.h>
#include <ATen/ops/conv1d.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/mish.h>
#include <ATen/ops/silu.h>

#include "models/kernels.h"
#include "models/time_embedding.h"

namespace tts {
namespace {

constexpr std::int64_t kHeadDim = 64;
constexpr std::int64_t kPositionKernel = 31;
constexpr std::int64_t kPositionGroups = 16;
constexpr std::int64_t kMaxPosition = 4095;
constexpr double kEps = 1e-6;
constexpr float kScale = 0.125F;  // 1 / sqrt(kHeadDim)
/// Queries whose scores are computed at once: they stay in the second-level cache.
constexpr std::int64_t kScoreRows = 48;

/// Text positions, [frames, dim]: cosines, then sines.
at::Tensor text_positions(std::int64_t frames, std::int64_t dim) {
  at::Tensor out = at::empty({frames, dim}, at::kFloat);
  auto* p = out.data_ptr<float>();
  const std::int64_t half = dim / 2;
  for (std::int64_t t = 0; t < frames; ++t) {
    const auto position = static_cast<double>(std::min(t, kMaxPosition));
    for (std::int64_t j = 0; j < half; ++j) {
      const double angle = position * std::pow(10000.0, -2.0 * static_cast<double>(j) / static_cast<double>(dim));
      p[t * dim + j] = static_cast<float>(std::cos(angle));
      p[t * dim + half + j] = static_cast<float>(std::sin(angle));
    }
  }
  return out;
}

}  // namespace

Dit::Dit(const WeightScope& weights, const DitConfig& config) : config_(config) {
  const std::int64_t dim = config.dim;
  const std::int64_t filter = config.filter > 0 ? config.filter : 2 * dim;
  if (config.heads * kHeadDim != dim) {
    throw ModelError("DiT: dim " + std::to_string(dim) + " is not " + std::to_string(config.heads) + " heads of 64");
  }
  // What is made once, and the way in and out of the mel, stay in float32.
  const WeightScope exact = weights.with(Precision::fp32);
  time_in_ = Linear(exact("time_embed.time_mlp.0"), kTimeFeatures, dim);
  time_out_ = Linear(exact("time_embed.time_mlp.2"), dim, dim);
  step_in_ = Linear(exact("d_embed.time_mlp.0"), kTimeFeatures, dim);
  step_out_ = Linear(exact("d_embed.time_mlp.2"), dim, dim);
  const std::int64_t text = config.text_dim;
  for (std::int64_t i = 0; i < config.text_layers; ++i) {
    const WeightScope block = weights("text_embed.text_blocks", i);
    text_blocks_.push_back({
        .depthwise_weight = block("dwconv").get("weight", {text, 1, 7}),
        .depthwise_bias = block("dwconv").get("bias", {text}),
        .norm = LayerNorm(block("norm"), text, kEps),
        .in = Linear(block("pwconv1"), text, 2 * text),
        .gamma = block("grn").get("gamma", {1, 1, 2 * text}),
        .beta = block("grn").get("beta", {1, 1, 2 * text}),
        .out = Linear(block("pwconv2"), 2 * text, text),
    });
  }
  const WeightScope input = weights("input_embed.proj");
  const at::Tensor joint = input.get("weight", {dim, 2 * config.mel + text});
  input_x_ = Linear(joint.narrow(1, 0, config.mel), {});
  input_rest_ = Linear(joint.narrow(1, config.mel, config.mel + text), input.get("bias", {dim}), weights.precision());
  for (int i = 0; i < 2; ++i) {
    const WeightScope conv = weights("input_embed.conv_pos_embed.conv1d", 2 * i);
    position_weight_[i] = conv.get("weight", {dim, dim / kPositionGroups, kPositionKernel});
    position_bias_[i] = conv.get("bias", {dim});
  }
  for (std::int64_t i = 0; i < config.depth; ++i) {
    const WeightScope block = weights("transformer_blocks", i);
    std::vector<at::Tensor> qkv_weight;
    std::vector<at::Tensor> qkv_bias;
    for (const char* name : {"to_q", "to_k", "to_v"}) {
      qkv_weight.push_back(block("attn")(name).get("weight", {dim, dim}));
      qkv_bias.push_back(block("attn")(name).get("bias", {dim}));
    }
    blocks_.push_back({
        .modulation = Linear(exact("transformer_blocks", i)("attn_norm.linear"), dim, 6 * dim),
        .qkv = Linear(at::cat(qkv_weight), at::cat(qkv_bias), weights.precision()),
        .attended = Linear(block("attn.to_out.0"), dim, dim),
        .ff_in = Linear(block("ff.ff.0.0"), dim, filter),
        .ff_out = Linear(block("ff.ff.2"), filter, dim),
    });
  }
  out_modulation_ = Linear(exact("norm_out.linear"), dim, 2 * dim);
  out_ = Linear(exact("proj_out"), dim, config.mel);
}

at::Tensor Dit::time(double t, double d, const Probe* probe) const {
  const at::Tensor of_time = time_out_(at::silu(time_in_(time_features(t))));
  const at::Tensor of_step = step_out_(at::silu(step_in_(time_features(d))));
  if (probe != nullptr) {
    (*probe)("time_embed", of_time);
    (*probe)("d_embed", of_step);
  }
  return of_time + of_step;
}

at::Tensor Dit::text(const at::Tensor& mu, const Probe* probe) const {
  check_shape(mu, {-1, -1, config_.text_dim}, "DiT conditioning");
  at::Tensor m = mu + text_positions(mu.size(1), config_.text_dim);
  for (std::size_t i = 0; i < text_blocks_.size(); ++i) {
    const TextBlock& block = text_blocks_[i];
    at::Tensor h =
        at::conv1d(m.transpose(1, 2), block.depthwise_weight, block.depthwise_bias, 1, 3, 1, config_.text_dim)
            .transpose(1, 2)
            .contiguous();
    h = at::gelu(block.in(block.norm(h)));
    const at::Tensor g = h.norm(2, {1}, true);  // [batch, 1, 2 * text_dim]
    const at::Tensor n = g / (g.mean({-1}, true) + kEps);
    h = block.gamma * (h * n) + block.beta + h;
    m = m + block.out(h);
    if (probe != nullptr) {
      (*probe)("text_embed.text_blocks." + std::to_string(i), m);
    }
  }
  if (probe != nullptr) {
    (*probe)("text_embed", m);
  }
  return m;
}

Dit::Modulation Dit::modulation(const at::Tensor& time) const {
  const at::Tensor activated = at::silu(time);
  Modulation out;
  for (const Block& block : blocks_) {
    at::Tensor m = block.modulation(activated).view({6, config_.dim});
    m[1].add_(1.0);
    m[4].add_(1.0);
    out.blocks.push_back(m);
  }
  out.out = out_modulation_(activated).view({2, config_.dim});  // the other way round than in the blocks
  out.out[0].add_(1.0);
  return out;
}

Dit::Window Dit::window(const at::Tensor& prompt, const at::Tensor& text) const {
  const std::int64_t frames = prompt.size(1);
  check_shape(prompt, {-1, -1, config_.mel}, "DiT prompt");
  check_shape(text, {prompt.size(0), frames, config_.text_dim}, "DiT text");
  constexpr std::int64_t kPairs = kHeadDim / 2;
  Window window{.input = input_rest_(at::cat({prompt, text}, -1)),
                .cosine = at::empty({frames, kPairs}, at::kFloat),
                .sine = at::empty({frames, kPairs}, at::kFloat)};
  for (std::int64_t i = 0; i < kPairs; ++i) {
    const double speed = std::pow(10000.0, -2.0 * static_cast<double>(i) / static_cast<double>(kHeadDim));
    for (std::int64_t t = 0; t < frames; ++t) {
      window.cosine.data_ptr<float>()[t * kPairs + i] = static_cast<float>(std::cos(static_cast<double>(t) * speed));
      window.sine.data_ptr<float>()[t * kPairs + i] = static_cast<float>(std::sin(static_cast<double>(t) * speed));
    }
  }
  return window;
}

at::Tensor Dit::attention(const at::Tensor& qkv, const Window& window) const {
  const Kernels& kernel = kernels();
  const std::int64_t frames = qkv.size(0);
  const std::int64_t dim = config_.dim;
  const std::int64_t row = 3 * dim;
  auto* data = qkv.data_ptr<float>();
  const auto* cosine = window.cosine.data_ptr<float>();
  const auto* sine = window.sine.data_ptr<float>();
  for (std::int64_t t = 0; t < frames; ++t) {
    for (float* head : {data + t * row, data + t * row + dim}) {  // head 0 of q and k, in interleaved pairs
      for (std::int64_t i = 0; i < kHeadDim / 2; ++i) {
        const float c = cosine[t * kHeadDim / 2 + i];
        const float s = sine[t * kHeadDim / 2 + i];
        const float even = head[2 * i];
        const float odd = head[2 * i + 1];
        head[2 * i] = even * c - odd * s;
        head[2 * i + 1] = odd * c + even * s;
      }
    }
  }
  at::Tensor out = at::empty({frames, dim}, at::kFloat);
  FloatBuffer keys(packed_size(kernel, frames, kHeadDim));
  FloatBuffer values(packed_size(kernel, kHeadDim, frames));
  FloatBuffer scores(static_cast<std::size_t>(kScoreRows * frames));
  for (std::int64_t head = 0; head < config_.heads; ++head) {
    float* q = data + head * kHeadDim;
    pack(kernel, q + dim, frames, kHeadDim, row, 1, keys.data());
    pack(kernel, q + 2 * dim, kHeadDim, frames, 1, row, values.data());
    for (std::int64_t t = 0; t < frames; t += kScoreRows) {
      const std::int64_t n = std::min(kScoreRows, frames - t);
      kernel.linear(q + t * row, row, n, keys.data(), nullptr, kHeadDim, frames, scores.data(), frames, false);
      for (std::int64_t i = 0; i < n; ++i) {
        kernel.softmax(scores.data() + i * frames, frames, kScale);
      }
      kernel.linear(scores.data(), frames, n, values.data(), nullptr, frames, kHeadDim,
                    out.data_ptr<float>() + t * dim + head * kHeadDim, dim, false);
    }
  }
  return out;
}

at::Tensor Dit::velocity(const at::Tensor& x, const Window& window, const Modulation& modulation,
                         const Probe* probe) const {
  const std::int64_t batch = window.input.size(0);
  const std::int64_t frames = window.input.size(1);
  const std::int64_t dim = config_.dim;
  check_shape(x, {batch, frames, config_.mel}, "DiT input");
  const auto show = [&](const std::string& name, const at::Tensor& value) {
    if (probe != nullptr) {
      (*probe)(name, value.view({batch, frames, -1}).clone());
    }
  };

  at::Tensor joined = input_x_(x).add_(window.input);
  show("input_embed.proj", joined);
  at::Tensor c = joined.transpose(1, 2);
  for (int i = 0; i < 2; ++i) {
    c = at::mish(at::conv1d(c, position_weight_[i], position_bias_[i], 1, kPositionKernel / 2, 1, kPositionGroups));
  }
  joined.add_(c.transpose(1, 2));
  show("input_embed", joined);

  const at::Tensor h = joined.view({batch * frames, dim});
  for (std::size_t i = 0; i < blocks_.size(); ++i) {
    const Block& block = blocks_[i];
    const at::Tensor& m = modulation.blocks[i];
    at::Tensor u = at::layer_norm(h, {dim}, m[1], m[0], kEps);
    const at::Tensor qkv = block.qkv(u);
    at::Tensor seen = at::empty_like(h);
    for (std::int64_t b = 0; b < batch; ++b) {
      seen.narrow(0, b * frames, frames).copy_(attention(qkv.narrow(0, b * frames, frames), window));
    }
    const at::Tensor attended = block.attended(seen);
    if (i == 0) {
      show("block0.attn_norm", u);
      show("block0.attn", attended);
    }
    h.addcmul_(attended, m[2]);
    u = block.ff_in(at::layer_norm(h, {dim}, m[4], m[3], kEps));
    h.addcmul_(block.ff_out(at::gelu_(u, "tanh")), m[5]);
    show("block" + std::to_string(i), h);
  }
  const at::Tensor last = at::layer_norm(h, {dim}, modulation.out[0], modulation.out[1], kEps);
  show("norm_out", last);
  const at::Tensor v = out_(last).view({batch, frames, config_.mel});
  show("velocity", v);
  return v;
}

}  // namespace tts
