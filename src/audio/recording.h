#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "src/audio/wav.h"
#include "src/core/result.h"

namespace tts {

/// What a recording of a speaker must be.
struct RecordingLimits {
  int min_ms = 3'000;
  int max_ms = 10'000;
  double min_sound_s = 1.0;      ///< of the recording, louder than its pauses
  double max_flattened = 0.005;  ///< share of samples on flat tops of the wave
};

struct CheckedRecording {
  AudioFile audio;                 ///< not clipped: a file of floats may go beyond [-1, 1]
  std::vector<std::string> notes;  ///< what is not good about it and yet taken
};

/// Reads a sound file (read_audio, without Vorbis) and checks that somebody can be heard in it. `name` is for messages.
/// Never throws on any bytes. Errc::bad_file naming what was got and wanted: not a sound file, too short or too long,
/// no sound in it, or overdriven.
[[nodiscard]] Result<CheckedRecording> read_recording(std::span<const std::uint8_t> bytes, std::string_view name,
                                                      const RecordingLimits& limits = {});

}  // namespace tts
