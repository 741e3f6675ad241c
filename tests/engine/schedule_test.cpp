#include "src/engine/schedule.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "src/engine/load_meter.h"
#include "tests/doctest.h"

namespace tts {
namespace {

constexpr double kNone = -std::numeric_limits<double>::infinity();

StreamView stream(double lead, int fresh, int wanted, const void* batch = nullptr) {
  StreamView s;
  s.lead = lead;
  s.fresh = fresh;
  s.wanted = wanted;
  s.prefilled = true;
  s.batch = batch;
  return s;
}

using Rows = std::vector<std::size_t>;

}  // namespace

TEST_SUITE("engine/schedule") {
  TEST_CASE("a listener who ran dry is behind by the silence, not by all that went before") {
    Playback p;
    CHECK(p.lead(5) == kNone);
    p.made(10, 2);
    p.made(11, 1);
    CHECK(p.lead(12) == doctest::Approx(1));
    CHECK(p.lead(15) == doctest::Approx(-2));
    p.made(40, 0.5);
    CHECK(p.lead(40) == doctest::Approx(0.5));
  }

  TEST_CASE("a chunk is rendered when it is complete, the listener who runs dry first before the others") {
    std::vector<StreamView> s{stream(2.0, 8, 8), stream(0.5, 7, 8), stream(1.0, 9, 8), stream(3.0, 1, 8)};
    CHECK(next_to_render(s) == Rows{2});
    s[3].tokens_done = true;
    CHECK(next_to_render(s) == Rows{2});
    s[2].rendering = true;
    CHECK(next_to_render(s) == Rows{0});
    s[0].paused = true;
    CHECK(next_to_render(s) == Rows{3});  // the rest of a segment, however short
    s[3].rendering = true;
    CHECK(next_to_render(s).empty());
  }

  TEST_CASE("who has heard nothing yet comes before all, the one who has waited longest first") {
    std::vector<StreamView> s{stream(-0.3, 4, 4), stream(kNone, 4, 4), stream(kNone, 4, 4)};
    s[1].since = 20;
    s[2].since = 10;
    CHECK(next_to_render(s) == Rows{2});
    CHECK(next_to_decode(std::vector<StreamView>{stream(0.1, 0, 4), stream(kNone, 0, 4)}, 0.4, 8) == Rows{1, 0});
  }

  TEST_CASE("chunks of one group are rendered together, the most urgent first, if that one is not held up too long") {
    const int a = 0, b = 0;
    std::vector<StreamView> s{stream(1.0, 4, 4), stream(0.1, 4, 4), stream(0.5, 4, 4), stream(0.2, 4, 4),
                              stream(3, 0, 4)};
    for (StreamView& v : s) {
      v.group = {&a, 1};
      v.together = 8;
    }
    s[3].group = {&a, 2};
    CHECK(next_to_render(s) == Rows{1, 2, 0});
    s[1].together = 2;
    CHECK(next_to_render(s) == Rows{1, 2});
    s[1].together = 8;
    s[2].group = {&b, 1};
    CHECK(next_to_render(s) == Rows{1, 0});
    s[1].group = {};  // alone
    s[2].group = {};
    CHECK(next_to_render(s) == Rows{1});

    RenderTimes times;
    for (StreamView& v : s) v.group = {&a, 1};
    times.took({&a, 1}, 1, 0.030);                         // proportional as long as nothing else is known
    CHECK(next_to_render(s, times, 0.020) == Rows{1, 3});  // 30 ms more, and 100 ms to hear
    s[1].lead = kNone;
    CHECK(next_to_render(s, times, 0.020) == Rows{1});
    times.took({&a, 1}, 3, 0.036);
    CHECK(next_to_render(s, times, 0.020) == Rows{1, 3, 2, 0});
    CHECK(times.expected({&a, 1}, 8) == doctest::Approx(0.051));
    CHECK(times.expected({&b, 1}, 8) == 0);
    for (int i = 0; i < 200; ++i) times.took({&a, 1}, static_cast<std::size_t>(1 + i % 2), 0.1 * (1 + i % 2));
    CHECK(times.expected({&a, 1}, 4) == doctest::Approx(0.4).epsilon(0.01));
    CHECK(next_to_render(s, times, 0.020) == Rows{1});
  }

  TEST_CASE("a step draws for all that want a token, of one model") {
    const int a = 0, b = 0;
    std::vector<StreamView> s{stream(5, 0, 4, &a), stream(1, 0, 4, &a), stream(2, 0, 4, &b), stream(3, 4, 4, &a),
                              stream(4, 0, 4, &a)};
    CHECK(next_to_decode(s, 0.4, 8) == Rows{1, 4, 0});
    CHECK(next_to_decode(s, 0.4, 2) == Rows{1, 4});
    s[4].prefilled = false;
    s[0].tokens_done = true;
    CHECK(next_to_decode(s, 0.4, 8) == Rows{1});
    s[1].paused = true;
    CHECK(next_to_decode(s, 0.4, 8) == Rows{2});
    s[2].decoding = true;
    CHECK(next_to_decode(s, 0.4, 8).empty());
  }

  TEST_CASE("those with a comfortable lead stay out of a step that somebody waits for") {
    const std::vector<StreamView> s{stream(5, 0, 4), stream(0.1, 0, 4), stream(0.3, 0, 4), stream(0.5, 0, 4)};
    CHECK(next_to_decode(s, 0.4, 8) == Rows{1, 2});
    CHECK(next_to_decode(s, 0.0, 8) == Rows{1, 2, 3, 0});
  }

  TEST_CASE("a prefill waits for those who would run dry meanwhile, but not for ever") {
    std::vector<StreamView> s{stream(0.15, 0, 4), stream(kNone, 0, 4)};
    CHECK(!may_prefill(s, 0.1, 0.0, 0.2));
    CHECK(may_prefill(s, 0.1, 0.2, 0.2));
    CHECK(may_prefill(s, 0.05, 0.0, 0.2));
    s[0].tokens_done = true;  // needs no more tokens
    CHECK(may_prefill(s, 0.1, 0.0, 0.2));
  }

  TEST_CASE("chunks grow, but never beyond what is still to be heard") {
    CHECK(grown_chunk(2, 1.6, 0.0, 25, 40) == 4);
    CHECK(grown_chunk(10, 1.6, 10.0, 25, 40) == 16);
    CHECK(grown_chunk(10, 1.6, 0.4, 25, 40) == 10);
    CHECK(grown_chunk(30, 1.6, 10.0, 25, 40) == 40);
    CHECK(grown_chunk(30, 1.6, -5.0, 25, 40) == 4);
  }

  TEST_CASE(
      "whatever the state, only streams that want one get a token, once each, and the most urgent is among them") {
    std::mt19937 random(5);
    const int models[3] = {};
    for (int round = 0; round < 2000; ++round) {
      std::vector<StreamView> s(random() % 12);
      for (StreamView& v : s) {
        v = stream(random() % 4 == 0 ? kNone : static_cast<double>(random() % 100) / 20 - 1,
                   static_cast<int>(random() % 6), 4, &models[random() % 3]);
        v.since = static_cast<double>(random() % 10);
        v.prefilled = random() % 5 != 0;
        v.tokens_done = random() % 5 == 0;
        v.paused = random() % 5 == 0;
        v.decoding = random() % 5 == 0;
        v.rendering = random() % 3 == 0;
      }
      const auto wants = [&](const StreamView& v) {
        return v.prefilled && !v.tokens_done && !v.paused && !v.decoding && v.fresh < v.wanted;
      };
      const Rows rows = next_to_decode(s, 0.4, 4);
      CHECK(rows.size() <= 4);
      for (std::size_t i = 0; i < rows.size(); ++i) {
        REQUIRE(rows[i] < s.size());
        CHECK(wants(s[rows[i]]));
        CHECK(s[rows[i]].batch == s[rows[0]].batch);
        for (std::size_t j = 0; j < i; ++j) CHECK(rows[i] != rows[j]);
      }
      for (const StreamView& v : s) {
        if (!wants(v)) continue;
        REQUIRE(!rows.empty());
        CHECK(!is_more_urgent(v, s[rows[0]]));
      }
      const auto due = [](const StreamView& v) {
        return !v.rendering && !v.paused && (v.tokens_done || v.fresh >= v.wanted);
      };
      for (StreamView& v : s) {
        v.fresh = static_cast<int>(random() % 8);
        v.together = 1 + static_cast<int>(random() % 4);
        if (random() % 4 != 0) v.group = {&models[random() % 3], static_cast<std::int64_t>(random() % 2)};
      }
      const Rows chunks = next_to_render(s, {}, 0.02);
      CHECK(chunks.empty() == std::none_of(s.begin(), s.end(), due));
      for (std::size_t i = 0; i < chunks.size(); ++i) {
        REQUIRE(chunks[i] < s.size());
        CHECK(due(s[chunks[i]]));
        CHECK(chunks.size() <= static_cast<std::size_t>(s[chunks[0]].together));
        CHECK(s[chunks[i]].group == s[chunks[0]].group);
        if (i > 0) CHECK(!is_more_urgent(s[chunks[i]], s[chunks[i - 1]]));
      }
      for (const StreamView& v : s) {
        if (due(v)) CHECK(!is_more_urgent(v, s[chunks[0]]));
      }
    }
  }
}

TEST_SUITE("engine/load_meter") {
  TEST_CASE("costs are work over audio, and admission counts what is known") {
    LoadMeter meter(2, 0.8);
    CHECK(meter.admits(0, "a"));
    const double guess = meter.per_stream("a");
    CHECK(guess > 0);
    for (int i = 0; i < 100; ++i) {
      meter.work("a", 0.1);
      meter.audio("a", 1.0);
    }
    const double a = meter.per_stream("a");
    CHECK(a > 0.1);
    CHECK(a < 0.13);
    CHECK(meter.per_stream("b") == doctest::Approx(a));  // nothing better is known of it
    int admitted = 0;
    for (double load = 0; meter.admits(load, "a"); load += meter.share("a")) REQUIRE(++admitted < 100);
    CHECK(admitted == static_cast<int>(0.8 * 2 / a));
    for (int i = 0; i < 200; ++i) {  // it has become twice as slow
      meter.work("a", 0.2);
      meter.audio("a", 1.0);
    }
    CHECK(meter.per_stream("a") > 1.7 * a);
  }

  TEST_CASE("what the process takes beside the networks is measured, whatever is loaded or waits meanwhile") {
    LoadMeter meter(2, 0.8);
    double used = 3;  // before anyone spoke
    double now = 10;
    const auto speak = [&](double outside) {
      for (int i = 0; i < 100; ++i) {
        meter.work("a", 0.02);
        meter.audio("a", 1.0);
        used += 0.02 + outside;
        meter.process(used, now += 0.3);
      }
    };
    speak(0.006);
    const double cost = meter.per_stream("a");
    CHECK(cost == doctest::Approx(0.026).epsilon(0.01));
    used += 4;  // a voice is loaded
    meter.aside(4);
    speak(0.006);
    CHECK(meter.per_stream("a") == doctest::Approx(cost).epsilon(0.01));
    used += 4;  // an hour of silence
    now += 3600;
    speak(0.006);
    CHECK(meter.per_stream("a") == doctest::Approx(cost).epsilon(0.01));
    for (int i = 0; i < 4; ++i) speak(0.012);
    CHECK(meter.per_stream("a") == doctest::Approx(0.032).epsilon(0.02));
    for (int i = 0; i < 4; ++i) speak(3.0);  // the rest of the process is not believed to be as busy for the streams
    CHECK(meter.per_stream("a") < 0.1);
  }

  TEST_CASE("the first stream is let in however slow the model is") {
    LoadMeter meter(1, 0.8);
    meter.work("slow", 30);
    meter.audio("slow", 10);
    CHECK(meter.admits(0, "slow"));
    CHECK(!meter.admits(0.1, "slow"));
    CHECK(meter.retry_after(1).count() >= 200);
    CHECK(meter.retry_after(1).count() <= 10000);
  }
}

}  // namespace tts
