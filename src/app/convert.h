#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <ostream>
#include <string>

#include "src/app/cli.h"
#include "src/convert/convert.h"
#include "src/core/result.h"

namespace tts {

/// "155.3 MB"
[[nodiscard]] std::string bytes_text(std::uint64_t bytes);

/// What a conversion does, on one line of a terminal that is written over; nothing when `out` is nullptr.
class ProgressLine {
 public:
  explicit ProgressLine(std::ostream* out) : out_(out) {}
  ~ProgressLine() { clear(); }
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

  [[nodiscard]] ConvertProgress callback();
  void clear();

 private:
  std::ostream* out_;
  std::string what_;
  std::chrono::steady_clock::time_point last_;
  bool is_shown_ = false;
};

/// `sonorant convert`: converts and says what was made on `out`. `models_dir`: where a LoRA's base and vocoders are
/// looked for.
[[nodiscard]] Result<void> run_convert(const ConvertCommand& command, const std::filesystem::path& models_dir,
                                       std::ostream& out, std::ostream* progress);

}  // namespace tts
