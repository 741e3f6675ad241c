#include "src/engine/text_features.h"

#include <exception>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <c10/core/InferenceMode.h>

#include "models/bert.h"
#include "models/bf16_kernels.h"
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
  TextFeatures(fs::path file, WordPiece tokenizer, Bert bert, std::uint64_t bytes)
      : file_(std::move(file)), bert_(std::move(tokenizer), std::move(bert)), bytes_(bytes) {}

  std::uint64_t bytes() const override { return bytes_; }

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
  const std::uint64_t bytes_;
};

/// What the encoder takes: the matrices of its layers at two bytes a number in bf16, all else at four.
Result<std::uint64_t> bytes_of(const fs::path& weights, Precision precision) {
  const auto file = SafeTensors::open(weights);
  if (!file) return file.error();
  std::uint64_t bytes = 0;
  for (const TensorView& tensor : file->tensors()) {
    if (!tensor.name.starts_with("bert.")) continue;
    const bool rounded =
        precision == Precision::bf16 && tensor.name.starts_with("bert.encoder.") && tensor.shape.size() == 2;
    bytes += static_cast<std::uint64_t>(tensor.numel()) * (rounded ? 2 : 4);
  }
  return bytes;
}

}  // namespace

Result<std::shared_ptr<const TextReader>> load_text_features(const fs::path& models_dir, PrecisionChoice precision) {
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
    Bert bert = make_bert(WeightScope(load_weights(*weights))("bert"), sizes, precision);
    const auto bytes = bytes_of(*weights, bert.precision());
    if (!bytes) return bytes.error();
    return std::make_shared<const TextFeatures>(std::move(*weights), std::move(*tokenizer), std::move(bert), *bytes);
  } catch (const std::exception& fault) {
    return Error{Errc::bad_file, fault.what()};
  }
}

Result<std::uint64_t> text_features_bytes(const fs::path& models_dir, PrecisionChoice precision) {
  const auto weights = find_weights(models_dir);
  if (!weights) return weights.error();
  const bool rounds = precision != PrecisionChoice::fp32 && bf16_kernels() != nullptr;
  return bytes_of(*weights, rounds ? Precision::bf16 : Precision::fp32);
}

}  // namespace tts
