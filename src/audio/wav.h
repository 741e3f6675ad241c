#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <optional>
#include <span>
#include <vector>

#include "src/core/result.h"

namespace tts {

/// 44-byte header of a mono 16-bit PCM WAV. Without `samples` the length is unknown and both size fields hold
/// 0xFFFFFFFF, as players and ffmpeg expect of a live stream.
[[nodiscard]] std::vector<std::uint8_t> wav_header(int rate_hz, std::optional<std::int64_t> samples);

/// A whole WAV file in memory.
[[nodiscard]] std::vector<std::uint8_t> to_wav(std::span<const float> pcm, int rate_hz);

/// A WAV file written as its audio arrives; finish() (or the destructor, without its error) puts the length into the
/// header where the file can seek, so a pipe keeps the header of a live stream.
class WavWriter {
 public:
  /// Errc::bad_file naming the path and the system's reason.
  [[nodiscard]] static Result<WavWriter> open(const std::filesystem::path& path, int rate_hz);
  WavWriter(WavWriter&&) = default;
  WavWriter& operator=(WavWriter&&) = delete;
  ~WavWriter();

  [[nodiscard]] Result<void> write(std::span<const float> pcm);
  [[nodiscard]] Result<void> finish();

 private:
  WavWriter(std::ofstream file, std::filesystem::path path, int rate_hz);

  std::ofstream file_;
  std::filesystem::path path_;
  int rate_hz_;
  std::int64_t samples_ = 0;
};

struct AudioFile {
  std::vector<float> pcm;  ///< mono: the mean of the channels; finite, in [-1, 1] unless asked otherwise
  int rate_hz = 0;
};

struct AudioFileLimits {
  std::size_t max_bytes = 64U << 20U;  ///< of the file
  std::chrono::seconds max_duration{600};
  int max_channels = 8;
  int min_rate_hz = 4'000;
  int max_rate_hz = 192'000;
  bool vorbis = true;  ///< false: refused, since libsndfile does not free what it allocated for a broken one
  bool clip = true;    ///< false: samples beyond [-1, 1] stay as they are
};

/// Reads a sound file from memory: WAV, FLAC, Ogg, AIFF, MP3, whatever libsndfile knows. Never throws on any bytes.
/// Errc::bad_file: not a sound file, over a limit, Vorbis where that is refused, no samples, or a sample that is not
/// finite.
[[nodiscard]] Result<AudioFile> read_audio(std::span<const std::uint8_t> bytes, const AudioFileLimits& limits = {});

}  // namespace tts
