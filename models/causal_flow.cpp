#include "models/causal_flow.h"

#include <cmath>
#include <string>
#include <utility>

#include <ATen/ops/empty.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/silu.h>

#include "models/cfm.h"
#include "models/time_embedding.h"

namespace tts {
namespace {

constexpr double kEps = 1e-6;

}  // namespace

CausalFlow::CausalFlow(const WeightScope& weights, const CausalFlowConfig& config)
    : config_(config),
      // What is made once, and the way in and out of the mel, stay in float32.
      time_in_(weights("time_embed.time_mlp.0").with(Precision::fp32), kTimeFeatures, config.dim),
      time_out_(weights("time_embed.time_mlp.2").with(Precision::fp32), config.dim, config.dim),
      out_modulation_(weights("norm_out.linear").with(Precision::fp32), config.dim, 2 * config.dim),
      out_(weights("proj_out").with(Precision::fp32), config.dim, config.mel) {
  const WeightScope input = weights("input_embed.proj");
  const at::Tensor joint = input.get("weight", {config.dim, config.mel + config.features});
  input_x_ = Linear(joint.narrow(1, 0, config.mel), {});
  input_mu_ =
      Linear(joint.narrow(1, config.mel, config.features), input.get("bias", {config.dim}), weights.precision());
  for (std::int64_t i = 0; i < config.layers; ++i) {
    const WeightScope block = weights("blocks", i);
    blocks_.emplace_back(block, config.dim, config.inner, config.kernel);
    modulations_.emplace_back(block("ada").with(Precision::fp32), config.dim, 3 * config.dim);
  }
}

std::shared_ptr<const CausalFlow::Schedule> CausalFlow::make_schedule(const FlowSchedule& flow,
                                                                      const SpeakerFit& fit) const {
  auto schedule = std::make_shared<Schedule>();
  schedule->flow = flow;
  const auto modulation = [](const Linear& network, const at::Tensor& t, const at::Tensor& fitted) {
    const at::Tensor all = network(t).squeeze(0);
    return fitted.defined() ? all + fitted : all;
  };
  for (const auto& [time, width] : flow_calls(flow)) {
    const at::Tensor t = at::silu(time_out_(at::silu(time_in_(time_features(time)))));
    Call call;
    for (std::size_t i = 0; i < modulations_.size(); ++i) {
      const at::Tensor fitted = fit.defined() ? fit.norms[static_cast<std::int64_t>(i)] : at::Tensor();
      const auto parts = modulation(modulations_[i], t, fitted).chunk(3);  // shift, scale, gate
      call.blocks.push_back({(parts[1] + 1).contiguous(), parts[0].contiguous(), parts[2].contiguous()});
    }
    const auto parts = modulation(out_modulation_, t, fit.out_norm).chunk(2);  // scale, shift
    call.out_gain = (parts[0] + 1).contiguous();
    call.out_bias = parts[1].contiguous();
    schedule->calls.push_back(std::move(call));
  }
  return schedule;
}

CausalFlow::State CausalFlow::initial_state(std::shared_ptr<const Schedule> schedule, std::uint64_t seed) const {
  State state{.schedule = std::move(schedule), .past = {}, .noise = GaussianNoise(seed, kNoiseStream), .frames = 0};
  for (std::size_t s = 0; s < state.schedule->calls.size(); ++s) {
    for (const CausalConvNext& block : blocks_) {
      state.past.push_back(block.initial_past());
    }
  }
  return state;
}

at::Tensor CausalFlow::step(const at::Tensor& mu, State& state) const {
  check_shape(mu, {-1, config_.features}, "flow conditioning");
  const std::int64_t frames = mu.size(0);
  at::Tensor x = at::empty({frames, config_.mel}, mu.options());
  if (frames == 0) {
    return x;
  }
  state.noise.fill(state.frames * config_.mel, {x.data_ptr<float>(), static_cast<std::size_t>(x.numel())});
  x.mul_(state.schedule->flow.temperature);
  state.frames += frames;
  const at::Tensor conditioned = input_mu_(mu);  // the same in every step
  solve_flow(x, state.schedule->flow, [&](const at::Tensor& at_x, std::size_t n) {
    const Call& call = state.schedule->calls[n];
    at::Tensor h = input_x_(at_x).add_(conditioned);
    for (std::size_t i = 0; i < blocks_.size(); ++i) {
      const Block& norms = call.blocks[i];
      blocks_[i].step(h, state.past[n * blocks_.size() + i], norms.gain, norms.bias, kEps, norms.gate);
    }
    return out_(at::layer_norm(h, {config_.dim}, call.out_gain, call.out_bias, kEps));
  });
  return x;
}

}  // namespace tts
