#include "models/window_dit.h"

#include <algorithm>
#include <cmath>
#include <string>

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/conv1d.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/mish.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros_like.h>
#if __has_include(<ATen/ops/scaled_dot_product_attention.h>)
#include <ATen/ops/scaled_dot_product_attention.h>
#define SONORANT_FUSED_ATTENTION 1
#endif

#include "models/time_embedding.h"

namespace tts {
namespace {

constexpr std::int64_t kHeadDim = 64;
constexpr std::int64_t kPairs = kHeadDim / 2;
constexpr std::int64_t kPositionKernel = 31;
constexpr std::int64_t kPositionGroups = 16;
constexpr std::int64_t kMostFrames = 1024;
constexpr double kEps = 1e-6;
constexpr double kMasked = -30000;  // float16 holds it

/// angle(t, i) = t * 10000^(-2i / dim): cosines and sines [kMostFrames, n].
std::pair<at::Tensor, at::Tensor> turns(std::int64_t n, std::int64_t dim) {
  at::Tensor cosine = at::empty({kMostFrames, n}, at::kFloat);
  at::Tensor sine = at::empty({kMostFrames, n}, at::kFloat);
  for (std::int64_t i = 0; i < n; ++i) {
    const double speed = std::pow(10000.0, -2.0 * static_cast<double>(i) / static_cast<double>(dim));
    for (std::int64_t t = 0; t < kMostFrames; ++t) {
      cosine.data_ptr<float>()[t * n + i] = static_cast<float>(std::cos(static_cast<double>(t) * speed));
      sine.data_ptr<float>()[t * n + i] = static_cast<float>(std::sin(static_cast<double>(t) * speed));
    }
  }
  return {cosine, sine};
}

}  // namespace

WindowDit::WindowDit(const WeightScope& weights, const DitConfig& config, const Placement& placement)
    : config_(config), placement_(placement) {
  const std::int64_t dim = config.dim;
  const std::int64_t filter = config.filter > 0 ? config.filter : 2 * dim;
  const std::int64_t text = config.text_dim;
  if (config.heads * kHeadDim != dim) {
    throw ModelError("DiT: dim " + std::to_string(dim) + " is not " + std::to_string(config.heads) + " heads of 64");
  }
  const Placement exact{placement.device};
  const auto linear = [&](const char* name, std::int64_t in, std::int64_t out) {
    return WindowLinear(weights(name), in, out, false, exact);
  };
  time_in_ = linear("time_embed.time_mlp.0", kTimeFeatures, dim);
  time_out_ = linear("time_embed.time_mlp.2", dim, dim);
  step_in_ = linear("d_embed.time_mlp.0", kTimeFeatures, dim);
  step_out_ = linear("d_embed.time_mlp.2", dim, dim);
  for (std::int64_t i = 0; i < config.text_layers; ++i) {
    const WeightScope block = weights("text_embed.text_blocks", i);
    text_blocks_.push_back({
        .depthwise =
            WindowConv(block("dwconv").get("weight", {text, 1, 7}), block("dwconv").get("bias", {text}), exact),
        .gain = block("norm").get("weight", {text}).to(placement.device),
        .bias = block("norm").get("bias", {text}).to(placement.device),
        .in = WindowLinear(block("pwconv1"), text, 2 * text, false, exact),
        .out = WindowLinear(block("pwconv2"), 2 * text, text, false, exact),
        .gamma = block("grn").get("gamma", {1, 1, 2 * text}).to(placement.device),
        .beta = block("grn").get("beta", {1, 1, 2 * text}).to(placement.device),
    });
  }
  const WeightScope input = weights("input_embed.proj");
  const at::Tensor joint = input.get("weight", {dim, 2 * config.mel + text});
  input_x_ = WindowLinear(joint.narrow(1, 0, config.mel), {}, exact);
  input_rest_ = WindowLinear(joint.narrow(1, config.mel, config.mel + text), input.get("bias", {dim}), exact);
  for (int i = 0; i < 2; ++i) {
    const WeightScope conv = weights("input_embed.conv_pos_embed.conv1d", 2 * i);
    position_[i] = WindowConv(conv.get("weight", {dim, dim / kPositionGroups, kPositionKernel}),
                              conv.get("bias", {dim}), placement);
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
        .modulation = WindowLinear(block("attn_norm.linear"), dim, 6 * dim, false, exact),
        .qkv = WindowLinear(at::cat(qkv_weight), at::cat(qkv_bias), placement),
        .attended = WindowLinear(block("attn.to_out.0"), dim, dim, false, placement),
        .ff_in = WindowLinear(block("ff.ff.0.0"), dim, filter, false, placement),
        .ff_out = WindowLinear(block("ff.ff.2"), filter, dim, false, placement),
    });
  }
  out_modulation_ = linear("norm_out.linear", dim, 2 * dim);
  out_ = linear("proj_out", dim, config.mel);
  const auto [text_cosine, text_sine] = turns(text / 2, text);
  positions_ = at::cat({text_cosine, text_sine}, 1).to(placement.device);
  const auto [cosine, sine] = turns(kPairs, kHeadDim);
  cosine_ = cosine.to(placement.device);
  sine_ = sine.to(placement.device);
}

