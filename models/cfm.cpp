#include "models/cfm.h"

#include <ATen/ops/zeros_like.h>

namespace tts {

at::Tensor sample_flow(const Dit& estimator, const at::Tensor& mu, const at::Tensor& prompt, const at::Tensor& noise,
                       const CfmOptions& options) {
  check_shape(noise, {mu.size(0), mu.size(1), estimator.config().mel}, "flow noise");
  check_shape(prompt, {-1, -1, estimator.config().mel}, "flow prompt");
  const std::int64_t n_prompt = prompt.size(1);
  if (options.steps < 1 || n_prompt > mu.size(1)) {
    throw ModelError("flow: got " + std::to_string(options.steps) + " steps and a prompt of " +
                     std::to_string(n_prompt) + " frames, wanted >= 1 and <= " + std::to_string(mu.size(1)));
  }
  at::Tensor x = noise.clone();
  at::Tensor px = at::zeros_like(x);
  px.narrow(1, 0, n_prompt).copy_(prompt.expand({x.size(0), n_prompt, x.size(2)}));
  x.narrow(1, 0, n_prompt).zero_();

  const bool guided = options.guidance > 1e-5;
  const at::Tensor text = estimator.text(mu);
  const at::Tensor text0 = guided ? estimator.text(at::zeros_like(mu)) : at::Tensor();
  const at::Tensor px0 = guided ? at::zeros_like(px) : at::Tensor();
  const double d = 1.0 / options.steps;
  double t = 0.0;
  for (int step = 0; step < options.steps; ++step) {
    const at::Tensor time = estimator.time(t, d);
    at::Tensor v = estimator.velocity(x, px, text, time);
    if (guided) {
      v = v + (v - estimator.velocity(x, px0, text0, time)) * options.guidance;
    }
    x.add_(v, d);
    t += d;
    x.narrow(1, 0, n_prompt).zero_();
  }
  return x;
}

at::Tensor normalize_mel(const at::Tensor& mel) {
  return (mel + 12.0) / 14.0 * 2.0 - 1.0;
}
at::Tensor denormalize_mel(const at::Tensor& mel) {
  return (mel + 1.0) / 2.0 * 14.0 - 12.0;
}

}  // namespace tts
