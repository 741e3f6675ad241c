#pragma once

#include <map>
#include <span>
#include <string>

#include "src/core/result.h"
#include "src/engine/synthesizer.h"

namespace tts {

/// When quality gives way to load, step by step, and when it comes back. Pure functions of loads and times, so that the
/// rule can be tested without a machine under load.
struct QualityRule {
  double above = 0.70;  ///< a load beyond this for `hold` seconds takes one step down, and so on
  double below = 0.55;  ///< one under this for as long takes one step up; between the two nothing changes
  double hold = 0.5;    ///< 0: all steps at once
  int steps = 0;        ///< there are
};

/// How far quality has stepped down.
struct Quality {
  int steps = 0;     ///< taken: 0 is the best there is
  int trend = 0;     ///< of the load when it was last seen: 1 above, -1 below, 0 between
  double since = 0;  ///< when this trend began, or the last step under it was taken; seconds on one clock
};

/// What becomes of `quality` until `now`, if the load was as last seen until now and is `load` from now on.
[[nodiscard]] Quality next_quality(const QualityRule& rule, Quality quality, double load, double now);

/// Voices by id, each with the one that speaks instead of it when quality has to step down; that one may have a lighter
/// one still.
using LighterVoices = std::map<std::string, std::string>;

/// The voice that speaks for `id` after so many steps down.
[[nodiscard]] std::string lighter_voice(const LighterVoices& lighter, std::string id, int steps);
/// The most steps there are down from any voice.
[[nodiscard]] int most_steps(const LighterVoices& lighter);
/// True when `lighter` may speak instead of `voice` and the listener needs not be told: the same sample rate, and all
/// languages.
[[nodiscard]] bool can_stand_in(const VoiceInfo& lighter, const VoiceInfo& voice);
/// Errc::bad_file that says which entry is wrong: a voice that is not there, one that cannot stand in, or a circle.
[[nodiscard]] Result<void> check_lighter_voices(const LighterVoices& lighter, std::span<const VoiceInfo> voices);

}  // namespace tts
