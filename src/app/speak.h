#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string_view>

#include "src/core/result.h"
#include "src/engine/synthesizer.h"

namespace tts {

/// One utterance from start to end.
struct Spoken {
  UtteranceMetrics metrics;
  double first_audio_ms = 0;  ///< first speak() -> first samples at the caller, on the caller's clock; 0: no audio
  double total_ms = 0;
  std::int64_t samples = 0;
};

/// Speaks a whole text on the calling thread. `take` gets the audio as it is made, at the voice's rate; its error
/// cancels the utterance and is returned. Errors otherwise: those of Synthesizer::open and UtteranceSink::on_error.
[[nodiscard]] Result<Spoken> speak(Synthesizer& synthesizer, const UtteranceOptions& options, std::string_view text,
                                   const std::function<Result<void>(std::span<const float>)>& take);

/// The same for a text that is cut already.
[[nodiscard]] Result<Spoken> speak(Synthesizer& synthesizer, const UtteranceOptions& options,
                                   std::span<const TextSegment> segments,
                                   const std::function<Result<void>(std::span<const float>)>& take);

/// Errc::unknown_voice naming those there are.
[[nodiscard]] Result<VoiceInfo> find_voice(const Synthesizer& synthesizer, std::string_view id);

}  // namespace tts
