#include "src/engine/quality.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "tests/doctest.h"

namespace tts {
namespace {

constexpr QualityRule kRule{.above = 0.7, .below = 0.5, .hold = 1.0, .steps = 3};

VoiceInfo voice(std::string id, int rate_hz = 24000, std::vector<std::string> langs = {"en"}) {
  return {id, id, std::move(langs), rate_hz};
}

std::string fault(const LighterVoices& lighter, const std::vector<VoiceInfo>& voices) {
  const auto checked = check_lighter_voices(lighter, voices);
  return checked ? "" : checked.error().detail;
}

}  // namespace

TEST_SUITE("engine/quality") {
  TEST_CASE("a load that stays high takes one step down after another, one that stays low takes them back") {
    Quality q = next_quality(kRule, {}, 0.9, 10.0);
    CHECK(q.steps == 0);  // it has not stayed yet
    q = next_quality(kRule, q, 0.9, 10.9);
    CHECK(q.steps == 0);
    q = next_quality(kRule, q, 0.9, 11.0);
    CHECK(q.steps == 1);
    q = next_quality(kRule, q, 0.9, 12.5);
    CHECK(q.steps == 2);
    q = next_quality(kRule, q, 0.6, 13.2);  // the step that was due at 13; from here on nothing changes
    CHECK(q.steps == 3);
    q = next_quality(kRule, q, 0.6, 100);
    CHECK(q.steps == 3);
    q = next_quality(kRule, q, 0.4, 101);
    CHECK(q.steps == 3);
    q = next_quality(kRule, q, 0.4, 103.5);
    CHECK(q.steps == 1);
    q = next_quality(kRule, q, 0.8, 103.9);
    CHECK(q.steps == 1);
    q = next_quality(kRule, q, 0.4, 104.5);  // high for less than a second: nothing
    CHECK(q.steps == 1);
    q = next_quality(kRule, q, 0.4, 1000);
    CHECK(q.steps == 0);
  }

  TEST_CASE("without a hold all steps are taken at once") {
    QualityRule rule = kRule;
    rule.hold = 0;
    Quality q = next_quality(rule, {}, 0.71, 0);
    CHECK(q.steps == 3);
    q = next_quality(rule, q, 0.7, 0);
    CHECK(q.steps == 3);
    CHECK(next_quality(rule, q, 0.49, 0).steps == 0);
  }

  TEST_CASE("whatever the loads: in range, no faster than the hold, never against the load, no flapping") {
    std::mt19937 random(17);
    for (int round = 0; round < 300; ++round) {
      CAPTURE(round);
      QualityRule rule;
      rule.below = static_cast<double>(random() % 80) / 100;
      rule.above = rule.below + static_cast<double>(random() % 40) / 100;
      rule.hold = static_cast<double>(1 + random() % 20) / 8;  // exact in binary, as the times below
      rule.steps = static_cast<int>(random() % 5);
      double now = static_cast<double>(random() % 1000) / 16;
      double load = 0;
      Quality q = next_quality(rule, {}, load, now);
      double turned_down = -1e9, turned_up = -1e9;  // when the last step of each kind was taken
      for (int i = 0; i < 200; ++i) {
        const double last_load = load;
        const double elapsed = static_cast<double>(random() % 40) / 16;
        // Seen once more in between, at an unchanged load, the end is the same.
        const Quality seen = next_quality(rule, q, load, now + elapsed / 2);
        now += elapsed;
        load = static_cast<double>(random() % 130) / 100;
        const Quality next = next_quality(rule, q, load, now);
        const Quality by_way = next_quality(rule, seen, load, now);
        CHECK(next.steps == by_way.steps);
        CHECK(next.trend == by_way.trend);
        CHECK(next.since == by_way.since);
        CHECK(next.steps >= 0);
        CHECK(next.steps <= rule.steps);
        CHECK(std::abs(next.steps - q.steps) <= std::floor(elapsed / rule.hold) + 1);
        if (next.steps > q.steps) {
          CHECK(last_load > rule.above);
          CHECK(now - turned_up >= rule.hold);
          turned_down = now;
        }
        if (next.steps < q.steps) {
          CHECK(last_load < rule.below);
          CHECK(now - turned_down >= rule.hold);
          turned_up = now;
        }
        q = next;
      }
      // Under a load that stays it goes all the way down, and at rest all the way up.
      CHECK(next_quality(rule, next_quality(rule, q, 2.0, now), 2.0, now + 6 * rule.hold).steps == rule.steps);
      CHECK(next_quality(rule, next_quality(rule, q, -1.0, now), -1.0, now + 6 * rule.hold).steps == 0);
    }
  }

  TEST_CASE("each step down is one along the chain of lighter voices, to its end") {
    const LighterVoices lighter{{"big", "mid"}, {"mid", "small"}, {"other", "small"}};
    CHECK(lighter_voice(lighter, "big", 0) == "big");
    CHECK(lighter_voice(lighter, "big", 1) == "mid");
    CHECK(lighter_voice(lighter, "big", 2) == "small");
    CHECK(lighter_voice(lighter, "big", 9) == "small");
    CHECK(lighter_voice(lighter, "other", 2) == "small");
    CHECK(lighter_voice(lighter, "none", 2) == "none");
    CHECK(most_steps(lighter) == 2);
    CHECK(most_steps({}) == 0);
  }

  TEST_CASE("entries that cannot work are refused by name") {
    const std::vector<VoiceInfo> voices{voice("a"), voice("b"), voice("c"), voice("fast", 32000),
                                        voice("zh", 24000, {"zh", "en"})};
    CHECK(fault({{"a", "b"}, {"b", "c"}, {"zh", "zh"}}, voices).find("zh=zh: goes in a circle") != std::string::npos);
    CHECK(fault({{"a", "b"}, {"b", "c"}, {"c", "a"}}, voices).find("circle") != std::string::npos);
    CHECK(fault({{"a", "x"}}, voices).find("no voice x") != std::string::npos);
    CHECK(fault({{"x", "a"}}, voices).find("no voice x") != std::string::npos);
    CHECK(fault({{"a", "fast"}}, voices).find("got 32000 Hz, wanted the same as a, 24000 Hz") != std::string::npos);
    CHECK(fault({{"zh", "a"}}, voices).find("does not speak all languages of zh") != std::string::npos);
    CHECK(fault({{"a", "zh"}}, voices).empty());
    CHECK(fault({{"a", "b"}, {"b", "c"}}, voices).empty());
    CHECK(most_steps({{"a", "b"}, {"b", "a"}}) <= 2);  // ends, even so
  }
}

}  // namespace tts
