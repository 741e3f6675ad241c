#include "models/acoustic.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include "models/acoustic_times.h"
#include "models/cfm.h"
#include "models/noise.h"
#include "src/audio/level.h"
#include "tests/doctest.h"
#include "tests/models/tiny_acoustic.h"

namespace tts {
namespace {

using namespace tts::testing;

constexpr std::uint64_t kSeed = 20240611;  // that of scripts/train/golden.py
constexpr std::int64_t kTokens = 21;
constexpr std::int64_t kFrames = kTokens * 15 / 4;

/// F0 is integrated to phase and the phase of a pulse train's k-th harmonic is k times that: a difference in the last
/// bit of F0 is 1e-5 cycles after a second and 1e-3 of the wave's peak. Waves of two implementations are held to this;
/// chunked and whole output, whose F0 is the same to the last bit, to 1e-5.
constexpr double kPhaseTolerance = 2e-2;

/// The networks of the golden file, and its inputs and outputs.
struct Golden {
  c10::InferenceMode inference;
  std::shared_ptr<const WeightSource> file = load_weights(kTinyAcoustic);
  WeightScope scope{file};
  AcousticModel model{scope("acoustic"), tiny_acoustic_config(), scope("vocoder"), tiny_vocoder_config()};
  SourceFilterVocoder vocoder{scope("vocoder"), tiny_vocoder_config()};
  std::vector<std::int32_t> codes = ints("codes", kTokens);
  std::vector<std::int32_t> phonemes = ints("phonemes", 9);
  AcousticModel::Speaker speaker = model.make_speaker(file->get("ge", {32}));

