#include "streaming/server.h"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/string.hpp>
#include <boost/beast/http/buffer_body.hpp>
#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/write.hpp>

#include "src/core/log.h"
#include "streaming/http.h"
#include "streaming/session.h"

namespace tts {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
namespace websocket = beast::websocket;
using tcp = asio::ip::tcp;
using namespace std::chrono_literals;

constexpr auto kUse = asio::as_tuple(asio::use_awaitable);
constexpr std::uint32_t kMaxHeaderBytes = 16 * 1024;
constexpr std::uint64_t kMaxBodyBytes = 64 * 1024;

Logger log() {
  static const Logger logger = get_logger("streaming");
  return logger;
}

/// Counts one while it lives.
class Counted {
 public:
  explicit Counted(std::atomic<std::int64_t>& count) : count_(&count), before_(count.fetch_add(1)) {}
  Counted(const Counted&) = delete;
  Counted& operator=(const Counted&) = delete;
  ~Counted() { count_->fetch_sub(1); }
  [[nodiscard]] std::int64_t before() const noexcept { return before_; }

 private:
  std::atomic<std::int64_t>* count_;
  std::int64_t before_;
};

std::string_view path_of(std::string_view target) {
  return target.substr(0, target.find('?'));
}

RequestOrigin sent_by(const http::fields& fields) {
  const auto field = [&](http::field name) { return std::string_view(fields[name].data(), fields[name].size()); };
  return {field(http::field::host), field(http::field::origin), field(http::field::authorization)};
}

}  // namespace

struct Server::Impl {
  Impl(ServerConfig given, Synthesizer& synthesizer)
      : config(std::move(given)), shared{config, synthesizer, metrics}, acceptor(asio::make_strand(io)) {}

  asio::awaitable<void> accept_connections();
  asio::awaitable<void> serve(tcp::socket socket);
  asio::awaitable<bool> reply(beast::tcp_stream& stream, const http::request<http::string_body>& request,
                              HttpReply content, bool keep_alive);
  using HeaderParser = http::request_parser<http::empty_body>;
  /// The answer to POST /v1/voices, whose header has been read. `whole`: its body has been read, too.
  asio::awaitable<HttpReply> take_voice(beast::tcp_stream& stream, beast::flat_buffer& buffer, HeaderParser& header,
                                        bool& whole);
  /// Reads and forgets what a refused client still sends, for a while, so that it comes to read the answer.
  asio::awaitable<void> drain(beast::tcp_stream& stream);
  asio::awaitable<void> run_session(beast::tcp_stream stream, http::request<http::string_body> upgrade);

  template <class Function>
  void for_each_session(Function function) {
    const std::lock_guard lock(sessions_mutex);
    for (const auto& weak : sessions) {
      if (const auto session = weak.lock()) function(*session);
    }
  }

  ServerConfig config;
  ServerMetrics metrics;
  SessionShared shared;
  std::mutex sessions_mutex;
  std::vector<std::weak_ptr<Session>> sessions;
  std::atomic<std::int64_t> live_uploads{0};
  asio::io_context io;
  asio::thread_pool workers{1};  // makes and removes voices, which takes seconds
  tcp::acceptor acceptor;
  std::vector<std::jthread> threads;  // last: they run what is above
  bool stopped = false;
};

asio::awaitable<void> Server::Impl::accept_connections() {
  while (acceptor.is_open()) {
    auto [error, socket] = co_await acceptor.async_accept(asio::make_strand(io), kUse);
    if (error == asio::error::operation_aborted || !acceptor.is_open()) break;
    if (error) {
      // Out of descriptors, most likely: wait until some are free.
      log()->error("accept failed cause={}", log_value(error.message()));
      asio::steady_timer pause(acceptor.get_executor(), 100ms);
      co_await pause.async_wait(kUse);
      continue;
    }
    if (metrics.live_connections >= config.max_connections) continue;  // closes it
    const auto executor = socket.get_executor();
    asio::co_spawn(executor, serve(std::move(socket)), [](const std::exception_ptr& failure) {
      if (!failure) return;
      try {
        std::rethrow_exception(failure);
      } catch (const std::exception& exception) {
        log()->error("connection failed cause={}", log_value(exception.what()));
      }
    });
  }
}

