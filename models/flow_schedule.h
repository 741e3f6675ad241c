#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "src/core/result.h"

namespace tts {

/// How the equation dx/dt = v(x, t) of a flow is solved from noise (t = 0) to mel (t = 1).
enum class FlowSolver {
  euler,     ///< one call of the network a step, order 1; upstream's
  midpoint,  ///< two calls a step, order 2
  heun,      ///< two calls a step, order 2, the second one at the step's end
};

/// Where the steps begin and end.
struct FlowGrid {
  enum class Kind {
    uniform,  ///< t = u, for u = 0, 1/n, .., 1; upstream's
    cosine,   ///< t = 1 - cos(pi u / 2): short steps first
    sway,     ///< t = u + sway (cos(pi u / 2) - 1 + u) (Chen et al. 2024, eq. 7); -1 is the cosine grid
    list,     ///< the times themselves
  };
  Kind kind = Kind::uniform;
  double sway = 0.0;          ///< -1 .. 1; below 0 for short steps first
  std::vector<double> times;  ///< of a list: 0, rising, 1

  bool operator==(const FlowGrid&) const = default;
};

struct FlowSchedule {
  int steps = 8;          ///< 1 .. 128; a list grid has its own number
  double guidance = 0.0;  ///< classifier-free guidance rate; at most 1e-5 is off, else a call is a batch of two
  FlowSolver solver = FlowSolver::euler;
  FlowGrid grid = {};
  /// The noise started from is scaled by this, 0 .. 2 (upstream's argument of that name, there always 1). Below 1 the
  /// mel is cleaner and varies less.
  double temperature = 1.0;

  [[nodiscard]] bool guided() const { return guidance > 1e-5; }
  bool operator==(const FlowSchedule&) const = default;
};

/// What of a schedule is to be another than the voice's own.
struct FlowChoice {
  int steps = 0;  ///< 0: the voice's own
  std::optional<double> guidance = {};
  std::optional<FlowSolver> solver = {};
  std::optional<FlowGrid> grid = {};
  std::optional<double> temperature = {};
};
/// Another number of steps than a list grid has takes the uniform grid, unless a grid is chosen too.
[[nodiscard]] FlowSchedule chosen_schedule(const FlowSchedule& own, const FlowChoice& choice);

/// The steps' ends: steps + 1 times that rise from exactly 0 to exactly 1. Throws ModelError on a schedule out of its
/// range.
[[nodiscard]] std::vector<double> flow_times(const FlowSchedule& schedule);

/// One step of the solver.
struct FlowStep {
  double t, width;
};
[[nodiscard]] std::vector<FlowStep> flow_steps(const FlowSchedule& schedule);

/// One call of the network: at time t, and the width of time it answers for, which GPT-SoVITS' networks are told too.
/// The two calls of a second-order step answer for half of it each.
struct FlowCall {
  double t, width;
};
/// All calls in the order in which the solver makes them.
[[nodiscard]] std::vector<FlowCall> flow_calls(const FlowSchedule& schedule);

/// As configuration and manifests write them: "euler", "midpoint", "heun"; "uniform", "cosine", "sway" (-1),
/// "sway:-0.5", or the times of a list, "0,0.1,0.4,1".
[[nodiscard]] Result<FlowSolver> parse_flow_solver(std::string_view text);
[[nodiscard]] Result<FlowGrid> parse_flow_grid(std::string_view text);
[[nodiscard]] std::string to_string(FlowSolver solver);
[[nodiscard]] std::string to_string(const FlowGrid& grid);

}  // namespace tts
