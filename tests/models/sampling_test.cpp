#include "models/sampling.h"

#include <cmath>

#include "tests/doctest.h"

namespace tts {
namespace {

SamplingParams plain() {
  SamplingParams params;
  params.top_k.reset();
  params.top_p.reset();
  params.repetition_penalty = 1.0F;
  params.min_tokens = 0;
  return params;
}

std::vector<float> probabilities(std::vector<float> logits, const std::vector<std::int32_t>& history,
                                 const SamplingParams& params, std::int64_t step = 100) {
  Sampler sampler;
  (void)sampler.draw(logits, history, params, SeededNoise(1), step);
  return {sampler.probabilities().begin(), sampler.probabilities().end()};
}

TEST_SUITE("models/sampling") {
  TEST_CASE("end of speech cannot be drawn during the first min_tokens steps") {
    SamplingParams params = plain();
    params.min_tokens = 11;
    const std::vector<float> logits = {0.0F, 1.0F, 50.0F};
    CHECK(probabilities(logits, {}, params, 10).size() == 2);
    const std::vector<float> later = probabilities(logits, {}, params, 11);
    REQUIRE(later.size() == 3);
    CHECK(later[2] > 0.99F);
    Sampler sampler;
    std::vector<float> work = logits;
    CHECK_FALSE(sampler.draw(work, {}, params, SeededNoise(1), 10).ends(2));
    CHECK(sampler.draw(work, {}, params, SeededNoise(1), 11).ends(2));
  }

  TEST_CASE("a token is penalised once however often it occurred") {
    SamplingParams params = plain();
    params.repetition_penalty = 2.0F;
    std::vector<float> logits = {4.0F, -4.0F, 1.0F, 0.0F};
    const std::vector<std::int32_t> history = {0, 0, 1, 0, 1, 7, -1};
    Sampler sampler;
    const Draw draw = sampler.draw(logits, history, params, SeededNoise(3), 0);
    CHECK((logits == std::vector<float>{2.0F, -8.0F, 1.0F, 0.0F}));
    CHECK(draw.argmax == 0);
  }

  TEST_CASE("top_p removes the entry that crosses the threshold, never the best") {
    SamplingParams params = plain();
    const std::vector<float> logits = {std::log(0.5F), std::log(0.3F), std::log(0.2F)};
    params.top_p = 0.85F;  // 0.5, 0.8, 1.0
    std::vector<float> p = probabilities(logits, {}, params);
    CHECK(p[0] == doctest::Approx(0.625));
    CHECK(p[1] == doctest::Approx(0.375));
    CHECK(p[2] == 0.0F);
    params.top_p = 0.0F;
    p = probabilities(logits, {}, params);
    CHECK(p[0] == 1.0F);
    CHECK(p[1] == 0.0F);
  }

  TEST_CASE("top_p looks at the logits before temperature") {
    SamplingParams params = plain();
    params.top_p = 0.85F;
    params.temperature = 0.01F;  // after it, the best alone would hold all the mass
    const std::vector<float> logits = {std::log(0.5F), std::log(0.3F), std::log(0.2F)};
    const std::vector<float> p = probabilities(logits, {}, params);
    CHECK(p[0] > 0.99F);
    CHECK(p[2] == 0.0F);
    params.temperature = 100.0F;
    const std::vector<float> flat = probabilities(logits, {}, params);
    CHECK(flat[1] > 0.4F);
    CHECK(flat[2] == 0.0F);
  }

  TEST_CASE("top_k keeps ties with the last one kept") {
    SamplingParams params = plain();
    params.top_k = 2;
    const std::vector<float> p = probabilities({1.0F, 3.0F, 2.0F, 2.0F, 0.0F}, {}, params);
    CHECK(p[0] == 0.0F);
    CHECK(p[1] > 0.0F);
    CHECK(p[2] > 0.0F);
    CHECK(p[3] == p[2]);
    CHECK(p[4] == 0.0F);
  }

  TEST_CASE("greedy takes the first maximum") {
    SamplingParams params = plain();
    params.temperature = 0.0F;
    params.top_k = 1;
    for (std::uint64_t seed = 0; seed < 20; ++seed) {
      std::vector<float> logits = {0.0F, 2.0F, 1.0F};
      Sampler sampler;
      CHECK(sampler.draw(logits, {}, params, SeededNoise(seed), 0).token == 1);
    }
  }

  TEST_CASE("draws follow the probabilities") {
    const SamplingParams params = plain();
    const std::vector<float> wanted = {0.6F, 0.3F, 0.09F, 0.01F};
    std::vector<int> counts(wanted.size(), 0);
    constexpr int kDraws = 20000;
    Sampler sampler;
    const SeededNoise noise(42);
    for (int i = 0; i < kDraws; ++i) {
      std::vector<float> logits;
      for (const float p : wanted) logits.push_back(std::log(p));
      ++counts[static_cast<std::size_t>(sampler.draw(logits, {}, params, noise, i).token)];
    }
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      const double deviation = std::sqrt(wanted[i] * (1.0 - wanted[i]) / kDraws);
      CHECK(std::abs(static_cast<double>(counts[i]) / kDraws - wanted[i]) < 4.5 * deviation);
    }
  }

  TEST_CASE("seeded noise depends on seed, step and column alone, with mean one") {
    const SeededNoise a(7);
    const SeededNoise same(7);
    const SeededNoise other(8);
    double mean = 0;
    int equal = 0;
    constexpr int kSteps = 50;
    constexpr int kColumns = 400;
    for (int step = 0; step < kSteps; ++step) {
      for (int column = 0; column < kColumns; ++column) {
        const float q = a.exponential(step, column);
        CHECK(q > 0.0F);
        CHECK(q == same.exponential(step, column));
        equal += q == other.exponential(step, column) || q == a.exponential(step + 1, column) ? 1 : 0;
        mean += q / (kSteps * kColumns);
      }
    }
    CHECK(equal < 10);
    CHECK(std::abs(mean - 1.0) < 0.03);
  }
}

}  // namespace
}  // namespace tts
