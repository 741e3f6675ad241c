#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "src/core/result.h"
#include "src/engine/synthesizer.h"
#include "streaming/metrics.h"
#include "streaming/protocol.h"
#include "streaming/text_feed.h"
#include "streaming/voice_upload.h"

namespace tts {

struct ServerConfig {
  std::string host = "127.0.0.1";  ///< address or name to listen on
  std::uint16_t port = 8080;       ///< 0: any free one
  int io_threads = 1;              ///< sockets, Opus encoding
  std::filesystem::path web_dir = "web";
  std::string server_name = "sonorant";  ///< `hello.server` and the HTTP Server field
  ProtocolLimits limits;
  FeedOptions feed;                                     ///< what `buffering` of a client leaves open
  int max_connections = 512;                            ///< TCP connections, sessions included; more are closed at once
  std::chrono::milliseconds handshake_timeout{10'000};  ///< for one HTTP request, the upgrade included
  std::chrono::milliseconds keep_alive_timeout{30'000};  ///< between two HTTP requests
  int send_buffer_bytes = 64 * 1024;                 ///< of the kernel, per socket: bounds what waits for a slow client
  VoiceUploads uploads;                              ///< POST and DELETE of /v1/voices
  std::chrono::milliseconds upload_timeout{60'000};  ///< for the body of an upload
};

/// The WebSocket endpoint /v1/stream and the HTTP routes, on one port, over one synthesizer.
/// Methods are for one thread; the synthesizer must outlive the server.
class Server {
 public:
  Server(ServerConfig config, Synthesizer& synthesizer);
  /// Stops at once.
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  /// Listens and serves on own threads; returns the port. Errc::internal naming address and cause when the port is busy
  /// or the address cannot be had.
  [[nodiscard]] Result<std::uint16_t> start();

  /// Not ready from now on; refuses new sessions and contexts, lets open contexts finish, closes sessions that have
  /// none (close code 1001). What is left after `grace` is cut off. Returns when all is down. Idempotent.
  void drain_and_stop(std::chrono::milliseconds grace);

  [[nodiscard]] const ServerMetrics& metrics() const noexcept;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tts
