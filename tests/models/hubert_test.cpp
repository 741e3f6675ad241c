#include "models/hubert.h"

#include <cmath>
#include <string>
#include <vector>

#include <c10/core/InferenceMode.h>

#include "models/semantic_tokenizer.h"
#include "tests/models/fake_weights.h"

namespace tts {
namespace {

using test::contains;
using test::FakeWeights;
using test::max_difference;
using test::model_error_of;

HubertConfig tiny() {
  HubertConfig config;
  config.conv_channels = {16, 16, 16, 16, 16, 16, 16};
  config.hidden = 32;
  config.layers = 2;
  config.heads = 4;
  config.ff = 48;
  config.position_groups = 4;
  return config;
}

at::Tensor speech(std::int64_t samples) {
  at::manual_seed(5);
  return at::randn({samples}) * 0.2;
}

/// White noise in [-0.5, 0.5): the upper 24 bits of splitmix64 at 1..n, as scripts/golden/front_ends.py has it.
std::vector<float> noise(std::size_t n) {
  std::vector<float> wave(n);
  for (std::uint64_t i = 0; i < n; ++i) {
    std::uint64_t z = (i + 1) * 0x9E3779B97F4A7C15ULL;
    z = (z ^ (z >> 30U)) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ (z >> 27U)) * 0x94D049BB133111EBULL;
    z ^= z >> 31U;
    wave[i] = static_cast<float>(static_cast<double>(z >> 40U) / 16777216.0 - 0.5);
  }
  return wave;
}

TEST_SUITE("models/hubert") {
  TEST_CASE("every tensor is needed, and named when it is missing or misshapen") {
    test::check_every_tensor([](const WeightScope& weights) { (void)Hubert(weights, tiny()); });
  }

  TEST_CASE("the weight norm of the positions in its three forms gives one network") {
    const c10::InferenceMode inference;
    const auto fake = std::make_shared<FakeWeights>();
    const Hubert pair(WeightScope(fake), tiny());
    const std::string conv = "encoder.pos_conv_embed.conv.";
    const at::Tensor v = fake->get(conv + "weight_v", fake->asked().at(conv + "weight_v"));
    const at::Tensor g = fake->get(conv + "weight_g", fake->asked().at(conv + "weight_g"));
    CHECK((g.sizes().vec() == std::vector<std::int64_t>{1, 1, 128}));
    const auto rest = [&] {
      auto map = std::make_shared<TensorMap>();
      for (const auto& [key, shape] : std::map(fake->asked())) {
        if (!key.starts_with(conv + "weight_")) map->put(key, fake->get(key, shape));
      }
      return map;
    };
    const auto parametrized = rest();
    parametrized->put(conv + "parametrizations.weight.original0", g);
    parametrized->put(conv + "parametrizations.weight.original1", v);
    const auto folded = rest();
    at::Tensor weight = at::empty_like(v);
    for (std::int64_t tap = 0; tap < 128; ++tap) {
      const at::Tensor of_tap = v.select(2, tap);
      weight.select(2, tap).copy_(of_tap * (g.view({-1})[tap] / of_tap.norm()));
    }
    folded->put(conv + "weight", weight);
    const at::Tensor wave = speech(8000);
    const at::Tensor want = pair.forward(wave);
    CHECK(max_difference(Hubert(WeightScope(parametrized), tiny()).forward(wave), want) == 0.0);
    CHECK(max_difference(Hubert(WeightScope(folded), tiny()).forward(wave), want) < 1e-5);
    const std::string message = model_error_of([&] { (void)Hubert(WeightScope(rest()), tiny()); });
    CHECK(contains(message, conv + "weight_v"));
  }

  TEST_CASE("a frame every 320 samples, the first of 400") {
    const Hubert model(WeightScope(std::make_shared<FakeWeights>()), tiny());
    CHECK(model.frames(399) == 0);
    CHECK(model.frames(400) == 1);
    CHECK(model.frames(719) == 1);
    CHECK(model.frames(720) == 2);
    CHECK(model.frames(25'600) == 79);
    CHECK(model.frames(0) == 0);
    const at::Tensor features = model.forward(speech(720));
    CHECK((features.sizes().vec() == std::vector<std::int64_t>{2, 32}));
    CHECK(contains(model_error_of([&] { (void)model.forward(speech(399)); }), "399 samples"));
    CHECK(contains(model_error_of([&] { (void)model.forward(speech(800).view({2, 400})); }), "[2, 400]"));
  }

  TEST_CASE("loudness and a constant offset change nothing: the first norm takes them away") {
    const Hubert model(WeightScope(std::make_shared<FakeWeights>()), tiny());
    const at::Tensor wave = speech(16'000);
    const at::Tensor want = model.forward(wave);
    CHECK(max_difference(model.forward(wave * 3.0), want) < 1e-2);
    CHECK(max_difference(model.forward(wave + 0.1), want) < 1e-4);
    CHECK(max_difference(model.forward(wave.flip(0)), want) > 0.1);
  }

  TEST_CASE("sizes that do not fit each other are refused") {
    const WeightScope weights(std::make_shared<FakeWeights>());
    HubertConfig config = tiny();
    config.conv_strides.pop_back();
    CHECK(contains(model_error_of([&] { (void)Hubert(weights, config); }), "6 strides"));
    config = tiny();
    config.heads = 5;
    CHECK(contains(model_error_of([&] { (void)Hubert(weights, config); }), "5 heads"));
  }
}

TEST_SUITE("models/hubert_wave") {
  TEST_CASE("resampled as librosa does, to a float's last digits") {
    const auto golden = load_weights("tests/data/golden/reference_16k.safetensors");
    for (const int rate : {48'000, 44'100, 22'050}) {
      const auto n_in = static_cast<std::size_t>(rate * 31 / 10 + 7);
      const auto wave = make_hubert_wave(noise(n_in), rate);
      REQUIRE(wave.has_value());
      const std::string name = std::to_string(rate);
      CAPTURE(name);
      const auto n = golden->get(name + ".samples", {1}).item<std::int64_t>();
      REQUIRE(static_cast<std::int64_t>(wave->size()) == n + kHubertTailSamples);
      const at::Tensor strided = golden->get(name + ".strided", {(n + 100) / 101});
      double worst = 0;
      for (std::int64_t i = 0; i < strided.numel(); ++i) {
        const float got = (*wave)[static_cast<std::size_t>(101 * i)];
        worst = std::max(worst, static_cast<double>(std::abs(got - strided.data_ptr<float>()[i])));
      }
      const at::Tensor last = golden->get(name + ".last", {16});
      for (std::int64_t i = 0; i < 16; ++i) {
        const float got = (*wave)[static_cast<std::size_t>(n - 16 + i)];
        worst = std::max(worst, static_cast<double>(std::abs(got - last.data_ptr<float>()[i])));
      }
      CHECK(worst < 1e-6);
    }
  }

  TEST_CASE("3 to 10 s, and 0.6 s of silence behind") {
    const std::vector<float> three(48'000, 0.25F);
    const auto wave = make_hubert_wave(three, 16'000);
    REQUIRE(wave.has_value());
    REQUIRE(wave->size() == 57'600);
    CHECK((*wave)[47'999] == 0.25F);
    CHECK(std::all_of(wave->begin() + 48'000, wave->end(), [](float x) { return x == 0.0F; }));
    CHECK(make_hubert_wave(std::vector<float>(160'000), 16'000).has_value());
    CHECK(make_hubert_wave(std::vector<float>(48'000 * 10), 48'000).has_value());
    for (const std::size_t n : {std::size_t{0}, std::size_t{47'999}, std::size_t{160'001}}) {
      const auto refused = make_hubert_wave(std::vector<float>(n), 16'000);
      REQUIRE(refused.has_error());
      CHECK((refused.error().code == Errc::bad_file));
      CHECK(contains(refused.error().detail, "wanted 3 to 10 s"));
    }
    CHECK((make_hubert_wave(three, 0).error().code == Errc::unsupported_format));
  }
}

TEST_SUITE("models/semantic_tokenizer") {
  const QuantizerConfig kSmall{.codes = 20, .dim = 6};

  TEST_CASE("every tensor is needed, and named when it is missing or misshapen") {
    test::check_every_tensor([](const WeightScope& weights) { (void)SemanticTokenizer(weights, kSmall, 6); });
  }

  TEST_CASE("a token for two frames: the nearest row of the codebook, an odd frame dropped") {
    at::manual_seed(3);
    const at::Tensor embed = at::randn({20, 6});
    auto map = std::make_shared<TensorMap>();
    map->put("quantizer.vq.layers.0._codebook.embed", embed);
    // The sum of both frames, moved by one.
    map->put("ssl_proj.weight", at::stack({at::eye(6), at::eye(6)}, 2));
    map->put("ssl_proj.bias", at::ones({6}));
    const SemanticTokenizer tokenizer(WeightScope(map), kSmall, 6);
    const at::Tensor codes = at::tensor({7, 0, 19, 7}, at::kLong);
    const at::Tensor first = at::randn({4, 6});
    const at::Tensor second = embed.index_select(0, codes) - 1.0 - first + 1e-3 * at::randn({4, 6});
    const at::Tensor frames = at::stack({first, second}, 1).reshape({8, 6});
    CHECK(tokenizer.encode(frames).equal(codes));
    CHECK(tokenizer.encode(at::cat({frames, at::randn({1, 6})})).equal(codes));
    CHECK(contains(model_error_of([&] { (void)tokenizer.encode(frames.narrow(0, 0, 1)); }), "[1, 6]"));
    CHECK(contains(model_error_of([&] { (void)tokenizer.encode(at::zeros({4, 5})); }), "[4, 5]"));
  }
}

}  // namespace
}  // namespace tts
