#include "models/coupling_flow.h"

#include <string>

#include <ATen/ops/cat.h>
#include <ATen/ops/flip.h>

namespace tts {

CouplingFlow::CouplingFlow(const WeightScope& weights, const CouplingFlowConfig& config) : config_(config) {
  const std::int64_t half = config.channels / 2;
  for (std::int64_t i = 0; i < config.couplings; ++i) {
    const WeightScope coupling = weights("flows", 2 * i);  // the odd ones are the reversals, without weights
    couplings_.push_back({
        .pre = Linear(coupling("pre"), half, config.channels, true),
        .wavenet = WaveNet(coupling("enc"), {config.channels, config.condition, config.layers, config.kernel}),
        .post = Linear(coupling("post"), config.channels, half, true),
    });
  }
}

CouplingFlow::Condition CouplingFlow::prepare(const at::Tensor& ge) const {
  Condition out;
  for (const Coupling& coupling : couplings_) {
    out.push_back(coupling.wavenet.prepare(ge));
  }
  return out;
}

at::Tensor CouplingFlow::reverse(at::Tensor z, const Condition& condition, const Probe* probe) const {
  check_shape(z, {-1, config_.channels}, "flow input");
  const std::int64_t half = config_.channels / 2;
  for (std::size_t i = couplings_.size(); i-- > 0;) {
    const Coupling& coupling = couplings_[i];
    z = at::flip(z, {1});
    const at::Tensor a = z.narrow(1, 0, half).contiguous();
    const at::Tensor h = coupling.wavenet.forward(coupling.pre(a), condition.at(i), z.size(0));
    z = at::cat({a, z.narrow(1, half, half) - coupling.post(h)}, 1);
    if (probe != nullptr) {
      (*probe)("flow.flows." + std::to_string(2 * i), z.t().unsqueeze(0));
    }
  }
  if (probe != nullptr) {
    (*probe)("flow", z.t().unsqueeze(0));
  }
  return z;
}

std::int64_t CouplingFlow::context() const {
  return config_.couplings * config_.layers * (config_.kernel - 1) / 2;
}

}  // namespace tts
