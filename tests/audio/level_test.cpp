#include "src/audio/level.h"

#include <cmath>
#include <cstddef>
#include <vector>

#include "tests/audio/signals.h"
#include "tests/doctest.h"

TEST_SUITE("audio/level") {
  using namespace tts;
  using tts::testing::sine;

  TEST_CASE("peak and RMS of a sine") {
    const std::vector<float> pcm = sine(1000, 48000, 48000, 0.5F);
    CHECK(peak(pcm) == doctest::Approx(0.5));
    CHECK(rms(pcm) == doctest::Approx(0.35355).epsilon(1e-4));
    CHECK(to_dbfs(0.5F) == doctest::Approx(-6.0206));
    CHECK(to_dbfs(0.0F) == -120.0F);
    CHECK(peak({}) == 0.0F);
    CHECK(rms({}) == 0.0F);
  }

  TEST_CASE("a 997 Hz sine at full scale in one channel is -3.01 LUFS at every rate") {  // BS.1770-4, annex 1
    for (const int rate_hz : {16000, 24000, 44100, 48000}) {
      CAPTURE(rate_hz);
      CHECK(loudness_lufs(sine(997, static_cast<std::size_t>(rate_hz) * 3, rate_hz, 1.0F), rate_hz) ==
            doctest::Approx(-3.01).epsilon(0.03));
    }
  }

  TEST_CASE("pauses do not lower the loudness") {
    std::vector<float> pcm = sine(997, 48000 * 4, 48000, 0.1F);
    const double loud = loudness_lufs(pcm, 48000);
    pcm.resize(pcm.size() * 3, 0.0F);
    CHECK(loudness_lufs(pcm, 48000) == doctest::Approx(loud).epsilon(0.02));
  }

  TEST_CASE("silence and short sounds have no loudness") {
    CHECK(loudness_lufs(std::vector<float>(48000), 48000) == -120.0);
    CHECK(loudness_lufs(sine(997, 4800, 48000), 48000) == -120.0);
  }

  TEST_CASE("limited peaks stay below full scale, in order, and what is not loud is untouched") {
    std::vector<float> pcm;
    for (int i = -3000; i <= 3000; ++i) pcm.push_back(static_cast<float>(i) * 1e-3F);
    std::vector<float> limited = pcm;
    limit_peaks(limited);
    for (std::size_t i = 0; i < pcm.size(); ++i) {
      CAPTURE(pcm[i]);
      if (std::abs(pcm[i]) <= 0.7F) CHECK(limited[i] == pcm[i]);
      CHECK(std::abs(limited[i]) <= 0.98F);
      CHECK(limited[i] == -limited[pcm.size() - 1 - i]);
      if (i > 0) {
        CHECK(limited[i] >= limited[i - 1]);
        CHECK(limited[i] - limited[i - 1] <= 1.1e-3F);  // no jump at the knee
      }
    }
    CHECK(limited[4000] == doctest::Approx(0.9212).epsilon(1e-4));  // of 1
  }
}
