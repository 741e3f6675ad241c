#include "src/audio/wav.h"

#include <cmath>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <string>
#include <vector>

#include <sndfile.h>
#include <unistd.h>

#include "src/audio/pcm.h"
#include "tests/audio/signals.h"
#include "tests/audio/sound_file.h"
#include "tests/doctest.h"

TEST_SUITE("audio/wav") {
  using namespace tts;
  using namespace tts::testing;

  using Bytes = std::vector<std::uint8_t>;

  std::filesystem::path temporary(const std::string& name) {
    return std::filesystem::temp_directory_path() / (std::to_string(::getpid()) + "_" + name);
  }

  Bytes bytes_of(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    return Bytes(std::istreambuf_iterator<char>(file), {});
  }

  std::vector<float> quantised(const std::vector<float>& pcm) {
    return from_s16le(to_s16le(pcm));
  }

  TEST_CASE("what is written in pieces is read back sample by sample") {
    const std::vector<float> pcm = speech_like(10007, 24000, 1);
    const std::filesystem::path path = temporary("pieces.wav");
    {
      WavWriter writer = WavWriter::open(path, 24000).value();
      in_pieces(pcm, 5, 700, [&](std::span<const float> piece) { REQUIRE(writer.write(piece).has_value()); });
      REQUIRE(writer.finish().has_value());
    }
    const Bytes bytes = bytes_of(path);
    CHECK(bytes == to_wav(pcm, 24000));
    const auto file = read_audio(bytes);
    REQUIRE(file.has_value());
    CHECK(file->rate_hz == 24000);
    CHECK(file->pcm == quantised(pcm));
    std::filesystem::remove(path);
  }

  TEST_CASE("a writer that is dropped leaves a whole file") {
    const std::filesystem::path path = temporary("dropped.wav");
    const std::vector<float> pcm(480, 0.25F);
    {
      WavWriter writer = WavWriter::open(path, 24000).value();
      WavWriter moved = std::move(writer);
      REQUIRE(moved.write(pcm).has_value());
    }
    CHECK(bytes_of(path) == to_wav(pcm, 24000));
    std::filesystem::remove(path);
  }

  TEST_CASE("a live stream's header reads as audio to the end") {
    Bytes bytes = wav_header(24000, std::nullopt);
    const std::vector<float> pcm = speech_like(4800, 24000, 1);
    append_s16le(pcm, bytes);
    const auto file = read_audio(bytes);
    REQUIRE(file.has_value());
    CHECK(file->pcm == quantised(pcm));
  }

  TEST_CASE("paths that cannot be written are refused with their name") {
    for (const char* path : {"/no/such/folder/a.wav", "/"}) {
      const auto writer = WavWriter::open(path, 24000);
      REQUIRE(writer.has_error());
      CHECK(writer.error().code == Errc::bad_file);
      CHECK(writer.error().detail.find(path) == 0);
    }
  }

  TEST_CASE("a full disk is told") {
    if (!std::filesystem::exists("/dev/full")) return;
    WavWriter writer = WavWriter::open("/dev/full", 24000).value();
    const bool written = writer.write(std::vector<float>(100'000)).has_value() && writer.finish().has_value();
    CHECK_FALSE(written);
  }

  TEST_CASE("other formats and channels become mono") {
    const std::vector<float> left = sine(440, 4800, 48000, 0.5F);
    std::vector<float> stereo;
    for (const float x : left) {
      stereo.push_back(x);
      stereo.push_back(0.0F);
    }
    for (const int format : {SF_FORMAT_WAV | SF_FORMAT_PCM_24, SF_FORMAT_WAV | SF_FORMAT_FLOAT,
                             SF_FORMAT_FLAC | SF_FORMAT_PCM_16, SF_FORMAT_AIFF | SF_FORMAT_PCM_16}) {
      CAPTURE(format);
      const auto file = read_audio(sound_file(stereo, 48000, format, 2));
      REQUIRE(file.has_value());
      REQUIRE(file->pcm.size() == left.size());
      for (std::size_t i = 0; i < left.size(); ++i) REQUIRE(file->pcm[i] == doctest::Approx(left[i] / 2).epsilon(1e-3));
    }
  }

  void refuses(const Bytes& bytes, const std::string& word, const AudioFileLimits& limits = {}) {
    CAPTURE(word);
    const auto file = read_audio(bytes, limits);
    REQUIRE(file.has_error());
    CHECK(file.error().code == Errc::bad_file);
    CAPTURE(file.error().detail);
    CHECK(file.error().detail.find(word) != std::string::npos);
  }

  TEST_CASE("bad files are refused with a reason") {
    refuses({}, "not a sound file");
    refuses(Bytes(1000, 0xAA), "not a sound file");
    refuses(to_wav({}, 24000), "no samples");
    refuses(to_wav(std::vector<float>(10), 2000), "Hz");
    refuses(sound_file(std::vector<float>(900), 24000, SF_FORMAT_WAV | SF_FORMAT_FLOAT, 9), "channels");
    for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
      refuses(sound_file(std::vector{0.0F, 0.1F, bad}, 24000), "sample 2");
    }
    const Bytes two_seconds = to_wav(std::vector<float>(48000), 24000);
    CHECK(read_audio(two_seconds, {.max_duration = std::chrono::seconds(2)}).has_value());
    refuses(two_seconds, "longer than 1 s", {.max_duration = std::chrono::seconds(1)});
    refuses(two_seconds, "bytes", {.max_bytes = 1000});
  }

  TEST_CASE("samples over full scale are clipped") {
    const auto file = read_audio(sound_file(std::vector{2.0F, -3.0F, 0.5F}, 24000));
    REQUIRE(file.has_value());
    CHECK(file->pcm == std::vector<float>{1.0F, -1.0F, 0.5F});
  }

  TEST_CASE("a file cut anywhere is read as far as it goes or refused") {
    for (const int format : {SF_FORMAT_WAV | SF_FORMAT_PCM_16, SF_FORMAT_FLAC | SF_FORMAT_PCM_16}) {
      const Bytes whole = sound_file(speech_like(500, 24000, 6), 24000, format);
      for (std::size_t n = 0; n < whole.size(); n += 7) {
        const auto file = read_audio(std::span(whole).first(n));
        if (file) CHECK(file->pcm.size() <= 500);
      }
    }
  }
}
