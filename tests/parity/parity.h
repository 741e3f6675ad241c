#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include <ATen/core/Tensor.h>
#include <nlohmann/json.hpp>

#include "src/core/safetensors.h"

// The parity runner: `parity DIR` replays every fixture file of DIR against this build and prints
//
//     file/case.quantity  max_err  tolerance  PASS|FAIL
//
// A family of fixtures is one .cpp of this folder that registers a handler for a file name:
//
//     const Registration kVocoders("acoustic_vocoders", [](const Fixture& fixture, Report& report) {
//       for_each_case(fixture, report, [&](const Json& c, CaseReport& check) {
//         if (c.at("name") == "v3.bigvgan") check.close("wave", wave, want, 5e-5);
//         else check.skip();
//       });
//     });
//
// A file may have several handlers, each for some of its cases. Fixture files without a handler, and cases all their
// handlers skip, are listed as SKIP and counted apart.

namespace tts::parity {

using Json = nlohmann::json;

/// One ar_*.json or acoustic_*.json and the .safetensors beside it, if there is one.
struct Fixture {
  std::string name;  ///< file name without ".json"
  Json json;
  std::optional<SafeTensors> arrays;

  /// A tensor of the .safetensors file (F32 as float32, U8 and I32 as int64). Throws when it is missing.
  [[nodiscard]] at::Tensor array(const std::string& key) const;
};

/// Collects and prints results.
class Report {
 public:
  /// One compared quantity: passes if error <= tolerance. A NaN error fails.
  void check(const std::string& name, double error, double tolerance);
  /// An exception or a shape mismatch: prints FAIL with error "inf" and the reason on standard error.
  void fail(const std::string& name, const std::string& reason);
  /// Listed only when all handlers of the file skip it.
  void skip(const std::string& name);
  /// Lists what was skipped `handlers` times since the last call.
  void end_file(int handlers);

  [[nodiscard]] int passed() const noexcept { return passed_; }
  [[nodiscard]] int failed() const noexcept { return failed_; }
  [[nodiscard]] int skipped() const noexcept { return skipped_; }

 private:
  int passed_ = 0;
  int failed_ = 0;
  int skipped_ = 0;
  std::map<std::string, int> skips_;  ///< of this file
};

/// Report with "file/case." put before each name.
class CaseReport {
 public:
  CaseReport(Report& report, std::string name) : report_(report), name_(std::move(name)) {}

  /// Largest absolute difference, divided by `scale` (say the absmax of the wanted tensor). Different shapes fail.
  void close(std::string_view quantity, const at::Tensor& got, const at::Tensor& want, double tolerance,
             double scale = 1.0);
  /// An error that the caller measured.
  void error(std::string_view quantity, double error, double tolerance);
  /// Exact: reported error is 0 or 1.
  void same(std::string_view quantity, bool equal);
  /// This handler does not check this case, or the build has no such stage.
  void skip();

 private:
  Report& report_;
  std::string name_;
};

using Handler = std::function<void(const Fixture&, Report&)>;

/// Adds a handler for the fixture file `<name>.json`; define as a namespace-scope constant.
struct Registration {
  Registration(std::string name, Handler handler);
};

/// Calls `body` for each element of json["cases"]; an exception fails that case and the next one goes on.
void for_each_case(const Fixture& fixture, Report& report,
                   const std::function<void(const Json& fixture_case, CaseReport& check)>& body);

}  // namespace tts::parity
