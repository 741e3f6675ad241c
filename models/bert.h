#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include <ATen/core/Tensor.h>

#include "models/layers.h"
#include "models/precision_choice.h"
#include "src/text/frontend.h"
#include "src/text/wordpiece.h"

namespace tts {

/// Sizes of the published chinese-roberta-wwm-ext-large.
struct BertConfig {
  std::int64_t vocab = 21128;
  std::int64_t hidden = 1024;
  std::int64_t layers = 24;  ///< of the checkpoint; the last two are neither read nor run
  std::int64_t heads = 16;
  std::int64_t ff = 4096;
  std::int64_t positions = 512;
  std::int64_t types = 2;
  double eps = 1e-12;
};

/// BERT encoder (Devlin et al. 2018), up to the third from last hidden state. Const after construction.
class Bert {
 public:
  /// `weights` is the scope of the encoder, "bert" in the published checkpoint: keys "embeddings.*", "encoder.layer.*".
  /// A norm's "weight" and "bias" may be called "gamma" and "beta". The linear layers have the scope's precision.
  /// Throws ModelError naming the missing or misshapen tensor.
  explicit Bert(const WeightScope& weights, const BertConfig& config = {});

  /// ids [tokens], [CLS] first and [SEP] last, 1 to positions of them, each in [0, vocab), all of type 0 -> the output
  /// of layer layers - 2, [tokens, hidden]. Throws ModelError on an id or a number of tokens outside.
  [[nodiscard]] at::Tensor forward(std::span<const std::int32_t> ids, const Probe* probe = nullptr) const;

  [[nodiscard]] Precision precision() const noexcept { return precision_; }
  [[nodiscard]] std::int64_t hidden() const noexcept { return config_.hidden; }
  [[nodiscard]] std::int64_t vocab() const noexcept { return config_.vocab; }
  [[nodiscard]] std::int64_t positions() const noexcept { return config_.positions; }

 private:
  struct Layer {
    Linear query, key, value, out, inner, outer;
    LayerNorm attention_norm, final_norm;
  };

  friend Bert make_bert(const WeightScope& weights, const BertConfig& config, PrecisionChoice wish);
  [[nodiscard]] static Layer make_layer(const WeightScope& weights, const BertConfig& config, std::int64_t index);
  [[nodiscard]] at::Tensor embed(std::span<const std::int32_t> ids) const;
  /// x [tokens, hidden] -> the same shape.
  [[nodiscard]] at::Tensor run(const Layer& layer, const at::Tensor& x) const;

  BertConfig config_;
  Precision precision_;
  at::Tensor words_;      ///< [vocab, hidden]
  at::Tensor positions_;  ///< [positions, hidden], the embedding of type 0 added
  LayerNorm norm_;
  std::vector<Layer> layers_;
};

/// The encoder in the precision that is wished for. A bf16 one reads made-up tokens beside float32's layers, of which
/// one is in memory at a time; where a token's feature has a cosine below 0.999 with float32's, or is half as long or
/// twice as long, float32 is taken. One line in the log. Throws as the constructor.
[[nodiscard]] Bert make_bert(const WeightScope& weights, const BertConfig& config, PrecisionChoice wish);

/// Row i of `rows` held for counts[i] rows. rows [n, dim], counts [n] -> [sum(counts), dim].
/// Throws ModelError when sizes differ.
[[nodiscard]] at::Tensor repeat_rows(const at::Tensor& rows, std::span<const std::uint8_t> counts);

/// What the T2S is told of Chinese text, phoneme by phoneme.
class BertFeatures {
 public:
  /// Throws ModelError when the tokeniser has ids the network does not know.
  BertFeatures(WordPiece tokenizer, Bert bert);

  /// All of a segment: [phonemes, hidden], zeros where no stretch of spoken.bert gives a row. Throws ModelError when a
  /// stretch reaches beyond the phonemes, or as below.
  [[nodiscard]] at::Tensor features(const Phonemized& spoken) const;

  /// text: normalised Chinese. word2ph: phonemes of each of its characters. -> [sum(word2ph), hidden], a row per
  /// phoneme. Throws ModelError unless there is a count for each character.
  /// Upstream takes the i-th token for the i-th character. Where the two are not as many (white space, Latin words),
  /// each character has the token that covers it, and what no token covers the one before it. A text of more than
  /// max_characters(), which upstream cuts beforehand, is read in equal pieces.
  [[nodiscard]] at::Tensor features(std::string_view text, std::span<const std::uint8_t> word2ph) const;

  [[nodiscard]] std::int64_t dim() const noexcept { return bert_.hidden(); }
  /// Characters read at once.
  [[nodiscard]] std::int64_t max_characters() const noexcept { return bert_.positions() - 2; }

 private:
  /// text: 1 to max_characters() characters -> [characters, hidden].
  [[nodiscard]] at::Tensor read(std::string_view text, std::size_t n_characters) const;

  WordPiece tokenizer_;
  Bert bert_;
};

}  // namespace tts
