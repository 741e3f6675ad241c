#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "models/bert.h"
#include "models/eres2net.h"
#include "models/hubert.h"
#include "models/semantic_tokenizer.h"
#include "src/audio/wav.h"
#include "src/core/assert.h"
#include "src/engine/synthesizer.h"
#include "tests/models/small_voice.h"

// Small models that voices can be prepared of, with the networks for it, all of generated weights.

namespace tts {

constexpr std::int64_t kSmallSpeakerChannels = 8;
constexpr std::int64_t kSmallSpeakerDim = kSmallSpeakerChannels * 8 * 4 * 10;

inline HubertConfig small_hubert() {
  HubertConfig c;
  c.conv_channels = {8, 8, 8, 8, 8, 8, 8};
  c.hidden = 16;
  c.layers = 1;
  c.heads = 2;
  c.ff = 16;
  c.position_groups = 4;
  return c;
}

inline BertConfig small_bert() {
  BertConfig c;
  c.vocab = 6;
  c.hidden = 8;
  c.layers = 3;
  c.heads = 2;
  c.ff = 8;
  c.positions = 64;
  return c;
}

inline Eres2NetConfig small_speaker_network() {
  Eres2NetConfig c;
  c.channels = kSmallSpeakerChannels;
  c.base_width = 24;
  c.blocks = {1, 1, 1, 1};
  return c;
}

/// Generated weights whose variances are variances.
class NormedWeights final : public WeightSource {
 public:
  [[nodiscard]] bool has(std::string_view) const override { return true; }
  [[nodiscard]] at::Tensor get(const std::string& key, at::IntArrayRef shape) const override {
    at::Tensor t = inner_.get(key, shape);  // its own memory
    if (key.ends_with("running_var") && seen_.insert(key).second) t.abs_().add_(0.5);
    return t;
  }
  void write(const std::filesystem::path& file) const { inner_.write(file); }

 private:
  GeneratedWeights inner_;
  mutable std::set<std::string> seen_;
};

inline PublishedConfig preparable_config(ModelForm form) {
  PublishedConfig c = small_config(form);
  if (has_speaker_network(form)) c.speaker_dim = kSmallSpeakerDim;
  return c;
}

/// A model folder as write_small_model makes it, with what makes tokens of a recording; it speaks Chinese and English.
inline void write_preparable_model(const std::filesystem::path& folder, ModelForm form) {
  write_small_model(folder, form);
  const PublishedConfig c = preparable_config(form);
  const auto acoustic = std::make_shared<GeneratedWeights>();
  if (uses_flow_matching(form)) {
    (void)CfmModel(WeightScope(acoustic), WeightScope(std::make_shared<GeneratedWeights>()), c);
  } else {
    (void)VitsModel(WeightScope(acoustic), c);
  }
  (void)SemanticTokenizer(WeightScope(acoustic), {.codes = c.codes, .dim = c.code_dim}, c.ssl_dim);
  acoustic->write(folder / "acoustic.safetensors");
  std::string manifest = small_manifest(form, folder.filename().string(), "");
  const auto replace = [&](const std::string& from, const std::string& to) {
    if (const auto at = manifest.find(from); at != std::string::npos) manifest.replace(at, from.size(), to);
  };
  replace("[\"en\"]", "[\"zh\", \"en\"]");
  replace("\"speaker_dim\": 24", "\"speaker_dim\": " + std::to_string(kSmallSpeakerDim));
  std::ofstream(folder / "manifest.json") << manifest;
}

/// The starter voice as a folder of that name.
inline void write_starter(const std::filesystem::path& folder) {
  std::filesystem::create_directories(folder);
  std::filesystem::copy("models/pretrained/starter", folder, std::filesystem::copy_options::recursive);
  std::ifstream in(folder / "manifest.json");
  std::string manifest(std::istreambuf_iterator<char>(in), {});
  in.close();
  const std::string id = R"("id": "starter")";
  const auto at = manifest.find(id);
  TTS_ASSERT(at != std::string::npos);
  manifest.replace(at, id.size(), R"("id": ")" + folder.filename().string() + "\"");
  std::ofstream(folder / "manifest.json") << manifest;
}

/// The folder that `sonorant models fetch` leaves, in small.
inline void write_preparing_networks(const std::filesystem::path& folder) {
  namespace fs = std::filesystem;
  fs::create_directories(folder / "chinese-hubert-base");
  fs::create_directories(folder / "chinese-roberta-wwm-ext-large");
  const auto hubert = std::make_shared<GeneratedWeights>();
  (void)Hubert(WeightScope(hubert), small_hubert());
  hubert->write(folder / "hubert.safetensors");
  std::ofstream(folder / "chinese-hubert-base" / "config.json")
      << R"({"hidden_act": "gelu", "feat_extract_norm": "group", "conv_dim": [8, 8, 8, 8, 8, 8, 8],
 "conv_kernel": [10, 3, 3, 3, 3, 2, 2], "conv_stride": [5, 2, 2, 2, 2, 2, 2], "hidden_size": 16,
 "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "num_conv_pos_embeddings": 128,
 "num_conv_pos_embedding_groups": 4})";
  const auto bert = std::make_shared<GeneratedWeights>();
  (void)Bert(WeightScope(bert)("bert"), small_bert());
  bert->write(folder / "bert.safetensors");
  std::ofstream(folder / "chinese-roberta-wwm-ext-large" / "config.json")
      << R"({"vocab_size": 6, "hidden_size": 8, "num_hidden_layers": 3, "num_attention_heads": 2,
 "intermediate_size": 8, "max_position_embeddings": 64, "type_vocab_size": 2})";
  std::ofstream(folder / "chinese-roberta-wwm-ext-large" / "vocab.txt") << "[PAD]\n[UNK]\n[CLS]\n[SEP]\n你\n好\n";
  const auto speaker = std::make_shared<NormedWeights>();
  (void)Eres2Net(WeightScope(speaker), small_speaker_network());
  speaker->write(folder / "eres2netv2.safetensors");
}

inline Recording recording(const std::vector<float>& pcm, int rate_hz, const std::string& name = "voice.wav") {
  return {name, to_wav(pcm, rate_hz)};
}

}  // namespace tts
