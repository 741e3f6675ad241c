#include "src/engine/text_features.h"

#include <exception>
#include <string>
#include <system_error>
#include <utility>

#include <c10/core/InferenceMode.h>

#include "models/bert.h"
#include "models/huggingface.h"

namespace tts {
namespace {

namespace fs = std::filesystem;

bool is_there(const fs::path& file) {
  std::error_code ignored;
  return fs::exists(file, ignored);
}

}  // namespace

TextFeatures::TextFeatures(fs::path models_dir) : models_dir_(std::move(models_dir)) {}
TextFeatures::~TextFeatures() = default;

Result<void> TextFeatures::load() {
  const std::lock_guard lock(mutex_);
  return load_locked();
}

Result<void> TextFeatures::load_locked() {
  if (bert_) return {};
  const fs::path weights = models_dir_ / "bert.safetensors";
  const fs::path folder = models_dir_ / "chinese-roberta-wwm-ext-large";
  if (models_dir_.empty() || !is_there(weights)) {
    return Error{Errc::bad_file, weights.string() + ": missing; sonorant models fetch brings it"};
  }
  try {
    const c10::InferenceMode inference;
    BertConfig sizes;
    if (is_there(folder / "config.json")) {
      auto read = read_bert_config(folder / "config.json");
      if (!read) return read.error();
      sizes = *read;
    }
    auto tokenizer = load_tokenizer(folder);
    if (!tokenizer) return tokenizer.error();
    bert_ = std::make_unique<const BertFeatures>(std::move(*tokenizer),
                                                 Bert(WeightScope(load_weights(weights))("bert"), sizes));
  } catch (const std::exception& fault) {
    return Error{Errc::bad_file, fault.what()};
  }
  return {};
}

Result<std::vector<float>> TextFeatures::rows(const Phonemized& spoken, std::int64_t dim) {
  if (spoken.bert.empty()) return std::vector<float>{};
  const std::lock_guard lock(mutex_);
  if (auto loaded = load_locked(); !loaded) return loaded.error();
  if (bert_->dim() != dim) {
    return Error{Errc::bad_file, (models_dir_ / "bert.safetensors").string() + ": its features have " +
                                     std::to_string(bert_->dim()) + " values, the model wants " + std::to_string(dim)};
  }
  const c10::InferenceMode inference;
  const at::Tensor rows = bert_->features(spoken).contiguous();
  return std::vector<float>(rows.data_ptr<float>(), rows.data_ptr<float>() + rows.numel());
}

}  // namespace tts
