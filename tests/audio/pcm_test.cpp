#include "src/audio/pcm.h"

#include <cstdint>
#include <limits>
#include <vector>

#include "tests/doctest.h"

TEST_SUITE("audio/pcm") {
  using namespace tts;

  TEST_CASE("to_s16 rounds to nearest and clips") {
    CHECK(to_s16(0.0F) == 0);
    CHECK(to_s16(1.0F) == 32767);
    CHECK(to_s16(-1.0F) == -32768);
    CHECK(to_s16(7.0F) == 32767);
    CHECK(to_s16(-std::numeric_limits<float>::infinity()) == -32768);
    CHECK(to_s16(std::numeric_limits<float>::quiet_NaN()) == 0);
    CHECK(to_s16(0.6F / 32768) == 1);
    CHECK(to_s16(0.4F / 32768) == 0);
    CHECK(to_s16(-0.6F / 32768) == -1);
  }

  TEST_CASE("every 16-bit sample survives the way to float and bytes and back") {
    std::vector<float> pcm;
    for (int i = -32768; i <= 32767; ++i) {
      REQUIRE(to_s16(to_float(static_cast<std::int16_t>(i))) == i);
      pcm.push_back(to_float(static_cast<std::int16_t>(i)));
    }
    CHECK(from_s16le(to_s16le(pcm)) == pcm);
  }

  TEST_CASE("bytes are little-endian") {
    const float sample = to_float(0x1234);
    CHECK(to_s16le({&sample, 1}) == std::vector<std::uint8_t>{0x34, 0x12});
  }

  TEST_CASE("scale_samples rounds half up") {
    static_assert(scale_samples(24000, 24000, 48000) == 48000);
    static_assert(scale_samples(0, 44100, 48000) == 0);
    static_assert(scale_samples(1, 48000, 24000) == 1);
    static_assert(scale_samples(1, 48000, 16000) == 0);
    static_assert(scale_samples(2, 48000, 16000) == 1);
    static_assert(scale_samples(1'000'000'000'000, 44100, 48000) == 1'088'435'374'150);
  }
}