asio::awaitable<bool> Server::Impl::reply(beast::tcp_stream& stream, const http::request<http::string_body>& request,
                                          HttpReply content, bool keep_alive) {
  http::response<http::string_body> response(static_cast<http::status>(content.status), request.version());
  response.set(http::field::server, config.server_name);
  response.set("X-Content-Type-Options", "nosniff");
  if (!content.content_type.empty()) response.set(http::field::content_type, content.content_type);
  for (const auto& [name, value] : content.headers) response.set(name, value);
  response.keep_alive(keep_alive);
  stream.expires_after(config.limits.slow_client_timeout);
  if (request.method() == http::verb::head) {
    http::response<http::empty_body> head(std::move(response.base()));
    head.content_length(content.body.size());
    const auto [error, n] = co_await http::async_write(stream, head, kUse);
    co_return !error;
  }
  response.body() = std::move(content.body);
  response.prepare_payload();
  const auto [error, n] = co_await http::async_write(stream, response, kUse);
  co_return !error;
}

asio::awaitable<void> Server::Impl::run_session(beast::tcp_stream stream, http::request<http::string_body> upgrade) {
  auto session = std::make_shared<Session>(std::move(stream), shared);
  {
    const std::lock_guard lock(sessions_mutex);
    std::erase_if(sessions, [](const auto& weak) { return weak.expired(); });
    sessions.push_back(session);
  }
  co_await session->run(std::move(upgrade));
}

asio::awaitable<void> Server::Impl::drain(beast::tcp_stream& stream) {
  std::vector<char> block(16 * 1024);
  const auto until = std::chrono::steady_clock::now() + 2s;
  for (std::size_t left = config.uploads.max_bytes; left > 0 && std::chrono::steady_clock::now() < until;) {
    stream.expires_at(until);
    const auto [error, n] = co_await stream.async_read_some(asio::buffer(block), kUse);
    if (error) break;
    left -= std::min(left, n);
  }
}

asio::awaitable<HttpReply> Server::Impl::take_voice(beast::tcp_stream& stream, beast::flat_buffer& buffer,
                                                    HeaderParser& header, bool& whole) {
  const std::uint64_t max_bytes = config.uploads.max_bytes;
  const HttpReply too_long = http_error(413, to_string(Errc::text_too_long),
                                        "the request is longer than " + std::to_string(max_bytes) + " bytes");
  if (auto refused = refuse_change(config.uploads, sent_by(header.get()))) co_return std::move(*refused);
  if (header.content_length().value_or(0) > max_bytes) co_return too_long;
  MultipartLimits limits;
  limits.max_file_bytes = max_bytes;
  const std::string content_type(header.get()[http::field::content_type]);
  auto parts = MultipartParser::make(content_type, limits);
  if (!parts) co_return to_reply(Result<NewVoice>(parts.error()));
  const Counted upload(live_uploads);
  if (upload.before() >= config.uploads.max_at_once || shared.draining) {
    HttpReply busy = http_error(503, to_string(Errc::overloaded), "other voices are being made");
    busy.headers.emplace_back("Retry-After", "5");
    co_return busy;
  }
  stream.expires_after(config.upload_timeout);
  if (beast::iequals(header.get()[http::field::expect], "100-continue")) {
    static constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
    const auto [error, n] = co_await asio::async_write(stream, asio::buffer(kContinue), kUse);
    if (error) co_return http_error(400, to_string(Errc::bad_message), "the request was not continued");
  }
  http::request_parser<http::buffer_body> parser(std::move(header));
  parser.body_limit(max_bytes);
  std::vector<char> block(16 * 1024);
  while (!parser.is_done()) {
    parser.get().body().data = block.data();
    parser.get().body().size = block.size();
    auto [error, n] = co_await http::async_read(stream, buffer, parser, kUse);
    if (error == http::error::body_limit) co_return too_long;
    if (error && error != http::error::need_buffer) {
      co_return http_error(400, to_string(Errc::bad_message), "the request did not come whole");
    }
    const std::string_view bytes(block.data(), block.size() - parser.get().body().size);
    if (auto done = parts->push(bytes); !done) co_return to_reply(Result<NewVoice>(done.error()));
  }
  whole = true;
  stream.expires_never();
  auto form = parts->finish();
  if (!form) co_return to_reply(Result<NewVoice>(form.error()));
  const auto request = to_voice_request(std::move(*form));
  if (!request) co_return to_reply(Result<NewVoice>(request.error()));
  const auto made = co_await asio::co_spawn(
      workers, [&]() -> asio::awaitable<Result<NewVoice>> { co_return shared.synthesizer.add_voice(*request, {}); },
      asio::use_awaitable);
  if (made) {
    log()->info("voice made id={} existed={}", log_value(made->info.id), made->existed);
  } else {
    log()->warn("voice refused code={} detail={}", to_string(made.error().code), log_value(made.error().detail));
  }
  co_return to_reply(made);
}

