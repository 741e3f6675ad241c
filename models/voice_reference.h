#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include <ATen/core/Tensor.h>

#include "models/manifest.h"
#include "models/sovits_front.h"
#include "models/speaker_fit.h"
#include "src/core/result.h"

namespace tts {

/// What was prepared of a voice's reference audio, once; the file's tensors are in models/README.md.
struct PreparedReference {
  std::vector<std::int32_t> prompt_tokens;         ///< empty: no prompt
  std::vector<std::int32_t> prompt_phonemes;       ///< empty exactly when prompt_tokens is
  std::vector<float> prompt_bert;                  ///< [prompt_phonemes, bert_dim], or empty for zeros
  std::vector<SovitsFront::Reference> references;  ///< at least one; starter form: none
  at::Tensor mel_shift;                            ///< [bands] and level, starter form; load_reference leaves it out
  SpeakerFit fit;                                  ///< starter form, may be missing; load_reference leaves it out
  at::Tensor mel;  ///< v3, v4: [frames, bands], natural logarithm; starter form: the same at level 0; else undefined
};

/// Reads and checks the reference of a voice. Throws ModelError naming file and tensor. Of a voice of the starter form
/// the prompt alone, which may be missing: load_speaker (models/manifest.h) reads the rest.
[[nodiscard]] PreparedReference load_reference(const VoiceManifest& manifest);
/// Writes it as float32 and int32. The file appears whole or not at all.
[[nodiscard]] Result<void> save_reference(const std::filesystem::path& file, const PreparedReference& reference);

}  // namespace tts
