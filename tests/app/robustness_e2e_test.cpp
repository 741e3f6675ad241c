// The program with the voice that ships: one bad listener, or two hundred at once, and the others are heard to the end.

#include <chrono>
#include <csignal>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tests/app/process.h"
#include "tests/doctest.h"
#include "tests/streaming/test_client.h"

TEST_SUITE("app/robustness") {
  using namespace tts;
  using namespace tts::testing;
  using namespace std::chrono_literals;

  constexpr int kRoom = 8;

  struct Answer {
    std::string last;         ///< done, error or cancelled
    std::size_t packets = 0;  ///< in order
  };

  std::string about(std::string_view type, std::string_view more = "") {
    return R"({"type":")" + std::string(type) + R"(","ctx":1)" + std::string(more) + "}";
  }

  void speak(TestClient & client, std::string_view text) {
    client.send_text(about("text", R"(,"text":")" + std::string(text) + "\""));
    client.send_text(about("end"));
  }

  Answer listen(TestClient & client) {
    Answer answer;
    for (;;) {
      const TestClient::Message got = client.receive(60s);
      if (got.kind == TestClient::Message::Kind::binary) {
        const auto header =
            decode_header(std::span(reinterpret_cast<const std::uint8_t*>(got.data.data()), got.data.size()));
        REQUIRE(header);
        CHECK(header->seq == answer.packets++);
        continue;
      }
      if (got.kind != TestClient::Message::Kind::text) return answer;
      const std::string type = json_at(got.data, "/type");
      if (type != "done" && type != "error" && type != "cancelled") continue;
      answer.last = got.data;
      return answer;
    }
  }

  TEST_CASE("a burst of 200 opens, a killed and a hung listener") {
    Process process({SONORANT_PROGRAM, "serve", "--port", "0", "--log-level", "off"},
                    {{"SONORANT_ENGINE_VOICES_DIR", "models/pretrained"},
                     {"SONORANT_ENGINE_TEXT_DATA_DIR", "src/text/data"},
                     {"SONORANT_SERVER_WEB_DIR", "web"},
                     {"SONORANT_SERVER_MAX_SESSIONS", "300"},
                     {"SONORANT_ENGINE_MAX_UTTERANCES", std::to_string(kRoom)}});
    const auto line = process.wait_for_line("listening on http://127.0.0.1:", 120s);
    REQUIRE_MESSAGE(line, process.err);
    const auto port = static_cast<std::uint16_t>(std::stoi(line->substr(line->rfind(':') + 1)));

    {
      std::vector<std::unique_ptr<TestClient>> clients;
      for (int i = 0; i < 200; ++i) {
        clients.push_back(std::make_unique<TestClient>(port));
        REQUIRE(clients.back()->handshake());
      }
      for (const auto& client : clients) client->send_text(about("open"));
      std::vector<TestClient*> speaking;
      for (const auto& client : clients) {
        const std::string answer = client->receive_text();
        if (json_at(answer, "/type") == "opened") {
          speaking.push_back(client.get());
          continue;
        }
        CAPTURE(answer);
        CHECK(json_at(answer, "/code") == "overloaded");
        CHECK(std::stoi("0" + json_at(answer, "/retry_after_ms")) > 0);
      }
      CHECK(speaking.size() == kRoom);
      for (TestClient* client : speaking) speak(*client, "Everyone who got in is heard.");
      int done = 0;
      for (TestClient* client : speaking) {
        const Answer answer = listen(*client);
        CAPTURE(answer.last);
        // A machine that is too slow for all of them at once may say so instead.
        const bool refused = json_at(answer.last, "/code") == "overloaded" && answer.packets == 0;
        if (!refused) CHECK(json_at(answer.last, "/type") == "done");
        if (!refused) CHECK(answer.packets > 20);
        done += refused ? 0 : 1;
      }
      CHECK(done > 0);
    }

    TestClient hung(port, 4096);
    TestClient killed(port);
    TestClient good(port);
    for (TestClient* client : {&hung, &killed, &good}) REQUIRE(client->handshake());
    std::string long_text;
    for (int i = 0; i < 20; ++i) long_text += "This sentence is one of very many that nobody listens to. ";
    hung.send_text(about("open", R"(,"format":{"codec":"pcm_s16le","rate":48000})"));
    speak(hung, long_text);  // and reads nothing
    killed.send_text(about("open"));
    CHECK(json_at(killed.receive_text(), "/type") == "opened");
    speak(killed, long_text);
    CHECK(killed.receive(60s).kind == TestClient::Message::Kind::binary);
    killed.drop(true);
    good.send_text(about("open"));
    CHECK(json_at(good.receive_text(), "/type") == "opened");
    speak(good, "The one who listens is heard to the end.");
    const Answer answer = listen(good);
    CHECK(json_at(answer.last, "/type") == "done");
    CHECK(answer.packets > 20);

    process.signal(SIGTERM);
    process.signal(SIGTERM);  // the hung one's speech is not waited for
    CHECK(process.wait(60s) != -1);
  }
}
