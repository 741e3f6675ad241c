#include "models/flow_schedule.h"

#include <array>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <numbers>
#include <system_error>

#include "models/model_error.h"

namespace tts {
namespace {

constexpr std::array<std::string_view, 3> kSolvers{"euler", "midpoint", "heun"};
constexpr int kMaxSteps = 128;
constexpr double kMaxTemperature = 2.0;

/// The whole of text as a number.
std::optional<double> to_number(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() && std::isfinite(value) ? std::optional(value)
                                                                                          : std::nullopt;
}

/// Nothing wrong: empty.
std::string fault_of(const FlowGrid& grid) {
  if (grid.kind == FlowGrid::Kind::sway && !(grid.sway >= -1.0 && grid.sway <= 1.0)) {
    return "got a sway of " + std::to_string(grid.sway) + ", wanted -1 .. 1";
  }
  if (grid.kind != FlowGrid::Kind::list) return {};
  const auto& times = grid.times;
  bool rises = times.size() >= 2 && times.front() == 0.0 && times.back() == 1.0;
  for (std::size_t i = 1; rises && i < times.size(); ++i) rises = times[i] > times[i - 1];
  if (!rises || times.size() > kMaxSteps + 1) {
    return "got a list of " + std::to_string(times.size()) + " times, wanted 2 .. " + std::to_string(kMaxSteps + 1) +
           " that rise from 0 to 1";
  }
  return {};
}

}  // namespace

FlowSchedule chosen_schedule(const FlowSchedule& own, const FlowChoice& choice) {
  FlowSchedule schedule = own;
  if (choice.steps != 0) {
    if (schedule.grid.kind == FlowGrid::Kind::list) schedule.grid = {};
    schedule.steps = choice.steps;
  }
  if (choice.guidance) schedule.guidance = *choice.guidance;
  if (choice.solver) schedule.solver = *choice.solver;
  if (choice.grid) schedule.grid = *choice.grid;
  if (choice.temperature) schedule.temperature = *choice.temperature;
  return schedule;
}

std::vector<double> flow_times(const FlowSchedule& schedule) {
  if (const std::string fault = fault_of(schedule.grid); !fault.empty()) throw ModelError("flow grid: " + fault);
  if (!(schedule.temperature >= 0.0 && schedule.temperature <= kMaxTemperature)) {
    throw ModelError("flow temperature: got " + std::to_string(schedule.temperature) + ", wanted 0 .. 2");
  }
  if (schedule.grid.kind == FlowGrid::Kind::list) return schedule.grid.times;
  if (schedule.steps < 1 || schedule.steps > kMaxSteps) {
    throw ModelError("flow steps: got " + std::to_string(schedule.steps) + ", wanted 1.." + std::to_string(kMaxSteps));
  }
  const double sway = schedule.grid.kind == FlowGrid::Kind::uniform  ? 0.0
                      : schedule.grid.kind == FlowGrid::Kind::cosine ? -1.0
                                                                     : schedule.grid.sway;
  std::vector<double> times{0.0};
  const double step = 1.0 / schedule.steps;
  double u = 0.0;
  for (int i = 1; i < schedule.steps; ++i) {
    u += step;  // added up as upstream does: the network is told t, so that its last bit counts
    times.push_back(u + sway * (std::cos(std::numbers::pi / 2.0 * u) - 1.0 + u));
  }
  times.push_back(1.0);
  return times;
}

std::vector<FlowStep> flow_steps(const FlowSchedule& schedule) {
  const std::vector<double> times = flow_times(schedule);
  std::vector<FlowStep> steps;
  for (std::size_t i = 0; i + 1 < times.size(); ++i) {
    const bool uniform = schedule.grid.kind == FlowGrid::Kind::uniform;
    steps.push_back({times[i], uniform ? 1.0 / schedule.steps : times[i + 1] - times[i]});
  }
  return steps;
}

std::vector<FlowCall> flow_calls(const FlowSchedule& schedule) {
  std::vector<FlowCall> calls;
  const std::vector<double> times = flow_times(schedule);
  const std::vector<FlowStep> steps = flow_steps(schedule);
  for (std::size_t i = 0; i < steps.size(); ++i) {
    const auto [t, width] = steps[i];
    if (schedule.solver == FlowSolver::euler) {
      calls.push_back({t, width});
      continue;
    }
    calls.push_back({t, width / 2});
    calls.push_back({schedule.solver == FlowSolver::midpoint ? t + width / 2 : times[i + 1], width / 2});
  }
  return calls;
}

Result<FlowSolver> parse_flow_solver(std::string_view text) {
  for (std::size_t i = 0; i < kSolvers.size(); ++i) {
    if (kSolvers[i] == text) return static_cast<FlowSolver>(i);
  }
  return Error{Errc::bad_file, "got \"" + std::string(text) + "\", wanted euler, midpoint or heun"};
}

Result<FlowGrid> parse_flow_grid(std::string_view text) {
  FlowGrid grid;
  const Error unknown{Errc::bad_file, "got \"" + std::string(text) +
                                          "\", wanted uniform, cosine, sway, sway:NUMBER or the times themselves, as "
                                          "0,0.25,1"};
  constexpr std::string_view kSway = "sway";
  if (text == "uniform") return grid;
  if (text == "cosine") {
    grid.kind = FlowGrid::Kind::cosine;
    return grid;
  }
  if (text.starts_with(kSway)) {
    text.remove_prefix(kSway.size());
    const auto sway = text.empty() ? std::optional(-1.0) : text[0] == ':' ? to_number(text.substr(1)) : std::nullopt;
    if (!sway) return unknown;
    grid = {.kind = FlowGrid::Kind::sway, .sway = *sway, .times = {}};
  } else {
    grid.kind = FlowGrid::Kind::list;
    for (;;) {
      const std::size_t comma = text.find(',');
      const auto time = to_number(text.substr(0, comma));
      if (!time) return unknown;
      grid.times.push_back(*time);
      if (comma == std::string_view::npos) break;
      text.remove_prefix(comma + 1);
    }
  }
  if (std::string fault = fault_of(grid); !fault.empty()) return Error{Errc::bad_file, std::move(fault)};
  return grid;
}

std::string to_string(FlowSolver solver) {
  return std::string(kSolvers[static_cast<std::size_t>(solver)]);
}

std::string to_string(const FlowGrid& grid) {
  const auto written = [](double value) {
    std::array<char, 32> buffer{};
    const auto [end, error] = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value);
    return std::string(buffer.data(), error == std::errc() ? end : buffer.data());
  };
  switch (grid.kind) {
    case FlowGrid::Kind::uniform:
      return "uniform";
    case FlowGrid::Kind::cosine:
      return "cosine";
    case FlowGrid::Kind::sway:
      return "sway:" + written(grid.sway);
    case FlowGrid::Kind::list:
      break;
  }
  std::string out;
  for (const double time : grid.times) out += (out.empty() ? "" : ",") + written(time);
  return out;
}

}  // namespace tts
