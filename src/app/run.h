#pragma once

#include <atomic>
#include <functional>
#include <istream>
#include <memory>
#include <optional>
#include <ostream>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "src/app/cli.h"
#include "src/app/config.h"
#include "src/app/cpu_environment.h"
#include "src/app/paths.h"
#include "src/engine/stage_bench.h"
#include "src/engine/synthesizer.h"

namespace tts {

/// What the program is given from outside; tests give their own.
struct Surroundings {
  GetEnv get_env;
  std::optional<DataPaths> data;
  /// Throws std::exception with one line when the voices cannot be had.
  std::function<std::unique_ptr<Synthesizer>(const Config&)> make_synthesizer;
  /// `sonorant bench --stages`; throws std::exception with one line.
  std::function<std::vector<StageFigures>(const Config&, const BenchCommand&, const std::string& text,
                                          const std::function<void(std::string_view)>& progress,
                                          const std::atomic<bool>& stop)>
      measure_stages;
  std::istream& in;
  std::ostream& out;
  std::ostream& err;
  bool show_progress = false;                                  ///< `err` is a terminal
  std::vector<std::pair<std::string, std::string>> libraries;  ///< name and version, for reports
};

/// The program: parses `args` (without its name), loads what the command needs, runs it. Returns the exit code: 0, or 1
/// after one line on `err` that says what is wrong.
[[nodiscard]] int run(std::span<const std::string> args, Surroundings& surroundings);

}  // namespace tts
