#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include <ATen/core/Tensor.h>

#include "models/dit.h"
#include "models/flow_schedule.h"

namespace tts {

/// The velocity at x for call number `call` of flow_calls(). Must return a tensor of its own.
using FlowVelocity = std::function<at::Tensor(const at::Tensor& x, std::size_t call)>;

/// Takes x, in place, from t = 0 to 1 by the schedule's solver; all flows of this project are solved here. One product
/// and one sum a step, each rounded by itself, as upstream's tensor operators do.
void solve_flow(const at::Tensor& x, const FlowSchedule& schedule, const FlowVelocity& velocity);

/// A schedule made ready for a network: what depends on the times alone. Made once, shared by all windows.
struct FlowPlan {
  FlowSchedule schedule;
  std::vector<Dit::Modulation> calls;  ///< one for each of flow_calls()
};
[[nodiscard]] FlowPlan make_flow_plan(const Dit& estimator, const FlowSchedule& schedule);

/// Plans made for a voice: its own and the last ones asked for. A Plan has a `schedule`. Thread-safe.
template <class Plan>
class FlowPlans {
 public:
  /// That of a schedule; make() makes it when it is not there, one at a time. The first one asked for is the voice's
  /// own.
  template <class Make>
  [[nodiscard]] std::shared_ptr<const Plan> get(const FlowSchedule& schedule, const Make& make) {
    constexpr std::size_t kKept = 8;
    const std::lock_guard lock(mutex_);
    for (const auto& known : plans_) {
      if (known->schedule == schedule) {
        return known;
      }
    }
    auto made = std::make_shared<const Plan>(make());
    if (plans_.size() == kKept) {
      plans_.erase(plans_.begin() + 1);
    }
    plans_.push_back(made);
    return made;
  }

 private:
  std::mutex mutex_;
  std::vector<std::shared_ptr<const Plan>> plans_;
};

/// Samples mel frames by conditional flow matching (Lipman et al. 2023).
/// mu [batch, frames, text_dim], prompt [1 or batch, n_prompt <= frames, mel] (normalised mel of the first frames),
/// noise [batch, frames, mel] -> [batch, frames, mel], normalised; the prompt's frames are zero.
/// With guidance v + (v - v0) * rate, where v0 knows neither mu nor prompt; both are one batch of the network.
/// The noise is the caller's: the function is deterministic.
[[nodiscard]] at::Tensor sample_flow(const Dit& estimator, const at::Tensor& mu, const at::Tensor& prompt,
                                     const at::Tensor& noise, const FlowPlan& plan);

/// Log mel to the flow's range and back: (mel + 12) / 14 * 2 - 1.
[[nodiscard]] at::Tensor normalize_mel(const at::Tensor& mel);
[[nodiscard]] at::Tensor denormalize_mel(const at::Tensor& mel);

}  // namespace tts
