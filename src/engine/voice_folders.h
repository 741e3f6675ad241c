#pragma once

#include <filesystem>
#include <memory>

#include "src/engine/text_features.h"
#include "src/engine/voice_library.h"
#include "src/text/frontend.h"

namespace tts {

/// The voices of a folder with a folder for each, hidden ones left out; new ones are made by prepare_voice with what is
/// in `models_dir`. Folders that come, go or change while it is in use are seen. Its strict scan throws when the folder
/// is not there, or holds neither a voice nor a model. `features` are loaded with the first voice that was made of
/// Chinese speech.
[[nodiscard]] std::unique_ptr<VoiceSource> voice_folders(const std::filesystem::path& voices_dir,
                                                         const std::filesystem::path& models_dir,
                                                         std::shared_ptr<const TextFrontend> frontend,
                                                         std::shared_ptr<TextFeatures> features);

}  // namespace tts
