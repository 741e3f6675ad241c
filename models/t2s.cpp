#include "models/t2s.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <stdexcept>
#include <string>
#include <utility>

#if defined(__GLIBC__)
#include <malloc.h>
#endif

#include <ATen/core/Tensor.h>

#include "models/sine_positions.h"
#include "models/t2s_guard.h"
#include "src/core/log.h"

namespace tts {
namespace {

std::vector<float> floats(const WeightScope& scope, std::string_view name, at::IntArrayRef shape) {
  const at::Tensor tensor = scope.get(name, shape);
  const float* data = tensor.data_ptr<float>();
  return {data, data + tensor.numel()};
}

std::size_t size(std::int64_t n) {
  return static_cast<std::size_t>(n);
}

// From where on a second thread is worth waking, which takes 50 us: a step reads all weights, at some 30 GB/s; a layer
// of a prefill multiplies its own with every row.
constexpr std::size_t kWorthReading = 16 << 20;
constexpr std::int64_t kWorthMultiplying = 30'000'000;

}  // namespace

std::span<const float> T2S::State::logits(std::int64_t row) const {
  if (row < 0 || row >= rows_) throw std::out_of_range("T2S row " + std::to_string(row));
  return {logits_.data() + row * vocab_, size(vocab_)};
}

std::int64_t T2S::State::cached(std::int64_t row) const {
  const std::int64_t all = length(row);
  return window_ == 0 ? all : std::min(all, kept_[size(row)] + window_);
}

std::span<const float> T2S::State::keys(std::int64_t layer, std::int64_t row) const {
  if (keys_.size() == 0) throw std::logic_error("T2S keys are bf16");
  return {keys_.data() + (layer * rows_ + row) * capacity_ * attended_width_, size(cached(row) * attended_width_)};
}

std::span<const float> T2S::State::values(std::int64_t layer, std::int64_t row) const {
  if (values_.size() == 0) throw std::logic_error("T2S values are bf16");
  return {values_.data() + (layer * rows_ + row) * capacity_ * attended_width_, size(cached(row) * attended_width_)};
}

std::span<const float> T2S::State::attention(std::size_t index, std::int64_t row) const {
  return attention_.at(size(row) * probes_.size() + index);
}

void T2S::Product::apply(const float* x, std::int64_t ldx, std::int64_t n, float* y, std::int64_t ldy, LowRows& rows,
                         bool relu) const {
  if (low.empty()) {
    full.apply(x, ldx, n, y, ldy, relu);
  } else {
    low.apply(x, ldx, n, y, ldy, rows, relu);
  }
}

void T2S::Product::apply_share(const SpareThread::Member& m, const float* x, std::int64_t ldx, std::int64_t n, float* y,
                               std::int64_t ldy, LowRows& rows, bool relu) const {
  const Range part = m.share(low.out(), LowKernels::kPanel);
  low.take(x, ldx, n, rows);
  low.multiply(n, y, ldy, rows, relu, part.first, part.second);
}

T2S::T2S(const T2SConfig& config, const WeightScope& scope, const Kernels& set) : config_(config), kernels_(&set) {
  load_rest(scope);
  load_layers(scope, T2SPrecision::fp32);
}

T2S::T2S(const T2SConfig& config, const WeightScope& scope, const T2SOptions& options, const LowKernels& low)
    : config_(config), kernels_(&kernels()), low_kernels_(&low), window_(options.window) {
  if (options.window < 0 || options.window > kPositions) {
    throw std::invalid_argument("T2S window of " + std::to_string(options.window) + " tokens, 0 to " +
                                std::to_string(kPositions) + " wanted");
  }
  load_rest(scope);
  const bool automatic = options.precision == T2SPrecision::automatic;
  std::vector<T2SPrecision> wanted;
  if (options.precision == T2SPrecision::int8 || (automatic && low.fast_int8)) wanted.push_back(T2SPrecision::int8);
  if (options.precision == T2SPrecision::bf16 || (options.precision == T2SPrecision::int8 && low.fast_half) ||
      (automatic && low.fast_half)) {
    wanted.push_back(T2SPrecision::bf16);
  }
  const std::int64_t width = config.attended() / config.heads;
  if (!wanted.empty() && (width % LowKernels::kBlock != 0 || width > LowKernels::kMaxWidth)) {
    if (!automatic) {
      get_logger("models")->warn("T2S stays at fp32: heads of {} columns are not multiples of 16 up to {} wanted={}",
                                 width, LowKernels::kMaxWidth, to_string(options.precision));
    }
    wanted.clear();
  }
  if (!wanted.empty()) {
    const T2SAnswers full = answer_guard(T2S(config, scope, {T2SPrecision::fp32, window_}));
    for (const T2SPrecision precision : wanted) {
      load_layers(scope, precision);
      const T2SDrift drift = measure_drift(full, answer_guard(*this, &full));
      const bool closely = automatic && precision == T2SPrecision::int8;
      const std::string fault = guard_fault(drift, closely);
      if (fault.empty()) {
        get_logger("models")->info("T2S precision={} kernels={} {}", to_string(precision), low.name, to_string(drift));
        break;
      }
      get_logger("models")->warn("T2S precision={} refused by its guard: {} {}", to_string(precision), fault,
                                 to_string(drift));
      layers_.clear();
    }
  }
  if (layers_.empty()) load_layers(scope, T2SPrecision::fp32);
#if defined(__GLIBC__)
  malloc_trim(0);  // what only the guard needed, in pieces below the allocator's threshold
#endif
}

void T2S::load_rest(const WeightScope& scope) {
  const T2SConfig& config = config_;
  const std::int64_t d = config.hidden;
  if (config.layers < 1 || d < 2 || config.heads < 1 || config.attended() % config.heads != 0 || d % 2 != 0 ||
      config.filter < 0 || config.head_dim < 0 || config.phoneme_vocab < 1 || config.vocab < 2 || config.bert_dim < 0 ||
      config.max_tokens < 1) {
    throw ModelError("T2S sizes do not fit together: " + std::to_string(config.layers) + " layers, hidden " +
                     std::to_string(d) + ", " + std::to_string(config.heads) + " heads of " +
                     std::to_string(config.head_dim) + ", filter " + std::to_string(config.filter) + ", vocabularies " +
                     std::to_string(config.phoneme_vocab) + " and " + std::to_string(config.vocab) + ", bert " +
                     std::to_string(config.bert_dim) + ", max_tokens " + std::to_string(config.max_tokens));
  }
  text_embedding_ = floats(scope, "ar_text_embedding.word_embeddings.weight", {config.phoneme_vocab, d});
  audio_embedding_ = floats(scope, "ar_audio_embedding.word_embeddings.weight", {config.vocab, d});
  text_alpha_ = floats(scope, "ar_text_position.alpha", {1})[0];
  audio_alpha_ = floats(scope, "ar_audio_position.alpha", {1})[0];
  bert_bias_.assign(size(d), 0.0F);
  if (config.bert_dim > 0) {
    const at::Tensor weight = scope.get("bert_proj.weight", {d, config.bert_dim});
    bert_proj_ = PackedLinear(*kernels_, weight.data_ptr<float>(), d, config.bert_dim, {});
  }
  if (config.bert_dim > 0 || scope.has("bert_proj.bias")) bert_bias_ = floats(scope, "bert_proj.bias", {d});
  positions_ = sine_positions(kPositions, d);
}

void T2S::load_layers(const WeightScope& scope, T2SPrecision precision) {
  const std::int64_t d = config_.hidden;
  const std::int64_t attended = config_.attended();
  const std::int64_t ffn = config_.ffn();
  precision_ = precision;
  const LowFormat half = is_low() ? low_kernels_->half : LowFormat::bf16;
  const LowFormat format = precision == T2SPrecision::int8 ? LowFormat::int8 : half;
  layers_.clear();
  predict_ = Product();
  low_weights_ = AlignedBuffer<std::uint32_t>();
  std::uint32_t* memory = nullptr;
  if (is_low()) {
    const std::size_t of_layer = LowLinear::bytes(format, 3 * attended, d) + LowLinear::bytes(format, d, attended) +
                                 LowLinear::bytes(format, ffn, d) + LowLinear::bytes(format, d, ffn);
    const std::size_t bytes = size(config_.layers) * of_layer + LowLinear::bytes(half, config_.vocab, d);
    low_weights_ = AlignedBuffer<std::uint32_t>(bytes / sizeof(std::uint32_t), /*huge=*/true);
    memory = low_weights_.data();
  }
  const auto product = [&](const WeightScope& from, const std::string& weight, const std::string& bias,
                           std::int64_t out, std::int64_t in, LowFormat as, bool positive = false) {
    const at::Tensor tensor = from.get(weight, {out, in});
    std::vector<float> b;
    if (!bias.empty()) b = floats(from, bias, {out});
    Product made;
    if (is_low()) {
      made.low = LowLinear(*low_kernels_, as, tensor.data_ptr<float>(), out, in, b, positive, memory);
      memory += LowLinear::bytes(as, out, in) / sizeof(std::uint32_t);
    } else {
      made.full = PackedLinear(*kernels_, tensor.data_ptr<float>(), out, in, b);
    }
    return made;
  };
  for (std::int64_t i = 0; i < config_.layers; ++i) {
    const WeightScope layer = scope("h.layers", i);
    Layer l;
    l.in_proj = product(layer, "self_attn.in_proj_weight", "self_attn.in_proj_bias", 3 * attended, d, format);
    l.out_proj = product(layer, "self_attn.out_proj.weight", "self_attn.out_proj.bias", d, attended, format);
    l.linear1 = product(layer, "linear1.weight", "linear1.bias", ffn, d, format);
    l.linear2 = product(layer, "linear2.weight", "linear2.bias", d, ffn, format, /*positive=*/true);
    l.norm1_gain = floats(layer, "norm1.weight", {d});
    l.norm1_bias = floats(layer, "norm1.bias", {d});
    l.norm2_gain = floats(layer, "norm2.weight", {d});
    l.norm2_bias = floats(layer, "norm2.bias", {d});
    layers_.push_back(std::move(l));
  }
  predict_ = product(scope, "ar_predict_layer.weight", "", config_.vocab, d, half);
}

T2S::State T2S::make_state(std::int64_t rows, std::int64_t capacity) const {
  if (rows < 1 || capacity < 1) {
    throw std::invalid_argument("T2S state of " + std::to_string(rows) + " rows, capacity " + std::to_string(capacity));
  }
  State state;
  state.rows_ = rows;
  state.capacity_ = capacity;
  state.attended_width_ = config_.attended();
  state.vocab_ = config_.vocab;
  state.window_ = window_;
  if (is_low()) {
    state.stride_ = (capacity + LowKernels::kBlock - 1) / LowKernels::kBlock * LowKernels::kBlock;
    const std::size_t n = size(config_.layers * rows * state.stride_ * config_.attended());
    state.low_keys_ = AlignedBuffer<std::uint16_t>(n);
    state.low_values_ = AlignedBuffer<std::uint16_t>(n);
    state.own_[0].scores = FloatBuffer(LowKernels::attend_scratch(state.stride_));
  } else {
    const std::size_t n = size(config_.layers * rows * capacity * config_.attended());
    state.keys_ = FloatBuffer(n);
    state.values_ = FloatBuffer(n);
  }
  state.kept_.assign(size(rows), 0);
  state.length_.assign(size(rows), 0);
  state.position_.assign(size(rows), 0);
  state.logits_.assign(size(rows * config_.vocab), 0.0F);
  if (rows > 1) state.batch_logits_.assign(size(rows * config_.vocab), 0.0F);
  state.scores_ = FloatBuffer(size(config_.heads * capacity));
  reserve_scratch(state, rows);
  return state;
}

std::uint64_t T2S::row_bytes(std::int64_t positions) const {
  const std::int64_t block = is_low() ? LowKernels::kBlock : 1;
  const std::int64_t numbers = 2 * config_.layers * config_.attended() * ((positions + block - 1) / block * block);
  return static_cast<std::uint64_t>(numbers) * (is_low() ? sizeof(std::uint16_t) : sizeof(float));
}

std::unique_ptr<TokenState> T2S::make_token_state(std::int64_t rows, std::int64_t capacity) const {
  return std::make_unique<State>(make_state(rows, capacity));
}

void T2S::start_row(std::span<const std::int32_t> phonemes, std::span<const float> bert,
                    std::span<const std::int32_t> prompt, TokenState& state, std::int64_t row) const {
  prefill(phonemes, bert, prompt, dynamic_cast<State&>(state), row);
}

void T2S::step_rows(std::span<const std::int64_t> rows, std::span<const std::int32_t> tokens, TokenState& state) const {
  step(rows, tokens, dynamic_cast<State&>(state));
}

void T2S::reserve_scratch(State& state, std::int64_t n) const {
  if (n <= state.scratch_rows_) return;
  const std::int64_t d = config_.hidden;
  state.x_ = FloatBuffer(size(n * d));
  state.qkv_ = FloatBuffer(size(n * 3 * config_.attended()));
  state.attended_ = FloatBuffer(size(n * config_.attended()));
  state.residual_ = FloatBuffer(size(n * d));
  state.ffn_ = FloatBuffer(size(n * config_.ffn()));
  if (is_low()) state.own_[0].rows.reserve(n, widest());
  state.own_[1] = {};
  state.scratch_rows_ = n;
}

std::int64_t T2S::widest() const {
  return std::max({config_.hidden, config_.attended(), config_.ffn()});
}

template <class Body>
void T2S::share(bool worth, State& state, const Body& body) const {
  const std::int64_t d = config_.hidden;
  if (!is_low() || !worth || d % LowKernels::kPanel != 0 || config_.attended() % LowKernels::kPanel != 0) {
    SpareThread::Member alone;
    body(alone);
    return;
  }
  State::Own& second = state.own_[1];
  if (second.x.size() == 0) {
    second.rows.reserve(state.scratch_rows_, widest());
    second.scores = FloatBuffer(LowKernels::attend_scratch(state.stride_));
    second.x = FloatBuffer(size(state.scratch_rows_ * d));
  }
  SpareThread::share(body);
}

T2S::Range T2S::heads_of(const SpareThread::Member& m) const {
  const std::int64_t width = config_.attended() / config_.heads;
  return m.share(config_.heads, std::lcm(width, LowKernels::kPanel) / width);
}

std::size_t T2S::cache_offset(const State& state, std::int64_t layer, std::int64_t row) const {
  return size((layer * state.rows_ + row) * (is_low() ? state.stride_ : state.capacity_) * config_.attended());
}

std::span<const float> T2S::token_embedding(std::int32_t token) const {
  check_token(config_, token);
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
  check_input(config_, phonemes, bert, prompt);
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

void T2S::finish_layer(const Layer& layer, Range rows, LowRows& scratch, State& state) const {
  const std::int64_t d = config_.hidden;
  const std::int64_t n = rows.second - rows.first;
  if (n == 0) return;
  const std::int64_t wide = config_.ffn();
  float* x = state.x_.data() + rows.first * d;
  float* residual = state.residual_.data() + rows.first * d;
  float* ffn = state.ffn_.data() + rows.first * wide;
  layer.out_proj.apply(state.attended_.data() + rows.first * config_.attended(), config_.attended(), n, residual, d,
                       scratch);
  for (std::int64_t i = 0; i < n; ++i) {
    kernels_->add_norm(x + i * d, residual + i * d, layer.norm1_gain.data(), layer.norm1_bias.data(), d);
  }
  layer.linear1.apply(x, d, n, ffn, wide, scratch, /*relu=*/true);
  layer.linear2.apply(ffn, wide, n, residual, d, scratch);
  for (std::int64_t i = 0; i < n; ++i) {
    kernels_->add_norm(x + i * d, residual + i * d, layer.norm2_gain.data(), layer.norm2_bias.data(), d);
  }
}

void T2S::finish_layer(SpareThread::Member& m, const Layer& layer, std::int64_t n, float* x, State& state) const {
  const std::int64_t d = config_.hidden;
  LowRows& scratch = state.own_[size(m.index())].rows;
  float* residual = state.residual_.data();
  float* ffn = state.ffn_.data();
  layer.out_proj.apply_share(m, state.attended_.data(), config_.attended(), n, residual, d, scratch);
  m.meet();
  for (std::int64_t i = 0; i < n; ++i) {
    kernels_->add_norm(x + i * d, residual + i * d, layer.norm1_gain.data(), layer.norm1_bias.data(), d);
  }
  layer.linear1.apply_share(m, x, d, n, ffn, config_.ffn(), scratch, /*relu=*/true);
  m.meet();
  layer.linear2.apply_share(m, ffn, config_.ffn(), n, residual, d, scratch);
  m.meet();
  for (std::int64_t i = 0; i < n; ++i) {
    kernels_->add_norm(x + i * d, residual + i * d, layer.norm2_gain.data(), layer.norm2_bias.data(), d);
  }
}

void T2S::reserve_attention(State& state) {
  const std::size_t n = state.probes_.size() * size(state.rows_);
  if (state.attention_.size() == n) return;
  state.attention_.assign(n, std::vector<float>());
  for (std::vector<float>& weights : state.attention_) weights.reserve(size(state.capacity_));
}

void T2S::keep_attention(std::int64_t layer, std::int64_t row, std::int64_t length, Range heads, State& state) const {
  const std::size_t n = state.probes_.size();
  for (std::size_t i = 0; i < n; ++i) {
    const State::Probe& probe = state.probes_[i];
    if (probe.layer != layer || probe.head < heads.first || probe.head >= heads.second) continue;
    const float* weights = state.scores_.data() + probe.head * length;
    state.attention_[size(row) * n + i].assign(weights, weights + length);
  }
}

void T2S::cache(std::int64_t layer, std::int64_t row, std::int64_t from, std::int64_t first, std::int64_t count,
                bool fresh, Range heads, State& state) const {
  const std::int64_t d = config_.attended();
  const float* qkv = state.qkv_.data() + from * 3 * d;
  const std::size_t at = cache_offset(state, layer, row);
  if (is_low()) {
    const std::int64_t width = d / config_.heads;
    const std::int64_t n_heads = heads.second - heads.first;
    if (n_heads == 0) return;
    const float* k = qkv + d + heads.first * width;
    const std::size_t of_heads = at + size(heads.first * width * state.stride_);
    low_kernels_->cache(k, k + d, 3 * d, first, count, fresh, n_heads * width, n_heads, state.stride_,
                        state.low_keys_.data() + of_heads, state.low_values_.data() + of_heads);
    return;
  }
  for (std::int64_t t = 0; t < count; ++t, qkv += 3 * d) {
    std::copy_n(qkv + d, d, state.keys_.data() + at + (first + t) * d);
    std::copy_n(qkv + 2 * d, d, state.values_.data() + at + (first + t) * d);
  }
}

void T2S::attend(std::int64_t layer, std::int64_t row, std::int64_t from, std::int64_t cached, std::int64_t to,
                 Range heads, FloatBuffer& scratch, State& state) const {
  const std::int64_t d = config_.attended();
  const float* q = state.qkv_.data() + from * 3 * d;
  float* out = state.attended_.data() + to * d;
  const std::size_t at = cache_offset(state, layer, row);
  if (is_low()) {
    const auto length = static_cast<std::int32_t>(cached);
    const std::int64_t width = d / config_.heads;
    const std::int64_t n_heads = heads.second - heads.first;
    if (n_heads == 0) return;
    const std::int64_t column = heads.first * width;
    const std::size_t of_heads = at + size(column * state.stride_);
    low_kernels_->attend(q + column, 3 * d, 1, &length, state.low_keys_.data() + of_heads,
                         state.low_values_.data() + of_heads, n_heads * width, n_heads, state.stride_, scratch.data(),
                         out + column, d,
                         state.probes_.empty() ? nullptr : state.scores_.data() + heads.first * cached);
  } else {
    kernels_->attend(q, state.keys_.data() + at, state.values_.data() + at, cached, d, config_.heads,
                     state.scores_.data(), out);
  }
}

/// In float32 both products of the attention run through the packed linear kernel, head by head: scores = Q K^T, then
/// weights V.
void T2S::attend_prefill(std::int64_t layer, std::int64_t row, std::int64_t n_text, Range rows, std::int64_t n,
                         FloatBuffer& scratch, State& state) const {
  const std::int64_t d = config_.attended();
  const std::int64_t ld = 3 * d;
  if (is_low()) {
    const std::size_t at = cache_offset(state, layer, row);
    low_kernels_->attend(state.qkv_.data() + rows.first * ld, ld, rows.second - rows.first,
                         state.lengths_.data() + rows.first, state.low_keys_.data() + at, state.low_values_.data() + at,
                         d, config_.heads, state.stride_, scratch.data(), state.attended_.data() + rows.first * d, d,
                         nullptr);
    return;
  }
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
  state.lengths_.resize(size(n));
  for (std::int64_t i = 0; i < n; ++i) state.lengths_[size(i)] = static_cast<std::int32_t>(std::max(n_text, i + 1));
  if (!state.probes_.empty()) reserve_attention(state);
  // Layer by layer, for whether a processor is free changes.
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    share(n * weights_of_layer() >= kWorthMultiplying, state,
          [&](SpareThread::Member& m) { prefill_layer(m, static_cast<std::int64_t>(i), row, n_text, n, state); });
  }
  const float* last_row = state.x_.data() + (state.keep_hidden_ ? n - 1 : 0) * d;
  state.hidden_out_.clear();
  if (state.keep_hidden_) state.hidden_out_.assign(state.x_.data(), state.x_.data() + n * d);
  predict_.apply(last_row, d, 1, state.logits_.data() + row * config_.vocab, config_.vocab, state.own_[0].rows);
  state.length_[size(row)] = n;
  state.kept_[size(row)] = n;
  state.position_[size(row)] = static_cast<std::int64_t>(prompt.size());
  return state.logits(row);
}

/// Members have rows of their own; only attention looks at the others' keys and values.
void T2S::prefill_layer(SpareThread::Member& m, std::int64_t i, std::int64_t row, std::int64_t n_text, std::int64_t n,
                        State& state) const {
  constexpr std::int64_t kUnit = 12;  // whole tiles of the kernels, and whole pairs of the cache
  const std::int64_t d = config_.hidden;
  const std::int64_t wide = 3 * config_.attended();
  const Range mine = m.share(n, kUnit);
  const std::int64_t count = mine.second - mine.first;
  const bool has_last = count > 0 && mine.second == n;  // the last row
  const Range all_heads{0, config_.heads};
  State::Own& own = state.own_[size(m.index())];
  const Layer& layer = layers_[size(i)];
  if (count > 0) {
    layer.in_proj.apply(state.x_.data() + mine.first * d, d, count, state.qkv_.data() + mine.first * wide, wide,
                        own.rows);
    cache(i, row, mine.first, mine.first, count, /*fresh=*/true, all_heads, state);
  }
  m.meet();
  const bool only_last_row = i + 1 == config_.layers && !state.keep_hidden_;
  if (!only_last_row && count > 0) attend_prefill(i, row, n_text, mine, n, own.scores, state);
  if (has_last && (only_last_row || !state.probes_.empty())) {
    // The last row sees every position, as a decode step does.
    attend(i, row, n - 1, n, only_last_row ? 0 : n - 1, all_heads, own.scores, state);
    keep_attention(i, row, n, all_heads, state);
  }
  if (!only_last_row) {
    finish_layer(layer, mine, own.rows, state);
  } else if (has_last) {
    std::copy_n(state.x_.data() + (n - 1) * d, d, state.x_.data());
    finish_layer(layer, {0, 1}, own.rows, state);
  }
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
    if (next_slot(state, row) >= state.capacity_ || state.position_[size(row)] >= kPositions) {
      throw std::invalid_argument("T2S row " + std::to_string(row) + " is full at " +
                                  std::to_string(state.length_[size(row)]) + " positions");
    }
    check_token(config_, tokens[b]);
    if (std::find(rows.begin(), rows.begin() + static_cast<std::ptrdiff_t>(b), row) !=
        rows.begin() + static_cast<std::ptrdiff_t>(b)) {
      throw std::invalid_argument("T2S row " + std::to_string(row) + " is stepped twice at once");
    }
  }
  for (std::int64_t b = 0; b < n; ++b) {
    embed_token(tokens[size(b)], state.position_[size(rows[size(b)])], state.x_.data() + b * d);
  }
  if (!state.probes_.empty()) reserve_attention(state);
  share(low_weights_.size() * sizeof(std::uint32_t) >= kWorthReading, state,
        [&](SpareThread::Member& m) { step_layers(m, rows, state); });
  // The rows may lie anywhere in the state.
  for (std::int64_t b = 0; n > 1 && b < n; ++b) {
    std::copy_n(state.batch_logits_.data() + b * config_.vocab, config_.vocab,
                state.logits_.data() + rows[size(b)] * config_.vocab);
  }
  for (const std::int64_t row : rows) {
    ++state.length_[size(row)];
    ++state.position_[size(row)];
  }
}

