#include "streaming/server.h"

#include <cmath>
#include <filesystem>
#include <fstream>
#include <functional>
#include <future>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <unistd.h>

#include "src/core/json_string.h"
#include "src/core/log.h"
#include "src/core/utf8.h"
#include "tests/doctest.h"
#include "tests/streaming/fake_synthesizer.h"
#include "tests/streaming/test_client.h"

namespace tts {
namespace {

using namespace std::chrono_literals;
using Kind = TestClient::Message::Kind;

/// A server over a fake synthesizer on a free port.
struct Fixture {
  explicit Fixture(const std::function<void(ServerConfig&)>& change = {}, SynthesizerLimits limits = {},
                   bool marks = true)
      : synthesizer(limits, marks) {
    static_cast<void>(set_log_level("off"));
    ServerConfig config;
    config.port = 0;
    config.io_threads = 2;
    if (change) change(config);
    server = std::make_unique<Server>(config, synthesizer);
    const auto started = server->start();
    REQUIRE(started);
    port = *started;
  }

  FakeSynthesizer synthesizer;
  std::unique_ptr<Server> server;
  std::uint16_t port = 0;
};

std::string open_message(std::uint32_t ctx, std::string_view more = "") {
  return R"({"type":"open","ctx":)" + std::to_string(ctx) + std::string(more) + "}";
}
std::string text_message(std::uint32_t ctx, std::string_view text) {
  return R"({"type":"text","ctx":)" + std::to_string(ctx) + R"(,"text":)" + json_string(text) + "}";
}
std::string message(std::string_view type, std::uint32_t ctx, std::string_view more = "") {
  return R"({"type":")" + std::string(type) + R"(","ctx":)" + std::to_string(ctx) + std::string(more) + "}";
}

constexpr std::string_view kPcm = R"(,"format":{"codec":"pcm_s16le","rate":24000})";

/// What a whole context brought, checked for order as it came.
struct Utterance_ {
  std::vector<std::string> texts;  ///< messages, in order
  std::vector<AudioHeader> frames;
  std::size_t payload_bytes = 0;
  std::string last;  ///< done, cancelled or error
};

/// Reads `ctx` to its end.
Utterance_ finish(TestClient& client, std::uint32_t ctx, std::chrono::milliseconds limit = 20s) {
  Utterance_ out;
  const auto until = std::chrono::steady_clock::now() + limit;
  while (std::chrono::steady_clock::now() < until) {
    TestClient::Message got = client.receive(1s);
    if (got.kind == Kind::close) break;
    if (got.kind == Kind::binary) {
      const auto header =
          decode_header(std::span(reinterpret_cast<const std::uint8_t*>(got.data.data()), got.data.size()));
      REQUIRE(header);
      CHECK(header->ctx == ctx);
      CHECK(header->seq == out.frames.size());
      CHECK(((header->flags & kFrameFirst) != 0) == out.frames.empty());
      if (!out.frames.empty()) CHECK((out.frames.back().flags & kFrameLast) == 0);
      out.frames.push_back(*header);
      out.payload_bytes += got.data.size() - kAudioHeaderBytes;
    } else if (got.kind == Kind::text) {
      out.texts.push_back(got.data);
      const std::string type = json_at(got.data, "/type");
      if (type == "done" || type == "cancelled" || type == "error") {
        out.last = got.data;
        return out;
      }
    }
  }
  return out;
}

/// A normal utterance, which must work whatever happened before.
void check_normal(TestClient& client, std::uint32_t ctx) {
  const std::string text = "Everything is in order again.";
  client.send_text(open_message(ctx));
  client.send_text(text_message(ctx, text));
  client.send_text(message("end", ctx));
  const Utterance_ got = finish(client, ctx);
  REQUIRE(got.texts.size() >= 2);
  CHECK(json_at(got.texts[0], "/type") == "opened");
  CHECK(json_at(got.last, "/type") == "done");
  const double want_ms = 50.0 * static_cast<double>(text.size());
  CHECK(std::stod(json_at(got.last, "/audio_ms")) == doctest::Approx(want_ms));
  REQUIRE_FALSE(got.frames.empty());
  CHECK((got.frames.back().flags & kFrameLast) != 0);
  CHECK(got.frames.size() * 20 >= want_ms);
}

void check_normal_on_new_socket(std::uint16_t port) {
  TestClient client(port);
  REQUIRE(client.handshake());
  check_normal(client, 1);
}

}  // namespace

TEST_SUITE("streaming/server") {
  TEST_CASE("hello, open, text, flush, end, done") {
    Fixture fixture;
    TestClient client(fixture.port);
    REQUIRE(client.handshake());
    CHECK(client.response_head().find("Sec-WebSocket-Protocol: sonorant.v1") != std::string::npos);
    CHECK(client.response_head().find("permessage-deflate") == std::string::npos);
    CHECK(json_at(client.hello(), "/protocol") == "1");
    CHECK(json_at(client.hello(), "/voices/0/id") == "starter");

    client.send_text(open_message(7, R"(,"marks":true)"));
    const std::string opened = client.receive_text();
    CHECK(opened == R"({"type":"opened","ctx":7,"rate":48000,"channels":1,"frame_samples":960,"pre_skip":312})");
    client.send_text(text_message(7, "Hello th"));
    client.send_text(text_message(7, "ere wor"));
    client.send_text(text_message(7, "ld"));
    client.send_text(message("flush", 7, R"(,"id":"f1")"));
    std::string marks = client.receive_text();
    REQUIRE(json_at(marks, "/type") == "marks");
    CHECK(json_at(marks, "/items/1/text") == "there");
    CHECK(json_at(marks, "/items/1/in_start") == "6");
    CHECK(json_at(marks, "/items/1/in_end") == "11");
    CHECK(json_at(marks, "/items/1/t0_ms") == "300");
    CHECK(json_at(marks, "/items/1/t1_ms") == "550");
    const std::string flushed = client.receive_text();
    CHECK(json_at(flushed, "/type") == "flushed");
    CHECK(json_at(flushed, "/id") == "f1");
    CHECK(json_at(flushed, "/t_ms") == "850");
    CHECK(client.audio.size() * 20 >= 850 + 6);  // everything up to the flush can be heard

    client.send_text(text_message(7, " and goodbye now."));
    client.send_text(message("end", 7));
    client.send_text(R"({"type":"ping","id":4})");
    // The answer to the ping and the marks come from two sides; either may be first.
    const std::string pong = R"({"type":"pong","id":4})";
    std::string one = client.receive_text(), other = client.receive_text();
    if (one != pong) std::swap(one, other);
    CHECK(one == pong);
    marks = other;
    CHECK(json_at(marks, "/items/0/text") == "and");
    CHECK(json_at(marks, "/items/0/in_start") == "18");
    CHECK(std::stod(json_at(marks, "/items/0/t0_ms")) >= 850);
    const std::string done = client.receive_text();
    CHECK(json_at(done, "/type") == "done");
    CHECK(json_at(done, "/ctx") == "7");
    CHECK(json_at(done, "/metrics/tokens") == "33");
    CHECK(std::stod(json_at(done, "/audio_ms")) >= 850 + 800);
    for (std::size_t i = 0; i < client.audio.size(); ++i) {
      const std::string& data = client.audio[i].data;
      const auto header = decode_header(std::span(reinterpret_cast<const std::uint8_t*>(data.data()), data.size()));
      REQUIRE(header);
      CHECK(header->seq == i);
      CHECK(header->position == i * 960);
      CHECK(((header->flags & kFrameLast) != 0) == (i + 1 == client.audio.size()));
    }
    CHECK(client.receive(50ms).kind == Kind::none);  // nothing after done
    check_normal(client, 7);                         // the number is free again
  }

  TEST_CASE("a client without the subprotocol is served too") {
    Fixture fixture;
    TestClient client(fixture.port);
    REQUIRE(client.handshake(""));
    CHECK(client.response_head().find("Sec-WebSocket-Protocol") == std::string::npos);
    check_normal(client, 1);
  }

  TEST_CASE("an empty context is done without audio; text without letters is answered") {
    Fixture fixture;
    TestClient client(fixture.port);
    REQUIRE(client.handshake());
    client.send_text(open_message(1));
    client.send_text(message("flush", 1));
    client.send_text(message("end", 1));
    const Utterance_ got = finish(client, 1);
    REQUIRE(got.texts.size() == 3);
    CHECK(json_at(got.texts[1], "/type") == "flushed");
    CHECK(json_at(got.last, "/audio_ms") == "0");
    CHECK(got.frames.empty());
    client.send_text(open_message(2));
    client.send_text(text_message(2, "  \\n "));
    client.send_text(message("end", 2));
    CHECK(json_at(finish(client, 2).last, "/type") == "done");
    check_normal(client, 3);
  }

  TEST_CASE("a character split between two messages arrives whole") {
    Fixture fixture;
    TestClient client(fixture.port);
    REQUIRE(client.handshake());
    client.send_text(open_message(1));
    client.send_text(R"({"type":"text","ctx":1,"text":"Smile \ud83d"})");
    client.send_text(R"({"type":"text","ctx":1,"text":"\ude00 please"})");
    CHECK(json_at(client.receive_text(), "/type") == "opened");
    client.send_text(message("cancel", 1, R"(,"played_ms":0)"));
    const std::string cancelled = client.receive_text();
    CHECK(json_at(cancelled, "/remaining_text") == "Smile \U0001F600 please");
    check_normal(client, 1);
  }

  TEST_CASE("PCM of every rate has the announced length") {
    Fixture fixture;
    TestClient client(fixture.port);
    REQUIRE(client.handshake());
    std::uint32_t ctx = 0;
    for (const int rate : kAudioRatesHz) {
      ++ctx;
      client.send_text(open_message(ctx, R"(,"format":{"codec":"pcm_s16le","rate":)" + std::to_string(rate) + "}"));
      client.send_text(text_message(ctx, "One two three four five."));
      client.send_text(message("end", ctx));
      const Utterance_ got = finish(client, ctx);
      CHECK(json_at(got.last, "/audio_ms") == "1200");
      CHECK(got.payload_bytes == got.frames.size() * static_cast<std::size_t>(rate / 50) * 2);
      CHECK(got.frames.size() >= 60);
      CHECK(got.frames.size() <= 61);
    }
  }

  TEST_CASE("cancel stops a context at once and says what was heard") {
    for (const bool marks : {true, false}) {
      CAPTURE(marks);
      Fixture fixture({}, {}, marks);
      TestClient client(fixture.port);
      REQUIRE(client.handshake());
      const std::string text = "One two three four five six seven eight. And then [slow] so very much more to say.";
      client.send_text(open_message(1));
      client.send_text(text_message(1, text));
      client.send_text(message("flush", 1));
      while (client.audio.size() < 120) {  // 2.4 s of audio: past the first sentence
        auto got = client.receive();
        REQUIRE(got.kind != Kind::none);
        if (got.kind == Kind::binary) client.audio.push_back(std::move(got));
      }
      client.send_text(message("cancel", 1, R"(,"played_ms":700)"));
      const std::string cancelled = client.receive_text();
      CHECK(json_at(cancelled, "/type") == "cancelled");
      CHECK(json_at(cancelled, "/played_ms") == "700");
      CHECK(std::stod(json_at(cancelled, "/generated_ms")) >= 2000);
      CHECK(json_at(cancelled, "/spoken_text") == "One two three");  // 14 characters of 50 ms
      CHECK(json_at(cancelled, "/spoken_text") + json_at(cancelled, "/remaining_text") == text);
      CHECK(client.receive(100ms).kind == Kind::none);  // nothing of the context follows
      CHECK(fixture.synthesizer.wait_for_live(0, 2s));
      check_normal(client, 1);
    }
  }

  TEST_CASE("cancel in every state") {
    Fixture fixture;
    TestClient client(fixture.port);
    REQUIRE(client.handshake());
    const std::vector<std::vector<std::string>> before{
        {},
        {text_message(1, "Half a sen")},
        {text_message(1, "A [slow] sentence that takes its time to be spoken. And another one.")},
        {text_message(1, "A [slow] sentence that takes its time."), message("flush", 1)},
        {text_message(1, "A [slow] sentence that takes its time."), message("end", 1)},
        {text_message(1, "This one will [hang] for ever and ever."), message("end", 1)},
        {message("credit", 1, R"(,"ms":0)"), text_message(1, "A sentence that is held back by its listener."),
         message("end", 1)},
    };
    for (const auto& messages : before) {
      client.send_text(open_message(1));
      CHECK(json_at(client.receive_text(), "/type") == "opened");
      for (const std::string& each : messages) client.send_text(each);
      std::this_thread::sleep_for(30ms);
      client.send_text(message("cancel", 1));
      CHECK(json_at(client.receive_text(), "/type") == "cancelled");
      CHECK(client.receive(30ms).kind == Kind::none);
    }
    client.send_text(message("cancel", 1));
    CHECK(json_at(client.receive_text(), "/code") == "unknown_context");
    CHECK(fixture.synthesizer.wait_for_live(0, 2s));
    check_normal(client, 1);
  }

  TEST_CASE("bad messages get their error, and a normal utterance works right after") {
    Fixture fixture([](ServerConfig& config) { config.limits.max_text_chars = 500; });
    struct Row {
      std::string name;
      std::vector<std::string> messages;
      std::string code;
      std::string ctx;
    };
    const std::string open = open_message(1);
    const Row rows[] = {
        {"invalid JSON", {"{nonsense"}, "bad_message", "(missing)"},
        {"not an object", {"[1,2]"}, "bad_message", "(missing)"},
        {"unknown type", {R"({"type":"shout","ctx":1})"}, "bad_message", "1"},
        {"unknown field", {R"({"type":"open","ctx":1,"volume":3})"}, "bad_message", "1"},
        {"unknown field on a live context", {open, message("flush", 1, R"(,"now":true)")}, "bad_message", "1"},
        {"wrong type of a field", {open, R"({"type":"text","ctx":1,"text":5})"}, "bad_message", "1"},
        {"wrong type of ctx", {R"({"type":"end","ctx":"1"})"}, "bad_message", "(missing)"},
        {"text on an unknown context", {text_message(1, "Hello")}, "unknown_context", "1"},
        {"flush on an unknown context", {message("flush", 1)}, "unknown_context", "1"},
        {"end on an unknown context", {message("end", 1)}, "unknown_context", "1"},
        {"cancel on an unknown context", {message("cancel", 1)}, "unknown_context", "1"},
        {"credit on an unknown context", {message("credit", 1, R"(,"ms":5)")}, "unknown_context", "1"},
        {"open twice", {open, open}, "context_exists", "1"},
        {"too many contexts", {open, open_message(2)}, "too_many_contexts", "2"},
        {"unknown voice", {open_message(1, R"(,"voice":"nobody")")}, "unknown_voice", "1"},
        {"unknown language", {open_message(1, R"(,"lang":"xx")")}, "unsupported_format", "1"},
        {"unknown codec", {open_message(1, R"(,"format":{"codec":"mp3"})")}, "unsupported_format", "1"},
        {"text after end",
         {open, text_message(1, "This will [hang] for ever and ever."), message("end", 1), text_message(1, "x")},
         "bad_message",
         "1"},
        {"end twice",
         {open, text_message(1, "This will [hang] for ever and ever."), message("end", 1), message("end", 1)},
         "bad_message",
         "1"},
        {"text too long", {open, text_message(1, std::string(501, 'a'))}, "text_too_long", "1"},
        {"text too long in all",
         {open, text_message(1, std::string(300, 'a')), text_message(1, std::string(300, 'a'))},
         "text_too_long",
         "1"},
        {"message too long", {text_message(1, std::string(70'000, 'a'))}, "bad_message", "(missing)"},
        {"message of a megabyte", {std::string(1 << 20, 'x')}, "bad_message", "(missing)"},
        {"failing synthesis",
         {open, text_message(1, "This sentence will [fail] in the middle."), message("flush", 1)},
         "internal",
         "1"},
    };
    TestClient client(fixture.port);
    REQUIRE(client.handshake());
    for (const Row& row : rows) {
      CAPTURE(row.name);
      for (const std::string& each : row.messages) client.send_text(each);
      std::string error = client.receive_text();
      while (json_at(error, "/type") == "opened") error = client.receive_text();
      CAPTURE(error);
      CHECK(json_at(error, "/type") == "error");
      CHECK(json_at(error, "/code") == row.code);
      CHECK(json_at(error, "/ctx") == row.ctx);
      // "too many contexts" leaves the other one alive, and only that.
      if (row.code == "too_many_contexts") {
        client.send_text(message("cancel", 1));
        CHECK(json_at(client.receive_text(), "/type") == "cancelled");
      }
      client.audio.clear();
      check_normal(client, 1);
    }
    CHECK(fixture.synthesizer.wait_for_live(0, 2s));
  }

  TEST_CASE("binary and fragmented frames") {
    Fixture fixture;
    TestClient client(fixture.port);
    REQUIRE(client.handshake());
    client.send_binary(std::string("\x01\x02\x00\x03", 4));
    CHECK(json_at(client.receive_text(), "/code") == "bad_message");
    client.send_binary(std::string(100'000, '\0'));
    CHECK(json_at(client.receive_text(), "/code") == "bad_message");
    const std::string open = open_message(1);
    client.send_frame(1, open.substr(0, 5), false);
    client.send_frame(0, open.substr(5, 5), false);
    client.send_frame(0, open.substr(10), true);
    CHECK(json_at(client.receive_text(), "/type") == "opened");
    client.send_text(message("cancel", 1));
    CHECK(json_at(client.receive_text(), "/type") == "cancelled");
    check_normal(client, 2);
  }

  TEST_CASE("what breaks the WebSocket itself closes the socket with the right code, and only that socket") {
    Fixture fixture;
    TestClient other(fixture.port);
    REQUIRE(other.handshake());
    const auto close_code_after = [&fixture](const auto& act) {
      TestClient client(fixture.port);
      REQUIRE(client.handshake());
      act(client);
      TestClient::Message got = client.receive(5s);
      CHECK(got.kind == Kind::close);
      return got.close_code;
    };
    CHECK(close_code_after([](TestClient& client) { client.send_text("{\"type\":\"ping\",\"id\":\"\xFF\"}"); }) ==
          1007);
    CHECK(close_code_after([](TestClient& client) { client.send_frame(3, "x"); }) == 1002);  // reserved opcode
    CHECK(close_code_after([](TestClient& client) { client.send_raw(std::string("\x81\x02hi", 4)); }) ==
          1002);  // unmasked
    CHECK(close_code_after([](TestClient& client) { client.send_frame(9, std::string(126, 'x')); }) ==
          1002);  // long ping
    CHECK(close_code_after([](TestClient& client) {
            client.send_raw(std::string("\x81\xFF\x00\x00\x00\x00\x7F\xFF\xFF\xFF\x01\x02\x03\x04", 14));
          }) == 1009);  // a frame of two gigabytes
    CHECK(fixture.synthesizer.wait_for_live(0, 2s));
    check_normal(other, 1);
    check_normal_on_new_socket(fixture.port);
  }

  TEST_CASE("a client that stops reading holds up only itself, then gets slow_client") {
    SynthesizerLimits limits;
    limits.max_ahead = 2s;
    Fixture fixture(
        [](ServerConfig& config) {
          config.limits.slow_client_timeout = 4s;  // also the time to fetch the reason: sanitizers are slow
          config.send_buffer_bytes = 4096;
          config.io_threads = 1;
        },
        limits);
    TestClient slow(fixture.port, 4096);
    REQUIRE(slow.handshake());
    slow.send_text(open_message(1, kPcm));
    std::string text;
    for (int i = 0; i < 100; ++i) text += "A long text of many sentences that goes on and on. ";  // 250 s, 12 MB
    slow.send_text(text_message(1, text));
    slow.send_text(message("end", 1));
    std::this_thread::sleep_for(300ms);
    check_normal_on_new_socket(fixture.port);
    // Back-pressure: what is made but not taken stays within the synthesizer's limit.
    CHECK(fixture.synthesizer.worst_ahead() <= (2 * 24'000) + FakeSynthesizer::kChunkSamples);
    CHECK(fixture.synthesizer.stats().live_utterances == 1);
    const std::int64_t made = fixture.synthesizer.stats().samples_total;
    std::this_thread::sleep_for(200ms);
    CHECK(fixture.synthesizer.stats().samples_total == made);  // generation stands still

    CHECK(fixture.synthesizer.wait_for_live(0, 20s));  // given up
    // When it reads again soon, it is told why.
    std::string last;
    while (true) {
      const TestClient::Message got = slow.receive(5s);
      if (got.kind == Kind::none || got.kind == Kind::close) {
        CHECK(got.close_code == 1008);
        break;
      }
      if (got.kind == Kind::text) last = got.data;
    }
    CHECK(json_at(last, "/code") == "slow_client");
    CHECK(fixture.server->metrics().errors[static_cast<std::size_t>(Errc::slow_client)] == 1);
    check_normal_on_new_socket(fixture.port);
  }

  TEST_CASE("a client that never reads again is dropped") {
    Fixture fixture([](ServerConfig& config) {
      config.limits.slow_client_timeout = 200ms;
      config.send_buffer_bytes = 4096;
    });
    TestClient slow(fixture.port, 4096);
    REQUIRE(slow.handshake());
    slow.send_text(open_message(1, kPcm));
    slow.send_text(text_message(1, std::string(400, 'a') + " " + std::string(400, 'b')));
    slow.send_text(message("end", 1));
    CHECK(fixture.synthesizer.wait_for_live(1, 2s));
    CHECK(fixture.synthesizer.wait_for_live(0, 5s));
    const auto until = std::chrono::steady_clock::now() + 5s;
    while (fixture.server->metrics().live_sessions > 0 && std::chrono::steady_clock::now() < until) {
      std::this_thread::sleep_for(5ms);
    }
    CHECK(fixture.server->metrics().live_sessions == 0);
    check_normal_on_new_socket(fixture.port);
  }

  TEST_CASE("a client that floods without reading is not buffered without bound") {
    Fixture fixture([](ServerConfig& config) {
      config.limits.slow_client_timeout = 300ms;
      config.send_buffer_bytes = 4096;
    });
    TestClient flood(fixture.port, 4096);
    REQUIRE(flood.handshake());
    // Its pings are answered until the buffers are full; then the server reads no further, and in the end gives up.
    auto sent = std::async(std::launch::async, [&flood] {
      for (int i = 0; i < 200'000; ++i)
        flood.send_text(R"({"type":"ping","id":"0123456789012345678901234567890123456789"})");
    });
    CHECK(sent.wait_for(20s) == std::future_status::ready);  // its socket was closed under it
    check_normal_on_new_socket(fixture.port);
  }

  TEST_CASE("disconnects cancel at once") {
    Fixture fixture;
    for (const bool reset : {true, false}) {
      TestClient client(fixture.port);
      REQUIRE(client.handshake());
      client.send_text(open_message(1));
      client.send_text(
          text_message(1, "A [slow] sentence that takes its time to be spoken aloud. And so does this [slow] one."));
      client.send_text(message("flush", 1));
      while (client.receive().kind != Kind::binary) {
      }
      client.drop(reset);
      CHECK(fixture.synthesizer.wait_for_live(0, 2s));
    }
    check_normal_on_new_socket(fixture.port);
  }

  TEST_CASE("half-open handshakes and silent sockets end") {
    Fixture fixture([](ServerConfig& config) {
      config.handshake_timeout = 200ms;
      config.limits.idle_timeout = 400ms;
    });
    TestClient silent(fixture.port);
    TestClient half(fixture.port);
    half.send_raw("GET /v1/stream HTTP/1.1\r\nHost: localhost\r\nUpgrade: webso");
    CHECK(silent.wait_for_end(3s));
    CHECK(half.wait_for_end(3s));

    // A peer that is gone without a word answers no pings; a living one does and stays.
    TestClient dead(fixture.port);
    TestClient alive(fixture.port);
    REQUIRE(dead.handshake());
    REQUIRE(alive.handshake());
    const auto until = std::chrono::steady_clock::now() + 1200ms;
    while (std::chrono::steady_clock::now() < until) static_cast<void>(alive.receive(50ms));
    CHECK(fixture.server->metrics().live_sessions == 1);
    check_normal(alive, 1);
  }

  TEST_CASE("a context without text and audio times out, the socket does not") {
    Fixture fixture([](ServerConfig& config) { config.limits.context_timeout = 150ms; });
    TestClient client(fixture.port);
    REQUIRE(client.handshake());
    client.send_text(open_message(1));
    CHECK(json_at(client.receive_text(), "/type") == "opened");
    const std::string error = client.receive_text();
    CHECK(json_at(error, "/code") == "timeout");
    CHECK(json_at(error, "/ctx") == "1");
    check_normal(client, 1);
  }

  TEST_CASE("text that stalls is spoken after max_delay_ms") {
    Fixture fixture;
    TestClient client(fixture.port);
    REQUIRE(client.handshake());
    client.send_text(open_message(1, R"(,"buffering":{"max_delay_ms":60},"marks":true)"));
    client.send_text(text_message(1, "Well now let me thi"));
    CHECK(json_at(client.receive_text(), "/type") == "opened");
    const std::string marks = client.receive_text();
    CHECK(json_at(marks, "/items/3/text") == "me");
    CHECK(json_at(marks, "/items/4/text") == "(missing)");
    client.send_text(text_message(1, "nk about it."));
    client.send_text(message("end", 1));
    CHECK(json_at(client.receive_text(), "/items/0/text") == "think");
    CHECK(json_at(client.receive_text(), "/type") == "done");
  }

  TEST_CASE("credit keeps the server from running ahead") {
    Fixture fixture;
    TestClient client(fixture.port);
    REQUIRE(client.handshake());
    client.send_text(open_message(1));
    client.send_text(message("credit", 1, R"(,"ms":100)"));
    client.send_text(text_message(1, "Twenty characters ok."));
    client.send_text(message("end", 1));
    CHECK(json_at(client.receive_text(), "/type") == "opened");
    std::vector<std::chrono::steady_clock::time_point> times;
    while (true) {
      const auto got = client.receive(2s);
      if (got.kind != Kind::binary) {
        CHECK(json_at(got.data, "/type") == "done");
        // Paced by credit, a listener still never runs dry, but for the machine's own hiccups.
        CHECK(std::stod(json_at(got.data, "/metrics/worst_lag_ms")) < 60);
        break;
      }
      times.push_back(std::chrono::steady_clock::now());
      const auto elapsed = std::chrono::duration<double, std::milli>(times.back() - times.front()).count();
      // Never later audio than 100 ms ahead, one frame for rounding and what waited in the socket's buffers.
      CHECK(20.0 * static_cast<double>(times.size() - 1) <= elapsed + 100 + 40);
    }
    CHECK(times.size() >= 53);
  }

  TEST_CASE("the synthesizer's refusals reach the client") {
    SynthesizerLimits limits;
    limits.max_utterances = 1;
    Fixture fixture({}, limits);
    TestClient first(fixture.port);
    TestClient second(fixture.port);
    REQUIRE(first.handshake());
    REQUIRE(second.handshake());
    first.send_text(open_message(1));
    CHECK(json_at(first.receive_text(), "/type") == "opened");
    second.send_text(open_message(1));
    const std::string error = second.receive_text();
    CHECK(json_at(error, "/code") == "overloaded");
    CHECK(json_at(error, "/retry_after_ms") == "1000");
    first.send_text(message("cancel", 1));
    CHECK(json_at(first.receive_text(), "/type") == "cancelled");
    REQUIRE(fixture.synthesizer.wait_for_live(0, 2s));
    check_normal(second, 1);
  }

  TEST_CASE("more segments than the synthesizer queues are handed on as there is room") {
    SynthesizerLimits limits;
    limits.max_queued_segments = 2;
    Fixture fixture({}, limits);
    TestClient client(fixture.port);
    REQUIRE(client.handshake());
    client.send_text(open_message(1));
    std::string text;
    for (int i = 0; i < 20; ++i) text += "Sentence after sentence. ";
    client.send_text(text_message(1, text));
    client.send_text(message("end", 1));
    const Utterance_ got = finish(client, 1);
    CHECK(json_at(got.last, "/type") == "done");
    CHECK(json_at(got.last, "/audio_ms") == "24000");
    std::size_t seams = 0;
    for (const AudioHeader& header : got.frames) seams += (header.flags & kFrameSeam) != 0 ? 1 : 0;
    CHECK(seams == 20);
  }

  TEST_CASE("several contexts share a socket where the limit allows it") {
    Fixture fixture([](ServerConfig& config) { config.limits.max_contexts = 3; });
    TestClient client(fixture.port);
    REQUIRE(client.handshake());
    for (std::uint32_t ctx = 1; ctx <= 3; ++ctx) client.send_text(open_message(ctx));
    client.send_text(open_message(4));
    for (std::uint32_t ctx = 1; ctx <= 3; ++ctx) {
      client.send_text(text_message(ctx, "The same sentence for everyone here."));
      client.send_text(message("end", ctx));
    }
    std::set<std::string> done;
    std::vector<std::size_t> frames(4);
    bool refused = false;
    while (done.size() < 3) {
      const auto got = client.receive();
      REQUIRE(got.kind != Kind::none);
      if (got.kind == Kind::binary) {
        const auto header =
            decode_header(std::span(reinterpret_cast<const std::uint8_t*>(got.data.data()), got.data.size()));
        REQUIRE(header);
        CHECK(header->seq == frames.at(header->ctx)++);
      } else if (json_at(got.data, "/type") == "done") {
        done.insert(json_at(got.data, "/ctx"));
      } else if (json_at(got.data, "/code") == "too_many_contexts") {
        refused = json_at(got.data, "/ctx") == "4";
      }
    }
    CHECK(refused);
    CHECK(frames[1] == frames[2]);
    CHECK(frames[2] == frames[3]);
  }

  TEST_CASE("20 sessions at once") {
    Fixture fixture;
    std::vector<std::future<bool>> all;
    for (int i = 0; i < 20; ++i) {
      all.push_back(std::async(std::launch::async, [port = fixture.port, i] {
        TestClient client(port);
        if (!client.handshake()) return false;
        for (std::uint32_t ctx = 0; ctx < 3; ++ctx) {
          client.audio.clear();
          client.send_text(open_message(ctx));
          const std::string text = "Session " + std::to_string(100 + i) + " says this sentence. And this one as well.";
          for (std::size_t at = 0; at < text.size(); at += 3) client.send_text(text_message(ctx, text.substr(at, 3)));
          const bool cancel = ctx == 1 && i % 2 == 0;
          client.send_text(message(cancel ? "cancel" : "end", ctx));
          std::string last = client.receive_text();
          while (json_at(last, "/type") == "opened") last = client.receive_text(20s);
          if (json_at(last, "/type") != (cancel ? "cancelled" : "done")) return false;
          if (!cancel &&
              std::abs(std::stod(json_at(last, "/audio_ms")) - 50.0 * static_cast<double>(text.size() - 1)) > 1)
            return false;
        }
        return true;
      }));
    }
    for (auto& each : all) CHECK(each.get());
    CHECK(fixture.synthesizer.wait_for_live(0, 2s));
    CHECK(fixture.server->metrics().contexts_done == 50);
  }

  TEST_CASE("sessions above the limit are refused with 503") {
    Fixture fixture([](ServerConfig& config) { config.limits.max_sessions = 1; });
    TestClient first(fixture.port);
    REQUIRE(first.handshake());
    TestClient second(fixture.port);
    CHECK_FALSE(second.handshake());
    CHECK(second.response_head().starts_with("HTTP/1.1 503"));
    check_normal(first, 1);
  }

  TEST_CASE("HTTP on the same port") {
    const auto dir = std::filesystem::temp_directory_path() / ("sonorant_web_" + std::to_string(::getpid()));
    std::filesystem::create_directories(dir);
    std::ofstream(dir / "index.html") << "<!doctype html><p>page</p>";
    std::ofstream(dir / "overlay.html") << "<!doctype html><p>overlay</p>";
    {
      Fixture fixture([&dir](ServerConfig& config) { config.web_dir = dir; });
      const std::uint16_t port = fixture.port;
      CHECK(TestClient::get(port, "/healthz").status == 200);
      CHECK(TestClient::get(port, "/readyz").status == 200);
      fixture.synthesizer.set_ready(false);
      CHECK(TestClient::get(port, "/readyz").status == 503);
      fixture.synthesizer.set_ready(true);
      const auto page = TestClient::get(port, "/");
      CHECK(page.status == 200);
      CHECK(page.body == "<!doctype html><p>page</p>");
      CHECK(page.head.find("Content-Type: text/html") != std::string::npos);
      CHECK(page.head.find("Content-Security-Policy:") != std::string::npos);
      CHECK(page.head.find("X-Content-Type-Options: nosniff") != std::string::npos);
      CHECK(TestClient::get(port, "/overlay").body == "<!doctype html><p>overlay</p>");
      CHECK(TestClient::get(port, "/../etc/passwd").status == 404);
      CHECK(json_at(TestClient::get(port, "/v1/voices").body, "/voices/0/id") == "starter");
      CHECK(TestClient::get(port, "/v1/stream").status == 426);
      check_normal_on_new_socket(port);
      const auto metrics = TestClient::get(port, "/metrics");
      CHECK(metrics.status == 200);
      CHECK(metrics.body.find("\nsonorant_contexts_done_total 1\n") != std::string::npos);
      CHECK(metrics.body.find("\nsonorant_first_packet_seconds_count 1\n") != std::string::npos);
      CHECK(metrics.body.find("\nsonorant_queued_audio_seconds 0\n") != std::string::npos);
      CHECK(TestClient::http(
                port, "POST /v1/audio/speech HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
                .status == 404);
      CHECK(TestClient::http(port, "HEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").body.empty());
      CHECK(TestClient::http(port, "nonsense\r\n\r\n").status == 400);
      CHECK(TestClient::http(port, "GET / HTTP/1.1\r\nX: " + std::string(20'000, 'x') + "\r\n\r\n").status == 431);
      CHECK(TestClient::http(port, "POST / HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n").status == 413);
      // Two requests on one connection.
      const auto both = TestClient::http(
          port,
          "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
      CHECK(both.body.find("HTTP/1.1 200") != std::string::npos);
    }
    std::filesystem::remove_all(dir);
  }

  TEST_CASE("a busy port is one clear error") {
    Fixture fixture;
    FakeSynthesizer synthesizer;
    ServerConfig config;
    config.port = fixture.port;
    Server second(config, synthesizer);
    const auto started = second.start();
    REQUIRE_FALSE(started);
    CHECK(started.error().detail.find("cannot listen on 127.0.0.1:" + std::to_string(fixture.port)) !=
          std::string::npos);
    config.host = "no.such.host.invalid";
    CHECK_FALSE(Server(config, synthesizer).start());
    check_normal_on_new_socket(fixture.port);
  }

  TEST_CASE("draining lets open contexts finish and closes with 1001") {
    Fixture fixture;
    TestClient busy(fixture.port);
    TestClient idle(fixture.port);
    REQUIRE(busy.handshake());
    REQUIRE(idle.handshake());
    busy.send_text(open_message(1));
    busy.send_text(text_message(1, "A [slow] sentence that takes its time."));
    busy.send_text(message("end", 1));
    CHECK(json_at(busy.receive_text(), "/type") == "opened");
    auto drained = std::async(std::launch::async, [&fixture] { fixture.server->drain_and_stop(10s); });
    const auto got = idle.receive(5s);
    CHECK(got.kind == Kind::close);
    CHECK(got.close_code == 1001);
    CHECK(TestClient::get(fixture.port, "/readyz").status == 503);
    CHECK(json_at(finish(busy, 1).last, "/type") == "done");
    CHECK(busy.receive(5s).close_code == 1001);
    CHECK(drained.wait_for(8s) == std::future_status::ready);
    TestClient late(fixture.port);
    CHECK_FALSE(late.connected());
  }

  TEST_CASE("a stop without grace cuts what is open") {
    Fixture fixture;
    TestClient client(fixture.port);
    REQUIRE(client.handshake());
    client.send_text(open_message(1));
    client.send_text(text_message(1, "This will [hang] for ever and ever. "));
    CHECK(json_at(client.receive_text(), "/type") == "opened");
    const auto begin = std::chrono::steady_clock::now();
    fixture.server->drain_and_stop(50ms);
    CHECK(std::chrono::steady_clock::now() - begin < 3s);
    CHECK(client.wait_for_end(2s));
    CHECK(fixture.synthesizer.wait_for_live(0, 2s));
  }
}

}  // namespace tts
