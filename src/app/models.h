#pragma once

#include <filesystem>
#include <functional>
#include <ostream>
#include <vector>

#include "src/app/cli.h"
#include "src/app/cpu_environment.h"
#include "src/app/fetch.h"
#include "src/app/pretrained_set.h"
#include "src/core/result.h"

namespace tts {

/// Where the official files are kept when nothing else is said: sonorant/models in XDG_DATA_HOME or ~/.local/share.
/// Empty without a home.
[[nodiscard]] std::filesystem::path default_models_dir(const GetEnv& get_env);

/// `sonorant models fetch`: tells what is there and what is missing, checks the free disk, brings what is missing,
/// writes what was brought into SHA256SUMS, and converts HuBERT, BERT and the speaker network to hubert.safetensors,
/// bert.safetensors and eres2netv2.safetensors beside. Run again, it does only what is left to do.
[[nodiscard]] Result<void> fetch_models(const FetchModelsCommand& command, const std::filesystem::path& dir,
                                        const std::vector<PretrainedFile>& files, const FetchOptions& options,
                                        std::ostream& out, std::ostream* progress);

}  // namespace tts
