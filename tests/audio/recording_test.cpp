#include "src/audio/recording.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "tests/audio/signals.h"
#include "tests/audio/sound_file.h"
#include "tests/doctest.h"

TEST_SUITE("audio/recording") {
  using namespace tts;
  using namespace tts::testing;

  using Bytes = std::vector<std::uint8_t>;

  std::string fault(const Bytes& bytes) {
    const auto got = read_recording(bytes, "a.wav");
    if (got) return "";
    CHECK(got.error().code == Errc::bad_file);
    CHECK(got.error().detail.starts_with("a.wav: "));
    return got.error().detail;
  }
  bool has(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
  }

  TEST_CASE("formats, rates and channels that people record in") {
    for (const int rate : {16'000, 22'050, 44'100, 48'000, 96'000}) {
      CAPTURE(rate);
      const auto got = read_recording(sound_file(fake_speech(4, rate), rate), "a.wav");
      CAPTURE(got ? std::string() : got.error().detail);
      REQUIRE(got.has_value());
      CHECK(got->audio.rate_hz == rate);
      CHECK(got->notes.empty());
    }
    const std::vector<float> pcm = fake_speech(4, 32'000);
    CHECK(fault(sound_file(pcm, 32'000, SF_FORMAT_WAV | SF_FORMAT_PCM_16)).empty());
    CHECK(fault(sound_file(pcm, 32'000, SF_FORMAT_WAV | SF_FORMAT_PCM_24)).empty());
    CHECK(fault(sound_file(pcm, 32'000, SF_FORMAT_FLAC | SF_FORMAT_PCM_16)).empty());
    CHECK(fault(sound_file(in_stereo(fake_speech(4, 44'100)), 44'100, SF_FORMAT_MPEG | SF_FORMAT_MPEG_LAYER_III, 2))
              .empty());
    CHECK(fault(sound_file(pcm, 32'000, SF_FORMAT_AIFF | SF_FORMAT_PCM_16)).empty());
    const auto both = read_recording(sound_file(in_stereo(pcm), 32'000, SF_FORMAT_WAV | SF_FORMAT_FLOAT, 2), "a.wav");
    REQUIRE(both.has_value());
    CHECK(both->audio.pcm.size() == pcm.size());
    CHECK(both->audio.pcm[5000] == doctest::Approx(0.75F * pcm[5000]));
  }

  TEST_CASE("3 to 10 s, counted at 16 kHz") {
    CHECK(has(fault(sound_file(fake_speech(2.9, 32'000), 32'000)), "got 2.90 s, wanted 3 to 10 s"));
    CHECK(has(fault(sound_file(fake_speech(10.1, 32'000), 32'000)), "got 10.10 s, wanted 3 to 10 s"));
    CHECK(has(fault(sound_file(fake_speech(61, 16'000), 16'000)), "longer than 60 s"));
    std::vector<float> pcm = fake_speech(3, 44'100);
    CHECK(fault(sound_file(pcm, 44'100)).empty());
    pcm.pop_back();  // still 48000 samples at 16 kHz, the last one begun
    CHECK(fault(sound_file(pcm, 44'100)).empty());
    pcm.resize(pcm.size() - 4);
    CHECK(has(fault(sound_file(pcm, 44'100)), "wanted 3 to 10 s"));
    CHECK(fault(sound_file(fake_speech(10, 48'000), 48'000)).empty());
  }

  TEST_CASE("silence, and sound that is mostly silence") {
    CHECK(has(fault(sound_file(std::vector<float>(160'000, 0.0F), 32'000)),
              "got silence (its loudest sample at -120 dBFS)"));
    std::vector<float> pcm = fake_speech(5, 32'000);
    for (float& x : pcm) x *= 1e-3F;
    CHECK(has(fault(sound_file(pcm, 32'000)), "got silence"));
    pcm = fake_speech(5, 32'000);
    std::fill(pcm.begin() + 16'000, pcm.end(), 0.0F);
    CHECK(has(fault(sound_file(pcm, 32'000)), "s of sound, the rest is silence"));
  }

  TEST_CASE("an overdriven recording, a slightly clipped one, and a loud one") {
    std::vector<float> pcm = fake_speech(4, 32'000);
    float top = 0;
    for (const float x : pcm) top = std::max(top, std::abs(x));
    const auto driven = [&](float gain) {
      std::vector<float> out;
      for (const float x : pcm) out.push_back(std::clamp(x / top * gain, -1.0F, 1.0F));
      return sound_file(out, 32'000, SF_FORMAT_WAV | SF_FORMAT_PCM_16);
    };
    CHECK(has(fault(driven(8)), "overdriven recording ("));
    const auto full_scale = read_recording(driven(1), "a.wav");
    REQUIRE(full_scale.has_value());
    CHECK(full_scale->notes.empty());
    const std::vector<float> tone = sine(100, 4 * 48'000, 48'000, 1.0F);
    CHECK(fault(sound_file(tone, 48'000, SF_FORMAT_WAV | SF_FORMAT_PCM_16)).empty());
    // Floats beyond 1 are nothing lost; they stay.
    for (float& x : pcm) x *= 1.5F / top;
    const auto loud = read_recording(sound_file(pcm, 32'000), "a.wav");
    REQUIRE(loud.has_value());
    CHECK(*std::max_element(loud->audio.pcm.begin(), loud->audio.pcm.end()) > 1.0F);
  }

  TEST_CASE("what is no recording") {
    CHECK(has(fault({}), "not a sound file"));
    CHECK(has(fault(Bytes(5000, 'x')), "not a sound file"));
    std::vector<float> pcm = fake_speech(4, 32'000);
    pcm[70'000] = std::numeric_limits<float>::quiet_NaN();
    CHECK(has(fault(sound_file(pcm, 32'000)), "sample 70000 is not a finite number"));
    pcm[70'000] = std::numeric_limits<float>::infinity();
    CHECK(has(fault(sound_file(pcm, 32'000)), "not a finite number"));
    CHECK(has(fault(sound_file(fake_speech(4, 4'000), 4'000)), "got 4000 Hz, want 8000 to 192000"));
    CHECK(has(fault(sound_file(std::vector<float>(9 * 32'000 * 4, 0.1F), 32'000, SF_FORMAT_WAV | SF_FORMAT_FLOAT, 9)),
              "got 9 channels"));
    CHECK(has(fault(sound_file(fake_speech(4, 32'000), 32'000, SF_FORMAT_OGG | SF_FORMAT_VORBIS)),
              "Vorbis is not taken"));
    Bytes cut = sound_file(fake_speech(4, 32'000), 32'000);
    cut.resize(cut.size() / 2);
    CHECK(has(fault(cut), "wanted 3 to 10 s"));
  }

  TEST_CASE("a dull or quiet recording is taken with a note") {
    const auto dull = read_recording(sound_file(fake_speech(4, 8'000), 8'000), "a.wav");
    REQUIRE(dull.has_value());
    REQUIRE(dull->notes.size() == 1);
    CHECK(has(dull->notes[0], "only 8000 Hz"));
  }
}
