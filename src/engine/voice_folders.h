#pragma once

#include <memory>

#include "src/engine/prepare_voice.h"
#include "src/engine/voice.h"
#include "src/engine/voice_library.h"
#include "src/text/frontend.h"

namespace tts {

/// The voices of a folder with a folder for each, hidden ones left out; new ones are made by prepare_voice. Folders
/// that come and go, and files that change in them, are seen while it is in use, once they stand still from one
/// changed() to the next. Its strict scan throws when the folder is not there, or holds neither a voice nor a model.
/// What a process that died while it made or removed a voice has left there is swept away.
[[nodiscard]] std::unique_ptr<VoiceSource> voice_folders(const PrepareConfig& config,
                                                         std::shared_ptr<const TextFrontend> frontend,
                                                         const NetworkOptions& options = {});

}  // namespace tts
