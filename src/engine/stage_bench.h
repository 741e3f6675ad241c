#pragma once

#include <atomic>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "src/engine/engine.h"

namespace tts {

/// One stage of the way from text to packets, measured alone, on one thread.
struct StageFigures {
  std::string stage;           ///< "front_end", "prefill", "decode_step", "encoder", "flow", "vocoder", "opus"
  int at = 0;                  ///< positions of a prefill, rows of a decode step; 0: of neither
  std::string unit;            ///< of the values: "us/character", "positions/s", "ms", "ms/s" (of audio)
  std::vector<double> values;  ///< one for each repetition
};

/// Measures the stages of a voice of config.voices_dir: the front end over `text` in `lang`, prefills of 50 and 250
/// positions, decode steps of 1 to 32 rows at 150 to 170 positions, the acoustic networks on tokens of the voice itself
/// in chunks of 40, and resampling to 48 kHz with Opus as the wire has it. `progress` hears what comes next. `stop`
/// ends it after the stage that is being measured. Throws std::exception naming what is missing or broken.
[[nodiscard]] std::vector<StageFigures> measure_stages(const EngineConfig& config, const std::string& voice,
                                                       const std::string& text, const std::string& lang,
                                                       const std::function<void(std::string_view)>& progress,
                                                       const std::atomic<bool>& stop);

}  // namespace tts