  std::vector<std::int32_t> ints(const char* name, std::int64_t n) const {
    const at::Tensor t = file->get(name, {n}).to(at::kInt);
    return {t.data_ptr<std::int32_t>(), t.data_ptr<std::int32_t>() + n};
  }
  at::Tensor floats(const char* name, at::IntArrayRef shape) const { return file->get(name, shape); }
};

/// Largest difference over the largest wanted value; infinite for different sizes.
double distance(const std::vector<float>& got, const at::Tensor& want) {
  if (static_cast<std::int64_t>(got.size()) != want.numel()) return INFINITY;
  const at::Tensor g = at::from_blob(const_cast<float*>(got.data()), {want.numel()}, at::kFloat);
  return ((g - want.reshape({-1})).abs().max() / want.abs().max()).item<double>();
}
double distance(const at::Tensor& got, const at::Tensor& want) {
  if (got.sizes() != want.sizes()) return INFINITY;
  return ((got - want).abs().max() / want.abs().max()).item<double>();
}
double distance(const std::vector<float>& got, const std::vector<float>& want) {
  return distance(got, at::from_blob(const_cast<float*>(want.data()), {static_cast<std::int64_t>(want.size())}));
}

/// Tokens in pieces of `chunk`; the last piece carries `last`, or with `late_end` an empty one after it does.
std::vector<float> run(const Golden& g, std::int64_t chunk, const AcousticOptions& options, bool late_end = false) {
  AcousticStream stream = g.model.begin(g.phonemes, g.speaker, options);
  std::vector<float> out;
  const auto n = static_cast<std::int64_t>(g.codes.size());
  for (std::int64_t at = 0; at < n; at += chunk) {
    const auto size = static_cast<std::size_t>(std::min(chunk, n - at));
    const bool last = at + chunk >= n && !late_end;
    const auto part = stream.push({g.codes.data() + at, size}, last);
    out.insert(out.end(), part.begin(), part.end());
  }
  if (late_end) {
    const auto part = stream.push({}, true);
    out.insert(out.end(), part.begin(), part.end());
  }
  return out;
}

TEST_SUITE("models/acoustic") {
  TEST_CASE("a tiny voice gives the numbers of the Python reference") {
    const Golden g;
    const auto from_mel = g.model.make_speaker_from_mel(g.floats("reference", {37, 100}));
    CHECK(distance(from_mel.ge, g.floats("ge", {32})) < 1e-5);
    AcousticOptions options;
    options.seed = kSeed;
    CHECK(distance(run(g, kTokens, options), g.floats("wave", {kFrames * 256})) < kPhaseTolerance);
  }

  TEST_CASE("flow matching gives the numbers of the Python reference") {
    const Golden g;
    CausalFlowConfig config = tiny_acoustic_config().estimator;
    config.features = 32;
    const CausalFlow flow(g.scope("acoustic.cfm.estimator"), config);
    auto state = flow.initial_state(flow.make_schedule({.steps = kTinySteps}), kSeed);
    CHECK(distance(flow.step(g.floats("mu", {kFrames, 32}), state), g.floats("mel", {kFrames, 100})) < 1e-5);
  }

  TEST_CASE("the flow's temperature scales the noise it starts from") {
    const Golden g;
    CausalFlowConfig config = tiny_acoustic_config().estimator;
    config.features = 32;
    const CausalFlow flow(g.scope("acoustic.cfm.estimator"), config);
    const at::Tensor mu = g.floats("mu", {kFrames, 32});
    const auto mel = [&](double temperature, std::uint64_t seed) {
      auto state = flow.initial_state(flow.make_schedule({.steps = kTinySteps, .temperature = temperature}), seed);
      return flow.step(mu, state);
    };
    CHECK(distance(mel(1.0, kSeed), g.floats("mel", {kFrames, 100})) < 1e-5);
    CHECK(at::equal(mel(0.0, 1), mel(0.0, 2)));
    const auto apart = [&](double temperature) {
      return (mel(temperature, 1) - mel(temperature, 2)).abs().mean().item<double>();
    };
    CHECK(apart(0.5) > 0.3 * apart(1.0));
    CHECK(apart(0.5) < 0.7 * apart(1.0));
  }

  TEST_CASE("the vocoder gives the numbers of the Python reference") {
    const Golden g;
    const at::Tensor mel = g.floats("vocoder_mel", {40, 100});
    CHECK(distance(g.vocoder.predict_f0(mel), g.floats("vocoder_f0", {40})) < 1e-5);
    auto state = g.vocoder.initial_state(kSeed);
    const std::vector<float> wave = g.vocoder.finish(mel, state);
    const at::Tensor want = g.floats("vocoder_wave", {40 * 256});
    CHECK(distance(wave, want) < kPhaseTolerance);
    // Before differences of phase have grown, everything else shows.
    CHECK(distance({wave.begin(), wave.begin() + 1536}, want.narrow(0, 0, 1536)) < 5e-4);
  }

  TEST_CASE("the vocoder's gain scales the wave and keeps its peaks below full scale") {
    const Golden g;
    const at::Tensor mel = g.floats("vocoder_mel", {40, 100});
    SourceFilterConfig config = tiny_vocoder_config();
    config.gain_db = 4.2;
    const SourceFilterVocoder louder(g.scope("vocoder"), config);
    auto state = louder.initial_state(kSeed);
    const std::vector<float> wave = louder.finish(mel, state);
    auto plain_state = g.vocoder.initial_state(kSeed);
    std::vector<float> want = g.vocoder.finish(mel, plain_state);
    for (float& x : want) {
      x *= 1.62181F;
    }
    CHECK(peak(want) > 1);
    limit_peaks(want);
    REQUIRE(wave.size() == want.size());
    for (std::size_t i = 0; i < wave.size(); ++i) {
      CHECK(std::abs(wave[i] - want[i]) < 1e-5F);
    }
  }

  TEST_CASE("noise is a function of seed, stream and index, whatever the chunks") {
    const Golden g;
    std::vector<float> whole(200);
    const GaussianNoise noise(kSeed, CausalFlow::kNoiseStream);
    noise.fill(0, whole);
    CHECK(distance(whole, g.floats("flow_noise", {2, 100})) < 1e-5);
    noise.fill(-77, whole);
    std::mt19937 random(5);
    for (std::size_t at = 0; at < whole.size();) {
      const std::size_t n = std::min<std::size_t>(whole.size() - at, 1 + random() % 7);
      std::vector<float> part(n);
      noise.fill(static_cast<std::int64_t>(at) - 77, part);
      for (std::size_t i = 0; i < n; ++i) CHECK(part[i] == whole[at + i]);
      at += n;
    }
    std::vector<float> many(100000);
    GaussianNoise(kSeed, 9).fill(0, many);
    const at::Tensor t = at::from_blob(many.data(), {100000});
    CHECK(std::abs(t.mean().item<double>()) < 0.015);
    CHECK(std::abs(t.std().item<double>() - 1.0) < 0.015);
    std::vector<float> other(200);
    GaussianNoise(kSeed + 1, CausalFlow::kNoiseStream).fill(-77, other);
    CHECK(distance(other, whole) > 0.1);
  }

  TEST_CASE("tokens in any chunking give the samples of one pass") {
    const Golden g;
    for (const double speed : {1.0, 0.77, 1.3, 2.0}) {
      AcousticOptions options;
      options.seed = 3;
      options.speed = speed;
      const std::vector<float> whole = run(g, kTokens, options);
      const auto frames_50hz = speed == 1.0 ? 2 * kTokens : static_cast<std::int64_t>(2 * kTokens / speed);
      CHECK(static_cast<std::int64_t>(whole.size()) == frames_50hz * 15 / 8 * 256);
      for (const std::int64_t chunk : {1, 2, 3, 5, 8, 20}) {
        CAPTURE(speed);
        CAPTURE(chunk);
        CHECK(distance(run(g, chunk, options), whole) < 1e-5);
        CHECK(distance(run(g, chunk, options, true), whole) < 1e-5);
      }
    }
  }

  TEST_CASE("a shift is added to the mel of every frame, in any chunking") {
    Golden g;
    const AcousticModel::Speaker plain = g.speaker;
    const at::Tensor mel = g.model.make_mel(g.codes, g.phonemes, plain);
    CHECK((mel.sizes().vec() == std::vector<std::int64_t>{kFrames, 100}));
    g.speaker.mel_shift = at::linspace(-0.3, 0.5, 100);
    SourceFilterVocoder::State state = g.vocoder.initial_state(0);
    const std::vector<float> whole = run(g, kTokens, {});
    CHECK(distance(whole, g.vocoder.finish(mel + g.speaker.mel_shift, state)) < 1e-5);
    for (const std::int64_t chunk : {1, 2, 5, 8}) CHECK(distance(run(g, chunk, {}), whole) < 1e-5);
    g.speaker = plain;
    CHECK(distance(run(g, kTokens, {}), whole) > 0.1);
  }

  TEST_CASE("the postfilter of the configuration is heard, in any chunking") {
    Golden g;
    AcousticConfig config = tiny_acoustic_config();
    config.postfilter = 0.7;
    const AcousticModel filtered(g.scope("acoustic"), config, g.scope("vocoder"), tiny_vocoder_config());
    const at::Tensor mel = g.model.make_mel(g.codes, g.phonemes, g.speaker);
    const at::Tensor deeper = filtered.make_mel(g.codes, g.phonemes, g.speaker);
    CHECK(distance(deeper, MelPostfilter(100, 0.7)(mel)) < 1e-6);
    CHECK(distance(deeper, mel) > 1e-3);
    SourceFilterVocoder::State state = g.vocoder.initial_state(0);
    const std::vector<float> want = g.vocoder.finish(deeper, state);
    for (const std::int64_t chunk : {std::int64_t{1}, std::int64_t{2}, std::int64_t{5}, std::int64_t{8}, kTokens}) {
      CAPTURE(chunk);
      AcousticStream stream = filtered.begin(g.phonemes, g.speaker, {});
      std::vector<float> got;
      for (std::int64_t at = 0; at < kTokens; at += chunk) {
        const std::int64_t n = std::min(chunk, kTokens - at);
        const auto more = stream.push(std::span(g.codes).subspan(at, n), at + n == kTokens);
        got.insert(got.end(), more.begin(), more.end());
      }
      CHECK(distance(got, want) < 1e-5);
    }
  }

  TEST_CASE("mel frames in any chunking give the samples of one pass") {
    const Golden g;
    const at::Tensor mel = g.floats("vocoder_mel", {40, 100});
    for (const std::int64_t n : {1, 2, 5, 7, 40}) {
      auto whole_state = g.vocoder.initial_state(1);
      const std::vector<float> whole = g.vocoder.finish(mel.narrow(0, 0, n), whole_state);
      CHECK(static_cast<std::int64_t>(whole.size()) == n * 256);
      for (const std::int64_t chunk : {1, 2, 3, 16}) {
        CAPTURE(n);
        CAPTURE(chunk);
        auto state = g.vocoder.initial_state(1);
        std::vector<float> out;
        for (std::int64_t at = 0; at < n; at += chunk) {
          const auto part = g.vocoder.step(mel.narrow(0, at, std::min(chunk, n - at)), state);
          out.insert(out.end(), part.begin(), part.end());
          const std::int64_t certain =
              std::max<std::int64_t>(0, (std::min(n, at + chunk) - SourceFilterVocoder::kLookaheadFrames) * 256 -
                                            SourceFilterVocoder::kLookaheadSamples);
          CHECK(static_cast<std::int64_t>(out.size()) == certain);
        }
        const auto rest = g.vocoder.finish(state);
        out.insert(out.end(), rest.begin(), rest.end());
        CHECK(distance(out, whole) < 1e-5);
      }
    }
  }

  TEST_CASE("the first samples come after exactly first_audio_tokens") {
    const Golden g;
    const std::int64_t first = g.model.first_audio_tokens().value();
    REQUIRE(first > 1);
    REQUIRE(first < kTokens);
    const AcousticTimes times;
    AcousticStream stream = g.model.begin(g.phonemes, g.speaker, {});
    for (std::int64_t i = 0; i < first; ++i) {
      const bool empty = stream.push({g.codes.data() + i, 1}, false).empty();
      CHECK(empty == (i + 1 < first));
    }
    CHECK(times.encoder.count() > 0);
    CHECK(times.flow.count() > 0);
    CHECK(times.vocoder.count() > 0);
  }

  TEST_CASE("without an attention window everything comes at the end, in any chunking") {
    Golden g;
    AcousticConfig config = tiny_acoustic_config();
    config.attention_window.reset();
    g.model = AcousticModel(g.scope("acoustic"), config, g.scope("vocoder"), tiny_vocoder_config());
    CHECK_FALSE(g.model.first_audio_tokens().has_value());
    const std::vector<float> whole = run(g, kTokens, {});
    CHECK(distance(run(g, 4, {}), whole) < 1e-5);
  }

  TEST_CASE("the seed and the number of steps matter, a repetition does not") {
    const Golden g;
    AcousticOptions options;
    options.seed = 1;
    const std::vector<float> first = run(g, 4, options);
    CHECK(run(g, 4, options) == first);
    options.seed = 2;
    CHECK(distance(run(g, 4, options), first) > 1e-3);
    options.seed = 1;
    options.steps = 1;
    CHECK(distance(run(g, 4, options), first) > 1e-3);
  }

  TEST_CASE("an utterance without tokens is silent, one with one token is not") {
    Golden g;
    g.codes.clear();
    CHECK(run(g, 1, {}, true).empty());
    g.codes = {5};
    CHECK(run(g, 1, {}).size() == 3 * 256);
    AcousticOptions fast;
    fast.speed = 2.0;
    CHECK(run(g, 1, fast).size() == 1 * 256);
  }

  TEST_CASE("what is out of range is refused") {
    const Golden g;
    const std::vector<std::int32_t> none;
    const std::vector<std::int32_t> unknown{40};
    CHECK_THROWS_AS((void)g.model.begin(none, g.speaker, {}), ModelError);
    CHECK_THROWS_AS((void)g.model.begin(unknown, g.speaker, {}), ModelError);
    AcousticOptions options;
    options.speed = 2.5;
    CHECK_THROWS_AS((void)g.model.begin(g.phonemes, g.speaker, options), ModelError);
    options.speed = NAN;
    CHECK_THROWS_AS((void)g.model.begin(g.phonemes, g.speaker, options), ModelError);
    options.speed = 1.0;
    options.steps = -1;
    CHECK_THROWS_AS((void)g.model.begin(g.phonemes, g.speaker, options), ModelError);
    AcousticStream stream = g.model.begin(g.phonemes, g.speaker, {});
    const std::vector<std::int32_t> end_of_speech{16};
    CHECK_THROWS_AS((void)stream.push(end_of_speech, false), ModelError);
    (void)stream.push(g.codes, true);
    CHECK_THROWS_AS((void)stream.push({}, true), ModelError);
    CHECK_THROWS_AS((void)g.model.make_speaker(at::zeros({31})), ModelError);
  }

  TEST_CASE("a missing or misshapen tensor is named") {
    const Golden g;
    AcousticConfig config = tiny_acoustic_config();
    config.layers_post = 3;
    CHECK_THROWS_WITH_AS((void)AcousticModel(g.scope("acoustic"), config, g.scope("vocoder"), tiny_vocoder_config()),
                         doctest::Contains("acoustic.enc_p.encoder2.attn_layers.2"), ModelError);
    SourceFilterConfig vocoder = tiny_vocoder_config();
    vocoder.inner = 65;
    CHECK_THROWS_WITH_AS((void)SourceFilterVocoder(g.scope("vocoder"), vocoder),
                         doctest::Contains("vocoder.body.blocks.0.pwconv1"), ModelError);
  }
}

}  // namespace
}  // namespace tts
