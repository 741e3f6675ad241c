#include "src/audio/recording.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "src/audio/level.h"

namespace tts {
namespace {

constexpr float kSilence = 1e-3F;   // -60 dBFS, of the loudest sample
constexpr float kSound = 3.16e-3F;  // -50 dBFS, of 20 ms
constexpr float kPause = 0.03F;     // -30 dB below the loudest 20 ms

std::string decimals(double value, int digits) {
  char text[32];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}

/// Seconds of 20 ms frames that are louder than the pauses.
double sound_seconds(std::span<const float> pcm, int rate_hz) {
  const auto frame = static_cast<std::size_t>(std::max(rate_hz / 50, 1));
  std::vector<float> levels;
  for (std::size_t at = 0; at + frame <= pcm.size(); at += frame) levels.push_back(rms(pcm.subspan(at, frame)));
  if (levels.empty()) return 0;
  const float floor = std::max(kSound, kPause * *std::max_element(levels.begin(), levels.end()));
  const auto loud = std::count_if(levels.begin(), levels.end(), [floor](float level) { return level >= floor; });
  return static_cast<double>(loud) * static_cast<double>(frame) / rate_hz;
}

/// Share of samples in runs of three and more equal ones at the very top: what an overdriven input leaves.
double flattened_share(std::span<const float> pcm) {
  const float top = peak(pcm);
  if (top < 0.5F) return 0;
  std::size_t flat = 0;
  for (std::size_t i = 0; i < pcm.size();) {
    std::size_t end = i + 1;
    if (std::abs(pcm[i]) >= 0.98F * top) {
      while (end < pcm.size() && std::abs(pcm[end] - pcm[i]) < 1e-6F) ++end;
      if (end - i >= 3) flat += end - i;
    }
    i = end;
  }
  return static_cast<double>(flat) / static_cast<double>(pcm.size());
}

}  // namespace

Result<CheckedRecording> read_recording(std::span<const std::uint8_t> bytes, std::string_view name,
                                        const RecordingLimits& limits) {
  const auto bad = [&](const std::string& what) { return Error{Errc::bad_file, std::string(name) + ": " + what}; };
  AudioFileLimits file;
  file.max_duration = std::chrono::seconds(60);
  file.min_rate_hz = 8'000;
  file.vorbis = false;
  file.clip = false;
  auto audio = read_audio(bytes, file);
  if (!audio) return bad(audio.error().detail);

  CheckedRecording out{std::move(*audio), {}};
  const std::vector<float>& pcm = out.audio.pcm;
  const auto n = static_cast<std::int64_t>(pcm.size());
  const std::int64_t rate = out.audio.rate_hz;
  // As upstream counts: samples at 16 kHz, a started one included.
  const std::int64_t n16 = (n * 16'000 + rate - 1) / rate;
  if (n16 < std::int64_t{16} * limits.min_ms || n16 > std::int64_t{16} * limits.max_ms) {
    return bad("got " + decimals(static_cast<double>(n) / static_cast<double>(rate), 2) + " s, wanted " +
               decimals(limits.min_ms / 1000.0, 0) + " to " + decimals(limits.max_ms / 1000.0, 0) + " s");
  }
  const float top = peak(pcm);
  if (top < kSilence) {
    return bad("got silence (its loudest sample at " + decimals(to_dbfs(top), 0) + " dBFS), wanted speech");
  }
  const double sound = sound_seconds(pcm, out.audio.rate_hz);
  if (sound < limits.min_sound_s) {
    return bad("got " + decimals(sound, 2) + " s of sound, the rest is silence; wanted at least " +
               decimals(limits.min_sound_s, 1) + " s of speech");
  }
  const double flattened = flattened_share(pcm);
  if (flattened > limits.max_flattened) {
    return bad("got an overdriven recording (" + decimals(100 * flattened, 1) +
               " % of it are clipped), wanted one recorded at a lower level");
  }
  if (flattened > limits.max_flattened / 20) {
    out.notes.push_back(std::string(name) + ": a few samples are clipped");
  }
  if (rate < 16'000) {
    out.notes.push_back(std::string(name) + ": only " + std::to_string(rate) + " Hz; the voice will sound dull");
  }
  if (rms(pcm) < 0.01F) out.notes.push_back(std::string(name) + ": a quiet recording");
  return out;
}

}  // namespace tts
