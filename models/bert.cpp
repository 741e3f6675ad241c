#include "models/bert.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>

#include "models/bf16_kernels.h"
#include "src/core/log.h"
#include "src/core/utf8.h"

namespace tts {
namespace {

constexpr std::int64_t kUnusedLayers = 2;
constexpr std::int64_t kGuardTokens = 64;
constexpr double kLeastCosine = 0.999;

/// Old checkpoints call a norm's gain and bias "gamma" and "beta".
LayerNorm make_norm(const WeightScope& scope, std::int64_t channels, double eps) {
  const bool old = !scope.has("weight") && scope.has("gamma");
  return {scope, channels, eps, old ? "gamma" : "weight", old ? "beta" : "bias"};
}

}  // namespace

Bert::Bert(const WeightScope& weights, const BertConfig& config) : config_(config), precision_(weights.precision()) {
  if (config.layers <= kUnusedLayers || config.heads < 1 || config.hidden % config.heads != 0) {
    throw ModelError("BERT: got " + std::to_string(config.layers) + " layers and " + std::to_string(config.heads) +
                     " heads of " + std::to_string(config.hidden) + " values, wanted 3 layers or more and whole heads");
  }
  const WeightScope embeddings = weights("embeddings");
  words_ = embeddings.get("word_embeddings.weight", {config.vocab, config.hidden});
  positions_ = embeddings.get("position_embeddings.weight", {config.positions, config.hidden}) +
               embeddings.get("token_type_embeddings.weight", {config.types, config.hidden}).narrow(0, 0, 1);
  norm_ = make_norm(embeddings("LayerNorm"), config.hidden, config.eps);
  for (std::int64_t i = 0; i < config.layers - kUnusedLayers; ++i) layers_.push_back(make_layer(weights, config, i));
}

Bert::Layer Bert::make_layer(const WeightScope& weights, const BertConfig& config, std::int64_t index) {
  const WeightScope scope = weights("encoder.layer", index);
  const WeightScope attention = scope("attention");
  Layer layer;
  layer.query = Linear(attention("self.query"), config.hidden, config.hidden);
  layer.key = Linear(attention("self.key"), config.hidden, config.hidden);
  layer.value = Linear(attention("self.value"), config.hidden, config.hidden);
  layer.out = Linear(attention("output.dense"), config.hidden, config.hidden);
  layer.attention_norm = make_norm(attention("output.LayerNorm"), config.hidden, config.eps);
  layer.inner = Linear(scope("intermediate.dense"), config.hidden, config.ff);
  layer.outer = Linear(scope("output.dense"), config.ff, config.hidden);
  layer.final_norm = make_norm(scope("output.LayerNorm"), config.hidden, config.eps);
  return layer;
}

at::Tensor Bert::embed(std::span<const std::int32_t> ids) const {
  return norm_(words_.index_select(0, to_index(ids)) + positions_.narrow(0, 0, static_cast<std::int64_t>(ids.size())));
}

at::Tensor Bert::run(const Layer& l, const at::Tensor& x) const {
  const double scale = 1.0 / std::sqrt(static_cast<double>(config_.hidden / config_.heads));
  const at::Tensor y = l.attention_norm(x + l.out(attend(l.query(x), l.key(x), l.value(x), config_.heads, scale)));
  return l.final_norm(y + l.outer(at::gelu(l.inner(y))));
}

at::Tensor Bert::forward(std::span<const std::int32_t> ids, const Probe* probe) const {
  const auto n = static_cast<std::int64_t>(ids.size());
  if (n < 1 || n > config_.positions) {
    throw ModelError("BERT: got " + std::to_string(n) + " tokens, wanted 1 to " + std::to_string(config_.positions));
  }
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= config_.vocab) {
      throw ModelError("BERT's token " + std::to_string(i) + ": got " + std::to_string(ids[i]) + ", wanted 0.." +
                       std::to_string(config_.vocab - 1));
    }
  }
  at::Tensor x = embed(ids);  // [tokens, hidden]
  if (probe != nullptr) (*probe)("embedding_output", x);
  for (const Layer& layer : layers_) x = run(layer, x);
  return x;
}