asio::awaitable<void> Server::Impl::serve(tcp::socket socket) {
  const Counted connection(metrics.live_connections);
  boost::system::error_code ignored;
  socket.set_option(tcp::no_delay(true), ignored);
  socket.set_option(asio::socket_base::send_buffer_size(config.send_buffer_bytes), ignored);
  beast::tcp_stream stream(std::move(socket));
  beast::flat_buffer buffer;
  bool keep_alive = true;
  for (bool first = true; keep_alive; first = false) {
    HeaderParser header;
    header.header_limit(kMaxHeaderBytes);
    header.body_limit(boost::none);  // which one it is depends on the route
    stream.expires_after(first ? config.handshake_timeout : config.keep_alive_timeout);
    auto [error, n] = co_await http::async_read_header(stream, buffer, header, kUse);
    metrics.http_requests.fetch_add(1, std::memory_order_relaxed);
    if (!error && header.get().method() == http::verb::post && path_of(header.get().target()) == "/v1/voices") {
      http::request<http::string_body> head;  // what a reply looks at
      head.version(header.get().version());
      keep_alive = header.get().keep_alive() && !shared.draining;
      bool whole = false;
      HttpReply answer = co_await take_voice(stream, buffer, header, whole);
      keep_alive = keep_alive && whole;
      if (!co_await reply(stream, head, std::move(answer), keep_alive)) break;
      if (!whole) {
        stream.socket().shutdown(tcp::socket::shutdown_send, ignored);
        co_await drain(stream);
      }
      continue;
    }
    if (!error && header.content_length().value_or(0) > kMaxBodyBytes) error = http::error::body_limit;
    http::request_parser<http::string_body> parser(std::move(header));
    parser.body_limit(kMaxBodyBytes);
    if (!error) std::tie(error, n) = co_await http::async_read(stream, buffer, parser, kUse);
    if (error) {
      // A malformed request gets an answer; a connection that ended or timed out cannot.
      HttpReply refusal;
      if (error == http::error::header_limit)
        refusal = http_error(431, "bad_message", "the request header is too long");
      else if (error == http::error::body_limit)
        refusal = http_error(413, "bad_message", "the request body is too long");
      else if (error.category() == make_error_code(http::error::bad_method).category() &&
               error != http::error::end_of_stream && error != http::error::partial_message) {
        refusal = http_error(400, "bad_message", "this is not HTTP");
      } else {
        break;
      }
      co_await reply(stream, http::request<http::string_body>(http::verb::get, "/", 11), std::move(refusal), false);
      break;
    }
    http::request<http::string_body> request = parser.release();
    const std::string target(request.target());
    const std::string path(path_of(target));
    if (path == "/v1/stream" && websocket::is_upgrade(request)) {
      const Counted session(metrics.live_sessions);
      const bool full = session.before() >= config.limits.max_sessions;
      if (!full && !shared.draining) {
        co_await run_session(std::move(stream), std::move(request));
        co_return;
      }
      metrics.count_error(Errc::overloaded);
      HttpReply refusal =
          http_error(503, "overloaded", full ? "all sessions are taken" : "the server is shutting down");
      refusal.headers.emplace_back("Retry-After", "1");
      co_await reply(stream, request, std::move(refusal), false);
      break;
    }
    keep_alive = request.keep_alive() && !shared.draining;
    if (const auto id = voice_of_path(path); id && request.method() == http::verb::delete_) {
      auto refusal = refuse_change(config.uploads, sent_by(request));
      if (!refusal) {
        const Result<void> removed = co_await asio::co_spawn(
            workers, [&]() -> asio::awaitable<Result<void>> { co_return shared.synthesizer.remove_voice(*id); },
            asio::use_awaitable);
        refusal = to_reply(removed);
      }
      if (!co_await reply(stream, request, std::move(*refusal), keep_alive)) break;
      continue;
    }
    const HttpBackend backend{config.web_dir, shared.synthesizer, metrics, shared.draining};
    const HttpRequest asked{std::string(request.method_string()), target,
                            std::string(request[http::field::if_none_match])};
    if (!co_await reply(stream, request, handle_http(asked, backend), keep_alive)) break;
  }
  stream.socket().shutdown(tcp::socket::shutdown_send, ignored);
}

