#pragma once

#include <cmath>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include "models/cfm_model.h"
#include "models/manifest.h"
#include "models/t2s.h"
#include "models/vits_model.h"
#include "models/voice_reference.h"
#include "src/core/safetensors.h"

// Voices of the published forms in small, with generated weights: whatever a model asks for is made up on the spot, and
// can then be written as a voice folder.

namespace tts {

/// Tensors from their keys alone; remembers what was asked for. Weight-normed layers get their pair.
class GeneratedWeights final : public WeightSource {
 public:
  /// gain: on everything of two or more axes, so that the signal neither dies nor explodes.
  explicit GeneratedWeights(double gain = 1.0) : gain_(gain) {}

  [[nodiscard]] bool has(std::string_view) const override { return true; }
  [[nodiscard]] at::Tensor get(const std::string& key, at::IntArrayRef shape) const override {
    const auto found = tensors_.find(key);
    if (found != tensors_.end()) return found->second;
    std::uint64_t seed = 1469598103934665603ULL;
    for (const char c : key) seed = (seed ^ static_cast<unsigned char>(c)) * 1099511628211ULL;
    at::Generator generator = at::detail::createCPUGenerator(seed);
    at::Tensor t = at::randn(shape, generator);
    if (key.ends_with("weight_g")) {
      t = 0.7 + 0.05 * t;
    } else if (shape.size() >= 2) {
      t = t * (gain_ / std::sqrt(static_cast<double>(t.numel()) / static_cast<double>(shape[0])));
    } else if (key.ends_with("gamma") || (key.ends_with("weight") && shape.size() == 1)) {
      t = 1.0 + 0.05 * t;
    } else {
      t = 0.02 * t;
    }
    tensors_[key] = t;
    return t;
  }

  /// All that was asked for, as a safetensors file.
  void write(const std::filesystem::path& file) const {
    std::vector<TensorView> views;
    for (const auto& [key, tensor] : tensors_) {
      const at::Tensor flat = tensor.contiguous();
      views.push_back({key,
                       Dtype::f32,
                       tensor.sizes().vec(),
                       {static_cast<const std::byte*>(flat.data_ptr()), static_cast<std::size_t>(flat.numel()) * 4}});
    }
    const auto done = write_safetensors(file, views);
    if (!done) throw ModelError(done.error().detail);
  }

