// One bad listener, or two hundred at once: the others must not hear it.

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "src/core/log.h"
#include "streaming/context.h"
#include "streaming/server.h"
#include "tests/doctest.h"
#include "tests/streaming/fake_synthesizer.h"
#include "tests/streaming/test_client.h"

namespace tts {
namespace {

using namespace std::chrono_literals;
using Kind = TestClient::Message::Kind;

constexpr const char* kSentence = "This sentence is spoken to the end whatever the others do.";

std::string about(std::string_view type, std::string_view more = "") {
  return R"({"type":")" + std::string(type) + R"(","ctx":1)" + std::string(more) + "}";
}

/// A server over a fake synthesizer whose refusals say 250 ms.
struct Place {
  explicit Place(int max_utterances, std::chrono::milliseconds slow_client_timeout = 10s)
      : synthesizer(SynthesizerLimits{.max_utterances = max_utterances, .max_ahead = 2s}) {
    static_cast<void>(set_log_level("off"));
    synthesizer.set_retry_after(250);
    ServerConfig config;
    config.port = 0;
    config.send_buffer_bytes = 4096;
    config.limits.max_sessions = 1000;
    config.limits.slow_client_timeout = slow_client_timeout;
    server = std::make_unique<Server>(config, synthesizer);
    port = server->start().value();
  }

  FakeSynthesizer synthesizer;
  std::unique_ptr<Server> server;
  std::uint16_t port = 0;
};

constexpr std::string_view kOpus;
constexpr std::string_view kPcm = R"(,"format":{"codec":"pcm_s16le","rate":24000})";

/// Opens a context and has a long text spoken, at a chunk in 20 ms.
void speak_long(TestClient& client, int sentences, std::string_view format = kOpus) {
  std::string text;
  for (int i = 0; i < sentences; ++i) text += "A [slow] sentence that goes on for quite a while. ";
  client.send_text(about("open", format));
  client.send_text(about("text", R"(,"text":")" + text + "\""));
  client.send_text(about("end"));
}

/// Reads to the end of context 1: the final message, and the sequence numbers had no gap.
std::string listen(TestClient& client, std::size_t& packets) {
  while (true) {
    const TestClient::Message got = client.receive(20s);
    if (got.kind == Kind::binary) {
      const auto header =
          decode_header(std::span(reinterpret_cast<const std::uint8_t*>(got.data.data()), got.data.size()));
      REQUIRE(header);
      CHECK(header->seq == packets++);
      continue;
    }
    if (got.kind != Kind::text) return "(the socket ended)";
    const std::string type = json_at(got.data, "/type");
    if (type == "done" || type == "error" || type == "cancelled") return got.data;
  }
}

}  // namespace

TEST_SUITE("streaming/robustness") {
  TEST_CASE("an error says when to try again, where that makes sense") {
    CHECK(retry_after(Error{Errc::overloaded, "", 40}) == 40ms);
    CHECK(retry_after(Error{Errc::overloaded, ""}) == 1000ms);
    CHECK(retry_after(Error{Errc::rate_limited, "", 0}) == 1000ms);
    CHECK_FALSE(retry_after(Error{Errc::internal, "", 40}));
  }

  TEST_CASE("a burst of 200 opens: as many as there is room for play, the others are told when to come back") {
    constexpr int kRoom = 12;
    Place place(kRoom);
    std::vector<std::unique_ptr<TestClient>> clients;
    for (int i = 0; i < 200; ++i) {
      clients.push_back(std::make_unique<TestClient>(place.port));
      REQUIRE(clients.back()->handshake());
    }
    for (const auto& client : clients) client->send_text(about("open"));
    std::vector<TestClient*> playing;
    int refused = 0;
    for (const auto& client : clients) {
      const std::string answer = client->receive_text();
      if (json_at(answer, "/type") == "opened") {
        playing.push_back(client.get());
        continue;
      }
      CAPTURE(answer);
      CHECK(json_at(answer, "/code") == "overloaded");
      CHECK(json_at(answer, "/retry_after_ms") == "250");
      CHECK(json_at(answer, "/ctx") == "1");
      ++refused;
    }
    CHECK(playing.size() == kRoom);
    CHECK(refused == 200 - kRoom);
    for (TestClient* client : playing) {
      client->send_text(about("text", std::string(R"(,"text":")") + kSentence + "\""));
      client->send_text(about("end"));
    }
    for (TestClient* client : playing) {
      std::size_t packets = 0;
      CHECK(json_at(listen(*client, packets), "/type") == "done");
      CHECK(packets * 20 >= 50 * std::string_view(kSentence).size());
    }
    // The sockets of the refused are still good.
    TestClient* late = nullptr;
    for (const auto& client : clients) {
      if (std::find(playing.begin(), playing.end(), client.get()) == playing.end()) late = client.get();
    }
    REQUIRE(late != nullptr);
    late->send_text(about("open"));
    CHECK(json_at(late->receive_text(), "/type") == "opened");
    CHECK(place.server->metrics().errors[static_cast<std::size_t>(Errc::overloaded)] == refused);
  }

  TEST_CASE("listeners that are killed or hang take nothing from the others and give their place back") {
    Place place(8, 400ms);
    std::vector<std::unique_ptr<TestClient>> good;
    for (int i = 0; i < 3; ++i) {
      good.push_back(std::make_unique<TestClient>(place.port));
      REQUIRE(good.back()->handshake());
      speak_long(*good.back(), 1);
    }
    auto hung = std::make_unique<TestClient>(place.port, 4096);
    auto killed = std::make_unique<TestClient>(place.port);
    REQUIRE(hung->handshake());
    REQUIRE(killed->handshake());
    speak_long(*hung, 30, kPcm);  // 3.6 MB, more than the socket's buffers hold; nobody reads them
    speak_long(*killed, 30);
    REQUIRE(killed->receive().kind == Kind::text);  // opened
    REQUIRE(killed->receive().kind == Kind::binary);
    killed->drop(true);

    for (const auto& client : good) {
      std::size_t packets = 0;
      CHECK(json_at(listen(*client, packets), "/type") == "done");
      CHECK(packets > 0);
    }
    CHECK(place.synthesizer.wait_for_live(0, 10s));  // the hung one was given up
    CHECK(place.server->metrics().errors[static_cast<std::size_t>(Errc::slow_client)] == 1);
    CHECK(place.server->metrics().contexts_done == 3);
    TestClient next(place.port);
    REQUIRE(next.handshake());
    std::size_t packets = 0;
    speak_long(next, 1);
    CHECK(json_at(listen(next, packets), "/type") == "done");
  }
}
}  // namespace tts