std::int64_t T2S::next_slot(const State& state, std::int64_t row) const {
  const std::int64_t length = state.length_[size(row)];
  const std::int64_t kept = state.kept_[size(row)];
  return window_ == 0 ? length : kept + (length - kept) % window_;
}

/// Members have heads and outputs of their own, and each has all of x: what they need of each other are the attended
/// values, and the outputs of the three other linear layers.
void T2S::step_layers(SpareThread::Member& m, std::span<const std::int64_t> rows, State& state) const {
  const std::int64_t d = config_.hidden;
  const auto n = static_cast<std::int64_t>(rows.size());
  const std::int64_t a = config_.attended();
  const std::int64_t width = a / config_.heads;
  const bool alone = m.count() == 1;
  const Range heads = alone ? Range{0, config_.heads} : heads_of(m);
  State::Own& own = state.own_[size(m.index())];
  float* x = state.x_.data();
  if (m.index() > 0) {
    std::copy_n(x, n * d, own.x.data());
    x = own.x.data();
  }
  if (!alone) m.meet();  // x_ is read before the first member changes it
  for (std::int64_t i = 0; i < config_.layers; ++i) {
    const Layer& layer = layers_[size(i)];
    if (alone) {
      layer.in_proj.apply(x, d, n, state.qkv_.data(), 3 * a, own.rows);
    } else {
      layer.in_proj.low.take(x, d, n, own.rows);
      for (std::int64_t part = 0; part < 3 * a; part += a) {
        layer.in_proj.low.multiply(n, state.qkv_.data(), 3 * a, own.rows, false, part + heads.first * width,
                                   part + heads.second * width);
      }
    }
    for (std::int64_t b = 0; b < n; ++b) {
      const std::int64_t row = rows[size(b)];
      const std::int64_t slot = next_slot(state, row);
      const std::int64_t cached = std::max(state.cached(row), slot + 1);
      cache(i, row, b, slot, 1, /*fresh=*/slot + 1 == cached, heads, state);
      attend(i, row, b, cached, b, heads, own.scores, state);
      if (!state.probes_.empty()) keep_attention(i, row, cached, heads, state);
    }
    if (alone) {
      finish_layer(layer, {0, n}, own.rows, state);
    } else {
      m.meet();
      finish_layer(m, layer, n, x, state);
    }
  }
  // One pass over the weight for all rows.
  float* logits = n == 1 ? state.logits_.data() + rows[0] * config_.vocab : state.batch_logits_.data();
  if (alone) {
    predict_.apply(x, d, n, logits, config_.vocab, own.rows);
  } else {
    predict_.apply_share(m, x, d, n, logits, config_.vocab, own.rows);
  }
}

}  // namespace tts
