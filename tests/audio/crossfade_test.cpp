#include "src/audio/crossfade.h"

#include <vector>

#include "tests/doctest.h"

TEST_SUITE("audio/crossfade") {
  using namespace tts;

  TEST_CASE("weights keep the power or the amplitude, and mirror each other") {
    constexpr std::size_t n = 37;
    for (std::size_t i = 0; i < n; ++i) {
      const auto [down, up] = fade_weights(Fade::equal_power, i, n);
      CHECK(down * down + up * up == doctest::Approx(1.0));
      const auto [linear_down, linear_up] = fade_weights(Fade::linear, i, n);
      CHECK(linear_down + linear_up == doctest::Approx(1.0));
      CHECK(fade_weights(Fade::equal_power, n - 1 - i, n).first == doctest::Approx(up));
      CHECK(fade_weights(Fade::linear, n - 1 - i, n).first == doctest::Approx(linear_up));
    }
  }

  TEST_CASE("equal sides pass a linear fade unchanged, and the ends belong to either side") {
    const std::vector<float> before(64, 0.25F);
    for (const float x : crossfade(before, before, Fade::linear)) CHECK(x == doctest::Approx(0.25));
    const std::vector<float> after(64, -0.5F);
    const std::vector<float> mixed = crossfade(before, after, Fade::equal_power);
    CHECK(mixed.front() == doctest::Approx(0.25).epsilon(0.05));
    CHECK(mixed.back() == doctest::Approx(-0.5).epsilon(0.05));
  }

  TEST_CASE("the shorter side counts") {
    const std::vector<float> before(10, 1.0F);
    const std::vector<float> after(4, 1.0F);
    CHECK(crossfade(before, after, Fade::linear).size() == 4);
    CHECK(crossfade(before, {}, Fade::linear).empty());
  }
}