Server::Server(ServerConfig config, Synthesizer& synthesizer)
    : impl_(std::make_unique<Impl>(std::move(config), synthesizer)) {}

Server::~Server() {
  drain_and_stop(0ms);
}

const ServerMetrics& Server::metrics() const noexcept {
  return impl_->metrics;
}

Result<std::uint16_t> Server::start() {
  Impl& self = *impl_;
  const std::string where = self.config.host + ":" + std::to_string(self.config.port);
  boost::system::error_code error;
  tcp::resolver resolver(self.io);
  const auto found = resolver.resolve(self.config.host, std::to_string(self.config.port),
                                      tcp::resolver::passive | tcp::resolver::numeric_service, error);
  if (error || found.empty()) {
    return Error{Errc::internal, "cannot listen on " + where + ": " + (error ? error.message() : "no such address")};
  }
  const tcp::endpoint endpoint = found.begin()->endpoint();
  self.acceptor.open(endpoint.protocol(), error);
  if (!error) self.acceptor.set_option(asio::socket_base::reuse_address(true), error);
  if (!error) self.acceptor.bind(endpoint, error);
  if (!error) self.acceptor.listen(asio::socket_base::max_listen_connections, error);
  if (error) {
    boost::system::error_code ignored;
    self.acceptor.close(ignored);
    return Error{Errc::internal, "cannot listen on " + where + ": " + error.message()};
  }
  const std::uint16_t port = self.acceptor.local_endpoint().port();
  asio::co_spawn(self.acceptor.get_executor(), self.accept_connections(), [](const std::exception_ptr& failure) {
    if (failure) log()->error("the acceptor failed");
  });
  for (int i = 0; i < std::max(self.config.io_threads, 1); ++i) {
    self.threads.emplace_back([&self] {
      while (true) {
        try {
          self.io.run();
          return;
        } catch (const std::exception& exception) {
          log()->error("handler failed cause={}", log_value(exception.what()));
        }
      }
    });
  }
  log()->info("listening address={} port={}", log_value(self.config.host), port);
  return port;
}

void Server::drain_and_stop(std::chrono::milliseconds grace) {
  Impl& self = *impl_;
  if (std::exchange(self.stopped, true)) return;
  self.shared.draining = true;
  if (!self.threads.empty()) {
    const auto wait_for_sessions = [&self](std::chrono::milliseconds limit) {
      const auto until = std::chrono::steady_clock::now() + limit;
      while (self.metrics.live_sessions > 0 && std::chrono::steady_clock::now() < until) {
        std::this_thread::sleep_for(5ms);
      }
    };
    if (grace > 0ms) {
      self.for_each_session([](Session& session) { session.drain(); });
      wait_for_sessions(grace);
    }
    self.for_each_session([](Session& session) { session.terminate(); });
    wait_for_sessions(1000ms);
    self.io.stop();
    self.threads.clear();
    self.workers.stop();
    self.workers.join();  // what is being made is made
    boost::system::error_code ignored;
    self.acceptor.close(ignored);  // nobody else runs any more
    log()->info("stopped");
  }
}

}  // namespace tts
