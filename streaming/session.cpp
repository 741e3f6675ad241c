#include "streaming/session.h"

#include <algorithm>
#include <array>
#include <random>
#include <utility>
#include <variant>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/field.hpp>
#include <boost/beast/websocket/rfc6455.hpp>

#include "src/core/log.h"

namespace tts {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
namespace websocket = beast::websocket;
using namespace asio::experimental::awaitable_operators;
using namespace std::chrono_literals;

constexpr auto kUse = asio::as_tuple(asio::use_awaitable);
constexpr std::size_t kReadBytes = 4096;
constexpr std::size_t kMaxControl = 64;                 // messages; above, the session reads no further
constexpr std::uint64_t kMaxDiscardedBytes = 16 << 20;  // of one oversized message, before the socket is closed
constexpr auto kCloseGrace = 2000ms;                    // for the client's side of the closing handshake
constexpr auto kSlowGrace = 5000ms;                     // for the `slow_client` error and the close frame

Logger log() {
  static const Logger logger = get_logger("streaming");
  return logger;
}

std::string random_id() {
  static constexpr char kHex[] = "0123456789abcdef";
  std::random_device device;
  std::string id;
  for (int i = 0; i < 4; ++i) {
    for (std::uint32_t bits = device(), n = 0; n < 4; ++n, bits >>= 8) {
      id += kHex[(bits >> 4) & 0xF];
      id += kHex[bits & 0xF];
    }
  }
  return id;
}

/// True when the comma-separated list of the request names our subprotocol.
bool offers_subprotocol(std::string_view list) {
  while (!list.empty()) {
    const std::size_t comma = std::min(list.find(','), list.size());
    std::string_view item = list.substr(0, comma);
    while (!item.empty() && (item.front() == ' ' || item.front() == '\t')) item.remove_prefix(1);
    while (!item.empty() && (item.back() == ' ' || item.back() == '\t')) item.remove_suffix(1);
    if (item == kSubprotocol) return true;
    list.remove_prefix(std::min(comma + 1, list.size()));
  }
  return false;
}

}  // namespace

Session::Session(beast::tcp_stream stream, SessionShared& shared)
    : ws_(std::move(stream)),
      shared_(shared),
      id_(random_id()),
      wake_(ws_.get_executor()),
      room_(ws_.get_executor()),
      watch_(ws_.get_executor()) {}

asio::awaitable<void> Session::run(http::request<http::string_body> upgrade) {
  const ServerConfig& config = shared_.config;
  beast::get_lowest_layer(ws_).expires_never();  // the WebSocket has timers of its own
  ws_.set_option(websocket::stream_base::timeout{config.handshake_timeout, config.limits.idle_timeout, true});
  const bool subprotocol = offers_subprotocol(upgrade[http::field::sec_websocket_protocol]);
  ws_.set_option(websocket::stream_base::decorator([&config, subprotocol](websocket::response_type& response) {
    response.set(http::field::server, config.server_name);
    if (subprotocol) response.set(http::field::sec_websocket_protocol, std::string(kSubprotocol));
  }));
  ws_.auto_fragment(false);
  ws_.read_message_max(kMaxDiscardedBytes);
  if (const auto [error] = co_await ws_.async_accept(upgrade, kUse); error) co_return;

  shared_.metrics.sessions.fetch_add(1);
  log()->debug("session begins session={}", id_);
  send(to_json(HelloMessage{id_, config.server_name, config.limits, shared_.synthesizer.voices()}));
  co_await (read_loop() && write_loop() && watch_writes());
  log()->debug("session ends session={}", id_);
}

// --- reading ---

asio::awaitable<void> Session::read_loop() {
  const std::size_t max_bytes = shared_.config.limits.max_message_bytes;
  beast::flat_buffer buffer;
  bool oversized = false;
  while (!gone_) {
    const auto [error, n] = co_await ws_.async_read_some(buffer, kReadBytes, kUse);
    if (error) break;
    if (buffer.size() > max_bytes) {
      oversized = true;
      buffer.consume(buffer.size());
    }
    if (!ws_.is_message_done()) continue;
    if (closing_) {
      // The client will learn why; what it says meanwhile is too late.
    } else if (oversized) {
      refuse(std::nullopt,
             Error{Errc::bad_message, "a message is longer than " + std::to_string(max_bytes) + " bytes"});
    } else if (!ws_.got_text()) {
      refuse(std::nullopt, Error{Errc::bad_message, "binary frames are not taken from clients"});
    } else {
      on_message(std::string_view(static_cast<const char*>(buffer.cdata().data()), buffer.size()));
    }
    buffer.consume(buffer.size());
    oversized = false;
    while (control_.size() >= kMaxControl && !gone_) {
      room_.expires_at(Clock::time_point::max());
      co_await room_.async_wait(kUse);
    }
  }
  gone_ = true;
  contexts_.clear();  // cancels: nobody listens any more
  wake();
  watch_.cancel();
  if (!closing_) close_socket();  // otherwise the writer is in the closing handshake and ends by itself
}

