#include "models/dit.h"

#include <algorithm>
#include <cmath>
#include <string>

#include <ATen/ops/arange.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/conv1d.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/mish.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/softmax.h>

#include "models/time_embedding.h"

namespace tts {
namespace {

constexpr std::int64_t kHeadDim = 64;
constexpr std::int64_t kTimeDim = 256;
constexpr std::int64_t kPositionKernel = 31;
constexpr std::int64_t kPositionGroups = 16;
constexpr std::int64_t kMaxPosition = 4095;
constexpr double kEps = 1e-6;

at::Tensor normed(const at::Tensor& x) {
  return at::layer_norm(x, {x.size(-1)}, {}, {}, kEps);
}

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
  if (config.heads * kHeadDim != dim) {
    throw ModelError("DiT: dim " + std::to_string(dim) + " is not " + std::to_string(config.heads) + " heads of 64");
  }
  time_in_ = Linear(weights("time_embed.time_mlp.0"), kTimeDim, dim);
  time_out_ = Linear(weights("time_embed.time_mlp.2"), dim, dim);
  step_in_ = Linear(weights("d_embed.time_mlp.0"), kTimeDim, dim);
  step_out_ = Linear(weights("d_embed.time_mlp.2"), dim, dim);
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
  input_ = Linear(weights("input_embed.proj"), 2 * config.mel + text, dim);
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
        .modulation = Linear(block("attn_norm.linear"), dim, 6 * dim),
        .qkv = Linear(at::cat(qkv_weight), at::cat(qkv_bias)),
        .attended = Linear(block("attn.to_out.0"), dim, dim),
        .ff_in = Linear(block("ff.ff.0.0"), dim, config.ff_mult * dim),
        .ff_out = Linear(block("ff.ff.2"), config.ff_mult * dim, dim),
    });
  }
  out_modulation_ = Linear(weights("norm_out.linear"), dim, 2 * dim);
  out_ = Linear(weights("proj_out"), dim, config.mel);
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

at::Tensor Dit::attention(const Block& block, const at::Tensor& x, const at::Tensor& cosine,
                          const at::Tensor& sine) const {
  const std::int64_t batch = x.size(0);
  const std::int64_t frames = x.size(1);
  const std::int64_t heads = config_.heads;
  // [3, batch, heads, frames, 64]
  const at::Tensor qkv = block.qkv(x).view({batch, frames, 3, heads, kHeadDim}).permute({2, 0, 3, 1, 4}).contiguous();
  for (std::int64_t i = 0; i < 2; ++i) {    // rotate head 0 of q and k, in interleaved pairs
    at::Tensor head = qkv[i].select(1, 0);  // [batch, frames, 64]
    const at::Tensor pairs = head.view({batch, frames, kHeadDim / 2, 2}).clone();
    const at::Tensor even = pairs.select(-1, 0);
    const at::Tensor odd = pairs.select(-1, 1);
    at::Tensor out = head.view({batch, frames, kHeadDim / 2, 2});
    out.select(-1, 0).copy_(even * cosine - odd * sine);
    out.select(-1, 1).copy_(odd * cosine + even * sine);
  }
  const auto flat = [&](const at::Tensor& t) { return t.view({batch * heads, frames, kHeadDim}); };
  const at::Tensor p = at::softmax(at::bmm(flat(qkv[0]) * 0.125, flat(qkv[1]).transpose(1, 2)), -1);
  const at::Tensor out = at::bmm(p, flat(qkv[2])).view({batch, heads, frames, kHeadDim}).transpose(1, 2);
  return block.attended(out.reshape({batch, frames, config_.dim}));
}

at::Tensor Dit::velocity(const at::Tensor& x, const at::Tensor& prompt, const at::Tensor& text, const at::Tensor& time,
                         const Probe* probe) const {
  const std::int64_t batch = x.size(0);
  const std::int64_t frames = x.size(1);
  check_shape(x, {-1, -1, config_.mel}, "DiT input");
  check_shape(prompt, {batch, frames, config_.mel}, "DiT prompt");
  check_shape(text, {batch, frames, config_.text_dim}, "DiT text");

  at::Tensor h = input_(at::cat({x, prompt, text}, -1));
  if (probe != nullptr) {
    (*probe)("input_embed.proj", h);
  }
  at::Tensor c = h.transpose(1, 2);
  for (int i = 0; i < 2; ++i) {
    c = at::mish(at::conv1d(c, position_weight_[i], position_bias_[i], 1, kPositionKernel / 2, 1, kPositionGroups));
  }
  h = h + c.transpose(1, 2);
  if (probe != nullptr) {
    (*probe)("input_embed", h);
  }

  at::Tensor cosine = at::empty({frames, kHeadDim / 2}, at::kFloat);
  at::Tensor sine = at::empty({frames, kHeadDim / 2}, at::kFloat);
  for (std::int64_t t = 0; t < frames; ++t) {
    for (std::int64_t i = 0; i < kHeadDim / 2; ++i) {
      const double angle =
          static_cast<double>(t) * std::pow(10000.0, -2.0 * static_cast<double>(i) / static_cast<double>(kHeadDim));
      cosine.data_ptr<float>()[t * kHeadDim / 2 + i] = static_cast<float>(std::cos(angle));
      sine.data_ptr<float>()[t * kHeadDim / 2 + i] = static_cast<float>(std::sin(angle));
    }
  }

  const at::Tensor activated = at::silu(time);
  for (std::size_t i = 0; i < blocks_.size(); ++i) {
    const Block& block = blocks_[i];
    // shift, scale, gate of the attention, then of the feed-forward part; each [1, dim]
    const auto m = block.modulation(activated).chunk(6, -1);
    at::Tensor u = normed(h) * (m[1] + 1) + m[0];
    const at::Tensor attended = attention(block, u, cosine, sine);
    if (probe != nullptr && i == 0) {
      (*probe)("block0.attn_norm", u);
      (*probe)("block0.attn", attended);
    }
    h = h + m[2] * attended;
    u = normed(h) * (m[4] + 1) + m[3];
    h = h + m[5] * block.ff_out(at::gelu(block.ff_in(u), "tanh"));
    if (probe != nullptr) {
      (*probe)("block" + std::to_string(i), h);
    }
  }
  const auto m = out_modulation_(activated).chunk(2, -1);  // scale, shift: the other way round than in the blocks
  h = normed(h) * (m[0] + 1) + m[1];
  if (probe != nullptr) {
    (*probe)("norm_out", h);
  }
  const at::Tensor v = out_(h);
  if (probe != nullptr) {
    (*probe)("velocity", v);
  }
  return v;
}

}  // namespace tts
