#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "models/t2s_options.h"

namespace tts {

/// Sizes of a text-to-semantic transformer; read from the model's manifest, never assumed.
struct T2SConfig {
  std::int64_t layers = 24;
  std::int64_t hidden = 512;  ///< also the width of both embeddings
  std::int64_t heads = 16;
  std::int64_t phoneme_vocab = 732;
  std::int64_t vocab = 1025;       ///< semantic tokens and EOS, which is the last one
  std::int64_t bert_dim = 1024;    ///< 0: no bert_proj.weight; its bias is used if the file has one
  std::int64_t max_tokens = 1500;  ///< most tokens one text may give (60 s at 25 Hz)
  std::int64_t filter = 0;         ///< width of the feed-forward part; 0: 4 * hidden
  std::int64_t head_dim = 0;       ///< columns of a head; 0: hidden / heads

  [[nodiscard]] std::int64_t eos() const noexcept { return vocab - 1; }
  [[nodiscard]] std::int64_t ffn() const noexcept { return filter > 0 ? filter : 4 * hidden; }
  /// Columns of all heads together: of queries, keys, values and what is attended.
  [[nodiscard]] std::int64_t attended() const noexcept { return head_dim > 0 ? heads * head_dim : hidden; }
};

/// Positions that exist: a text, or a prompt plus its generated tokens, may not be longer.
inline constexpr std::int64_t kT2SPositions = 4000;

/// Throws std::invalid_argument for a token outside the vocabulary.
void check_token(const T2SConfig& config, std::int32_t token);
/// What every TokenModel asks of a text and a prompt, whatever room its state has: see TokenModel::start_row.
void check_input(const T2SConfig& config, std::span<const std::int32_t> phonemes, std::span<const float> bert,
                 std::span<const std::int32_t> prompt);

/// What up to rows() utterances have been told: KV cache, lengths, newest logits. Made by a TokenModel and used with
/// that one only, by one thread at a time.
class TokenState {
 public:
  virtual ~TokenState() = default;

  [[nodiscard]] virtual std::int64_t rows() const noexcept = 0;
  /// Positions of a row.
  [[nodiscard]] virtual std::int64_t capacity() const noexcept = 0;
  /// Logits [vocab] of a row after its last prefill or step, valid until its next one. Waits for a prefill that is
  /// still under way, and throws what went wrong with it.
  [[nodiscard]] virtual std::span<const float> logits(std::int64_t row = 0) const = 0;

  /// One attention head to watch.
  struct Probe {
    std::int64_t layer = 0;
    std::int64_t head = 0;

    [[nodiscard]] bool operator==(const Probe&) const = default;
  };
  /// From now on every prefill and step keeps the attention weights of these heads' newest query.
  virtual void set_attention_probes(std::vector<Probe> probes) = 0;
  /// Weights of probe `index` for a row's newest query: those of the text's columns, and maybe of more.
  [[nodiscard]] virtual std::span<const float> attention(std::size_t index, std::int64_t row = 0) const = 0;
};

/// Phonemes and prompt tokens to semantic tokens, on one device: T2S (models/t2s.h) is the one on the CPU, CudaT2S
/// (models/cuda/t2s_cuda.h) the one on a GPU. Const and thread-safe; what changes is in the states. Rows of a state are
/// independent and may be filled, stepped and replaced at different times (continuous batching); a row's numbers are
/// the same to the last bit whatever the others are, and however many.
class TokenModel {
 public:
  virtual ~TokenModel() = default;

  [[nodiscard]] virtual const T2SConfig& config() const noexcept = 0;
  /// What it came to be; never automatic.
  [[nodiscard]] virtual T2SPrecision precision() const noexcept = 0;
  /// See T2SOptions.
  [[nodiscard]] virtual std::int64_t window() const noexcept = 0;
  /// Positions a state must have room for.
  [[nodiscard]] std::int64_t capacity_for(std::int64_t phonemes, std::int64_t prompt, std::int64_t tokens) const {
    return phonemes + prompt + (window() > 0 && window() < tokens ? window() : tokens);
  }
  /// Bytes of keys and values that one row of so many positions takes.
  [[nodiscard]] virtual std::uint64_t row_bytes(std::int64_t positions) const = 0;
  /// Bytes that are free now where they would lie; nothing: in the machine's own memory.
  [[nodiscard]] virtual std::optional<std::uint64_t> device_memory() const = 0;

  /// Room for `rows` utterances of `capacity` positions (phonemes + prompt + tokens) each. Throws std::bad_alloc or
  /// std::runtime_error when there is none.
  [[nodiscard]] virtual std::unique_ptr<TokenState> make_token_state(std::int64_t rows,
                                                                     std::int64_t capacity) const = 0;

  /// Starts a row anew with a text and the tokens of the reference audio; its logits are those of the first new token.
  /// `bert` is [phonemes, bert_dim] row-major, or empty for zeros; `prompt` may be empty. May return before it is done.
  /// Throws std::invalid_argument for an empty text, an id outside its vocabulary, a misshapen bert or a full state.
  virtual void start_row(std::span<const std::int32_t> phonemes, std::span<const float> bert,
                         std::span<const std::int32_t> prompt, TokenState& state, std::int64_t row) const = 0;
  /// Feeds one token to each of `rows` (distinct), sharing one pass over the weights; read state.logits(row).
  /// Throws std::invalid_argument for a bad row or token, or a full row.
  virtual void step_rows(std::span<const std::int64_t> rows, std::span<const std::int32_t> tokens,
                         TokenState& state) const = 0;
};

}  // namespace tts