void Session::on_message(std::string_view json) {
  auto parsed = parser_.parse(json);
  if (auto* refused = std::get_if<RefusedMessage>(&parsed)) {
    refuse(refused->ctx, refused->error);
    return;
  }
  std::visit([this](auto& message) { on(message); }, std::get<ClientMessage>(parsed));
  wake();
}

void Session::on(OpenMessage& message) {
  const ProtocolLimits& limits = shared_.config.limits;
  const std::uint32_t ctx = message.ctx;
  if (contexts_.contains(ctx)) {
    return refuse(ctx,
                  Error{Errc::context_exists, "context " + std::to_string(ctx) + " was open already; it ends now"});
  }
  if (contexts_.size() >= static_cast<std::size_t>(limits.max_contexts)) {
    return refuse(ctx, Error{Errc::too_many_contexts,
                             "at most " + std::to_string(limits.max_contexts) + " open at once on one socket"});
  }
  if (shared_.draining) return refuse(ctx, Error{Errc::overloaded, "the server is shutting down"});
  auto wake_session = [weak = weak_from_this(), executor = ws_.get_executor()] {
    asio::post(executor, [weak] {
      if (const auto session = weak.lock()) session->wake();
    });
  };
  auto context = Context::open(message, shared_.synthesizer, limits, shared_.config.feed, shared_.metrics,
                               std::move(wake_session), Clock::now());
  if (!context) return refuse(ctx, context.error());
  send(to_json((*context)->opened()));
  contexts_.emplace(ctx, std::move(*context));
}

void Session::on(TextMessage& message) {
  if (Context* context = find(message.ctx)) check(message.ctx, context->text(message.text, Clock::now()));
}

void Session::on(FlushMessage& message) {
  if (Context* context = find(message.ctx)) {
    check(message.ctx, context->flush(std::move(message.id), Clock::now()));
  }
}

void Session::on(EndMessage& message) {
  if (Context* context = find(message.ctx)) check(message.ctx, context->end(Clock::now()));
}

void Session::on(CancelMessage& message) {
  Context* context = find(message.ctx);
  if (context == nullptr) return;
  const CancelledMessage cancelled = context->cancel(message.played_ms, Clock::now());
  contexts_.erase(message.ctx);
  shared_.metrics.contexts_cancelled.fetch_add(1);
  log()->info("context cancelled session={} ctx={} generated_ms={:.0f} played_ms={:.0f}", id_, message.ctx,
              cancelled.generated_ms, cancelled.played_ms);
  send(to_json(cancelled));
}

void Session::on(CreditMessage& message) {
  if (Context* context = find(message.ctx)) context->credit(message.ahead, Clock::now());
}

void Session::on(PingMessage& message) {
  send(to_json(PongMessage{std::move(message.id)}));
}

Context* Session::find(std::uint32_t ctx) {
  const auto found = contexts_.find(ctx);
  if (found != contexts_.end()) return found->second.get();
  refuse(ctx, Error{Errc::unknown_context, "context " + std::to_string(ctx) + " is not open"});
  return nullptr;
}

void Session::check(std::uint32_t ctx, const Result<void>& result) {
  if (!result) refuse(ctx, result.error());
}

void Session::refuse(std::optional<std::uint32_t> ctx, const Error& error) {
  if (ctx) contexts_.erase(*ctx);
  shared_.metrics.count_error(error.code);
  log()->warn("refused session={} ctx={} code={} detail={}", id_, ctx ? std::to_string(*ctx) : "none",
              to_string(error.code), log_value(error.detail));
  send(to_json(ErrorMessage{ctx, error, retry_after(error)}));
}

// --- writing ---

