#pragma once

#include <functional>
#include <string_view>

#include "src/app/cli.h"
#include "src/app/speak.h"

namespace tts {

struct Said {
  Spoken spoken;
  int rate_hz = 0;
  [[nodiscard]] double audio_s() const { return static_cast<double>(spoken.samples) / rate_hz; }
};

/// Speaks `text` into command.out as it is made: WAV, or Ogg Opus at 48 kbit/s. `progress` (may be empty) hears how
/// much audio there is so far. A file that was begun is removed when anything fails. Errc::unknown_voice,
/// Errc::unsupported_format (the file's name), Errc::bad_file, and the engine's.
[[nodiscard]] Result<Said> say(Synthesizer& synthesizer, const SayCommand& command, std::string_view text,
                               const std::function<void(double audio_s)>& progress);

}  // namespace tts
