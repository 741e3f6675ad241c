#include "tests/streaming/test_client.h"

#include <algorithm>
#include <array>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <simdjson.h>

namespace tts {

using namespace std::chrono_literals;

std::string json_at(std::string_view json, std::string_view pointer) {
  simdjson::dom::parser parser;
  simdjson::dom::element root;
  if (parser.parse(json.data(), json.size()).get(root) != simdjson::SUCCESS) return "(invalid)";
  simdjson::dom::element element;
  if (root.at_pointer(pointer).get(element) != simdjson::SUCCESS) return "(missing)";
  if (std::string_view text; element.get(text) == simdjson::SUCCESS) return std::string(text);
  return simdjson::minify(element);
}

TestClient::TestClient(std::uint16_t port, int receive_buffer) {
  fd_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (receive_buffer > 0) ::setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
  const int on = 1;
  ::setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) drop();
}

TestClient::~TestClient() {
  drop();
}

void TestClient::drop(bool reset) {
  if (fd_ < 0) return;
  if (reset) {
    const linger now{1, 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &now, sizeof now);
  }
  ::close(fd_);
  fd_ = -1;
  ended_ = true;
}

void TestClient::send_raw(std::string_view bytes) {
  while (fd_ >= 0 && !bytes.empty()) {
    const ssize_t n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n <= 0) return;
    bytes.remove_prefix(static_cast<std::size_t>(n));
  }
}

bool TestClient::fill(std::chrono::steady_clock::time_point until) {
  if (fd_ < 0 || ended_) return false;
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(until - std::chrono::steady_clock::now());
  pollfd ready{fd_, POLLIN, 0};
  if (::poll(&ready, 1, static_cast<int>(std::max<std::int64_t>(left.count(), 0))) <= 0) return false;
  std::array<char, 16384> bytes{};
  const ssize_t n = ::recv(fd_, bytes.data(), bytes.size(), 0);
  if (n <= 0) {
    ended_ = true;
    return false;
  }
  in_.append(bytes.data(), static_cast<std::size_t>(n));
  return true;
}

bool TestClient::handshake(std::string_view subprotocol) {
  std::string request =
      "GET /v1/stream HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
      "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
      "Sec-WebSocket-Extensions: permessage-deflate\r\n";
  if (!subprotocol.empty()) request += "Sec-WebSocket-Protocol: " + std::string(subprotocol) + "\r\n";
  send_raw(request + "\r\n");
  const auto until = std::chrono::steady_clock::now() + 10s;
  std::size_t end = 0;
  while ((end = in_.find("\r\n\r\n")) == std::string::npos) {
    if (!fill(until)) return false;
  }
  head_ = in_.substr(0, end + 4);
  in_.erase(0, end + 4);
  if (!head_.starts_with("HTTP/1.1 101")) return false;
  hello_ = receive_text();
  return json_at(hello_, "/type") == "hello";
}

void TestClient::send_frame(int opcode, std::string_view payload, bool fin) {
  std::string frame;
  frame += static_cast<char>((fin ? 0x80 : 0) | opcode);
  if (payload.size() < 126) {
    frame += static_cast<char>(0x80 | payload.size());
  } else if (payload.size() < 65536) {
    frame += static_cast<char>(0x80 | 126);
    frame += static_cast<char>(payload.size() >> 8);
    frame += static_cast<char>(payload.size() & 0xFF);
  } else {
    frame += static_cast<char>(0x80 | 127);
    for (int shift = 56; shift >= 0; shift -= 8) frame += static_cast<char>((payload.size() >> shift) & 0xFF);
  }
  static constexpr std::array<char, 4> kMask{0x12, 0x34, 0x56, 0x78};
  frame.append(kMask.begin(), kMask.end());
  for (std::size_t i = 0; i < payload.size(); ++i) frame += static_cast<char>(payload[i] ^ kMask[i % 4]);
  send_raw(frame);
}

void TestClient::send_text(std::string_view text) {
  send_frame(1, text);
}
void TestClient::send_binary(std::string_view bytes) {
  send_frame(2, bytes);
}

TestClient::Message TestClient::receive(std::chrono::milliseconds limit) {
  const auto until = std::chrono::steady_clock::now() + limit;
  while (true) {
    std::size_t header = 2;
    std::size_t length = 0;
    bool whole = in_.size() >= header;
    if (whole) {
      length = static_cast<unsigned char>(in_[1]) & 0x7F;
      const std::size_t more = length == 126 ? 2 : length == 127 ? 8 : 0;
      header += more;
      whole = in_.size() >= header;
      if (whole && more > 0) {
        length = 0;
        for (std::size_t i = 0; i < more; ++i) length = (length << 8) | static_cast<unsigned char>(in_[2 + i]);
      }
      whole = whole && in_.size() >= header + length;
    }
    if (!whole) {
      if (!fill(until)) return {};
      continue;
    }
    const int opcode = in_[0] & 0x0F;
    const bool fin = (in_[0] & 0x80) != 0;
    std::string payload = in_.substr(header, length);
    in_.erase(0, header + length);
    if (opcode == 9) {
      send_frame(10, payload);
    } else if (opcode == 8) {
      Message message{Message::Kind::close, payload, 0};
      if (payload.size() >= 2) {
        message.close_code = static_cast<std::uint16_t>((static_cast<unsigned char>(payload[0]) << 8) |
                                                        static_cast<unsigned char>(payload[1]));
      }
      send_frame(8, payload);
      return message;
    } else if (opcode <= 2) {
      if (opcode != 0) {
        partial_.clear();
        partial_kind_ = opcode == 1 ? Message::Kind::text : Message::Kind::binary;
      }
      partial_ += payload;
      if (fin) return Message{partial_kind_, std::move(partial_), 0};
    }
  }
}

std::string TestClient::receive_text(std::chrono::milliseconds limit) {
  const auto until = std::chrono::steady_clock::now() + limit;
  while (true) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(until - std::chrono::steady_clock::now());
    Message message = receive(std::max<std::chrono::milliseconds>(left, 0ms));
    if (message.kind == Message::Kind::text) return message.data;
    if (message.kind != Message::Kind::binary) return {};
    audio.push_back(std::move(message));
  }
}

bool TestClient::wait_for_end(std::chrono::milliseconds limit) {
  const auto until = std::chrono::steady_clock::now() + limit;
  while (!ended_) {
    in_.clear();
    if (!fill(until) && !ended_) return false;
  }
  return true;
}

TestClient::Http TestClient::http(std::uint16_t port, std::string_view request) {
  TestClient client(port);
  client.send_raw(request);
  const auto until = std::chrono::steady_clock::now() + 10s;
  while (client.fill(until)) {
  }
  Http reply;
  const std::size_t end = client.in_.find("\r\n\r\n");
  if (end == std::string::npos || !client.in_.starts_with("HTTP/1.1 ")) return reply;
  reply.status = std::stoi(client.in_.substr(9, 3));
  reply.head = client.in_.substr(0, end + 4);
  reply.body = client.in_.substr(end + 4);
  return reply;
}

TestClient::Http TestClient::get(std::uint16_t port, std::string_view target) {
  return http(port, "GET " + std::string(target) + " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
}

}  // namespace tts
