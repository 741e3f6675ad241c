#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "models/kernels.h"
#include "models/kernels_low.h"
#include "models/t2s_options.h"
#include "models/token_model.h"
#include "models/weights.h"
#include "src/core/spare_thread.h"

namespace tts {

/// Phonemes and prompt tokens to semantic tokens: GPT-SoVITS' autoregressive transformer (post-norm, ReLU, learned
/// scale on sinusoidal positions), as the published checkpoints have it.
///
/// The text is bidirectional, the tokens are causal and see all text. Const after construction: one T2S serves all
/// utterances, each a row of a State. Rows are independent and may be filled, stepped and replaced at different times
/// (continuous batching); a row's numbers are the same to the last bit whatever the others are, and however many. On
/// the widest vectors the CPU has (kernels.h); float32, or bf16 or int8 weights and bf16 keys and values
/// (kernels_low.h), which a guard compares with float32 when the model is loaded (t2s_guard.h). One thread; at reduced
/// precision the caller's spare thread (spare_thread.h) may share a prefill or a step of a large model, to the same
/// bits.
class T2S final : public TokenModel {
 public:
  static constexpr std::int64_t kPositions = kT2SPositions;

  /// KV cache and scratch of up to `rows` utterances. Movable. Made by T2S::make_state, used with that T2S only.
  class State final : public TokenState {
   public:
    [[nodiscard]] std::int64_t rows() const noexcept override { return rows_; }
    [[nodiscard]] std::int64_t capacity() const noexcept override { return capacity_; }
    /// Positions of a row so far: phonemes + prompt + tokens stepped.
    [[nodiscard]] std::int64_t length(std::int64_t row = 0) const { return length_.at(static_cast<std::size_t>(row)); }
    /// Position the next token of a row takes among the audio tokens.
    [[nodiscard]] std::int64_t position(std::int64_t row = 0) const {
      return position_.at(static_cast<std::size_t>(row));
    }
    /// Those of them that are cached and attended to: all, or text, prompt and the window.
    [[nodiscard]] std::int64_t cached(std::int64_t row = 0) const;
    [[nodiscard]] std::span<const float> logits(std::int64_t row = 0) const override;
    /// Cached keys or values [cached, attended] of a row: text, prompt, tokens; with a window, token i is in place
    /// i % window of the tokens. Of a float32 model; throws std::logic_error otherwise.
    [[nodiscard]] std::span<const float> keys(std::int64_t layer, std::int64_t row = 0) const;
    [[nodiscard]] std::span<const float> values(std::int64_t layer, std::int64_t row = 0) const;

    void set_attention_probes(std::vector<Probe> probes) override { probes_ = std::move(probes); }
    /// Weights [cached] of probe `index` for a row's newest query: the text's columns first, then the tokens', in the
    /// order of keys().
    [[nodiscard]] std::span<const float> attention(std::size_t index, std::int64_t row = 0) const override;

    /// Makes prefill compute the output of every position, not only the last; see prefill_hidden.
    void set_keep_hidden(bool keep) noexcept { keep_hidden_ = keep; }
    /// Output of the last layer [length, hidden] of the last prefill, any row. Empty unless kept.
    [[nodiscard]] std::span<const float> prefill_hidden() const noexcept { return hidden_out_; }

   private:
    friend class T2S;
    State() = default;

    std::int64_t rows_ = 0;
    std::int64_t capacity_ = 0;
    std::int64_t attended_width_ = 0;
    std::int64_t vocab_ = 0;
    std::int64_t window_ = 0;
    FloatBuffer keys_;                         ///< [layers, rows, capacity, attended]; empty at reduced precision
    FloatBuffer values_;                       ///< same
    std::int64_t stride_ = 0;                  ///< capacity in whole blocks of LowKernels
    AlignedBuffer<std::uint16_t> low_keys_;    ///< [layers, rows, heads, stride * width], see LowKernels
    AlignedBuffer<std::uint16_t> low_values_;  ///< same
    std::vector<std::int64_t> kept_;           ///< text and prompt of a row, which never leave the window
    std::vector<std::int64_t> length_;
    std::vector<std::int64_t> position_;
    std::vector<float> logits_;        ///< [rows, vocab]
    std::vector<float> batch_logits_;  ///< the same, in the order of one step's rows
    std::vector<Probe> probes_;
    std::vector<std::vector<float>> attention_;  ///< [row * probes + probe]
    bool keep_hidden_ = false;
    std::vector<float> hidden_out_;
    // scratch for `scratch_rows_` positions at once
    std::int64_t scratch_rows_ = 0;
    FloatBuffer x_;         ///< [n, hidden]
    FloatBuffer qkv_;       ///< [n, 3 * attended]
    FloatBuffer attended_;  ///< [n, attended]
    FloatBuffer residual_;  ///< [n, hidden]
    FloatBuffer ffn_;       ///< [n, ffn]
    FloatBuffer scores_;    ///< [heads, capacity]
    std::int64_t prefill_rows_ = 0;
    /// What each thread that shares a prefill or step has to itself; the second is empty until there is one.
    struct Own {
      LowRows rows;
      FloatBuffer scores;
      FloatBuffer x;  ///< [n, hidden] of the second in a step; the first's is x_
    };
    std::array<Own, 2> own_;
    FloatBuffer packed_keys_;            ///< one head's keys of a prefill, packed
    FloatBuffer packed_values_;          ///< one head's values, packed
    FloatBuffer prefill_scores_;         ///< [n, n]
    std::vector<std::int32_t> lengths_;  ///< positions that each row of a prefill sees
  };

