#include "src/engine/text_features.h"

#include <exception>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <c10/core/InferenceMode.h>

#include "models/bert.h"
#include "models/huggingface.h"
#include "src/core/safetensors.h"

namespace tts {
namespace {

namespace fs = std::filesystem;

bool is_there(const fs::path& file) {
  std::error_code ignored;
  return fs::exists(file, ignored);
}

/// The weights' file.
Result<fs::path> find_weights(const fs::path& models_dir) {
  fs::path weights = models_dir / "bert.safetensors";
  if (models_dir.empty() || !is_there(weights)) {
    return Error{Errc::bad_file, weights.string() + ": missing; sonorant models fetch brings it"};
  }
  return weights;
}

class TextFeatures final : public TextReader {
 public:
  TextFeatures(fs::path file, WordPiece tokenizer, Bert bert)
      : file_(std::move(file)), bert_(std::move(tokenizer), std::move(bert)) {}

  Result<std::vector<float>> rows(const Phonemized& spoken, std::int64_t dim) const override {
    if (spoken.bert.empty()) return std::vector<float>{};
    if (bert_.dim() != dim) {
      return Error{Errc::bad_file, file_.string() + ": its features have " + std::to_string(bert_.dim()) +
                                       " values, the model wants " + std::to_string(dim)};
    }
    const c10::InferenceMode inference;
    const at::Tensor rows = bert_.features(spoken).contiguous();
    return std::vector<float>(rows.data_ptr<float>(), rows.data_ptr<float>() + rows.numel());
  }

 private:
  const fs::path file_;
  const BertFeatures bert_;
};

}  // namespace

Result<std::shared_ptr<const TextReader>> load_text_features(const fs::path& models_dir) {
  auto weights = find_weights(models_dir);
  if (!weights) return weights.error();
  const fs::path folder = models_dir / "chinese-roberta-wwm-ext-large";
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
    Bert bert(WeightScope(load_weights(*weights))("bert"), sizes);
    return std::make_shared<const TextFeatures>(std::move(*weights), std::move(*tokenizer), std::move(bert));
  } catch (const std::exception& fault) {
    return Error{Errc::bad_file, fault.what()};
  }
}

Result<std::uint64_t> text_features_bytes(const fs::path& models_dir) {
  const auto weights = find_weights(models_dir);
  if (!weights) return weights.error();
  const auto file = SafeTensors::open(*weights);
  if (!file) return file.error();
  std::uint64_t numbers = 0;
  for (const TensorView& tensor : file->tensors()) {
    if (tensor.name.starts_with("bert.")) numbers += static_cast<std::uint64_t>(tensor.numel());
  }
  return 4 * numbers;
}

}  // namespace tts
