#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include <sndfile.h>
#include <unistd.h>

namespace tts::testing {

/// A file in any of libsndfile's formats; the samples of several channels are interleaved.
inline std::vector<std::uint8_t> sound_file(std::span<const float> pcm, int rate_hz,
                                            int format = SF_FORMAT_WAV | SF_FORMAT_FLOAT, int channels = 1) {
  const auto path = std::filesystem::temp_directory_path() / (std::to_string(::getpid()) + "_sound_file");
  SF_INFO info{};
  info.channels = channels;
  info.samplerate = rate_hz;
  info.format = format;
  SNDFILE* file = sf_open(path.c_str(), SFM_WRITE, &info);
  if (file == nullptr) throw std::runtime_error(sf_strerror(nullptr));
  sf_write_float(file, pcm.data(), static_cast<sf_count_t>(pcm.size()));
  sf_close(file);
  std::ifstream in(path, std::ios::binary);
  std::vector<std::uint8_t> bytes(std::istreambuf_iterator<char>(in), {});
  std::filesystem::remove(path);
  return bytes;
}

/// The same sound on two channels, the second half as loud.
inline std::vector<float> in_stereo(std::span<const float> pcm) {
  std::vector<float> out;
  for (const float x : pcm) out.insert(out.end(), {x, 0.5F * x});
  return out;
}

}  // namespace tts::testing
