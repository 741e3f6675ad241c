#include "src/app/say.h"

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "src/audio/ogg_opus.h"
#include "src/audio/wav.h"
#include "src/core/utf8.h"
#include "src/text/cut.h"

namespace tts {
namespace {

namespace fs = std::filesystem;

constexpr int kOpusBitrateBps = 48'000;

// Where the audio goes.
class AudioOut {
 public:
  virtual ~AudioOut() = default;
  virtual Result<void> write(std::span<const float> pcm) = 0;
  virtual Result<void> finish() = 0;
};

class WavOut final : public AudioOut {
 public:
  explicit WavOut(WavWriter writer) : writer_(std::move(writer)) {}
  Result<void> write(std::span<const float> pcm) override { return writer_.write(pcm); }
  Result<void> finish() override { return writer_.finish(); }

 private:
  WavWriter writer_;
};

class OpusOut final : public AudioOut {
 public:
  OpusOut(OggOpusEncoder encoder, std::ofstream file, fs::path path)
      : encoder_(std::move(encoder)), file_(std::move(file)), path_(std::move(path)) {}
  Result<void> write(std::span<const float> pcm) override { return put(encoder_.push(pcm)); }
  Result<void> finish() override {
    if (auto done = put(encoder_.finish()); !done) return done;
    file_.close();
    return file_ ? Result<void>() : failed();
  }

 private:
  Result<void> put(Result<std::vector<std::uint8_t>> bytes) {
    if (!bytes) return bytes.error();
    errno = 0;
    file_.write(reinterpret_cast<const char*>(bytes->data()), static_cast<std::streamsize>(bytes->size()));
    return file_ ? Result<void>() : failed();
  }
  Result<void> failed() const {
    return Error{Errc::bad_file, path_.string() + ": cannot be written: " + std::strerror(errno)};
  }

  OggOpusEncoder encoder_;
  std::ofstream file_;
  fs::path path_;
};

Result<std::unique_ptr<AudioOut>> open_out(const fs::path& path, int rate_hz) {
  std::string extension = path.extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  if (path == "-" || extension == ".wav") {
    auto writer = WavWriter::open(path == "-" ? fs::path("/dev/stdout") : path, rate_hz);
    if (!writer) return writer.error();
    return std::make_unique<WavOut>(std::move(*writer));
  }
  if (extension == ".opus" || extension == ".ogg") {
    auto encoder = OggOpusEncoder::make(rate_hz, kOpusBitrateBps);
    if (!encoder) return encoder.error();
    errno = 0;
    std::ofstream file(path, std::ios::binary | std::ios::trunc);
    if (!file) return Error{Errc::bad_file, path.string() + ": cannot be written: " + std::strerror(errno)};
    return std::make_unique<OpusOut>(std::move(*encoder), std::move(file), path);
  }
  return Error{Errc::unsupported_format, "--out: got " + path.string() + ", want a name ending in .wav, .opus or .ogg"};
}

// Pieces in order; where they lie in the text is not kept, for nobody asks for marks here.
Result<std::vector<TextSegment>> cut(std::string_view text, const SayCommand& command) {
  const auto method = parse_cut_method(command.cut);
  if (!method) return method.error();
  std::vector<TextSegment> segments;
  for (std::string& piece : cut_text(text, command.lang, *method)) {
    TextSegment segment;
    segment.in_start = segments.empty() ? 0 : segments.back().in_end;
    segment.in_end = segment.in_start + utf8::count_code_points(piece);
    segment.text = std::move(piece);
    segments.push_back(std::move(segment));
  }
  return segments;
}

Result<Said> speak_into(AudioOut& out, Synthesizer& synthesizer, const UtteranceOptions& options,
                        const SayCommand& command, std::string_view text, int rate_hz,
                        const std::function<void(double)>& progress) {
  std::int64_t samples = 0;
  const auto take = [&](std::span<const float> pcm) -> Result<void> {
    if (auto written = out.write(pcm); !written) return written;
    samples += static_cast<std::int64_t>(pcm.size());
    if (progress) progress(static_cast<double>(samples) / rate_hz);
    return {};
  };
  auto spoken = [&]() -> Result<Spoken> {
    if (command.cut.empty()) return speak(synthesizer, options, text, take);
    const auto segments = cut(text, command);
    if (!segments) return segments.error();
    return speak(synthesizer, options, *segments, take);
  }();
  if (!spoken) return spoken.error();
  if (auto finished = out.finish(); !finished) return finished.error();
  return Said{*spoken, rate_hz};
}

}  // namespace

Result<Said> say(Synthesizer& synthesizer, const SayCommand& command, std::string_view text,
                 const std::function<void(double audio_s)>& progress) {
  auto voice = find_voice(synthesizer, command.voice);
  if (!voice) return voice.error();
  UtteranceOptions options;
  options.voice = command.voice;
  options.lang = command.lang;
  options.seed = command.seed;
  options.speed = command.speed;
  auto out = open_out(command.out, voice->rate_hz);
  if (!out) return out.error();
  auto said = speak_into(**out, synthesizer, options, command, text, voice->rate_hz, progress);
  if (!said) {
    out->reset();
    std::error_code ignored;
    if (command.out != "-" && fs::is_regular_file(command.out, ignored)) fs::remove(command.out, ignored);
  }
  return said;
}

}  // namespace tts
