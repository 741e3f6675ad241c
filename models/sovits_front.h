#pragma once

#include <cstdint>
#include <span>

#include <ATen/core/Tensor.h>

#include "models/layers.h"
#include "models/published.h"
#include "models/quantizer.h"
#include "models/reference_encoder.h"
#include "models/semantic_encoder.h"

namespace tts {

/// What all published forms share: reference audio to speaker embedding, and semantic tokens and phonemes to frames at
/// 50 Hz.
class SovitsFront {
 public:
  /// Keys "quantizer", "ref_enc", "enc_p" and for Pro "sv_emb", "prelu", "ge_to512". `project`: load "enc_p.proj".
  SovitsFront(const WeightScope& acoustic, const PublishedConfig& config, bool project);

  /// One recording of the speaker.
  struct Reference {
    at::Tensor spectrogram;  ///< [frames, bins >= ref_bins], reference_spectrogram() of it (models/mel.h)
    at::Tensor embedding;    ///< Pro: [speaker_dim], else undefined
  };
  struct Speaker {
    at::Tensor ge;       ///< [ge_dim], for flow and decoder
    at::Tensor text_ge;  ///< [mrte_dim], for the encoder
  };
  /// The mean over all references. Throws ModelError for none, or a misshapen one.
  [[nodiscard]] Speaker make_speaker(std::span<const Reference> references, const Probe* probe = nullptr) const;

  /// tokens [n], int64 -> quantised frames [2n, code_dim].
  [[nodiscard]] at::Tensor quantize(const at::Tensor& tokens) const { return quantizer_.decode(tokens); }
  [[nodiscard]] const SemanticEncoder& encoder() const { return encoder_; }

 private:
  PublishedConfig config_;
  Quantizer quantizer_;
  ReferenceEncoder reference_;
  SemanticEncoder encoder_;
  Linear speaker_, to_text_;
  at::Tensor slope_;  ///< [ge_dim]
};

}  // namespace tts
