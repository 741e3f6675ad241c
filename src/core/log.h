#pragma once

#include <memory>
#include <string>
#include <string_view>

#include <spdlog/logger.h>

#include "src/core/result.h"

namespace tts {

using Logger = std::shared_ptr<spdlog::logger>;

/// The logger of one module ("streaming", "engine", ...), made at first use; always the same one for a name.
/// Writes one line per message to standard error:
///   time=2024-05-01T10:00:00.123Z level=info module=engine thread=42 msg-as-given
/// Messages are `key=value` pairs after a short verb phrase: log->info("utterance done session={} rtf={:.3f}", ...).
/// Level: `error` needs a person, `warn` a misbehaving client, `info` once per utterance, `debug` per chunk. User text
/// appears at `debug` only. Thread-safe.
[[nodiscard]] Logger get_logger(std::string_view module);

/// Sets the level of every logger, those made later included: trace, debug, info, warn, error or off.
/// Errc::bad_message naming the level otherwise. Starts as `info`.
[[nodiscard]] Result<void> set_log_level(std::string_view level);

/// A value fit for `key=value`: as it is when it is a plain word, otherwise quoted with ", \ and control characters
/// escaped, so that text from outside can never forge a log line.
[[nodiscard]] std::string log_value(std::string_view value);

}  // namespace tts