WindowDit::Plan WindowDit::make_plan(const FlowSchedule& schedule) const {
  Plan plan{.schedule = schedule, .calls = {}};
  for (const auto& [t, width] : flow_calls(schedule)) {
    const at::Tensor of_time = time_out_(at::silu(time_in_(time_features(t).to(placement_.device))));
    const at::Tensor of_step = step_out_(at::silu(step_in_(time_features(width).to(placement_.device))));
    const at::Tensor activated = at::silu(of_time + of_step);
    Dit::Modulation modulation;
    for (const Block& block : blocks_) {
      at::Tensor m = block.modulation(activated).view({6, config_.dim});
      m[1].add_(1.0);
      m[4].add_(1.0);
      modulation.blocks.push_back(m);
    }
    modulation.out = out_modulation_(activated).view({2, config_.dim});  // the other way round than in the blocks
    modulation.out[0].add_(1.0);
    plan.calls.push_back(std::move(modulation));
  }
  return plan;
}

at::Tensor WindowDit::text(const at::Tensor& mu, const at::Tensor& mask) const {
  at::Tensor m = mu + positions_.narrow(0, 0, mu.size(1));
  for (const TextBlock& block : text_blocks_) {
    const at::Tensor c =
        at::conv1d((m * mask).transpose(1, 2), block.depthwise.weight, block.depthwise.bias, 1, 3, 1, config_.text_dim);
    at::Tensor h = at::layer_norm(c.transpose(1, 2), {config_.text_dim}, block.gain, block.bias, kEps);
    h = at::gelu(block.in(h));
    const at::Tensor g = (h * mask).norm(2, {1}, true);  // [batch, 1, 2 * text_dim]
    const at::Tensor n = g / (g.mean({-1}, true) + kEps);
    h = block.gamma * (h * n) + block.beta + h;
    m = m + block.out(h);
  }
  return m;
}

at::Tensor WindowDit::attention(const at::Tensor& qkv, const Input& input) const {
  const std::int64_t batch = qkv.size(0);
  const std::int64_t frames = qkv.size(1);
  const at::Tensor split = qkv.view({batch, frames, 3, config_.heads, kHeadDim}).permute({2, 0, 3, 1, 4});
  const auto turned = [&](const at::Tensor& x) {  // head 0, in interleaved pairs
    const at::Tensor pairs = x.narrow(1, 0, 1).to(at::kFloat).reshape({batch, 1, frames, kPairs, 2});
    const at::Tensor even = pairs.select(4, 0);
    const at::Tensor odd = pairs.select(4, 1);
    const at::Tensor first =
        at::stack({even * input.cosine - odd * input.sine, odd * input.cosine + even * input.sine}, 4);
    return at::cat({first.view({batch, 1, frames, kHeadDim}).to(x.scalar_type()), x.narrow(1, 1, config_.heads - 1)},
                   1);
  };
  const at::Tensor q = turned(split[0]);
  const at::Tensor k = turned(split[1]);
  const at::Tensor v = split[2].contiguous();
  const at::Tensor unseen = input.unseen.to(q.scalar_type());
#if defined(SONORANT_FUSED_ATTENTION)
  const at::Tensor seen =
      at::scaled_dot_product_attention(q, k, v, unseen.expand({batch, config_.heads, frames, frames}));
#else
  const at::Tensor scores = at::matmul(q, k.transpose(2, 3)) / std::sqrt(static_cast<double>(kHeadDim)) + unseen;
  const at::Tensor seen = at::matmul(at::softmax(scores, -1), v);
#endif
  return seen.transpose(1, 2).reshape({batch, frames, config_.dim});
}

