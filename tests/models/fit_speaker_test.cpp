#include "models/fit_speaker.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include "models/cfm.h"
#include "tests/doctest.h"
#include "tests/models/tiny_acoustic.h"

// Against scripts/train/clone/speaker_fit.py, by tensors that scripts/train/clone/golden.py wrote.

namespace tts {
namespace {

constexpr const char* kGolden = "tests/data/golden/fit_speaker.safetensors";
constexpr std::int64_t kTokens = 80;
constexpr std::int64_t kFrames = kTokens * 15 / 4;
constexpr int kRounds = 4;  // as golden.py has them

/// A recording in the tiny networks' inventory, and what Python has learned of it.
struct Golden {
  c10::InferenceMode inference;  // as where voices are made
  WeightScope acoustic = testing::tiny_acoustic_weights()("acoustic");
  AcousticConfig config = testing::tiny_acoustic_config();
  std::shared_ptr<const WeightSource> file = load_weights(kGolden);
  std::vector<std::int32_t> tokens = ints("codes", kTokens);
  std::vector<std::int32_t> phonemes = ints("phonemes", 30);
  FitTarget target{.tokens = tokens, .phonemes = phonemes, .mel = file->get("mel", {kFrames, 100}),
                   .ge = file->get("ge", {32})};
  SpeakerFit fit{.style = file->get("fit.style", {32}),
                 .conditioning = file->get("fit.conditioning", {2, 64}),
                 .norms = file->get("fit.norms", {3, 96}),
                 .out_norm = file->get("fit.out_norm", {64})};

