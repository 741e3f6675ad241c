#include "src/core/log.h"

#include <array>
#include <cstdint>
#include <map>
#include <mutex>

#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/stdout_sinks.h>

namespace tts {
namespace {

/// Owns every logger; spdlog's own registry is left alone so that a library user's settings are not touched.
class Loggers {
 public:
  Logger get(std::string_view module) {
    const std::lock_guard lock(mutex_);
    const auto found = loggers_.find(module);
    if (found != loggers_.end()) return found->second;
    auto logger = std::make_shared<spdlog::logger>(std::string(module), sink_);
    logger->set_level(level_);
    logger->flush_on(spdlog::level::warn);
    loggers_.emplace(std::string(module), logger);
    return logger;
  }

  void set_level(spdlog::level::level_enum level) {
    const std::lock_guard lock(mutex_);
    level_ = level;
    for (const auto& [module, logger] : loggers_) logger->set_level(level);
  }

  static Loggers& instance() {
    static Loggers loggers;
    return loggers;
  }

 private:
  Loggers() : sink_(std::make_shared<spdlog::sinks::stderr_sink_mt>()) {
    sink_->set_formatter(std::make_unique<spdlog::pattern_formatter>(
        "time=%Y-%m-%dT%H:%M:%S.%eZ level=%l module=%n thread=%t %v", spdlog::pattern_time_type::utc));
  }

  std::mutex mutex_;
  std::shared_ptr<spdlog::sinks::stderr_sink_mt> sink_;
  spdlog::level::level_enum level_ = spdlog::level::info;
  std::map<std::string, Logger, std::less<>> loggers_;
};

bool is_plain(char c) noexcept {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
         std::string_view("_-.:/+@%,").find(c) != std::string_view::npos;
}

}  // namespace

Logger get_logger(std::string_view module) {
  return Loggers::instance().get(module);
}

Result<void> set_log_level(std::string_view level) {
  static constexpr std::array<std::pair<std::string_view, spdlog::level::level_enum>, 6> kLevels = {{
      {"trace", spdlog::level::trace},
      {"debug", spdlog::level::debug},
      {"info", spdlog::level::info},
      {"warn", spdlog::level::warn},
      {"error", spdlog::level::err},
      {"off", spdlog::level::off},
  }};
  for (const auto& [name, value] : kLevels) {
    if (name != level) continue;
    Loggers::instance().set_level(value);
    return {};
  }
  return Error{Errc::bad_message,
               "log level: got " + log_value(level) + ", wanted trace, debug, info, warn, error or off"};
}

std::string log_value(std::string_view value) {
  bool plain = !value.empty();
  for (const char c : value) plain = plain && is_plain(c);
  if (plain) return std::string(value);
  static constexpr char kHex[] = "0123456789abcdef";
  std::string out = "\"";
  for (const char c : value) {
    const auto byte = static_cast<std::uint8_t>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (byte < 0x20U || byte == 0x7FU) {
      out += "\\x";
      out += kHex[byte >> 4U];
      out += kHex[byte & 0xFU];
    } else {
      out += c;
    }
  }
  out += '"';
  return out;
}

}  // namespace tts