  /// `scope` holds the checkpoint's keys after "model.". Throws ModelError naming the missing or misshapen tensor.
  /// `set`: the instruction set to use, for tests.
  T2S(const T2SConfig& config, const WeightScope& scope, const Kernels& set = kernels());
  /// As `options` ask. At reduced precision a float32 model is made first, its answers to the guard inputs are kept,
  /// and it goes; when the answers of int8 drift from them past the bounds, bf16 is taken, then float32, each with one
  /// line in the log.
  T2S(const T2SConfig& config, const WeightScope& scope, const T2SOptions& options,
      const LowKernels& low = low_kernels());

  [[nodiscard]] const T2SConfig& config() const noexcept override { return config_; }
  [[nodiscard]] T2SPrecision precision() const noexcept override { return precision_; }
  [[nodiscard]] std::int64_t window() const noexcept override { return window_; }
  /// Rows are whole blocks of positions at reduced precision.
  [[nodiscard]] std::uint64_t row_bytes(std::int64_t positions) const override;
  [[nodiscard]] std::optional<std::uint64_t> device_memory() const override { return std::nullopt; }

  /// Room for `rows` utterances of `capacity` positions (phonemes + prompt + tokens) each. Memory is touched as it
  /// fills: 2 * layers * attended * 4 bytes per position, at reduced precision half of it.
  [[nodiscard]] State make_state(std::int64_t rows, std::int64_t capacity) const;
  [[nodiscard]] std::unique_ptr<TokenState> make_token_state(std::int64_t rows, std::int64_t capacity) const override;

  /// Starts a row anew with a text and the tokens of the reference audio; returns the logits [vocab] of the first new
  /// token. `bert` is [phonemes, bert_dim] row-major, or empty for zeros; `prompt` may be empty.
  /// Throws std::invalid_argument for an empty text, an id outside its vocabulary, a misshapen bert or a full state.
  std::span<const float> prefill(std::span<const std::int32_t> phonemes, std::span<const float> bert,
                                 std::span<const std::int32_t> prompt, State& state, std::int64_t row = 0) const;

  /// Feeds row 0's newest token; returns the logits [vocab] of the next one. Does not allocate.
  std::span<const float> step(std::int32_t token, State& state) const;
  /// Feeds one token to each of `rows` (distinct), sharing one pass over the weights; read state.logits(row).
  /// Throws std::invalid_argument for a bad row or token, or a full row.
  void step(std::span<const std::int64_t> rows, std::span<const std::int32_t> tokens, State& state) const;

  /// prefill() and step(); `state` is a State.
  void start_row(std::span<const std::int32_t> phonemes, std::span<const float> bert,
                 std::span<const std::int32_t> prompt, TokenState& state, std::int64_t row) const override;
  void step_rows(std::span<const std::int64_t> rows, std::span<const std::int32_t> tokens,
                 TokenState& state) const override;

  /// What enters the first layer: [phonemes + prompt, hidden].
  [[nodiscard]] std::vector<float> embed(std::span<const std::int32_t> phonemes, std::span<const float> bert,
                                         std::span<const std::int32_t> prompt) const;

  /// Row t of the audio embedding [hidden].
  [[nodiscard]] std::span<const float> token_embedding(std::int32_t token) const;

 private:
  /// A linear layer, float32 or at reduced precision: one of the two is empty.
  struct Product {
    PackedLinear full;
    LowLinear low;

