#include "src/audio/recording.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <numbers>
#include <string>
#include <vector>

#include <sndfile.h>
#include <unistd.h>

#include "tests/audio/signals.h"
#include "tests/doctest.h"

TEST_SUITE("audio/recording") {
  using namespace tts;
  using namespace tts::testing;

  using Bytes = std::vector<std::uint8_t>;

  // Interleaved samples in any of libsndfile's formats.
  Bytes made(const std::vector<float>& pcm, int rate_hz, int format = SF_FORMAT_WAV | SF_FORMAT_FLOAT,
             int channels = 1) {
    const auto path = std::filesystem::temp_directory_path() / (std::to_string(::getpid()) + "_recording");
    SF_INFO info{};
    info.channels = channels;
    info.samplerate = rate_hz;
    info.format = format;
    SNDFILE* file = sf_open(path.c_str(), SFM_WRITE, &info);
    REQUIRE(file != nullptr);
    sf_write_float(file, pcm.data(), static_cast<sf_count_t>(pcm.size()));
    sf_close(file);
    std::ifstream in(path, std::ios::binary);
    Bytes bytes(std::istreambuf_iterator<char>(in), {});
    std::filesystem::remove(path);
    return bytes;
  }

  // A gliding pitch with overtones, in syllables; its loudest sample at about 0.5.
  std::vector<float> speech(double seconds, int rate_hz) {
    std::vector<float> pcm(static_cast<std::size_t>(std::lround(seconds * rate_hz)));
    double phase = 0;
    for (std::size_t i = 0; i < pcm.size(); ++i) {
      const double t = static_cast<double>(i) / rate_hz;
      phase += 2 * std::numbers::pi * (140 - 6 * t) / rate_hz;
      double x = 0;
      for (int k = 1; k <= 6; ++k) x += std::sin(k * phase) / k;
      pcm[i] = static_cast<float>(0.3 * std::max(0.0, std::sin(15 * t)) * x);
    }
    return pcm;
  }

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
      const auto got = read_recording(made(speech(4, rate), rate), "a.wav");
      CAPTURE(got ? std::string() : got.error().detail);
      REQUIRE(got.has_value());
      CHECK(got->audio.rate_hz == rate);
      CHECK(got->notes.empty());
    }
    const std::vector<float> pcm = speech(4, 32'000);
    CHECK(fault(made(pcm, 32'000, SF_FORMAT_WAV | SF_FORMAT_PCM_16)).empty());
    CHECK(fault(made(pcm, 32'000, SF_FORMAT_WAV | SF_FORMAT_PCM_24)).empty());
    CHECK(fault(made(pcm, 32'000, SF_FORMAT_FLAC | SF_FORMAT_PCM_16)).empty());
    CHECK(fault(made(pcm, 32'000, SF_FORMAT_AIFF | SF_FORMAT_PCM_16)).empty());
    std::vector<float> stereo;
    for (const float x : pcm) stereo.insert(stereo.end(), {x, 0.5F * x});
    const auto both = read_recording(made(stereo, 32'000, SF_FORMAT_WAV | SF_FORMAT_FLOAT, 2), "a.wav");
    REQUIRE(both.has_value());
    CHECK(both->audio.pcm.size() == pcm.size());
    CHECK(both->audio.pcm[5000] == doctest::Approx(0.75F * pcm[5000]));
  }

  TEST_CASE("3 to 10 s, counted at 16 kHz") {
    CHECK(has(fault(made(speech(2.9, 32'000), 32'000)), "got 2.90 s, wanted 3 to 10 s"));
    CHECK(has(fault(made(speech(10.1, 32'000), 32'000)), "got 10.10 s, wanted 3 to 10 s"));
    CHECK(has(fault(made(speech(61, 16'000), 16'000)), "longer than 60 s"));
    std::vector<float> pcm = speech(3, 44'100);
    CHECK(fault(made(pcm, 44'100)).empty());
    pcm.pop_back();  // still 48000 samples at 16 kHz, the last one begun
    CHECK(fault(made(pcm, 44'100)).empty());
    pcm.resize(pcm.size() - 4);
    CHECK(has(fault(made(pcm, 44'100)), "wanted 3 to 10 s"));
    CHECK(fault(made(speech(10, 48'000), 48'000)).empty());
  }

  TEST_CASE("silence, and sound that is mostly silence") {
    CHECK(has(fault(made(std::vector<float>(160'000, 0.0F), 32'000)), "got silence (its loudest sample at -120 dBFS)"));
    std::vector<float> pcm = speech(5, 32'000);
    for (float& x : pcm) x *= 1e-3F;
    CHECK(has(fault(made(pcm, 32'000)), "got silence"));
    pcm = speech(5, 32'000);
    std::fill(pcm.begin() + 16'000, pcm.end(), 0.0F);
    CHECK(has(fault(made(pcm, 32'000)), "s of sound, the rest is silence"));
  }

  TEST_CASE("an overdriven recording, a slightly clipped one, and a loud one") {
    std::vector<float> pcm = speech(4, 32'000);
    float top = 0;
    for (const float x : pcm) top = std::max(top, std::abs(x));
    const auto driven = [&](float gain) {
      std::vector<float> out;
      for (const float x : pcm) out.push_back(std::clamp(x / top * gain, -1.0F, 1.0F));
      return made(out, 32'000, SF_FORMAT_WAV | SF_FORMAT_PCM_16);
    };
    CHECK(has(fault(driven(8)), "overdriven recording ("));
    const auto full_scale = read_recording(driven(1), "a.wav");
    REQUIRE(full_scale.has_value());
    CHECK(full_scale->notes.empty());
    const std::vector<float> tone = sine(100, 4 * 48'000, 48'000, 1.0F);
    CHECK(fault(made(tone, 48'000, SF_FORMAT_WAV | SF_FORMAT_PCM_16)).empty());
    // Floats beyond 1 are nothing lost; they stay.
    for (float& x : pcm) x *= 1.5F / top;
    const auto loud = read_recording(made(pcm, 32'000), "a.wav");
    REQUIRE(loud.has_value());
    CHECK(*std::max_element(loud->audio.pcm.begin(), loud->audio.pcm.end()) > 1.0F);
  }

  TEST_CASE("what is no recording") {
    CHECK(has(fault({}), "not a sound file"));
    CHECK(has(fault(Bytes(5000, 'x')), "not a sound file"));
    std::vector<float> pcm = speech(4, 32'000);
    pcm[70'000] = std::numeric_limits<float>::quiet_NaN();
    CHECK(has(fault(made(pcm, 32'000)), "sample 70000 is not a finite number"));
    pcm[70'000] = std::numeric_limits<float>::infinity();
    CHECK(has(fault(made(pcm, 32'000)), "not a finite number"));
    CHECK(has(fault(made(speech(4, 4'000), 4'000)), "got 4000 Hz, want 8000 to 192000"));
    CHECK(has(fault(made(std::vector<float>(9 * 32'000 * 4, 0.1F), 32'000, SF_FORMAT_WAV | SF_FORMAT_FLOAT, 9)),
              "got 9 channels"));
    CHECK(has(fault(made(speech(4, 32'000), 32'000, SF_FORMAT_OGG | SF_FORMAT_VORBIS)), "Vorbis is not taken"));
    Bytes cut = made(speech(4, 32'000), 32'000);
    cut.resize(cut.size() / 2);
    CHECK(has(fault(cut), "wanted 3 to 10 s"));
  }

  TEST_CASE("a dull or quiet recording is taken with a note") {
    const auto dull = read_recording(made(speech(4, 8'000), 8'000), "a.wav");
    REQUIRE(dull.has_value());
    REQUIRE(dull->notes.size() == 1);
    CHECK(has(dull->notes[0], "only 8000 Hz"));
  }
}