at::Tensor WindowDit::velocity(const at::Tensor& x, const Input& input, const Dit::Modulation& modulation) const {
  const std::int64_t dim = config_.dim;
  const at::ScalarType type = placement_.type;
  const at::Tensor heard = input.mask.transpose(1, 2);  // [batch, 1, frames]
  const at::Tensor joined = input_x_(x) + input.rest;
  at::Tensor c = joined.transpose(1, 2);
  for (const WindowConv& position : position_) {
    c = at::mish(
        at::conv1d((c * heard).to(type), position.weight, position.bias, 1, kPositionKernel / 2, 1, kPositionGroups)
            .to(at::kFloat));
  }
  at::Tensor h = joined + c.transpose(1, 2);
  for (std::size_t i = 0; i < blocks_.size(); ++i) {
    const Block& block = blocks_[i];
    const at::Tensor& m = modulation.blocks[i];
    at::Tensor u = at::layer_norm(h, {dim}, m[1], m[0], kEps).to(type);
    h = h + block.attended(attention(block.qkv(u), input)).to(at::kFloat) * m[2];
    u = at::layer_norm(h, {dim}, m[4], m[3], kEps).to(type);
    h = h + block.ff_out(at::gelu(block.ff_in(u), "tanh")).to(at::kFloat) * m[5];
  }
  return out_(at::layer_norm(h, {dim}, modulation.out[0], modulation.out[1], kEps));
}

at::Tensor WindowDit::sample(const at::Tensor& mu, const at::Tensor& known, const at::Tensor& noise,
                             const at::Tensor& counts, const Plan& plan) const {
  const std::int64_t batch = mu.size(0);
  const std::int64_t frames = mu.size(1);
  if (frames > kMostFrames) {
    throw ModelError("flow: got a window of " + std::to_string(frames) + " frames, wanted at most " +
                     std::to_string(kMostFrames));
  }
  const at::Tensor moving = 1.0 - length_mask(counts.select(1, 0), frames);
  at::Tensor mask = length_mask(counts.select(1, 1), frames);
  const bool guided = plan.schedule.guided();
  at::Tensor words = text(mu, mask);
  at::Tensor prompt = known;
  if (guided) {
    words = at::cat({words, text(at::zeros_like(mu), mask)});
    prompt = at::cat({prompt, at::zeros_like(prompt)});
    mask = at::cat({mask, mask});
  }
  const Input input{.rest = input_rest_(at::cat({prompt, words}, -1)),
                    .mask = mask,
                    .unseen = ((1.0 - mask) * kMasked).view({mask.size(0), 1, 1, frames}),
                    .cosine = cosine_.narrow(0, 0, frames),
                    .sine = sine_.narrow(0, 0, frames)};
  const at::Tensor x = noise * moving;
  solve_flow(x, plan.schedule, [&](const at::Tensor& at_x, std::size_t call) {
    at::Tensor v = velocity(guided ? at::cat({at_x, at_x}) : at_x, input, plan.calls[call]);
    if (guided) {
      const at::Tensor free = v.narrow(0, batch, batch);
      v = v.narrow(0, 0, batch);
      v = v + (v - free) * plan.schedule.guidance;
    }
    return v * moving;  // the prompt is known: nothing of it moves
  });
  return x;
}

}  // namespace tts
