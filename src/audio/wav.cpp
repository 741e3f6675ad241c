#include "src/audio/wav.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include <sndfile.h>

#include "src/audio/pcm.h"

namespace tts {
namespace {

constexpr std::size_t kHeaderBytes = 44;
constexpr std::uint32_t kUnknownSize = 0xFFFFFFFFU;

void put_text(std::vector<std::uint8_t>& out, const char* text) {
  out.insert(out.end(), text, text + std::strlen(text));
}

void put_le(std::vector<std::uint8_t>& out, std::uint32_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) out.push_back(static_cast<std::uint8_t>(value >> (8U * static_cast<unsigned>(i))));
}

Error file_error(const std::filesystem::path& path, const char* what) {
  const int code = errno;
  return Error{Errc::bad_file,
               path.string() + ": " + what + (code != 0 ? std::string(": ") + std::strerror(code) : "")};
}

void write_bytes(std::ofstream& file, std::span<const std::uint8_t> bytes) {
  file.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
}

// libsndfile reads through these; the position is always within [0, size].
struct MemoryFile {
  std::span<const std::uint8_t> bytes;
  sf_count_t at = 0;

  static sf_count_t length(void* user) { return static_cast<sf_count_t>(static_cast<MemoryFile*>(user)->bytes.size()); }
  static sf_count_t seek(sf_count_t offset, int whence, void* user) {
    auto& file = *static_cast<MemoryFile*>(user);
    const sf_count_t base = whence == SEEK_SET ? 0 : whence == SEEK_CUR ? file.at : length(user);
    sf_count_t to = 0;
    if (__builtin_add_overflow(base, offset, &to) || to < 0 || to > length(user)) return -1;
    return file.at = to;
  }
  static sf_count_t read(void* to, sf_count_t count, void* user) {
    auto& file = *static_cast<MemoryFile*>(user);
    const sf_count_t n = std::clamp<sf_count_t>(count, 0, length(user) - file.at);
    if (n > 0) std::memcpy(to, file.bytes.data() + file.at, static_cast<std::size_t>(n));
    file.at += n;
    return n;
  }
  static sf_count_t write(const void*, sf_count_t, void*) { return 0; }
  static sf_count_t tell(void* user) { return static_cast<MemoryFile*>(user)->at; }
};

struct SndfileClose {
  void operator()(SNDFILE* file) const noexcept { sf_close(file); }
};
using SndfileHandle = std::unique_ptr<SNDFILE, SndfileClose>;

Error bad_audio(std::string detail) {
  return Error{Errc::bad_file, "audio: " + std::move(detail)};
}

}  // namespace

std::vector<std::uint8_t> wav_header(int rate_hz, std::optional<std::int64_t> samples) {
  std::uint32_t data_bytes = kUnknownSize;
  std::uint32_t riff_bytes = kUnknownSize;
  constexpr std::int64_t kLargest = (std::numeric_limits<std::uint32_t>::max() - kHeaderBytes) / 2;
  if (samples && *samples <= kLargest) {
    data_bytes = static_cast<std::uint32_t>(*samples * 2);
    riff_bytes = data_bytes + kHeaderBytes - 8;
  }
  std::vector<std::uint8_t> out;
  out.reserve(kHeaderBytes);
  put_text(out, "RIFF");
  put_le(out, riff_bytes, 4);
  put_text(out, "WAVEfmt ");
  put_le(out, 16, 4);
  put_le(out, 1, 2);  // PCM
  put_le(out, 1, 2);  // channels
  put_le(out, static_cast<std::uint32_t>(rate_hz), 4);
  put_le(out, static_cast<std::uint32_t>(rate_hz) * 2, 4);
  put_le(out, 2, 2);   // bytes per frame
  put_le(out, 16, 2);  // bits per sample
  put_text(out, "data");
  put_le(out, data_bytes, 4);
  return out;
}

std::vector<std::uint8_t> to_wav(std::span<const float> pcm, int rate_hz) {
  std::vector<std::uint8_t> out = wav_header(rate_hz, static_cast<std::int64_t>(pcm.size()));
  append_s16le(pcm, out);
  return out;
}

WavWriter::WavWriter(std::ofstream file, std::filesystem::path path, int rate_hz)
    : file_(std::move(file)), path_(std::move(path)), rate_hz_(rate_hz) {}

WavWriter::~WavWriter() {
  if (file_.is_open()) (void)finish();
}

