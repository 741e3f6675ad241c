#include "src/app/serve.h"

#include <csignal>
#include <string>

#include <pthread.h>

#include "src/core/log.h"

namespace tts {
namespace {

sigset_t stop_signals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  return signals;
}

}  // namespace

ServerConfig to_server_config(const Config& config) {
  ServerConfig server;
  server.host = config.server.host;
  server.port = static_cast<std::uint16_t>(config.server.port);
  server.io_threads = config.server.threads;
  server.web_dir = config.server.web_dir;
  server.server_name = std::string("sonorant/") + SONORANT_VERSION;
  server.limits.max_sessions = config.server.max_sessions;
  const std::string& host = config.server.host;
  const bool is_local = host == "localhost" || host == "::1" || host.starts_with("127.");
  server.uploads.enabled = config.server.voice_upload != "off" && (is_local || !config.server.upload_token.empty());
  server.uploads.token = config.server.upload_token;
  server.uploads.max_bytes = static_cast<std::size_t>(config.server.max_upload_mb) * 1'000'000;
  server.limits.max_text_chars = static_cast<std::size_t>(config.server.max_text_chars);
  return server;
}

void block_stop_signals() {
  const sigset_t signals = stop_signals();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
}

Result<void> serve(const Config& config, Synthesizer& synthesizer, std::ostream& out) {
  const Logger log = get_logger("app");
  Server server(to_server_config(config), synthesizer);
  auto port = server.start();
  if (!port) return port.error();
  const bool everywhere = config.server.host == "0.0.0.0" || config.server.host == "::";
  const bool v6 = config.server.host.find(':') != std::string::npos;
  const std::string host = everywhere ? "localhost" : v6 ? "[" + config.server.host + "]" : config.server.host;
  out << "listening on http://" << host << ":" << *port << "/" << std::endl;

  const sigset_t signals = stop_signals();
  int got = 0;
  sigwait(&signals, &got);
  log->info("stopping signal={} grace_ms={}", got == SIGTERM ? "SIGTERM" : "SIGINT", config.server.grace.count());
  pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);
  server.drain_and_stop(config.server.grace);
  log->info("stopped");
  return {};
}

}  // namespace tts
