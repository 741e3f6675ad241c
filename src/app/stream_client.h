#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "src/core/result.h"

namespace tts {

/// A plain client of the wire protocol for measurements and tests: one socket, blocking calls, each ending in
/// Errc::timeout when the server takes longer than the client's timeout. One thread at a time.
class StreamClient {
 public:
  struct Frame {
    bool binary = false;
    std::vector<std::uint8_t> bytes;
    [[nodiscard]] std::string text() const { return {bytes.begin(), bytes.end()}; }
  };

  /// Connects to ws://host:port/v1/stream. Errc::internal naming what failed.
  [[nodiscard]] static Result<StreamClient> connect(const std::string& host, int port,
                                                    std::chrono::milliseconds timeout = std::chrono::seconds(60));
  ~StreamClient();
  StreamClient(StreamClient&&) noexcept;
  StreamClient& operator=(StreamClient&&) noexcept;

  [[nodiscard]] Result<void> send(std::string_view json);
  /// The next frame of the server. Errc::cancelled when it has closed the socket.
  [[nodiscard]] Result<Frame> receive();
  /// Says goodbye and waits for the answer.
  void close();

 private:
  struct Impl;
  explicit StreamClient(std::unique_ptr<Impl> impl) noexcept;
  std::unique_ptr<Impl> impl_;
};

/// The string field `name` of a JSON object; empty when there is none.
[[nodiscard]] std::string json_field(std::string_view json, const char* name);

}  // namespace tts
