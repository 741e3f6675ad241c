#pragma once

#include <ostream>

#include "src/app/config.h"
#include "src/core/result.h"
#include "src/engine/synthesizer.h"
#include "streaming/server.h"

namespace tts {

/// The server's part of the settings.
[[nodiscard]] ServerConfig to_server_config(const Config& config);

/// Blocks SIGTERM and SIGINT in this thread and those it starts, so that serve() can wait for them; ignores SIGPIPE.
/// Call before the first thread.
void block_stop_signals();

/// Listens, writes "listening on http://HOST:PORT/" to `out`, and serves until SIGTERM or SIGINT. Then it is not ready
/// any more, lets running utterances end for server.grace, and returns; a second signal ends the process at once.
/// Errors: Server::start.
[[nodiscard]] Result<void> serve(const Config& config, Synthesizer& synthesizer, std::ostream& out);

}  // namespace tts
