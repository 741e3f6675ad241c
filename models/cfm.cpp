#include "models/cfm.h"

#include <cstdint>
#include <string>

#include <ATen/ops/cat.h>
#include <ATen/ops/zeros_like.h>

namespace tts {

void solve_flow(const at::Tensor& x, const FlowSchedule& schedule, const FlowVelocity& velocity) {
  std::size_t call = 0;
  for (const auto& [t, width] : flow_steps(schedule)) {
    at::Tensor v = velocity(x, call++);
    if (schedule.solver == FlowSolver::midpoint) {
      v = velocity(v.mul_(width / 2).add_(x), call++);
    } else if (schedule.solver == FlowSolver::heun) {
      v = velocity(v * width + x, call++).add_(v).mul_(0.5);
    }
    x.add_(v.mul_(width));
  }
}

FlowPlan make_flow_plan(const Dit& estimator, const FlowSchedule& schedule) {
  FlowPlan plan{.schedule = schedule, .calls = {}};
  for (const auto& [t, width] : flow_calls(schedule)) {
    plan.calls.push_back(estimator.modulation(estimator.time(t, width)));
  }
  return plan;
}

at::Tensor sample_flow(const Dit& estimator, const at::Tensor& mu, const at::Tensor& prompt, const at::Tensor& noise,
                       const FlowPlan& plan) {
  check_shape(noise, {mu.size(0), mu.size(1), estimator.config().mel}, "flow noise");
  check_shape(prompt, {-1, -1, estimator.config().mel}, "flow prompt");
  const std::int64_t n_prompt = prompt.size(1);
  if (n_prompt > mu.size(1)) {
    throw ModelError("flow: got a prompt of " + std::to_string(n_prompt) + " frames, wanted at most " +
                     std::to_string(mu.size(1)));
  }
  const at::Tensor x = noise.clone();
  at::Tensor known = at::zeros_like(x);
  known.narrow(1, 0, n_prompt).copy_(prompt.expand({x.size(0), n_prompt, x.size(2)}));
  x.narrow(1, 0, n_prompt).zero_();

  const bool guided = plan.schedule.guided();
  at::Tensor text = estimator.text(mu);
  if (guided) {
    known = at::cat({known, at::zeros_like(known)});
    text = at::cat({text, estimator.text(at::zeros_like(mu))});
  }
  const Dit::Window window = estimator.window(known, text);
  solve_flow(x, plan.schedule, [&](const at::Tensor& at_x, std::size_t call) {
    at::Tensor v = estimator.velocity(guided ? at::cat({at_x, at_x}) : at_x, window, plan.calls[call]);
    if (guided) {
      const at::Tensor free = v.narrow(0, x.size(0), x.size(0));
      v = v.narrow(0, 0, x.size(0));
      v = v + (v - free) * plan.schedule.guidance;
    }
    v.narrow(1, 0, n_prompt).zero_();  // the prompt is known: nothing of it moves
    return v;
  });
  return x;
}

at::Tensor normalize_mel(const at::Tensor& mel) {
  return (mel + 12.0) / 14.0 * 2.0 - 1.0;
}
at::Tensor denormalize_mel(const at::Tensor& mel) {
  return (mel + 1.0) / 2.0 * 14.0 - 12.0;
}

}  // namespace tts
