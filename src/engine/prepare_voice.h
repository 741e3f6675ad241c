#pragma once

#include <filesystem>
#include <string>

#include "models/fit_options.h"
#include "src/core/result.h"
#include "src/engine/synthesizer.h"
#include "src/text/frontend.h"

namespace tts {

struct PrepareConfig {
  std::filesystem::path voices_dir;  ///< holds the model's folder and gets the voice's
  /// Holds what prepares references, as `sonorant models fetch` leaves it: hubert.safetensors, bert.safetensors and
  /// eres2netv2.safetensors, with chinese-hubert-base/config.json and chinese-roberta-wwm-ext-large/{config.json,
  /// tokenizer.json or vocab.txt}.
  std::filesystem::path models_dir{};
  int fit_rounds = FitOptions{}.rounds;  ///< of fit_speaker(), starter form; 0: voices are not fitted
};

/// Makes a voice folder of a model and recordings, as models/README.md describes it. The folder appears whole or not at
/// all. Made of the same recordings, text, language and model before, it is found by its checksum and nothing is
/// computed; under another id its reference is copied. Networks are loaded for the call only; it takes seconds and
/// lowers the priority of the calling thread. Errors: Synthesizer::add_voice.
[[nodiscard]] Result<NewVoice> prepare_voice(const PrepareConfig& config, const TextFrontend& frontend,
                                             const VoiceRequest& request, const VoiceProgress& progress = {});

/// Removes what processes that died while they made or removed a voice have left in the folder: hidden folders that no
/// living process has locked. Never fails.
void sweep_leftovers(const std::filesystem::path& voices_dir);

/// Removes a voice folder that prepare_voice made, in one step. Errc::unknown_voice; Errc::forbidden for a folder that
/// holds networks.
[[nodiscard]] Result<void> remove_prepared_voice(const std::filesystem::path& voices_dir, const std::string& id);

}  // namespace tts
