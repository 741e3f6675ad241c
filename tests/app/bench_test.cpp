#include "src/app/bench.h"

#include <atomic>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <unistd.h>

#include <simdjson.h>

#include "src/app/serve.h"
#include "tests/app/fake_synthesizer.h"
#include "tests/doctest.h"

TEST_SUITE("app/bench") {
  using namespace tts;
  using namespace tts::testing;
  using namespace std::chrono_literals;

  const std::atomic<bool> kGoOn{false};

  TEST_CASE("quantiles are values that were measured") {
    const Quantiles q = quantiles({5, 1, 4, 2, 3});
    CHECK(q.p50 == 3);
    CHECK(q.p95 == 5);
    CHECK(q.count == 5);
    CHECK(q.least == 1);
    CHECK(q.most == 5);
    std::vector<double> hundred;
    for (int i = 100; i > 0; --i) hundred.push_back(i);
    CHECK(quantiles(hundred).p95 == 95);
    CHECK(quantiles(hundred).p99 == 99);
    CHECK(quantiles({}).most == 0);
    CHECK(quantiles({7}).p50 == 7);
  }

  TEST_CASE("the report is JSON with every figure, the socket's too") {
    FakeSynthesizer synthesizer;
    BenchCommand command;
    command.runs = 3;
    command.text = "A \"quoted\" text\twith a tab.";
    command.commit = "abc123";
    BenchReport report;
    REQUIRE(bench(report, synthesizer, command, kGoOn));
    Config config;
    config.server.port = 0;
    Server server(to_server_config(config), synthesizer);
    REQUIRE(bench_socket(report, "127.0.0.1", server.start().value(), command));
    server.drain_and_stop(std::chrono::milliseconds(0));

    simdjson::dom::parser parser;
    const std::string json = to_json(report);
    CAPTURE(json);
    simdjson::dom::element root;
    REQUIRE(parser.parse(json).get(root) == simdjson::SUCCESS);
    CHECK(std::string_view(root["text"]) == command.text);
    CHECK(std::int64_t(root["runs"]) == 3);
    CHECK(std::string_view(root["schema"]) == "sonorant.bench/1");
    CHECK(std::string_view(root["commit"]) == "abc123");
    CHECK(std::string_view(root["started"]).size() == 20);
    CHECK(std::string_view(root["machine"]).starts_with(std::string_view(root.at_pointer("/host/cpu"))));
    CHECK(std::int64_t(root.at_pointer("/host/threads")) >= 1);
    CHECK(root["streams"].error() == simdjson::NO_SUCH_FIELD);
    for (const char* path : {"/first_audio_ms/p50", "/rtf/p95", "/socket_first_packet_ms/p50", "/stages/prefill_ms/p95",
                             "/stages/total_ms/max", "/rss_mb", "/peak_rss_mb"}) {
      CAPTURE(path);
      CHECK(root.at_pointer(path).is_number());
    }
    CHECK(double(root.at_pointer("/rtf/p50")) == 0.25);
    CHECK(double(root.at_pointer("/audio_ms/p50")) == 100);
    CHECK(double(root.at_pointer("/socket_first_packet_ms/p50")) > 0);
    CHECK(double(root.at_pointer("/rss_mb")) > 1);
    CHECK(to_text(report).find("first packet, ms") != std::string::npos);
  }

  TEST_CASE("what cannot be measured is an error") {
    FakeSynthesizer synthesizer;
    BenchCommand command;
    command.runs = 1;
    command.voice = "nobody";
    BenchReport report;
    CHECK(bench(report, synthesizer, command, kGoOn).error().code == Errc::unknown_voice);
    command.voice = "starter";
    command.text = "   ";
    CHECK(bench(report, synthesizer, command, kGoOn).error().code == Errc::bad_message);
    command.text = "Please do fail here at once.";
    CHECK(bench(report, synthesizer, command, kGoOn).error().code == Errc::internal);
    CHECK(bench_socket(report, "127.0.0.1", 1, command).has_error());
  }

  TEST_CASE("a run that is stopped reports what it had") {
    FakeSynthesizer synthesizer;
    BenchCommand command;
    const std::atomic<bool> stop{true};
    BenchReport report;
    REQUIRE(bench(report, synthesizer, command, stop));
    CHECK(report.runs == 0);
    CHECK(report.interrupted);
    CHECK(to_json(report).find("first_audio_ms") == std::string::npos);
  }

  TEST_CASE("a player that runs dry waits and goes on from there") {
    const Playback::Time start{};
    Playback playback;
    CHECK_FALSE(playback.started());
    playback.starve(start);  // nothing to run dry of
    playback.packet(start + 1s, 20ms);
    CHECK(playback.dry() == start + 1020ms);
    playback.packet(start + 1010ms, 20ms);  // in time
    playback.packet(start + 1040ms, 20ms);  // just in time
    CHECK(playback.underruns() == 0);
    CHECK(playback.dry() == start + 1060ms);
    playback.packet(start + 1100ms, 20ms);  // 40 ms late
    CHECK(playback.dry() == start + 1120ms);
    playback.packet(start + 1130ms, 100ms);  // 10 ms late
    CHECK(playback.worst_underrun() == 40ms);
    CHECK(playback.lag() == 50ms);
    CHECK(playback.underruns() == 2);
    playback.starve(start + 1200ms);
    CHECK(playback.underruns() == 2);
    playback.starve(start + 1530ms);
    CHECK(playback.worst_underrun() == 300ms);
    CHECK(playback.lag() == 350ms);
  }

  TEST_CASE("a player that buffers first is late only when the buffer is used up") {
    const Playback::Time start{};
    Playback playback(60ms);
    playback.packet(start, 20ms);
    playback.packet(start + 70ms, 20ms);
    CHECK(playback.underruns() == 0);
    playback.packet(start + 110ms, 20ms);
    CHECK(playback.worst_underrun() == 10ms);
  }

  TEST_CASE("bursts are the text, in time and always the same") {
    const std::string text =
        "Eight words are in this very first sentence. And then there is one more. \u4f60\u597d\uff0c\u4e16\u754c\u3002";
    const std::vector<Burst> bursts = to_bursts(text, 10, 7);
    std::string joined;
    int first = -1;
    for (std::size_t i = 0; i < bursts.size(); ++i) {
      joined += bursts[i].text;
      if (i > 0) CHECK(bursts[i].at > bursts[i - 1].at);
      if (!bursts[i].completes_first) continue;
      CHECK(first == -1);
      first = static_cast<int>(i);
      CHECK(joined.find("sentence. ") != std::string::npos);
      CHECK(joined.size() - bursts[i].text.size() < text.find("And"));
    }
    CHECK(joined == text);
    CHECK(first > 0);
    CHECK(bursts.front().at == 0us);
    CHECK(bursts.back().at > 500ms);  // 20 words or so, 10 a second, unevenness of a half
    CHECK(bursts.back().at < 4s);
    const std::vector<Burst> again = to_bursts(text, 10, 7);
    REQUIRE(again.size() == bursts.size());
    CHECK(again.back().at == bursts.back().at);
    CHECK(to_bursts(text, 10, 8).back().at != bursts.back().at);
    REQUIRE(to_bursts("One", 10, 1).size() == 1);
    CHECK(to_bursts("One", 10, 1)[0].completes_first);
    CHECK(to_bursts("", 10, 1).empty());
    for (const std::string& reply : bench_replies()) CHECK(to_bursts(reply, 20, 1).size() > 5);
  }

  TEST_CASE("the largest number is found with few probes") {
    for (int limit = 0; limit <= 40; ++limit) {
      CAPTURE(limit);
      for (const int from : {1, 4, 40}) {
        int probes = 0;
        CHECK(find_largest(from, 40, [&](int n) {
                ++probes;
                return std::optional(n <= limit);
              }) == limit);
        CHECK(probes <= 12);
      }
    }
    int probes = 0;  // interrupted: what is known by then
    CHECK(find_largest(4, 1000, [&](int n) { return ++probes > 2 ? std::nullopt : std::optional(n < 100); }) == 8);
  }

  TEST_CASE("what holds") {
    LoadReport load;
    load.streams = load.streams_heard = 200;
    load.share_streams_ok = 0.99;
    load.first_packet_ms.p95 = 300;
    CHECK(holds(load));
    const auto with = [&](auto change) {
      LoadReport other = load;
      change(other);
      return holds(other);
    };
    CHECK_FALSE(with([](LoadReport& l) { l.refused = 1; }));
    CHECK_FALSE(with([](LoadReport& l) { l.errors["internal"] = 1; }));
    CHECK_FALSE(with([](LoadReport& l) { l.share_streams_ok = 0.985; }));
    CHECK_FALSE(with([](LoadReport& l) { l.first_packet_ms.p95 = 301; }));
    CHECK_FALSE(with([](LoadReport& l) { l.streams_heard = 199; }));
  }

  /// A server over `synthesizer`, and listeners that hear `text`.
  struct Loaded {
    explicit Loaded(Synthesizer& given, std::string text) : synthesizer(given), server(server_config(), given) {
      port = server.start().value();
      command.streams = {3};
      command.seconds = 0.6;
      command.ramp_seconds = 0.1;
      command.words_per_second = 1000;
      command.text = std::move(text);
    }
    static ServerConfig server_config() {
      Config config;
      config.server.port = 0;
      return to_server_config(config);
    }
    Result<void> run(const std::atomic<bool>& stop = kGoOn) {
      const auto observer = observe_here(synthesizer);
      news.line = [this](const std::string& line) { lines.push_back(line); };
      return bench_streams(report, synthesizer.voices(), *observer, port, command, news, stop);
    }

    Synthesizer& synthesizer;
    Server server;
    std::uint16_t port = 0;
    BenchCommand command;
    BenchNews news;
    std::vector<std::string> lines;
    BenchReport report;
  };

  TEST_CASE("live streams are counted, heard and reported") {
    FakeSynthesizer synthesizer;
    Loaded loaded(synthesizer, "One sentence is here. And another one.");
    loaded.command.streams = {3, 1};
    loaded.command.credit_ms = 500;
    REQUIRE(loaded.run());
    CHECK(loaded.lines.size() == 2);
    REQUIRE(loaded.report.loads.size() == 2);
    CHECK(loaded.report.loads[0].streams == 1);
    const LoadReport& load = loaded.report.loads[1];
    CHECK(load.streams == 3);
    CHECK(load.streams_heard == 3);
    CHECK(load.replies >= 3);
    CHECK(load.replies_done >= 1);
    CHECK(load.refused == 0);
    CHECK(load.errors.empty());
    CHECK(load.packets > 0);
    CHECK(load.heard_seconds == doctest::Approx(0.02 * static_cast<double>(load.packets)));
    CHECK(load.first_packet_ms.count >= 3);
    CHECK(load.first_packet_from_word_ms.p50 >= load.first_packet_ms.p50);
    CHECK(load.seconds >= 0.6);
    CHECK(load.client_cpu_seconds > 0);
    CHECK(load.server_cpu_seconds > 0);
    CHECK_FALSE(load.interrupted);

    simdjson::dom::parser parser;
    const std::string json = to_json(loaded.report);
    CAPTURE(json);
    simdjson::dom::element root;
    REQUIRE(parser.parse(json).get(root) == simdjson::SUCCESS);
    CHECK(std::int64_t(root.at_pointer("/streams/loads/1/streams")) == 3);
    CHECK(std::int64_t(root.at_pointer("/streams/credit_ms")) == 500);
    CHECK(root.at_pointer("/streams/largest").is_null());
    for (const char* path : {"/streams/loads/1/first_packet_ms/p99", "/streams/loads/1/share_streams_ok",
                             "/streams/loads/1/worst_underrun_ms/max", "/streams/loads/1/refused_share",
                             "/streams/loads/1/peak_rss_mb", "/streams/hold/max_underrun_ms"}) {
      CAPTURE(path);
      CHECK(root.at_pointer(path).is_number());
    }
    CHECK(to_text(loaded.report).find("first packet, ms") != std::string::npos);
  }

  /// Takes two utterances at once, refuses others for 30 ms.
  class FullSynthesizer final : public Synthesizer {
   public:
    std::vector<VoiceInfo> voices() const override { return inner_.voices(); }
    bool ready() const override { return true; }
    SynthesizerStats stats() const override { return {}; }
    Result<std::unique_ptr<Utterance>> open(const UtteranceOptions& options,
                                            std::shared_ptr<UtteranceSink> sink) override {
      if (taken_.fetch_add(1) >= 2) return Error{Errc::overloaded, "full", 30};
      return inner_.open(options, std::move(sink));
    }

   private:
    FakeSynthesizer inner_;
    std::atomic<int> taken_{0};
  };

  TEST_CASE("refusals are counted, and those who are refused come again when they were told to") {
    FullSynthesizer synthesizer;
    Loaded loaded(synthesizer, "One sentence is here. And another one.");
    REQUIRE(loaded.run());
    const LoadReport& load = loaded.report.loads.at(0);
    CHECK(load.refused > 0);
    CHECK(load.replies >= load.refused + 2);
    CHECK(load.retry_after_ms.most == 30);
    CHECK(load.streams_heard <= 2);
    CHECK(load.errors.empty());
    CHECK_FALSE(holds(load));
    loaded.command.streams.clear();
    loaded.command.search = true;
    loaded.report.loads.clear();
    REQUIRE(loaded.run());
    CHECK(loaded.report.largest == 0);
  }

  TEST_CASE("a failing stream, a stop, a server that is not there") {
    FakeSynthesizer synthesizer;
    Loaded failing(synthesizer, "This one will fail at once. It will.");
    REQUIRE(failing.run());
    CHECK(failing.report.loads.at(0).errors.at("internal") >= 3);
    CHECK_FALSE(holds(failing.report.loads.at(0)));

    Loaded stopped(synthesizer, "One sentence is here. And another one.");
    stopped.command.seconds = 3600;
    stopped.command.streams = {2, 4};
    std::atomic<bool> stop{false};
    const std::jthread stopper([&] {
      std::this_thread::sleep_for(400ms);
      stop = true;
    });
    REQUIRE(stopped.run(stop));
    REQUIRE(stopped.report.loads.size() == 1);
    CHECK(stopped.report.loads[0].interrupted);
    CHECK(stopped.report.interrupted);

    Loaded gone(synthesizer, "One sentence is here.");
    gone.server.drain_and_stop(0ms);
    CHECK(gone.run().error().code == Errc::internal);
    gone.command.voice = "nobody";
    CHECK(gone.run().error().code == Errc::unknown_voice);
  }

  TEST_CASE("a server elsewhere is read over its HTTP routes") {
    FakeSynthesizer synthesizer;
    Loaded loaded(synthesizer, "One.");
    const auto voices = voices_there(loaded.port);
    REQUIRE(voices);
    CHECK(voices->at(0).id == "starter");
    CHECK(voices->at(0).rate_hz == 24000);
    const auto observer = observe_there(loaded.port, static_cast<int>(::getpid()));
    const Observed seen = observer->look();
    CHECK(seen.cpu_seconds > 0);
    CHECK(seen.memory.rss_mb > 1);
    CHECK(observe_there(loaded.port, 0)->look().memory.rss_mb > 1);
    CHECK(observe_there(loaded.port, 0)->look().cpu_seconds == 0);
    CHECK(voices_there(1).has_error());
  }
}
