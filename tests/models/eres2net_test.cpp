#include "models/eres2net.h"

#include <cmath>
#include <numbers>
#include <string>
#include <vector>

#include <c10/core/InferenceMode.h>

#include "models/fbank.h"
#include "tests/models/fake_weights.h"

namespace tts {
namespace {

using test::contains;
using test::FakeWeights;
using test::max_difference;
using test::model_error_of;

Eres2NetConfig tiny() {
  Eres2NetConfig config;
  config.channels = 8;
  config.blocks = {1, 2, 2, 1};
  return config;
}

at::Tensor tone(double hz, std::int64_t samples) {
  return (at::arange(samples, at::kDouble) * (2.0 * std::numbers::pi * hz / 16'000.0)).sin().to(at::kFloat) * 0.5;
}

TEST_SUITE("models/fbank") {
  TEST_CASE("whole frames only, and too short a wave is refused") {
    CHECK(kaldi_fbank(at::zeros({400})).size(0) == 1);
    CHECK(kaldi_fbank(at::zeros({559})).size(0) == 1);
    CHECK((kaldi_fbank(at::zeros({560})).sizes().vec() == std::vector<std::int64_t>{2, 80}));
    CHECK(contains(model_error_of([] { (void)kaldi_fbank(at::zeros({399})); }), "got 399 samples, wanted 400"));
    CHECK(contains(model_error_of([] { (void)kaldi_fbank(at::zeros({2, 400})); }), "[2, 400]"));
  }

  TEST_CASE("silence lies on the floor, and a constant is silence") {
    const double floor = std::log(1.1920929e-07);
    CHECK(kaldi_fbank(at::zeros({1000})).sub(floor).abs().max().item<double>() < 1e-5);
    CHECK(kaldi_fbank(at::full({1000}, 0.25)).sub(floor).abs().max().item<double>() < 1e-5);
  }

  TEST_CASE("a tone is loudest in its band, and twice the amplitude is 2 ln 2 more") {
    const double low = 1127.0 * std::log(1.0 + 20.0 / 700.0);
    const double step = (1127.0 * std::log(1.0 + 8000.0 / 700.0) - low) / 81.0;
    for (const double hz : {300.0, 1000.0, 3000.0, 7000.0}) {
      const at::Tensor features = kaldi_fbank(tone(hz, 1600));
      const double mel = 1127.0 * std::log(1.0 + hz / 700.0);
      const double band = (mel - low) / step - 1.0;  // of the centres
      const auto loudest = features[4].argmax().item<std::int64_t>();
      CAPTURE(hz);
      CHECK(std::abs(static_cast<double>(loudest) - band) <= 1.0);
      const at::Tensor louder = kaldi_fbank(2.0 * tone(hz, 1600));
      CHECK(louder[4][loudest].item<double>() - features[4][loudest].item<double>() ==
            doctest::Approx(2.0 * std::log(2.0)).epsilon(1e-4));
    }
  }
}

TEST_SUITE("models/eres2net") {
  TEST_CASE("every tensor is needed, and named when it is missing or misshapen") {
    Eres2NetConfig config = tiny();
    config.blocks = {1, 1, 1, 1};
    test::check_every_tensor([&](const WeightScope& weights) { (void)Eres2Net(weights, config); });
  }

  TEST_CASE("the published size takes the published keys and shapes, and gives 20480 values") {
    const c10::InferenceMode inference;
    const auto fake = std::make_shared<FakeWeights>();
    const Eres2Net model{WeightScope(fake)};
    CHECK(model.dim() == 20'480);
    const auto& asked = fake->asked();
    std::int64_t learned = 0;
    for (const auto& [key, shape] : asked) {
      if (!contains(key, "running_")) learned += c10::multiply_integers(shape);
    }
    CHECK(learned == 53'513'632 - 192 * 40'961);  // without seg_1, which is not used
    using Shape = std::vector<std::int64_t>;
    CHECK((asked.at("layer4.0.shortcut.0.weight") == Shape{2048, 1024, 1, 1}));
    CHECK((asked.at("layer3.5.fuse_models.2.local_att.0.weight") == Shape{24, 192, 1, 1}));
    CHECK((asked.at("fuse34.local_att.3.weight") == Shape{2048, 512, 1, 1}));
    CHECK((asked.at("layer3_ds.weight") == Shape{2048, 1024, 3, 3}));
    const at::Tensor embedding = model.embed(tone(440.0, 400));
    CHECK((embedding.sizes().vec() == Shape{20'480}));
    CHECK(at::isfinite(embedding).all().item<bool>());
  }

  TEST_CASE("one embedding for any length, of the filter bank of the wave") {
    const c10::InferenceMode inference;
    const Eres2Net model(WeightScope(std::make_shared<FakeWeights>()), tiny());
    CHECK(model.dim() == 8 * 8 * 4 * 10);
    for (const std::int64_t samples : {400, 560, 4000, 12'345}) {
      const at::Tensor wave = tone(200.0, samples);
      const at::Tensor embedding = model.embed(wave);
      CHECK(embedding.numel() == model.dim());
      CHECK(max_difference(embedding, model.forward(kaldi_fbank(wave))) == 0.0);
    }
    CHECK(contains(model_error_of([&] { (void)model.forward(at::zeros({5, 79})); }), "[5, 79]"));
    CHECK(contains(model_error_of([&] { (void)model.forward(at::zeros({0, 80})); }), "no frame"));
  }
}

}  // namespace
}  // namespace tts
