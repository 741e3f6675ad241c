#include "src/audio/click_detector.h"

#include <random>
#include <vector>

#include "src/audio/crossfade.h"
#include "tests/audio/signals.h"
#include "tests/doctest.h"

TEST_SUITE("audio/click_detector") {
  using namespace tts;
  using namespace tts::testing;

  std::vector<std::size_t> every(std::size_t step, std::size_t samples) {
    std::vector<std::size_t> seams;
    for (std::size_t at = step; at + step <= samples; at += step) seams.push_back(at);
    return seams;
  }

  TEST_CASE("a clean speech-like signal passes everywhere") {
    for (const int rate_hz : {16000, 24000, 48000}) {
      for (const std::uint32_t seed : {1U, 2U, 3U}) {
        CAPTURE(rate_hz);
        CAPTURE(seed);
        const std::vector<float> pcm = speech_like(static_cast<std::size_t>(rate_hz) * 3, rate_hz, seed);
        CHECK(find_clicks(pcm, rate_hz, every(331, pcm.size())).empty());
      }
    }
  }

  TEST_CASE("an impulse, a step and a gap are found at their place") {
    const std::vector<float> clean = speech_like(48000, 24000, 1);
    constexpr std::size_t kAt = 17300;
    const std::size_t seams[] = {9000, kAt, 30000};
    std::vector<float> impulse = clean;
    impulse[kAt] += 0.2F;
    std::vector<float> step = clean;
    for (std::size_t i = kAt; i < step.size(); ++i) step[i] += 0.25F;
    std::vector<float> gap = clean;  // 10 ms are missing
    gap.erase(gap.begin() + kAt, gap.begin() + kAt + 240);
    gap[kAt] += 0.2F;
    for (const auto& pcm : {impulse, step, gap}) {
      const std::vector<SeamScore> clicks = find_clicks(pcm, 24000, seams);
      REQUIRE(clicks.size() == 1);
      CHECK(clicks[0].seam == kAt);
      CHECK(clicks[0].at >= kAt - 24);
      CHECK(clicks[0].at <= kAt + 48);
    }
  }

  TEST_CASE("in a pause a step of -46 dB is a click") {
    std::vector<float> pcm(24000, 0.0F);
    for (std::size_t i = 12000; i < pcm.size(); ++i) pcm[i] = 0.005F;
    const std::size_t seam[] = {12000};
    CHECK(find_clicks(pcm, 24000, seam).size() == 1);
  }

  TEST_CASE("hard cuts between unrelated tones click, a crossfade does not") {
    const std::vector<float> low = sine(210, 24000, 24000);
    const std::vector<float> high = sine(330, 24000, 24000);
    std::vector<float> cut(low.begin(), low.begin() + 12030);
    cut.insert(cut.end(), high.begin() + 12060, high.end());
    const std::size_t seam[] = {12030};
    CHECK(find_clicks(cut, 24000, seam).size() == 1);

    std::vector<float> faded(low.begin(), low.begin() + 12000);
    const auto mixed =
        crossfade(std::span(low).subspan(12000, 480), std::span(high).subspan(12000, 480), Fade::equal_power);
    faded.insert(faded.end(), mixed.begin(), mixed.end());
    faded.insert(faded.end(), high.begin() + 12480, high.end());
    const std::size_t ends[] = {12000, 12240, 12480};
    CHECK(find_clicks(faded, 24000, ends).empty());
  }

  TEST_CASE("seams at the ends and past them are not judged") {
    const std::vector<float> pcm = speech_like(1000, 24000, 1);
    const std::size_t seams[] = {0, 5, 995, 1000, 100'000};
    for (const SeamScore& score : score_seams(pcm, 24000, seams)) CHECK(score.score == 0.0F);
    CHECK(score_seams({}, 24000, seams).size() == 5);
  }
}
