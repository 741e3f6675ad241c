#pragma once

#include <cstdint>

namespace tts {

/// How a speaker is fitted to a recording (fit_speaker.h).
struct FitOptions {
  int rounds = 20;                 ///< 0: nothing is fitted; with more it is more alike, and says words worse
  double rate = 0.03;              ///< of Adam (Kingma & Ba 2015), falling to 0 as half a cosine
  std::int64_t crop_frames = 128;  ///< the most 50 Hz frames of the recording that a round looks at; a multiple of 8
};

}  // namespace tts
