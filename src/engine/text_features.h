#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>

#include "models/precision_choice.h"
#include "src/core/result.h"
#include "src/engine/voice_library.h"

namespace tts {

/// What published T2S models are told of Chinese text beside its phonemes: rows of BERT, from the models folder that
/// PrepareConfig describes. Errc::bad_file when the network is missing or broken.
[[nodiscard]] Result<std::shared_ptr<const TextReader>> load_text_features(const std::filesystem::path& models_dir,
                                                                           PrecisionChoice precision);

/// What load_text_features takes in memory when that precision is taken, told by the file's head alone.
[[nodiscard]] Result<std::uint64_t> text_features_bytes(const std::filesystem::path& models_dir,
                                                        PrecisionChoice precision);

}  // namespace tts
