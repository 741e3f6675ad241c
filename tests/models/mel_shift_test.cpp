#include "models/mel_shift.h"

#include <cmath>

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include "models/weights.h"
#include "tests/doctest.h"

// Against scripts/train/clone/mel_shift.py, by tensors that scripts/train/clone/golden.py wrote.

namespace tts {
namespace {

constexpr const char* kGolden = "tests/data/golden/mel_shift.safetensors";
constexpr std::int64_t kFrames = 64;
constexpr std::int64_t kBands = 12;

struct Golden {
  c10::InferenceMode inference;
  std::shared_ptr<const WeightSource> file = load_weights(kGolden);
  at::Tensor recorded = file->get("recorded", {kFrames, kBands});
  at::Tensor made = file->get("made", {kFrames, kBands});
  at::Tensor shift = file->get("shift", {kBands});
};

double power(const at::Tensor& mel) {
  return at::logsumexp(2 * mel, at::IntArrayRef{0, 1}).item<double>();
}

}  // namespace

TEST_SUITE("models/mel_shift") {
  TEST_CASE("gives the numbers of the Python reference") {
    const Golden g;
    CHECK(at::allclose(mel_shift(g.recorded, g.made), g.shift, 1e-5, 1e-5));
    CHECK((g.shift.max() - g.shift.min()).item<double>() ==
          doctest::Approx(2.0));  // both bounds are met in the golden tensors
  }

  TEST_CASE("the mean spectrum becomes that of the recording, the level stays") {
    const Golden g;
    const at::Tensor wanted = g.made + at::linspace(-0.8, 0.8, kBands) + 0.5 * at::sin(at::arange(kFrames))[0];
    const at::Tensor shift = mel_shift(wanted, g.made);
    const at::Tensor away = (g.made + shift).mean(0) - wanted.mean(0);  // the level alone
    CHECK((away - away.mean()).abs().max().item<double>() < 1e-4);
    CHECK(power(g.made + shift) == doctest::Approx(power(g.made)).epsilon(0.01));
    CHECK(std::abs(power(wanted) - power(g.made)) > 0.1);
  }

  TEST_CASE("of too little to judge by it is nothing") {
    const Golden g;
    const auto nothing = [](const at::Tensor& recorded, const at::Tensor& made) {
      return at::equal(mel_shift(recorded, made), at::zeros({kBands}));
    };
    CHECK(nothing(g.recorded.narrow(0, 0, 24), g.made));
    CHECK(nothing(g.recorded, g.made.narrow(0, 0, 3)));
    const at::Tensor mostly_silent = g.recorded.clone();
    mostly_silent.narrow(0, 20, kFrames - 20).fill_(-11.5);
    CHECK(nothing(mostly_silent, g.made));
    CHECK(nothing(g.recorded, at::full({kFrames, kBands}, NAN, at::kFloat)));
    CHECK_FALSE(nothing(g.recorded, g.made));
  }

  TEST_CASE("a shift that no recording gives is refused, mels of different bands too") {
    const Golden g;
    CHECK_NOTHROW(check_mel_shift(g.shift));
    for (const float value : {NAN, INFINITY, 2.1F, -2.1F}) {
      at::Tensor shift = g.shift.clone();
      shift[3] = value;
      CHECK_THROWS_AS(check_mel_shift(shift), ModelError);
    }
    CHECK_THROWS_AS((void)mel_shift(g.recorded, at::zeros({kFrames, kBands + 1})), ModelError);
  }
}

}  // namespace tts
