#include "src/audio/resampler.h"

#include <cmath>
#include <utility>
#include <vector>

#include "src/audio/pcm.h"
#include "tests/audio/signals.h"
#include "tests/doctest.h"

TEST_SUITE("audio/resampler") {
  using namespace tts;
  using namespace tts::testing;

  constexpr std::pair<int, int> kRates[] = {{24000, 48000}, {24000, 16000}, {32000, 48000},
                                            {44100, 24000}, {24000, 44100}, {48000, 8000}};

  TEST_CASE("any chunking equals one pass") {
    for (const auto& rates : kRates) {
      const int in_hz = rates.first;
      const int out_hz = rates.second;
      const std::vector<float> pcm = speech_like(static_cast<std::size_t>(in_hz), in_hz, 3);
      const std::vector<float> whole = resample(pcm, in_hz, out_hz).value();
      for (const std::size_t longest : {1U, 97U, 480U, 5000U}) {
        CAPTURE(in_hz);
        CAPTURE(out_hz);
        CAPTURE(longest);
        StreamResampler resampler = StreamResampler::make(in_hz, out_hz).value();
        std::vector<float> out;
        in_pieces(pcm, 11, longest, [&](std::span<const float> piece) {
          const std::vector<float> got = resampler.push(piece);
          out.insert(out.end(), got.begin(), got.end());
        });
        const std::vector<float> tail = resampler.finish();
        out.insert(out.end(), tail.begin(), tail.end());
        REQUIRE(out.size() == whole.size());
        float worst = 0;
        for (std::size_t i = 0; i < out.size(); ++i) worst = std::max(worst, std::abs(out[i] - whole[i]));
        CHECK(worst <= 1e-6F);
      }
    }
  }

  TEST_CASE("the length is the input's, rounded") {
    for (const auto& rates : kRates) {
      const int in_hz = rates.first;
      const int out_hz = rates.second;
      for (const std::size_t n : {0U, 1U, 2U, 3U, 479U, 480U, 481U, 12345U}) {
        CAPTURE(in_hz);
        CAPTURE(out_hz);
        CAPTURE(n);
        const auto out = resample(std::vector<float>(n, 0.1F), in_hz, out_hz).value();
        CHECK(out.size() == static_cast<std::size_t>(scale_samples(static_cast<std::int64_t>(n), in_hz, out_hz)));
      }
    }
  }

  TEST_CASE("a sine stays that sine, in time and in size") {
    for (const auto& rates : kRates) {
      const int in_hz = rates.first;
      const int out_hz = rates.second;
      CAPTURE(in_hz);
      CAPTURE(out_hz);
      const auto out = resample(sine(1000, static_cast<std::size_t>(in_hz), in_hz), in_hz, out_hz).value();
      const std::vector<float> wanted = sine(1000, out.size(), out_hz);
      float worst = 0;
      for (std::size_t i = out.size() / 10; i < out.size() * 9 / 10; ++i) {
        worst = std::max(worst, std::abs(out[i] - wanted[i]));
      }
      CHECK(worst < 1e-3F);
    }
  }

  TEST_CASE("equal rates copy") {
    const std::vector<float> pcm = speech_like(1000, 24000, 5);
    StreamResampler resampler = StreamResampler::make(24000, 24000).value();
    CHECK(resampler.push(pcm) == pcm);
    CHECK(resampler.finish().empty());
  }

  TEST_CASE("after finish it starts anew") {
    const std::vector<float> pcm = speech_like(2400, 24000, 5);
    StreamResampler resampler = StreamResampler::make(24000, 48000).value();
    const auto pass = [&] {
      std::vector<float> out = resampler.push(pcm);
      const std::vector<float> tail = resampler.finish();
      out.insert(out.end(), tail.begin(), tail.end());
      return out;
    };
    const std::vector<float> first = pass();
    CHECK(pass() == first);
  }

  TEST_CASE("little of a live stream is held back at 24 to 48 kHz") {
    StreamResampler resampler = StreamResampler::make(24000, 48000).value();
    std::size_t out = 0;
    const std::vector<float> frame(480, 0.1F);
    for (int i = 1; i <= 100; ++i) {
      out += resampler.push(frame).size();
      CHECK(out + 960 >= static_cast<std::size_t>(i) * 960);  // at most 20 ms
    }
  }

  TEST_CASE("impossible rates are refused") {
    for (const auto& [in_hz, out_hz] : {std::pair{0, 48000}, {-1, 48000}, {24000, 0}, {24000, 2'000'000}}) {
      const auto made = StreamResampler::make(in_hz, out_hz);
      REQUIRE(made.has_error());
      CHECK(made.error().code == Errc::unsupported_format);
    }
  }
}
