#include <chrono>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "src/core/log.h"
#include "streaming/server.h"
#include "tests/doctest.h"
#include "tests/streaming/fake_synthesizer.h"
#include "tests/streaming/test_client.h"

namespace tts {
namespace {

using namespace std::chrono_literals;

struct Fixture {
  explicit Fixture(const std::function<void(ServerConfig&)>& change = {}) {
    static_cast<void>(set_log_level("off"));
    ServerConfig config;
    config.port = 0;
    config.io_threads = 2;
    config.uploads.enabled = true;
    config.uploads.max_bytes = 200'000;
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

std::string field(const std::string& name, const std::string& value) {
  return "--X\r\nContent-Disposition: form-data; name=\"" + name + "\"\r\n\r\n" + value + "\r\n";
}
std::string file(const std::string& name, const std::string& bytes) {
  return "--X\r\nContent-Disposition: form-data; name=\"" + name + "\"; filename=\"" + name +
         ".wav\"\r\nContent-Type: audio/wav\r\n\r\n" + bytes + "\r\n";
}
std::string form(const std::string& id, const std::string& audio = "RIFF....", const std::string& more = "") {
  return field("model", "m") + field("id", id) + field("name", "Ann \"A\"") + more + file("audio", audio) + "--X--\r\n";
}
std::string head(std::size_t length, const std::string& more = "") {
  return "POST /v1/voices HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
         "Content-Type: multipart/form-data; boundary=X\r\n" +
         more + "Content-Length: " + std::to_string(length) + "\r\n\r\n";
}
TestClient::Http post(const Fixture& fixture, const std::string& body, const std::string& more = "") {
  return TestClient::http(fixture.port, head(body.size(), more) + body);
}
std::string code_of(const TestClient::Http& reply) {
  return json_at(reply.body, "/error/code");
}

}  // namespace

TEST_SUITE("streaming/upload") {
  TEST_CASE("a voice is made, listed, spoken with and removed") {
    Fixture fixture;
    const std::string audio = "RIFF" + std::string(100'000, '\0');
    const auto made = post(fixture, form("ann", audio, field("text", "Hi.") + file("aux", "RIFF2")));
    CHECK(made.status == 201);
    CHECK(json_at(made.body, "/voice/id") == "ann");
    CHECK(json_at(made.body, "/voice/name") == "Ann \"A\"");
    CHECK(json_at(made.body, "/existed") == "false");
    CHECK(json_at(made.body, "/notes/0") == "a note");
    const VoiceRequest request = fixture.synthesizer.last_request();
    CHECK(request.reference.bytes.size() == audio.size());
    CHECK(request.more.size() == 1);
    CHECK(request.text == "Hi.");
    CHECK(request.lang == "auto");
    CHECK(post(fixture, form("ann")).status == 200);
    CHECK(json_at(TestClient::get(fixture.port, "/v1/voices").body, "/voices/1/id") == "ann");

    TestClient client(fixture.port);
    REQUIRE(client.handshake());
    client.send_text(R"({"type":"open","ctx":1,"voice":"ann"})");
    client.send_text(R"({"type":"text","ctx":1,"text":"Hello there."})");
    client.send_text(R"({"type":"end","ctx":1})");
    std::string last;
    while (json_at(last, "/type") != "done") {
      last = client.receive_text();
      REQUIRE(!last.empty());
      REQUIRE(json_at(last, "/type") != "error");
    }

    const auto remove = [&] {
      return TestClient::http(fixture.port,
                              "DELETE /v1/voices/ann HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    };
    CHECK(remove().status == 204);
    const auto again = remove();
    CHECK(again.status == 404);
    CHECK(code_of(again) == "unknown_voice");
    CHECK(json_at(again.body, "/error/message") == "no voice \"ann\"");
  }

  TEST_CASE("chunked bodies, and clients that wait to be told to go on") {
    Fixture fixture;
    const std::string body = form("ann", "RIFF" + std::string(1000, 'x'));
    std::string chunked =
        "POST /v1/voices HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n"
        "Content-Type: multipart/form-data; boundary=X\r\n\r\n";
    for (std::size_t at = 0; at < body.size(); at += 10) {
      const std::string piece = body.substr(at, 10);
      char size[8];
      std::snprintf(size, sizeof size, "%zx", piece.size());
      chunked += size + std::string("\r\n") + piece + "\r\n";
    }
    CHECK(TestClient::http(fixture.port, chunked + "0\r\n\r\n").status == 201);
    CHECK(fixture.synthesizer.last_request().reference.bytes.size() == 1004);

    const auto waiting = post(fixture, form("ben"), "Expect: 100-continue\r\n");
    CHECK(waiting.status == 100);
    CHECK((waiting.head + waiting.body).find("\"id\":\"ben\"") != std::string::npos);
  }

  TEST_CASE("what is wrong with a request is answered, and the next one is served") {
    Fixture fixture;
    const auto refused = [&](const TestClient::Http& reply, int status, const char* code, const char* words) {
      CAPTURE(reply.body);
      CHECK(reply.status == status);
      CHECK(code_of(reply) == code);
      CHECK(json_at(reply.body, "/error/message").find(words) != std::string::npos);
    };
    refused(post(fixture, form("a", "no sound")), 422, "bad_file", "not a sound file");
    refused(post(fixture, field("model", "n") + file("audio", "RIFF") + "--X--"), 404, "unknown_voice", "\"n\"");
    refused(post(fixture, field("model", "m") + "--X--"), 400, "bad_message", "\"audio\": missing");
    refused(post(fixture, field("model", "m")), 400, "bad_message", "ends before");
    refused(post(fixture, "nothing of the kind" + std::string(20'000, '.')), 400, "bad_message", "no boundary");
    refused(post(fixture, form("a", std::string(300'000, 'x'))), 413, "text_too_long", "longer than 200000");
    refused(post(fixture, field("text", std::string(20'000, 'x'))), 400, "text_too_long", "part \"text\"");
    const std::string endless =
        "POST /v1/voices HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
        "Content-Type: multipart/form-data; boundary=X\r\n\r\n40000\r\n" +
        file("audio", std::string(0x40000, 'x'));
    refused(TestClient::http(fixture.port, endless), 413, "text_too_long", "longer than");
    refused(
        TestClient::http(fixture.port, "POST /v1/voices HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}"),
        415, "unsupported_format", "multipart/form-data");
    refused(post(fixture, form("a"), "Origin: http://evil.example\r\n"), 403, "forbidden", "own pages");
    CHECK(post(fixture, form("a")).status == 201);
    CHECK(TestClient::http(fixture.port,
                           "POST /v1/voices/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n"
                           "Connection: close\r\n\r\n")
              .status == 405);
  }

  TEST_CASE("a client that stops in the middle takes nothing with it") {
    Fixture fixture([](ServerConfig& config) { config.upload_timeout = 200ms; });
    const std::string body = form("ann");
    {
      TestClient gone(fixture.port);
      gone.send_raw(head(body.size()) + body.substr(0, 60));
      gone.drop(true);
      TestClient slow(fixture.port);
      slow.send_raw(head(body.size()) + body.substr(0, 60));
      CHECK(slow.wait_for_end(5s));
    }
    CHECK(post(fixture, form("ann")).status == 201);
  }

  TEST_CASE("off, or with a token") {
    {
      Fixture off([](ServerConfig& config) { config.uploads.enabled = false; });
      const auto reply = post(off, form("ann"));
      CHECK(reply.status == 403);
      CHECK(code_of(reply) == "forbidden");
    }
    Fixture fixture([](ServerConfig& config) { config.uploads.token = "secret"; });
    CHECK(post(fixture, form("ann")).status == 401);
    CHECK(post(fixture, form("ann"), "Authorization: Bearer secret\r\n").status == 201);
    CHECK(TestClient::http(fixture.port, "DELETE /v1/voices/ann HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
              .status == 401);
    CHECK(json_at(TestClient::get(fixture.port, "/v1/voices").body, "/voices/1/id") == "ann");
  }

  TEST_CASE("uploads queue, too many are refused, and streams do not wait for them") {
    Fixture fixture;
    std::vector<std::future<int>> replies;
    for (int i = 0; i < 5; ++i) {
      replies.push_back(std::async(std::launch::async, [&fixture, i] {
        return post(fixture, form("v" + std::to_string(i), "RIFF", field("text", "[slow]"))).status;
      }));
    }
    const auto start = std::chrono::steady_clock::now();
    CHECK(TestClient::get(fixture.port, "/healthz").status == 200);
    CHECK(std::chrono::steady_clock::now() - start < 250ms);
    int made = 0, refused = 0;
    for (auto& reply : replies) {
      const int status = reply.get();
      made += status == 201 ? 1 : 0;
      refused += status == 503 ? 1 : 0;
    }
    CHECK(made >= 2);
    CHECK(made + refused == 5);
    CHECK(refused >= 1);
  }

  TEST_CASE("stopping while a voice is made lets it be made") {
    Fixture fixture;
    const std::string body = form("ann", "RIFF", field("text", "[slow]"));
    TestClient client(fixture.port);
    client.send_raw(head(body.size()) + body);
    std::this_thread::sleep_for(100ms);
    fixture.server->drain_and_stop(0ms);
  }
}

}  // namespace tts
