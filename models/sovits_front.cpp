#include "models/sovits_front.h"

#include <string>
#include <vector>

#include <ATen/ops/where.h>

namespace tts {
namespace {

SemanticEncoderConfig encoder_config(const PublishedConfig& c, bool project) {
  return {.features = c.code_dim,
          .hidden = c.hidden,
          .heads = c.heads,
          .filter = c.filter,
          .kernel = 3,
          .semantic_layers = c.layers_ssl,
          .text_layers = c.layers_text,
          .out_layers = c.layers_post,
          .phonemes = c.phonemes,
          .cross_hidden = c.mrte_dim,
          .cross_heads = c.mrte_heads,
          .window = std::nullopt,
          .project = project};
}

}  // namespace

SovitsFront::SovitsFront(const WeightScope& acoustic, const PublishedConfig& config, bool project)
    : config_(config),
      quantizer_(acoustic("quantizer"), {config.codes, config.code_dim, 2}),
      reference_(acoustic("ref_enc").with(Precision::fp32),
                 {.bins = config.ref_bins, .hidden = config.style_dim, .kernel = 5, .heads = 2, .out = config.ge_dim}),
      encoder_(acoustic("enc_p"), encoder_config(config, project)) {
  if (has_speaker_network(config.form)) {
    speaker_ = Linear(acoustic("sv_emb").with(Precision::fp32), config.speaker_dim, config.ge_dim);
    to_text_ = Linear(acoustic("ge_to512").with(Precision::fp32), config.ge_dim, config.mrte_dim);
    slope_ = acoustic("prelu").get("weight", {config.ge_dim});
  } else if (config.ge_dim != config.mrte_dim) {
    throw ModelError("ge_dim: got " + std::to_string(config.ge_dim) + ", wanted mrte_dim " +
                     std::to_string(config.mrte_dim));
  }
}

SovitsFront::Speaker SovitsFront::make_speaker(std::span<const Reference> references, const Probe* probe) const {
  if (references.empty()) {
    throw ModelError("speaker: got no reference, wanted at least one");
  }
  at::Tensor sum;
  for (std::size_t i = 0; i < references.size(); ++i) {
    const Reference& reference = references[i];
    const std::string suffix = i == 0 ? std::string() : "#" + std::to_string(i);
    const Probe numbered = [&](std::string_view name, const at::Tensor& value) {
      (*probe)(std::string(name) + suffix, value);
    };
    const Probe* show = probe == nullptr ? nullptr : &numbered;
    at::Tensor ge = reference_.encode(reference.spectrogram, show);
    if (show != nullptr) {
      (*show)("ref_enc", ge.view({1, -1, 1}));
    }
    if (speaker_.defined()) {
      check_shape(reference.embedding, {config_.speaker_dim}, "speaker embedding");
      const at::Tensor second = speaker_(reference.embedding.unsqueeze(0));
      ge = ge + second.squeeze(0);
      if (show != nullptr) {
        (*show)("ref_enc+sv_emb", ge.view({1, -1, 1}));
      }
      ge = at::where(ge >= 0, ge, ge * slope_);  // each reference on its own, before the mean
      if (show != nullptr) {
        (*show)("sv_emb(linear)", second);
        (*show)("prelu", ge.view({1, -1, 1}));
      }
    }
    sum = sum.defined() ? sum + ge : ge;
  }
  Speaker speaker;
  speaker.ge = sum / static_cast<double>(references.size());
  speaker.text_ge = to_text_.defined() ? to_text_(speaker.ge.unsqueeze(0)).squeeze(0) : speaker.ge;
  if (probe != nullptr) {
    (*probe)("ge_to512", speaker.text_ge.view({1, 1, -1}));
    (*probe)("enc_p.ge_in", speaker.text_ge.view({1, -1, 1}));
  }
  return speaker;
}

}  // namespace tts
