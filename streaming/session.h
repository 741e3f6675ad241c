#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http/message.hpp>
#include <boost/beast/http/string_body.hpp>
#include <boost/beast/websocket/stream.hpp>

#include "streaming/context.h"
#include "streaming/server.h"

namespace tts {

/// What all sessions of a server share. Outlives them.
struct SessionShared {
  const ServerConfig& config;
  Synthesizer& synthesizer;
  ServerMetrics& metrics;
  std::atomic<bool> draining{false};
};

/// One WebSocket. Lives on the strand of its stream: a reader that handles client messages, a writer that is the only
/// one to write and encodes each audio frame just before it goes out, and a watch on writes that do not finish. So a
/// client that stops reading holds up its own contexts and nothing else.
class Session : public std::enable_shared_from_this<Session> {
 public:
  using Clock = std::chrono::steady_clock;

  Session(boost::beast::tcp_stream stream, SessionShared& shared);

  /// From the upgrade request to the end of the connection. On the strand.
  boost::asio::awaitable<void> run(boost::beast::http::request<boost::beast::http::string_body> upgrade);

  /// Any thread: opens no more contexts; closes when the last one has ended.
  void drain();
  /// Any thread: cuts the connection.
  void terminate();

 private:
  boost::asio::awaitable<void> read_loop();
  boost::asio::awaitable<void> write_loop();
  boost::asio::awaitable<void> watch_writes();
  boost::asio::awaitable<bool> write(bool binary, const std::string& data);

  void on_message(std::string_view json);
  void on(OpenMessage& message);
  void on(TextMessage& message);
  void on(FlushMessage& message);
  void on(EndMessage& message);
  void on(CancelMessage& message);
  void on(CreditMessage& message);
  void on(PingMessage& message);

  /// The context, or nullptr after answering `unknown_context`.
  [[nodiscard]] Context* find(std::uint32_t ctx);
  /// Sends `result`'s error, if any, which ends the context.
  void check(std::uint32_t ctx, const Result<void>& result);
  /// Sends an error; with `ctx` that context ends.
  void refuse(std::optional<std::uint32_t> ctx, const Error& error);
  void send(std::string json);
  void wake();
  void close_socket();

  boost::beast::websocket::stream<boost::beast::tcp_stream> ws_;
  SessionShared& shared_;
  std::string id_;
  MessageParser parser_;
  std::deque<std::string> control_;  ///< messages that belong to no audio, oldest first; the reader waits when full
  std::map<std::uint32_t, std::shared_ptr<Context>> contexts_;
  std::uint32_t last_served_ = 0;   ///< context of the latest frame: contexts take turns
  boost::asio::steady_timer wake_;  ///< the writer sleeps on it
  boost::asio::steady_timer room_;  ///< the reader sleeps on it while control_ is full
  boost::asio::steady_timer watch_;
  std::optional<Clock::time_point> write_began_;
  std::optional<Clock::time_point> slow_since_;  ///< told off as slow_client
  std::optional<Clock::time_point> close_began_;
  bool closing_ = false;  ///< the writer sends what control_ holds, then the close frame
  bool gone_ = false;     ///< the connection is over
};

}  // namespace tts