void Session::send(std::string json) {
  control_.push_back(std::move(json));
  wake();
}

void Session::wake() {
  wake_.cancel();
}

asio::awaitable<bool> Session::write(bool binary, const std::string& data) {
  ws_.binary(binary);
  write_began_ = Clock::now();
  const auto [error, n] = co_await ws_.async_write(asio::buffer(data), kUse);
  write_began_.reset();
  co_return !error;
}

asio::awaitable<void> Session::write_loop() {
  bool alive = true;
  while (alive && !gone_) {
    if (!control_.empty()) {
      const std::string message = std::move(control_.front());
      control_.pop_front();
      room_.cancel();
      alive = co_await write(false, message);
      continue;
    }
    if (closing_) break;

    const Clock::time_point now = Clock::now();
    std::optional<std::pair<std::uint32_t, Error>> overdue;
    for (const auto& [ctx, context] : contexts_) {
      if (const auto ticked = context->tick(now); !ticked) {
        overdue.emplace(ctx, ticked.error());
        break;
      }
    }
    if (overdue) {
      refuse(overdue->first, overdue->second);
      continue;
    }

    // Contexts take turns, one frame each.
    std::shared_ptr<Context> context;
    std::optional<Context::Outgoing> frame;
    auto turn = contexts_.upper_bound(last_served_);
    for (std::size_t i = 0; i < contexts_.size() && !frame; ++i, ++turn) {
      if (turn == contexts_.end()) turn = contexts_.begin();
      frame = turn->second->next(now);
      if (frame) context = turn->second;
    }
    if (frame) {
      last_served_ = context->id();
      if (frame->final) {
        // Before the write: the client may open the next context as soon as it has read this frame.
        contexts_.erase(context->id());
        if (frame->error) {
          shared_.metrics.count_error(*frame->error);
          log()->warn("context failed session={} ctx={} code={}", id_, context->id(), to_string(*frame->error));
        } else {
          shared_.metrics.contexts_done.fetch_add(1);
          log()->info("context done session={} ctx={} message={}", id_, context->id(), frame->data);
        }
      }
      // Not owned during the write: a context that ends meanwhile must let go of its utterance at once.
      const std::weak_ptr<Context> sender = std::exchange(context, nullptr);
      alive = co_await write(frame->binary, frame->data);
      if (const auto still_there = sender.lock()) still_there->written(*frame, Clock::now());
      continue;
    }
    if (shared_.draining && contexts_.empty()) {
      closing_ = true;
      break;
    }

    Clock::time_point until = Clock::time_point::max();
    for (const auto& [ctx, waiting] : contexts_) until = std::min(until, waiting->wake_at(now));
    wake_.expires_at(until);
    co_await wake_.async_wait(kUse);
  }

  if (alive && !gone_) {
    closing_ = true;
    const auto code = slow_since_ ? websocket::close_code::policy_error : websocket::close_code::going_away;
    close_began_ = Clock::now();
    co_await ws_.async_close(code, kUse);
  }
  close_socket();  // ends the reader, if it still waits
}

asio::awaitable<void> Session::watch_writes() {
  const auto limit = shared_.config.limits.slow_client_timeout;
  const auto grace = std::min<std::chrono::milliseconds>(limit, kSlowGrace);
  while (!gone_) {
    watch_.expires_after(std::clamp<std::chrono::milliseconds>(limit / 4, 10ms, 250ms));
    co_await watch_.async_wait(kUse);
    const Clock::time_point now = Clock::now();
    if (!slow_since_ && write_began_ && now - *write_began_ >= limit) {
      slow_since_ = now;
      closing_ = true;
      contexts_.clear();  // stops its generation
      control_.clear();
      refuse(std::nullopt, Error{Errc::slow_client,
                                 "nothing was read for " + std::to_string(limit.count()) + " ms; the socket closes"});
    } else if ((slow_since_ && now - *slow_since_ >= grace) || (close_began_ && now - *close_began_ >= kCloseGrace)) {
      close_socket();
    }
  }
}

void Session::close_socket() {
  contexts_.clear();
  beast::get_lowest_layer(ws_).close();
}

void Session::drain() {
  asio::post(ws_.get_executor(), [self = shared_from_this()] { self->wake(); });
}

void Session::terminate() {
  asio::post(ws_.get_executor(), [self = shared_from_this()] { self->close_socket(); });
}

}  // namespace tts