    void apply(const float* x, std::int64_t ldx, std::int64_t n, float* y, std::int64_t ldy, LowRows& rows,
               bool relu = false) const;
    /// A member's share of the outputs, at reduced precision.
    void apply_share(const SpareThread::Member& m, const float* x, std::int64_t ldx, std::int64_t n, float* y,
                     std::int64_t ldy, LowRows& rows, bool relu = false) const;
  };
  struct Layer {
    Product in_proj;   ///< [3 * attended, hidden]: q, k, v
    Product out_proj;  ///< [hidden, attended]
    Product linear1;   ///< [ffn, hidden]
    Product linear2;   ///< [hidden, ffn]
    std::vector<float> norm1_gain, norm1_bias, norm2_gain, norm2_bias;
  };

  /// Everything but the linear layers of the transformer.
  void load_rest(const WeightScope& scope);
  void load_layers(const WeightScope& scope, T2SPrecision precision);
  [[nodiscard]] bool is_low() const noexcept { return precision_ != T2SPrecision::fp32; }
  void embed_token(std::int32_t token, std::int64_t position, float* out) const;
  void reserve_scratch(State& state, std::int64_t n) const;
  /// Runs body(member) alone, or with the spare thread when the work is worth it.
  template <class Body>
  void share(bool worth, State& state, const Body& body) const;
  /// Multiplications of a layer's linear layers with one row.
  [[nodiscard]] std::int64_t weights_of_layer() const {
    return config_.hidden * (4 * config_.attended() + 2 * config_.ffn());
  }
  [[nodiscard]] std::int64_t widest() const;
  using Range = SpareThread::Member::Range;
  /// A member's heads, of which the columns are whole panels.
  [[nodiscard]] Range heads_of(const SpareThread::Member& m) const;
  void prefill_layer(SpareThread::Member& m, std::int64_t i, std::int64_t row, std::int64_t n_text, std::int64_t n,
                     State& state) const;
  void step_layers(SpareThread::Member& m, std::span<const std::int64_t> rows, State& state) const;
  [[nodiscard]] std::int64_t next_slot(const State& state, std::int64_t row) const;
  /// Output projection, norms and feed-forward for rows of state.x_, whose attention is in state.attended_.
  void finish_layer(const Layer& layer, Range rows, LowRows& scratch, State& state) const;
  /// The same of a step, all rows: each member makes its share of the outputs and norms all rows in its own x.
  void finish_layer(SpareThread::Member& m, const Layer& layer, std::int64_t n, float* x, State& state) const;
  /// Puts `count` keys and values of state.qkv_, from its row `from` on, into slot `first` and the next of a row.
  void cache(std::int64_t layer, std::int64_t row, std::int64_t from, std::int64_t first, std::int64_t count,
             bool fresh, Range heads, State& state) const;
  /// Attention of query `from` of state.qkv_ over the first `cached` slots of a row, to row `to` of state.attended_.
  void attend(std::int64_t layer, std::int64_t row, std::int64_t from, std::int64_t cached, std::int64_t to,
              Range heads, FloatBuffer& scratch, State& state) const;
  void attend_prefill(std::int64_t layer, std::int64_t row, std::int64_t n_text, Range rows, std::int64_t n,
                      FloatBuffer& scratch, State& state) const;
  static void reserve_attention(State& state);
  void keep_attention(std::int64_t layer, std::int64_t row, std::int64_t length, Range heads, State& state) const;
  [[nodiscard]] std::size_t cache_offset(const State& state, std::int64_t layer, std::int64_t row) const;

  T2SConfig config_;
  const Kernels* kernels_;
  const LowKernels* low_kernels_ = nullptr;
  T2SPrecision precision_ = T2SPrecision::fp32;
  std::int64_t window_ = 0;
  std::vector<float> text_embedding_;   ///< [phoneme_vocab, hidden]
  std::vector<float> audio_embedding_;  ///< [vocab, hidden]
  std::vector<float> positions_;        ///< [kPositions, hidden], sine and cosine interleaved
  float text_alpha_ = 1.0F;
  float audio_alpha_ = 1.0F;
  PackedLinear bert_proj_;                    ///< empty when bert_dim is 0
  std::vector<float> bert_bias_;              ///< [hidden]; added to every phoneme, with features or without
  AlignedBuffer<std::uint32_t> low_weights_;  ///< of all layers, in the order a step reads them
  std::vector<Layer> layers_;
  Product predict_;  ///< [vocab, hidden], no bias
};

}  // namespace tts
