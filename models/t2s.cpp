#include "models/t2s.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>
#include <utility>

#include <ATen/core/Tensor.h>

namespace tts {
namespace {

std::vector<float> floats(const WeightScope& scope, std::string_view name, at::IntArrayRef shape) {
  const at::Tensor tensor = scope.get(name, shape);
  const float* data = tensor.data_ptr<float>();
  return {data, data + tensor.numel()};
}

PackedLinear packed(const Kernels& set, const WeightScope& scope, const std::string& weight, const std::string& bias,
                    std::int64_t out, std::int64_t in) {
  const at::Tensor tensor = scope.get(weight, {out, in});
  std::vector<float> b;
  if (!bias.empty()) b = floats(scope, bias, {out});
  return {set, tensor.data_ptr<float>(), out, in, b};
}

std::size_t size(std::int64_t n) {
  return static_cast<std::size_t>(n);
}

}  // namespace

std::span<const float> T2S::State::logits(std::int64_t row) const {
  if (row < 0 || row >= rows_) throw std::out_of_range("T2S row " + std::to_string(row));
  return {logits_.data() + row * vocab_, size(vocab_)};
}

std::span<const float> T2S::State::keys(std::int64_t layer, std::int64_t row) const {
  return {keys_.data() + (layer * rows_ + row) * capacity_ * hidden_, size(length(row) * hidden_)};
}

std::span<const float> T2S::State::values(std::int64_t layer, std::int64_t row) const {
  return {values_.data() + (layer * rows_ + row) * capacity_ * hidden_, size(length(row) * hidden_)};
}

std::span<const float> T2S::State::attention(std::size_t index, std::int64_t row) const {
  return attention_.at(size(row) * probes_.size() + index);
}

T2S::T2S(const T2SConfig& config, const WeightScope& scope, const Kernels& set) : config_(config), kernels_(&set) {
  const std::int64_t d = config.hidden;
  if (config.layers < 1 || d < 2 || config.heads < 1 || d % config.heads != 0 || d % 2 != 0 ||
      config.phoneme_vocab < 1 || config.vocab < 2 || config.bert_dim < 0 || config.max_tokens < 1) {
    throw ModelError("T2S sizes do not fit together: " + std::to_string(config.layers) + " layers, hidden " +
                     std::to_string(d) + ", " + std::to_string(config.heads) + " heads, vocabularies " +
                     std::to_string(config.phoneme_vocab) + " and " + std::to_string(config.vocab) + ", bert " +
                     std::to_string(config.bert_dim) + ", max_tokens " + std::to_string(config.max_tokens));
  }
  text_embedding_ = floats(scope, "ar_text_embedding.word_embeddings.weight", {config.phoneme_vocab, d});
  audio_embedding_ = floats(scope, "ar_audio_embedding.word_embeddings.weight", {config.vocab, d});
  text_alpha_ = floats(scope, "ar_text_position.alpha", {1})[0];
  audio_alpha_ = floats(scope, "ar_audio_position.alpha", {1})[0];
  bert_bias_.assign(size(d), 0.0F);
  if (config.bert_dim > 0) bert_proj_ = packed(set, scope, "bert_proj.weight", "", d, config.bert_dim);
  if (config.bert_dim > 0 || scope.has("bert_proj.bias")) bert_bias_ = floats(scope, "bert_proj.bias", {d});

  for (std::int64_t i = 0; i < config.layers; ++i) {
    const WeightScope layer = scope("h.layers", i);
    Layer l;
    l.in_proj = packed(set, layer, "self_attn.in_proj_weight", "self_attn.in_proj_bias", 3 * d, d);
    l.out_proj = packed(set, layer, "self_attn.out_proj.weight", "self_attn.out_proj.bias", d, d);
    l.linear1 = packed(set, layer, "linear1.weight", "linear1.bias", 4 * d, d);
    l.linear2 = packed(set, layer, "linear2.weight", "linear2.bias", d, 4 * d);
    l.norm1_gain = floats(layer, "norm1.weight", {d});
    l.norm1_bias = floats(layer, "norm1.bias", {d});
    l.norm2_gain = floats(layer, "norm2.weight", {d});
    l.norm2_bias = floats(layer, "norm2.bias", {d});
    layers_.push_back(std::move(l));
  }
  predict_ = packed(set, scope, "ar_predict_layer.weight", "", config.vocab, d);

  // The reference's float32 arithmetic up to the angle; the sine itself in double.
  positions_.resize(size(kPositions * d));
  const auto step = static_cast<float>(-(std::log(10000.0) / static_cast<double>(d)));
  for (std::int64_t j = 0; j < d; j += 2) {
    const float frequency = std::exp(static_cast<float>(j) * step);
    for (std::int64_t p = 0; p < kPositions; ++p) {
      const auto angle = static_cast<double>(static_cast<float>(p) * frequency);
      positions_[size(p * d + j)] = static_cast<float>(std::sin(angle));
      positions_[size(p * d + j + 1)] = static_cast<float>(std::cos(angle));
    }
  }
}

T2S::State T2S::make_state(std::int64_t rows, std::int64_t capacity) const {
  if (rows < 1 || capacity < 1) {
    throw std::invalid_argument("T2S state of " + std::to_string(rows) + " rows, capacity " + std::to_string(capacity));
  }
  State state;
  state.rows_ = rows;
  state.capacity_ = capacity;
  state.layers_ = config_.layers;
  state.hidden_ = config_.hidden;
  state.vocab_ = config_.vocab;
  state.keys_ = FloatBuffer(size(config_.layers * rows * capacity * config_.hidden));
  state.values_ = FloatBuffer(size(config_.layers * rows * capacity * config_.hidden));
  state.length_.assign(size(rows), 0);
  state.position_.assign(size(rows), 0);
  state.logits_.assign(size(rows * config_.vocab), 0.0F);
  if (rows > 1) state.batch_logits_.assign(size(rows * config_.vocab), 0.0F);
  state.scores_ = FloatBuffer(size(config_.heads * capacity));
  reserve_scratch(state, rows);
  return state;
}

void T2S::reserve_scratch(State& state, std::int64_t n) const {
  if (n <= state.scratch_rows_) return;
  const std::int64_t d = config_.hidden;
  state.x_ = FloatBuffer(size(n * d));
  state.qkv_ = FloatBuffer(size(n * 3 * d));
  state.attended_ = FloatBuffer(size(n * d));
  state.residual_ = FloatBuffer(size(n * d));
  state.ffn_ = FloatBuffer(size(n * 4 * d));
  state.scratch_rows_ = n;
}

std::size_t T2S::cache_offset(const State& state, std::int64_t layer, std::int64_t row) const {
  return size((layer * state.rows_ + row) * state.capacity_ * config_.hidden);
}

void T2S::check_token(std::int32_t token) const {
  if (token < 0 || token >= config_.vocab) {
    throw std::invalid_argument("semantic token " + std::to_string(token) + " is outside 0.." +
                                std::to_string(config_.vocab - 1));
  }
}

std::span<const float> T2S::token_embedding(std::int32_t token) const {
  check_token(token);
  return {audio_embedding_.data() + token * config_.hidden, size(config_.hidden)};
}

void T2S::embed_token(std::int32_t token, std::int64_t position, float* out) const {
  const float* embedding = audio_embedding_.data() + token * config_.hidden;
  const float* table = positions_.data() + position * config_.hidden;
  for (std::int64_t c = 0; c < config_.hidden; ++c) out[c] = embedding[c] + audio_alpha_ * table[c];
}

std::vector<float> T2S::embed(std::span<const std::int32_t> phonemes, std::span<const float> bert,
                              std::span<const std::int32_t> prompt) const {
  const std::int64_t d = config_.hidden;
  const auto n_text = static_cast<std::int64_t>(phonemes.size());
  const auto n_prompt = static_cast<std::int64_t>(prompt.size());
  if (n_text == 0) throw std::invalid_argument("T2S text is empty");
  if (n_text > kPositions || n_prompt >= kPositions) {
    throw std::invalid_argument("T2S input of " + std::to_string(n_text) + " phonemes and " + std::to_string(n_prompt) +
                                " prompt tokens; at most " + std::to_string(kPositions));
  }
  if (!bert.empty() && bert.size() != phonemes.size() * size(config_.bert_dim)) {
    throw std::invalid_argument("T2S bert feature has " + std::to_string(bert.size()) + " values, wanted " +
                                std::to_string(n_text) + " x " + std::to_string(config_.bert_dim));
  }
  for (const std::int32_t id : phonemes) {
    if (id < 0 || id >= config_.phoneme_vocab) {
      throw std::invalid_argument("phoneme id " + std::to_string(id) + " is outside 0.." +
                                  std::to_string(config_.phoneme_vocab - 1));
    }
  }
  for (const std::int32_t token : prompt) check_token(token);

  std::vector<float> x(size((n_text + n_prompt) * d), 0.0F);
  if (!bert.empty() && !bert_proj_.empty()) bert_proj_.apply(bert.data(), config_.bert_dim, n_text, x.data(), d);
  for (std::int64_t t = 0; t < n_text; ++t) {
    const float* embedding = text_embedding_.data() + phonemes[size(t)] * d;
    const float* table = positions_.data() + t * d;
    float* out = x.data() + t * d;
    for (std::int64_t c = 0; c < d; ++c) {
      out[c] = (embedding[c] + (out[c] + bert_bias_[size(c)])) + text_alpha_ * table[c];
    }
  }
  for (std::int64_t p = 0; p < n_prompt; ++p) embed_token(prompt[size(p)], p, x.data() + (n_text + p) * d);
  return x;
}

void T2S::finish_layer(const Layer& layer, std::int64_t n, State& state) const {
  const std::int64_t d = config_.hidden;
  float* x = state.x_.data();
  float* residual = state.residual_.data();
  layer.out_proj.apply(state.attended_.data(), d, n, residual, d);
  for (std::int64_t i = 0; i < n; ++i) {
    kernels_->add_norm(x + i * d, residual + i * d, layer.norm1_gain.data(), layer.norm1_bias.data(), d);
  }
  layer.linear1.apply(x, d, n, state.ffn_.data(), 4 * d, /*relu=*/true);
  layer.linear2.apply(state.ffn_.data(), 4 * d, n, residual, d);
  for (std::int64_t i = 0; i < n; ++i) {
    kernels_->add_norm(x + i * d, residual + i * d, layer.norm2_gain.data(), layer.norm2_bias.data(), d);
  }
}

void T2S::keep_attention(std::int64_t layer, std::int64_t row, std::int64_t length, State& state) const {
  const std::size_t n = state.probes_.size();
  if (state.attention_.size() != n * size(state.rows_)) {
    state.attention_.assign(n * size(state.rows_), std::vector<float>());
    for (std::vector<float>& weights : state.attention_) weights.reserve(size(state.capacity_));
  }
  for (std::size_t i = 0; i < n; ++i) {
    const State::Probe& probe = state.probes_[i];
    if (probe.layer != layer || probe.head < 0 || probe.head >= config_.heads) continue;
    const float* weights = state.scores_.data() + probe.head * length;
    state.attention_[size(row) * n + i].assign(weights, weights + length);
  }
}

/// Both products of the attention run through the packed linear kernel, head by head: scores = Q K^T, then weights V.
void T2S::attend_prefill(std::int64_t n_text, std::int64_t n, State& state) const {
  const std::int64_t d = config_.hidden;
  const std::int64_t ld = 3 * d;
  const std::int64_t width = d / config_.heads;
  const float scale = 1.0F / std::sqrt(static_cast<float>(width));
  const float* qkv = state.qkv_.data();
  if (n > state.prefill_rows_) {
    state.packed_keys_ = FloatBuffer(packed_size(*kernels_, n, width));
    state.packed_values_ = FloatBuffer(packed_size(*kernels_, width, n));
    state.prefill_scores_ = FloatBuffer(size(n * n));
    state.prefill_rows_ = n;
  }
  float* keys = state.packed_keys_.data();
  float* values = state.packed_values_.data();
  float* scores = state.prefill_scores_.data();
  for (std::int64_t h = 0; h < config_.heads; ++h) {
    const float* q = qkv + h * width;
    const float* k = q + d;
    const float* v = k + d;
    float* out = state.attended_.data() + h * width;
    pack(*kernels_, k, n, width, ld, 1, keys);
    // text rows: bidirectional over the text
    kernels_->linear(q, ld, n_text, keys, nullptr, width, n_text, scores, n, false);
    for (std::int64_t i = 0; i < n_text; ++i) kernels_->softmax(scores + i * n, n_text, scale);
    pack(*kernels_, v, width, n_text, 1, ld, values);
    kernels_->linear(scores, n, n_text, values, nullptr, n_text, width, out, d, false);
    // token rows: all text and the tokens up to the row itself
    const std::int64_t n_tokens = n - n_text;
    if (n_tokens == 0) continue;
    float* token_scores = scores + n_text * n;
    kernels_->linear(q + n_text * ld, ld, n_tokens, keys, nullptr, width, n, token_scores, n, false);
    for (std::int64_t i = n_text; i < n; ++i) {
      float* row = scores + i * n;
      kernels_->softmax(row, i + 1, scale);
      std::fill(row + i + 1, row + n, 0.0F);
    }
    pack(*kernels_, v, width, n, 1, ld, values);
    kernels_->linear(token_scores, n, n_tokens, values, nullptr, n, width, out + n_text * d, d, false);
  }
}

std::span<const float> T2S::prefill(std::span<const std::int32_t> phonemes, std::span<const float> bert,
                                    std::span<const std::int32_t> prompt, State& state, std::int64_t row) const {
  const std::int64_t d = config_.hidden;
  const auto n_text = static_cast<std::int64_t>(phonemes.size());
  const std::int64_t n = n_text + static_cast<std::int64_t>(prompt.size());
  if (row < 0 || row >= state.rows_) throw std::invalid_argument("T2S state has no row " + std::to_string(row));
  if (n > state.capacity_) {
    throw std::invalid_argument("T2S input of " + std::to_string(n) + " positions, the state holds " +
                                std::to_string(state.capacity_));
  }
  const std::vector<float> input = embed(phonemes, bert, prompt);
  reserve_scratch(state, n);
  std::copy(input.begin(), input.end(), state.x_.data());

  for (std::int64_t i = 0; i < config_.layers; ++i) {
    const Layer& layer = layers_[size(i)];
    layer.in_proj.apply(state.x_.data(), d, n, state.qkv_.data(), 3 * d);
    float* keys = state.keys_.data() + cache_offset(state, i, row);
    float* values = state.values_.data() + cache_offset(state, i, row);
    for (std::int64_t t = 0; t < n; ++t) {
      const float* qkv = state.qkv_.data() + t * 3 * d;
      std::copy_n(qkv + d, d, keys + t * d);
      std::copy_n(qkv + 2 * d, d, values + t * d);
    }
    const bool last = i + 1 == config_.layers;
    const bool only_last_row = last && !state.keep_hidden_;
    if (!only_last_row) attend_prefill(n_text, n, state);
    if (only_last_row || !state.probes_.empty()) {
      // The last row sees every position, as a decode step does.
      kernels_->attend(state.qkv_.data() + (n - 1) * 3 * d, keys, values, n, d, config_.heads, state.scores_.data(),
                       state.attended_.data() + (only_last_row ? 0 : n - 1) * d);
      keep_attention(i, row, n, state);
    }
    if (only_last_row) std::copy_n(state.x_.data() + (n - 1) * d, d, state.x_.data());
    finish_layer(layer, only_last_row ? 1 : n, state);
  }
  const float* last_row = state.x_.data() + (state.keep_hidden_ ? n - 1 : 0) * d;
  state.hidden_out_.clear();
  if (state.keep_hidden_) state.hidden_out_.assign(state.x_.data(), state.x_.data() + n * d);
  predict_.apply(last_row, d, 1, state.logits_.data() + row * config_.vocab, config_.vocab);
  state.length_[size(row)] = n;
  state.position_[size(row)] = static_cast<std::int64_t>(prompt.size());
  return state.logits(row);
}

std::span<const float> T2S::step(std::int32_t token, State& state) const {
  const std::int64_t row = 0;
  step({&row, 1}, {&token, 1}, state);
  return state.logits(0);
}

void T2S::step(std::span<const std::int64_t> rows, std::span<const std::int32_t> tokens, State& state) const {
  const std::int64_t d = config_.hidden;
  const auto n = static_cast<std::int64_t>(rows.size());
  if (rows.size() != tokens.size() || n > state.rows_) {
    throw std::invalid_argument("T2S step of " + std::to_string(rows.size()) + " rows and " +
                                std::to_string(tokens.size()) + " tokens; the state has " +
                                std::to_string(state.rows_) + " rows");
  }
  for (std::size_t b = 0; b < rows.size(); ++b) {
    const std::int64_t row = rows[b];
    if (row < 0 || row >= state.rows_ || state.length_[size(row)] == 0) {
      throw std::invalid_argument("T2S row " + std::to_string(row) + " has no prefill");
    }
    if (state.length_[size(row)] >= state.capacity_ || state.position_[size(row)] >= kPositions) {
      throw std::invalid_argument("T2S row " + std::to_string(row) + " is full at " +
                                  std::to_string(state.length_[size(row)]) + " positions");
    }
    check_token(tokens[b]);
    if (std::find(rows.begin(), rows.begin() + static_cast<std::ptrdiff_t>(b), row) !=
        rows.begin() + static_cast<std::ptrdiff_t>(b)) {
      throw std::invalid_argument("T2S row " + std::to_string(row) + " is stepped twice at once");
    }
  }
  for (std::int64_t b = 0; b < n; ++b) {
    embed_token(tokens[size(b)], state.position_[size(rows[size(b)])], state.x_.data() + b * d);
  }
  for (std::int64_t i = 0; i < config_.layers; ++i) {
    const Layer& layer = layers_[size(i)];
    layer.in_proj.apply(state.x_.data(), d, n, state.qkv_.data(), 3 * d);
    for (std::int64_t b = 0; b < n; ++b) {
      const std::int64_t row = rows[size(b)];
      const std::int64_t length = state.length_[size(row)];
      float* keys = state.keys_.data() + cache_offset(state, i, row);
      float* values = state.values_.data() + cache_offset(state, i, row);
      const float* qkv = state.qkv_.data() + b * 3 * d;
      std::copy_n(qkv + d, d, keys + length * d);
      std::copy_n(qkv + 2 * d, d, values + length * d);
      kernels_->attend(qkv, keys, values, length + 1, d, config_.heads, state.scores_.data(),
                       state.attended_.data() + b * d);
      if (!state.probes_.empty()) keep_attention(i, row, length + 1, state);
    }
    finish_layer(layer, n, state);
  }
  // One pass over the weight for all rows; the rows may lie anywhere in the state, so through scratch.
  if (n == 1) {
    predict_.apply(state.x_.data(), d, 1, state.logits_.data() + rows[0] * config_.vocab, config_.vocab);
  } else if (n > 1) {
    std::vector<float>& shared = state.batch_logits_;
    predict_.apply(state.x_.data(), d, n, shared.data(), config_.vocab);
    for (std::int64_t b = 0; b < n; ++b) {
      std::copy_n(shared.data() + b * config_.vocab, config_.vocab,
                  state.logits_.data() + rows[size(b)] * config_.vocab);
    }
  }
  for (const std::int64_t row : rows) {
    ++state.length_[size(row)];
    ++state.position_[size(row)];
  }
}

}  // namespace tts