 private:
  double gain_;
  mutable std::map<std::string, at::Tensor> tensors_;
};

/// A form in a size that computes in milliseconds; the manifest below says the same.
inline PublishedConfig small_config(ModelForm form) {
  PublishedConfig c = published_config(form);
  c.codes = 64;
  c.code_dim = 16;
  c.ssl_dim = 16;
  c.hidden = 32;
  c.filter = 32;
  c.layers_ssl = c.layers_post = 1;
  c.layers_text = 2;
  c.mrte_dim = 32;
  c.ge_dim = has_speaker_network(form) ? 48 : 32;
  c.speaker_dim = has_speaker_network(form) ? 24 : 0;
  c.ref_bins = 20;
  c.style_dim = 16;
  c.flow_layers = 2;
  c.decoder_channels = 32;
  c.feature_dim = 32;
  c.wns_layers = 2;
  c.dit.dim = 64;
  c.dit.depth = 1;
  c.dit.heads = 1;
  c.dit.text_dim = 32;
  c.dit.text_layers = 1;
  c.dit.mel = 20;
  c.flow.steps = 2;
  c.vocoder_channels = form == ModelForm::v3 ? 64 : 32;
  return c;
}

inline T2SConfig small_t2s(ModelForm form) {
  T2SConfig c;
  c.layers = 1;
  c.hidden = 32;
  c.heads = 2;
  c.phoneme_vocab = form == ModelForm::v1 ? 512 : 732;
  c.vocab = 65;
  c.bert_dim = 8;
  return c;
}

inline PreparedReference small_reference(const PublishedConfig& c, int recordings) {
  at::Generator generator = at::detail::createCPUGenerator(5);
  PreparedReference out;
  for (std::int32_t i = 0; i < 30; ++i) out.prompt_tokens.push_back((i * 7) % 64);
  for (std::int32_t i = 0; i < 12; ++i) out.prompt_phonemes.push_back(5 + i * 11);
  out.prompt_bert.assign(12 * 8, 0.25F);
  for (int i = 0; i < recordings; ++i) {
    SovitsFront::Reference reference;
    reference.spectrogram = at::rand({40 + 3 * i, 25}, generator);
    if (has_speaker_network(c.form)) reference.embedding = at::randn({c.speaker_dim}, generator);
    out.references.push_back(reference);
  }
  if (uses_flow_matching(c.form)) out.mel = at::randn({80, c.dit.mel}, generator) * 2 - 5;
  return out;
}

/// The manifest of a small model, without its last brace; `more`: further keys.
inline std::string small_manifest(ModelForm form, const std::string& id, const std::string& more) {
  const PublishedConfig c = small_config(form);
  const T2SConfig t = small_t2s(form);
  const auto n = [](std::int64_t value) { return std::to_string(value); };
  std::string out = "{\"format\": 2, \"form\": \"" + std::string(to_string(form)) + "\", \"id\": \"" + id +
                    "\", \"name\": \"Small\", \"license\": \"\", \"languages\": [\"en\"], \"sample_rate_hz\": " +
                    n(sample_rate_hz(form)) + ", \"text\": {\"word_separator\": \"\"}, \"t2s\": {\"file\": " +
                    "\"t2s.safetensors\", \"layers\": 1, \"hidden\": 32, \"heads\": 2, \"vocab\": 65, \"bert_dim\": 8" +
                    (form == ModelForm::v1 ? "" : ", \"phoneme_vocab\": " + n(t.phoneme_vocab)) + "}, ";
  out += "\"acoustic\": {\"file\": \"acoustic.safetensors\", \"codes\": 64, \"code_dim\": 16, \"ssl_dim\": 16, " +
         std::string("\"hidden\": 32, \"filter\": 32, \"layers_ssl\": 1, \"layers_post\": 1, \"layers_text\": 2, ") +
         "\"mrte_dim\": 32, \"ref_bins\": 20, \"style_dim\": 16, \"ge_dim\": " + n(c.ge_dim);
  if (has_speaker_network(form)) out += ", \"speaker_dim\": " + n(c.speaker_dim);
  if (uses_flow_matching(form)) {
    out += ", \"feature_dim\": 32, \"wns_layers\": 2, \"dit_dim\": 64, \"dit_depth\": 1, \"dit_heads\": 1, " +
           std::string("\"dit_text_layers\": 1, \"mel_bands\": 20, \"steps\": 2}, ") +
           "\"vocoder\": {\"file\": \"vocoder.safetensors\", \"channels\": " + n(c.vocoder_channels) + "}";
  } else {
    out += ", \"flow_layers\": 2, \"decoder_channels\": 32}";
  }
  return out + more + "}";
}

/// Writes a model folder with generated weights.
inline void write_small_model(const std::filesystem::path& folder, ModelForm form) {
  std::filesystem::create_directories(folder);
  const PublishedConfig c = small_config(form);
  const auto t2s = std::make_shared<GeneratedWeights>(2.0);
  const auto acoustic = std::make_shared<GeneratedWeights>();
  const auto vocoder = std::make_shared<GeneratedWeights>();
  (void)T2S(small_t2s(form), WeightScope(t2s, "model"));
  if (uses_flow_matching(form)) {
    (void)CfmModel(WeightScope(acoustic), WeightScope(vocoder), c);
    vocoder->write(folder / "vocoder.safetensors");
  } else {
    (void)VitsModel(WeightScope(acoustic), c);
  }
  t2s->write(folder / "t2s.safetensors");
  acoustic->write(folder / "acoustic.safetensors");
  std::ofstream(folder / "manifest.json") << small_manifest(form, folder.filename().string(), "");
}

/// Writes a voice folder that carries its networks itself.
inline void write_small_voice(const std::filesystem::path& folder, ModelForm form, int recordings = 1) {
  write_small_model(folder, form);
  const auto saved = save_reference(folder / "reference.safetensors", small_reference(small_config(form), recordings));
  if (!saved) throw ModelError(saved.error().detail);
  std::ofstream(folder / "manifest.json")
      << small_manifest(form, folder.filename().string(), ", \"reference\": {\"file\": \"reference.safetensors\"}");
}

}  // namespace tts