  double distance(const SpeakerFit& of, std::uint64_t seed = 0) const {
    return speaker_distance(acoustic, config, target, of, seed);
  }
  std::vector<std::int32_t> ints(const char* name, std::int64_t n) const {
    const at::Tensor t = file->get(name, {n}).to(at::kInt);
    return {t.data_ptr<std::int32_t>(), t.data_ptr<std::int32_t>() + n};
  }
};

bool equal(const SpeakerFit& a, const SpeakerFit& b, double tolerance) {
  return at::allclose(a.style, b.style, tolerance, tolerance) &&
         at::allclose(a.conditioning, b.conditioning, tolerance, tolerance) &&
         at::allclose(a.norms, b.norms, tolerance, tolerance) &&
         at::allclose(a.out_norm, b.out_norm, tolerance, tolerance);
}

}  // namespace

TEST_SUITE("models/fit_speaker") {
  TEST_CASE("gives the numbers of the Python reference") {
    const Golden g;
    const at::Tensor distances = g.file->get("distances", {2});
    CHECK(g.distance({}) == doctest::Approx(distances[0].item<double>()).epsilon(1e-5));
    CHECK(g.distance(g.fit) == doctest::Approx(distances[1].item<double>()).epsilon(1e-5));
    int told = 0;
    const auto fit = fit_speaker(g.acoustic, g.config, g.target, {.rounds = kRounds}, [&](int done, int rounds) {
      CHECK(done == ++told);
      CHECK(rounds == kRounds);
    });
    CHECK(told == kRounds);
    REQUIRE(fit);
    CHECK(equal(*fit, g.fit, 1e-3));  // Adam makes a step of a gradient however small it is
    CHECK(g.distance(*fit) == doctest::Approx(distances[1].item<double>()).epsilon(1e-4));
    check_speaker_fit(*fit, g.config);
  }

  TEST_CASE("what has a gradient computes what the voice speaks") {
    const Golden g;
    const AcousticModel model(g.acoustic, g.config, testing::tiny_acoustic_weights()("vocoder"),
                              testing::tiny_vocoder_config());
    const at::Tensor recorded = normalize_mel(g.target.mel);
    const auto spoken = [&](const SpeakerFit& fit) {
      const at::Tensor mel = model.make_mel(g.tokens, g.phonemes, model.make_speaker(g.target.ge, fit));
      return (normalize_mel(mel) - recorded).abs().mean().item<double>();
    };
    CHECK(g.distance({}) == doctest::Approx(spoken({})).epsilon(1e-4));
    CHECK(g.distance(g.fit) == doctest::Approx(spoken(g.fit)).epsilon(1e-4));
    CHECK(spoken(g.fit) < 0.95 * spoken({}));
    CHECK(std::abs(g.distance({}, 1) - g.distance({})) > 1e-4);  // the seed counts
  }

  TEST_CASE("every solver of the flow can be fitted with") {
    Golden g;
    for (const FlowSolver solver : {FlowSolver::midpoint, FlowSolver::heun}) {
      g.config.flow.solver = solver;
      g.config.flow.steps = 2;
      g.config.flow.temperature = 0.5;
      const auto fit = fit_speaker(g.acoustic, g.config, g.target, {.rounds = kRounds});
      REQUIRE(fit);
      CHECK(g.distance(*fit, 9) < g.distance({}, 9));
    }
  }

  TEST_CASE("without an attention window too") {
    Golden g;
    const double banded = g.distance({});
    g.config.attention_window = std::nullopt;
    CHECK(g.distance({}) != doctest::Approx(banded).epsilon(1e-6));
    const AcousticModel model(g.acoustic, g.config, testing::tiny_acoustic_weights()("vocoder"),
                              testing::tiny_vocoder_config());
    const at::Tensor mel = model.make_mel(g.tokens, g.phonemes, model.make_speaker(g.target.ge));
    const double spoken = (normalize_mel(mel) - normalize_mel(g.target.mel)).abs().mean().item<double>();
    CHECK(g.distance({}) == doctest::Approx(spoken).epsilon(1e-4));
  }

  TEST_CASE("of what cannot be fitted there is no fit") {
    Golden g;
    const auto fitted = [&](int rounds = 1) {
      return fit_speaker(g.acoustic, g.config, g.target, {.rounds = rounds}).has_value();
    };
    CHECK(fitted());
    CHECK(!fitted(0));
    const at::Tensor mel = g.target.mel;
    g.target.mel = mel.narrow(0, 0, 93);  // less than a second
    CHECK(!fitted());
    g.target.mel = mel.narrow(0, 0, 95);
    CHECK(fitted());
    g.target.mel = mel.clone();
    g.target.mel[40].fill_(std::numeric_limits<float>::quiet_NaN());
    CHECK(!fitted());
    g.target.mel = mel;
    g.target.tokens = std::span<const std::int32_t>(g.tokens).first(24);
    CHECK(!fitted());
    g.tokens[3] = 16;
    g.target.tokens = g.tokens;
    CHECK_THROWS_AS((void)fitted(), ModelError);
  }

  TEST_CASE("a fit that is not one is refused") {
    const Golden g;
    const auto refused = [&](auto change) {
      SpeakerFit fit = g.fit;
      change(fit);
      CHECK_THROWS_AS(check_speaker_fit(fit, g.config), ModelError);
    };
    CHECK_NOTHROW(check_speaker_fit(g.fit, g.config));
    refused([](SpeakerFit& f) { f.style = at::Tensor(); });
    refused([](SpeakerFit& f) { f.out_norm = at::Tensor(); });
    refused([](SpeakerFit& f) { f.norms = f.norms.narrow(0, 0, 2); });
    refused([](SpeakerFit& f) { f.conditioning = f.conditioning.clone().fill_(2.1); });
    refused([](SpeakerFit& f) { f.style = f.style.clone().fill_(-2.1); });
    refused([](SpeakerFit& f) { f.style = f.style.clone().fill_(std::numeric_limits<float>::quiet_NaN()); });
  }

  TEST_CASE("a fitted voice streams as it speaks whole, in any schedule") {
    const Golden g;
    const AcousticModel model(g.acoustic, g.config, testing::tiny_acoustic_weights()("vocoder"),
                              testing::tiny_vocoder_config());
    const auto speaker = model.make_speaker(g.target.ge, g.fit);
    const auto plain = model.make_speaker(g.target.ge);
    const auto run = [&](const AcousticModel::Speaker& who, int steps, std::size_t chunk) {
      AcousticStream stream = model.begin(g.phonemes, who, {.seed = 3, .steps = steps});
      std::vector<float> out;
      for (std::size_t at = 0; at < g.tokens.size(); at += chunk) {
        const std::size_t n = std::min(chunk, g.tokens.size() - at);
        const auto part = stream.push(std::span(g.tokens).subspan(at, n), at + n == g.tokens.size());
        out.insert(out.end(), part.begin(), part.end());
      }
      return out;
    };
    for (const int steps : {0, 2}) {  // the voice's own, another
      const auto whole = run(speaker, steps, g.tokens.size());
      const auto pieces = run(speaker, steps, 7);
      REQUIRE(pieces.size() == whole.size());
      double apart = 0, loudest = 0;
      for (std::size_t i = 0; i < whole.size(); ++i) {
        apart = std::max(apart, std::abs(static_cast<double>(whole[i]) - pieces[i]));
        loudest = std::max(loudest, std::abs(static_cast<double>(whole[i])));
      }
      CHECK(apart < 1e-5 * loudest);
      CHECK(whole != run(plain, steps, g.tokens.size()));
      // Each part of a fit is heard.
      for (const auto drop :
           {&SpeakerFit::style, &SpeakerFit::conditioning, &SpeakerFit::norms, &SpeakerFit::out_norm}) {
        SpeakerFit part = g.fit;
        part.*drop = at::zeros_like(part.*drop);
        CHECK(whole != run(model.make_speaker(g.target.ge, part), steps, g.tokens.size()));
      }
    }
  }
}

}  // namespace tts
