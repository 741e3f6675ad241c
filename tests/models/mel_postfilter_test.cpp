#include "models/mel_postfilter.h"

#include <cmath>

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include "models/weights.h"
#include "tests/doctest.h"

// Against scripts/train/nets.py, by tensors that scripts/train/clone/golden.py wrote.

namespace tts {

TEST_SUITE("models/mel_postfilter") {
  TEST_CASE("gives the numbers of the Python reference") {
    const c10::InferenceMode inference;
    const auto file = load_weights("tests/data/golden/mel_postfilter.safetensors");
    const at::Tensor mel = file->get("mel", {5, 100});
    const at::Tensor want = file->get("postfiltered", {5, 100});
    CHECK(at::allclose(MelPostfilter(100, 0.5)(mel), want, 1e-5, 1e-5));
    CHECK((want - mel).abs().max().item<double>() > 0.5);
  }

  TEST_CASE("deepens what varies from band to band, from band 60 on") {
    const c10::InferenceMode inference;
    const at::Tensor bands = at::arange(100, at::kFloat);
    const at::Tensor wave = at::sin(2.0 * M_PI * bands / 8.0).unsqueeze(0);
    const at::Tensor more = MelPostfilter(100, 0.4)(wave) - wave;
    CHECK(at::allclose(more.slice(1, 60, 84), 0.4 * wave.slice(1, 60, 84), 1e-2, 1e-2));  // nothing of it is smooth
    CHECK(at::equal(more.slice(1, 0, 60), at::zeros({1, 60})));
    const at::Tensor flat = at::full({1, 100}, -3.0F);
    CHECK(at::allclose(MelPostfilter(100, 2.0)(flat), flat, 0, 1e-5));
  }

  TEST_CASE("a frame becomes the same to the bit in any company") {
    const c10::InferenceMode inference;
    const at::Tensor mel = at::sin(at::arange(700, at::kFloat)).view({7, 100});
    const MelPostfilter filter(100, 1.0);
    const at::Tensor together = filter(mel);
    for (std::int64_t i = 0; i < 7; ++i) CHECK(at::equal(filter(mel.narrow(0, i, 1)), together.narrow(0, i, 1)));
  }

  TEST_CASE("depth 0 changes nothing, no other depth than 0 to 2 is taken") {
    const c10::InferenceMode inference;
    const at::Tensor mel = at::sin(at::arange(300, at::kFloat)).view({3, 100});
    CHECK(at::equal(MelPostfilter(100)(mel), mel));
    for (const double depth : {-0.1, 2.1, std::nan("")}) CHECK_THROWS_AS(MelPostfilter(100, depth), ModelError);
  }

  TEST_CASE("few bands: the edge is mirrored, and mirrored again, or nothing is left to deepen") {
    const c10::InferenceMode inference;
    const at::Tensor mel = at::sin(at::arange(122, at::kFloat)).view({2, 61});
    const at::Tensor got = MelPostfilter(61, 1.0)(mel);
    CHECK(at::equal(got.slice(1, 0, 60), mel.slice(1, 0, 60)));
    CHECK(!at::equal(got.slice(1, 60), mel.slice(1, 60)));
    CHECK(at::isfinite(got).all().item<bool>());
    CHECK(at::equal(MelPostfilter(12, 1.0)(mel.slice(1, 0, 12)), mel.slice(1, 0, 12)));
  }
}

}  // namespace tts
