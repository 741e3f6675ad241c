#include "src/app/convert.h"

#include <cstdio>
#include <optional>
#include <utility>

namespace tts {

std::string bytes_text(std::uint64_t bytes) {
  constexpr const char* kUnits[] = {"kB", "MB", "GB", "TB"};
  if (bytes < 1000) return std::to_string(bytes) + " B";
  double value = static_cast<double>(bytes) / 1000;
  std::size_t unit = 0;
  while (value >= 999.95 && unit + 1 < std::size(kUnits)) {
    value /= 1000;
    ++unit;
  }
  char text[32];
  std::snprintf(text, sizeof text, "%.1f %s", value, kUnits[unit]);
  return text;
}

ConvertProgress ProgressLine::callback() {
  if (out_ == nullptr) return {};
  return [this](std::string_view what, std::uint64_t done, std::uint64_t total) {
    const auto now = std::chrono::steady_clock::now();
    if (what == what_ && done != total && now - last_ < std::chrono::milliseconds(100)) return;
    what_ = what;
    last_ = now;
    is_shown_ = true;
    *out_ << "\r\033[K" << what;
    if (total > 0) *out_ << ": " << 100 * std::min(done, total) / total << " %";
    *out_ << std::flush;
  };
}

void ProgressLine::clear() {
  if (std::exchange(is_shown_, false)) *out_ << "\r\033[K" << std::flush;
}

Result<void> run_convert(const ConvertCommand& command, const std::filesystem::path& models_dir, std::ostream& out,
                         std::ostream* progress) {
  ConvertRequest request;
  request.files = command.files;
  request.out = command.out;
  request.id = command.id;
  request.name = command.name;
  request.license = command.license;
  request.models_dir = models_dir;
  request.replace = command.replace;
  if (!command.version.empty()) {
    request.form = find_form(command.version);
    if (!request.form) {
      return Error{Errc::unsupported_format,
                   "--version: got " + command.version + ", wanted v1, v2, v2Pro, v2ProPlus, v3 or v4"};
    }
  }
  ProgressLine line(progress);
  auto report = convert(request, line.callback());
  line.clear();
  if (!report) return report.error();
  if (report->form) {
    out << command.out.string() << ": a model of " << to_string(*report->form) << "\n";
  }
  for (const ConvertedFile& file : report->files) {
    out << "  " << file.path.filename().string() << "  " << bytes_text(file.bytes) << "  sha256 " << file.sha256
        << "\n";
  }
  for (const std::string& note : report->notes) out << "note: " << note << "\n";
  out.flush();
  return {};
}

}  // namespace tts
