#include "src/app/bench.h"

#include <string>

#include <simdjson.h>

#include "src/app/serve.h"
#include "tests/app/fake_synthesizer.h"
#include "tests/doctest.h"

TEST_SUITE("app/bench") {
  using namespace tts;
  using namespace tts::testing;

  TEST_CASE("quantiles are values that were measured") {
    const Quantiles q = quantiles({5, 1, 4, 2, 3});
    CHECK(q.p50 == 3);
    CHECK(q.p95 == 5);
    CHECK(q.least == 1);
    CHECK(q.most == 5);
    std::vector<double> hundred;
    for (int i = 100; i > 0; --i) hundred.push_back(i);
    CHECK(quantiles(hundred).p95 == 95);
    CHECK(quantiles({}).most == 0);
    CHECK(quantiles({7}).p50 == 7);
  }

  TEST_CASE("the report is JSON with every figure, the socket's too") {
    FakeSynthesizer synthesizer;
    BenchCommand command;
    command.runs = 3;
    command.text = "A \"quoted\" text\twith a tab.";
    auto report = bench(synthesizer, command);
    REQUIRE(report.has_value());
    Config config;
    config.server.port = 0;
    Server server(to_server_config(config), synthesizer);
    REQUIRE(bench_socket(*report, "127.0.0.1", server.start().value(), command));
    server.drain_and_stop(std::chrono::milliseconds(0));

    simdjson::dom::parser parser;
    const std::string json = to_json(*report);
    CAPTURE(json);
    simdjson::dom::element root;
    REQUIRE(parser.parse(json).get(root) == simdjson::SUCCESS);
    CHECK(std::string_view(root["text"]) == command.text);
    CHECK(std::int64_t(root["runs"]) == 3);
    for (const char* path : {"/first_audio_ms/p50", "/rtf/p95", "/socket_first_packet_ms/p50", "/stages/prefill_ms/p95",
                             "/stages/total_ms/max", "/rss_mb", "/peak_rss_mb"}) {
      CAPTURE(path);
      CHECK(root.at_pointer(path).is_number());
    }
    CHECK(double(root.at_pointer("/rtf/p50")) == 0.25);
    CHECK(double(root.at_pointer("/audio_ms/p50")) == 100);
    CHECK(double(root.at_pointer("/socket_first_packet_ms/p50")) > 0);
    CHECK(double(root.at_pointer("/rss_mb")) > 1);
    CHECK(to_text(*report).find("first packet, ms") != std::string::npos);
  }

  TEST_CASE("what cannot be measured is an error") {
    FakeSynthesizer synthesizer;
    BenchCommand command;
    command.runs = 1;
    command.voice = "nobody";
    CHECK(bench(synthesizer, command).error().code == Errc::unknown_voice);
    command.voice = "starter";
    command.text = "   ";
    CHECK(bench(synthesizer, command).error().code == Errc::bad_message);
    command.text = "Please do fail here at once.";
    CHECK(bench(synthesizer, command).error().code == Errc::internal);
    BenchReport report;
    CHECK(bench_socket(report, "127.0.0.1", 1, command).has_error());
  }
}
