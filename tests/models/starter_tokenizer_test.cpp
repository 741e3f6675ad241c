#include "models/starter_tokenizer.h"

#include <cmath>
#include <cstring>

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include "src/core/safetensors.h"
#include "tests/doctest.h"
#include "tests/models/small_voice.h"

// Against scripts/train/clone/train_tokenizer.py, by tensors that scripts/train/clone/golden.py wrote.

namespace tts {
namespace {

constexpr const char* kGolden = "tests/data/golden/starter_tokenizer.safetensors";
constexpr StarterTokenizerConfig kSmall{.dim = 32, .layers = 3, .mel_bands = 80};
constexpr QuantizerConfig kCodes{.codes = 48, .dim = 8};

StarterTokenizer golden_tokenizer() {
  const WeightScope weights(load_weights(kGolden));
  return {weights, kSmall, weights, kCodes};
}

at::Tensor golden_wave() {
  return load_weights(kGolden)->get("wave", {28'800});
}

}  // namespace

TEST_SUITE("models/starter_tokenizer") {
  TEST_CASE("mel and tokens are those of the network that was trained") {
    const c10::InferenceMode inference;
    const StarterTokenizer tokenizer = golden_tokenizer();
    const auto file = load_weights(kGolden);
    const at::Tensor mel = tokenizer.mel(golden_wave());
    CHECK((mel.sizes().vec() == std::vector<std::int64_t>{60, 80}));
    CHECK(at::allclose(mel.narrow(0, 0, 6), file->get("mel", {6, 80}), 1e-3, 1e-3));
    const at::Tensor tokens = tokenizer.encode(mel);
    const SafeTensors golden = SafeTensors::open(kGolden).value();
    const TensorView* wanted = golden.find("tokens");
    REQUIRE(wanted != nullptr);
    REQUIRE(tokens.numel() == wanted->numel());
    int compared = 0;
    for (std::int64_t i = 0; i < tokens.numel(); ++i) {
      std::int32_t want = 0;
      std::memcpy(&want, wanted->data.data() + 4 * i, 4);
      if (want < 0) continue;  // two codes are as near
      CAPTURE(i);
      CHECK(tokens[i].item<std::int64_t>() == want);
      ++compared;
    }
    CHECK(compared > 24);
  }

  TEST_CASE("a rest of less than a token is left out; less than one token is refused") {
    const c10::InferenceMode inference;
    const StarterTokenizer tokenizer = golden_tokenizer();
    const at::Tensor wave = golden_wave().narrow(0, 0, 9600);
    CHECK(tokenizer.mel(wave).size(0) == 20);
    CHECK(tokenizer.mel(wave.narrow(0, 0, 9599)).size(0) == 18);
    const at::Tensor mel = tokenizer.mel(wave);
    CHECK(tokenizer.encode(mel.narrow(0, 0, 19)).numel() == 9);
    CHECK_THROWS_AS((void)tokenizer.encode(mel.narrow(0, 0, 1)), ModelError);
    CHECK_THROWS_AS((void)tokenizer.encode(mel.narrow(1, 0, 79)), ModelError);
  }

  TEST_CASE("the level follows the gain, and silence does not count") {
    const c10::InferenceMode inference;
    const MelFrontEnd front(kMelV3);
    const at::Tensor wave = golden_wave();
    const double level = mel_level(front(wave));
    CHECK(level == doctest::Approx(load_weights(kGolden)->get("level", {1}).item<double>()).epsilon(1e-3));
    CHECK(mel_level(front(wave * 0.5)) == doctest::Approx(level + 2 * std::log(0.5)).epsilon(1e-3));
    const at::Tensor with_silence = at::cat({wave, at::zeros({24000})});
    CHECK(mel_level(front(with_silence)) == doctest::Approx(level).epsilon(0.02));
  }
}

}  // namespace tts