Result<WavWriter> WavWriter::open(const std::filesystem::path& path, int rate_hz) {
  errno = 0;
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  if (!file) return file_error(path, "cannot be written");
  write_bytes(file, wav_header(rate_hz, std::nullopt));
  if (!file) return file_error(path, "cannot be written");
  return WavWriter(std::move(file), path, rate_hz);
}

Result<void> WavWriter::write(std::span<const float> pcm) {
  errno = 0;
  write_bytes(file_, to_s16le(pcm));
  if (!file_) return file_error(path_, "cannot be written");
  samples_ += static_cast<std::int64_t>(pcm.size());
  return {};
}

Result<void> WavWriter::finish() {
  if (!file_.is_open()) return {};
  errno = 0;
  file_.flush();
  if (!file_) {
    file_.close();
    return file_error(path_, "cannot be written");
  }
  if (file_.seekp(0)) write_bytes(file_, wav_header(rate_hz_, samples_));
  file_.clear();  // a pipe cannot seek and keeps the header of a live stream
  errno = 0;
  file_.close();
  if (!file_) return file_error(path_, "cannot be closed");
  return {};
}

Result<AudioFile> read_audio(std::span<const std::uint8_t> bytes, const AudioFileLimits& limits) {
  if (bytes.size() > limits.max_bytes) {
    return bad_audio("got " + std::to_string(bytes.size()) + " bytes, want at most " +
                     std::to_string(limits.max_bytes));
  }
  // Whatever stands before it: libsndfile takes a stream for Vorbis by these bytes alone.
  constexpr std::string_view kVorbis("\x01vorbis");
  if (!limits.vorbis && std::search(bytes.begin(), bytes.end(), kVorbis.begin(), kVorbis.end()) != bytes.end()) {
    return bad_audio("Vorbis is not taken, want WAV, FLAC or MP3");
  }
  SF_VIRTUAL_IO io{MemoryFile::length, MemoryFile::seek, MemoryFile::read, MemoryFile::write, MemoryFile::tell};
  MemoryFile memory{bytes};
  SF_INFO info{};
  const SndfileHandle file(sf_open_virtual(&io, SFM_READ, &info, &memory));
  if (!file) return bad_audio(std::string("not a sound file: ") + sf_strerror(nullptr));
  if (info.channels < 1 || info.channels > limits.max_channels) {
    return bad_audio("got " + std::to_string(info.channels) + " channels, want 1 to " +
                     std::to_string(limits.max_channels));
  }
  if (info.samplerate < limits.min_rate_hz || info.samplerate > limits.max_rate_hz) {
    return bad_audio("got " + std::to_string(info.samplerate) + " Hz, want " + std::to_string(limits.min_rate_hz) +
                     " to " + std::to_string(limits.max_rate_hz));
  }
  // The header's length may lie; it is checked early to refuse long files cheaply, and again while reading.
  const auto max_samples =
      static_cast<std::size_t>(limits.max_duration.count()) * static_cast<std::size_t>(info.samplerate);
  const Error too_long = bad_audio("longer than " + std::to_string(limits.max_duration.count()) + " s");
  constexpr sf_count_t kUnknownFrames = SF_COUNT_MAX;
  if (info.frames != kUnknownFrames && info.frames > static_cast<sf_count_t>(max_samples)) return too_long;

  AudioFile out;
  out.rate_hz = info.samplerate;
  const auto channels = static_cast<std::size_t>(info.channels);
  std::vector<float> block(4096 * channels);
  for (;;) {
    const sf_count_t got = sf_readf_float(file.get(), block.data(), 4096);
    if (got <= 0) break;
    if (out.pcm.size() + static_cast<std::size_t>(got) > max_samples) return too_long;
    for (std::size_t i = 0; i < static_cast<std::size_t>(got); ++i) {
      float sum = 0;
      for (std::size_t c = 0; c < channels; ++c) sum += block[i * channels + c];
      if (!std::isfinite(sum)) return bad_audio("sample " + std::to_string(out.pcm.size()) + " is not a finite number");
      const float mean = sum / static_cast<float>(channels);
      out.pcm.push_back(limits.clip ? std::clamp(mean, -1.0F, 1.0F) : mean);
    }
  }
  if (out.pcm.empty()) return bad_audio("holds no samples");
  return out;
}

}  // namespace tts
