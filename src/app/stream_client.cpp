#include "src/app/stream_client.h"

#include <utility>

#include <simdjson.h>
#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/websocket.hpp>

namespace tts {

namespace asio = boost::asio;
namespace beast = boost::beast;

struct StreamClient::Impl {
  asio::io_context io;
  beast::websocket::stream<beast::tcp_stream> socket{io};
  beast::flat_buffer buffer;
  std::chrono::milliseconds timeout{};

  // Runs one asynchronous operation to its end; `start` gets the handler (error_code, anything...).
  template <class Start>
  Result<void> run(const char* what, Start start) {
    boost::system::error_code result;
    beast::get_lowest_layer(socket).expires_after(timeout);
    start([&result](boost::system::error_code error, auto&&...) { result = error; });
    io.restart();
    io.run();
    if (!result) return {};
    if (result == beast::error::timeout) return Error{Errc::timeout, std::string(what) + ": no answer in time"};
    if (result == beast::websocket::error::closed) return Error{Errc::cancelled, std::string(what) + ": socket closed"};
    return Error{Errc::internal, std::string(what) + ": " + result.message()};
  }
};

StreamClient::StreamClient(std::unique_ptr<Impl> impl) noexcept : impl_(std::move(impl)) {}
StreamClient::~StreamClient() = default;
StreamClient::StreamClient(StreamClient&&) noexcept = default;
StreamClient& StreamClient::operator=(StreamClient&&) noexcept = default;

Result<StreamClient> StreamClient::connect(const std::string& host, int port, std::chrono::milliseconds timeout) {
  auto impl = std::make_unique<Impl>();
  impl->timeout = timeout;
  boost::system::error_code error;
  asio::ip::tcp::resolver resolver(impl->io);
  const auto found = resolver.resolve(host, std::to_string(port), error);
  if (error) return Error{Errc::internal, host + ": " + error.message()};
  auto& stream = beast::get_lowest_layer(impl->socket);
  if (auto done = impl->run("connect", [&](auto handler) { stream.async_connect(found, std::move(handler)); }); !done) {
    return done.error();
  }
  stream.socket().set_option(asio::ip::tcp::no_delay(true));
  const std::string authority = host + ":" + std::to_string(port);
  if (auto done =
          impl->run("handshake",
                    [&](auto handler) { impl->socket.async_handshake(authority, "/v1/stream", std::move(handler)); });
      !done) {
    return done.error();
  }
  return StreamClient(std::move(impl));
}

Result<void> StreamClient::send(std::string_view json) {
  impl_->socket.text(true);
  return impl_->run("send", [&](auto handler) {
    impl_->socket.async_write(asio::buffer(json.data(), json.size()), std::move(handler));
  });
}

Result<StreamClient::Frame> StreamClient::receive() {
  impl_->buffer.clear();
  if (auto done =
          impl_->run("receive", [&](auto handler) { impl_->socket.async_read(impl_->buffer, std::move(handler)); });
      !done) {
    return done.error();
  }
  const auto* bytes = static_cast<const std::uint8_t*>(impl_->buffer.data().data());
  return Frame{impl_->socket.got_binary(), {bytes, bytes + impl_->buffer.size()}};
}

void StreamClient::close() {
  (void)impl_->run("close", [&](auto handler) {
    impl_->socket.async_close(beast::websocket::close_code::normal, std::move(handler));
  });
}

std::string json_field(std::string_view json, const char* name) {
  simdjson::dom::parser parser;
  std::string_view value;
  if (parser.parse(json.data(), json.size())[name].get_string().get(value) != simdjson::SUCCESS) return {};
  return std::string(value);
}

}  // namespace tts