Bert make_bert(const WeightScope& weights, const BertConfig& config, PrecisionChoice wish) {
  const bool can = bf16_kernels() != nullptr;
  if (wish == PrecisionChoice::fp32 || !can) {
    if (wish == PrecisionChoice::bf16) get_logger("models")->warn("BERT stays at fp32: this CPU has no AVX512-BF16, and is not one with AVX2 alone");
    return Bert(weights.with(Precision::fp32), config);
  }
  Bert fast(weights.with(Precision::bf16), config);
  std::vector<std::int32_t> ids;
  for (std::int64_t i = 0; i < std::min(kGuardTokens, config.positions); ++i) {
    ids.push_back(static_cast<std::int32_t>((i * i * 7919 + 31 * i + 1) % config.vocab));
  }
  at::Tensor wanted = fast.embed(ids);
  at::Tensor got = wanted;
  for (std::size_t i = 0; i < fast.layers_.size(); ++i) {
    const Bert::Layer plain = Bert::make_layer(weights.with(Precision::fp32), config, static_cast<std::int64_t>(i));
    wanted = fast.run(plain, wanted);
    got = fast.run(fast.layers_[i], got);
  }
  const at::Tensor lengths = at::stack({wanted.norm(2, 1), got.norm(2, 1)});  // [2, tokens]
  const auto cosine = ((wanted * got).sum(1) / lengths.prod(0)).min().item<double>();
  const at::Tensor ratios = lengths[1] / lengths[0];
  const bool passes = cosine >= kLeastCosine && ratios.min().item<double>() >= 0.5 && ratios.max().item<double>() <= 2;
  if (passes) {
    get_logger("models")->info("BERT precision=bf16 cosine={:.6f}", cosine);
    return fast;
  }
  get_logger("models")->warn("BERT precision=bf16 refused by its guard, fp32 taken cosine={:.6f}", cosine);
  return Bert(weights.with(Precision::fp32), config);
}

at::Tensor repeat_rows(const at::Tensor& rows, std::span<const std::uint8_t> counts) {
  check_shape(rows, {static_cast<std::int64_t>(counts.size()), -1}, "rows to repeat");
  std::vector<std::int32_t> index;
  for (std::size_t i = 0; i < counts.size(); ++i) index.insert(index.end(), counts[i], static_cast<std::int32_t>(i));
  return rows.index_select(0, to_index(index));
}

BertFeatures::BertFeatures(WordPiece tokenizer, Bert bert) : tokenizer_(std::move(tokenizer)), bert_(std::move(bert)) {
  if (tokenizer_.max_id() >= bert_.vocab()) {
    throw ModelError("vocabulary: got the id " + std::to_string(tokenizer_.max_id()) + ", the network knows 0.." +
                     std::to_string(bert_.vocab() - 1));
  }
}

at::Tensor BertFeatures::read(std::string_view text, std::size_t n_characters) const {
  const std::vector<WordPiece::Token> tokens = tokenizer_.encode(text);
  std::vector<std::int32_t> ids = {tokenizer_.cls()};
  for (const WordPiece::Token& token : tokens) ids.push_back(token.id);
  ids.push_back(tokenizer_.sep());
  const at::Tensor hidden = bert_.forward(ids);  // [tokens + 2, hidden]
  if (tokens.size() == n_characters) return hidden.narrow(0, 1, static_cast<std::int64_t>(n_characters));
  std::vector<std::int32_t> row_of(n_characters, 0);  // row 0 is [CLS]: what stands before the first token
  std::size_t at = 0;
  for (std::size_t i = 0; i < n_characters; ++i) {
    while (at < tokens.size() && tokens[at].begin <= i) ++at;  // past the last token that begins here or before
    row_of[i] = static_cast<std::int32_t>(at);
  }
  return hidden.index_select(0, to_index(row_of));
}

at::Tensor BertFeatures::features(std::string_view text, std::span<const std::uint8_t> word2ph) const {
  const std::size_t n = utf8::count_code_points(text);
  if (word2ph.size() != n) {
    throw ModelError("word2ph: got " + std::to_string(word2ph.size()) + " counts, wanted " + std::to_string(n) +
                     ", one for each character");
  }
  if (n == 0) return at::empty({0, bert_.hidden()}, at::kFloat);
  const auto longest = static_cast<std::size_t>(max_characters());
  const std::size_t n_pieces = (n + longest - 1) / longest;
  std::vector<at::Tensor> rows;
  for (std::size_t i = 0; i < n_pieces; ++i) {
    const std::size_t first = utf8::byte_offset(text, i * n / n_pieces);
    const std::size_t last = utf8::byte_offset(text, (i + 1) * n / n_pieces);
    rows.push_back(read(text.substr(first, last - first), (i + 1) * n / n_pieces - i * n / n_pieces));
  }
  return repeat_rows(n_pieces == 1 ? rows[0] : at::cat(rows), word2ph);
}

at::Tensor BertFeatures::features(const Phonemized& spoken) const {
  const auto n = static_cast<std::int64_t>(spoken.phonemes.size());
  at::Tensor all = at::zeros({n, bert_.hidden()}, at::kFloat);
  for (const BertSpan& span : spoken.bert) {
    const at::Tensor rows = features(span.text, span.phonemes_per_character);
    const auto begin = static_cast<std::int64_t>(span.phoneme_begin);
    if (begin > n || rows.size(0) > n - begin) {
      throw ModelError("BERT rows of \"" + span.text + "\": got phonemes " + std::to_string(begin) + " to " +
                       std::to_string(begin + rows.size(0)) + ", the segment has " + std::to_string(n));
    }
    all.narrow(0, begin, rows.size(0)).copy_(rows);
  }
  return all;
}

}  // namespace tts
