#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "streaming/protocol.h"

namespace tts {

/// The value at a JSON pointer of a well-formed document: a string as it is, anything else as minified JSON;
/// "(missing)" when there is none, "(invalid)" when the document is no JSON.
[[nodiscard]] std::string json_at(std::string_view json, std::string_view pointer);

/// A WebSocket client on a bare socket, written for tests: it knows nothing of the server's library and can misbehave.
/// Every wait has a limit; what fails is said by the return value.
class TestClient {
 public:
  struct Message {
    enum class Kind { none, text, binary, close } kind = Kind::none;  ///< none: nothing came in time, or the end
    std::string data;
    std::uint16_t close_code = 0;
  };
  struct Http {
    int status = 0;  ///< 0: no answer
    std::string head;
    std::string body;
  };

  /// TCP to 127.0.0.1. A small `receive_buffer` makes a client that stops reading felt soon.
  explicit TestClient(std::uint16_t port, int receive_buffer = 0);
  ~TestClient();
  TestClient(const TestClient&) = delete;
  TestClient& operator=(const TestClient&) = delete;

  [[nodiscard]] bool connected() const noexcept { return fd_ >= 0; }
  /// Upgrades and reads `hello`. False when the server does not agree.
  [[nodiscard]] bool handshake(std::string_view subprotocol = "sonorant.v1");
  [[nodiscard]] const std::string& hello() const noexcept { return hello_; }
  [[nodiscard]] const std::string& response_head() const noexcept { return head_; }

  void send_text(std::string_view text);
  void send_binary(std::string_view bytes);
  /// One frame with the given opcode and FIN bit, masked.
  void send_frame(int opcode, std::string_view payload, bool fin = true);
  void send_raw(std::string_view bytes);

  /// The next message; pings are answered on the way.
  [[nodiscard]] Message receive(std::chrono::milliseconds limit = std::chrono::seconds(10));
  /// The next text message, audio frames before it skipped (and counted in `audio`).
  [[nodiscard]] std::string receive_text(std::chrono::milliseconds limit = std::chrono::seconds(10));
  /// Reads until the server ends the connection; false when it does not in time.
  [[nodiscard]] bool wait_for_end(std::chrono::milliseconds limit);
  /// One request on a connection of its own.
  [[nodiscard]] static Http http(std::uint16_t port, std::string_view request);
  [[nodiscard]] static Http get(std::uint16_t port, std::string_view target);

  /// Ends the TCP connection, politely or with a reset.
  void drop(bool reset = false);

  std::vector<Message> audio;  ///< binary frames receive_text() passed by

 private:
  [[nodiscard]] bool fill(std::chrono::steady_clock::time_point until);

  int fd_ = -1;
  bool ended_ = false;
  std::string in_;
  std::string partial_;
  Message::Kind partial_kind_ = Message::Kind::none;
  std::string hello_;
  std::string head_;
};

}  // namespace tts
