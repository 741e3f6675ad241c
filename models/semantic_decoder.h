#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "models/sampling.h"
#include "models/t2s.h"

namespace tts {

enum class FinishReason {
  running,
  eos,    ///< end of speech was drawn or most likely
  limit,  ///< the longest allowed result was reached
};

/// Generates the semantic tokens of one text, one at a time. Holds its own state; not for use by two threads at once.
/// The T2S must outlive it.
class SemanticDecoder {
 public:
  struct Options {
    SamplingParams sampling;
    std::int64_t max_tokens = 0;  ///< 0: the model's own limit
    /// The reference's callers lose the first token of a result that ran into the limit (when there was a prompt);
    /// result() then does so too.
    bool upstream_compat = false;
  };

  /// Room for `capacity` positions: phonemes + prompt + tokens. start() grows it when a text needs more.
  explicit SemanticDecoder(const T2S& model, std::int64_t capacity = 1024);

  /// Runs the prefill. `bert` [phonemes, bert_dim] or empty; `prompt`: tokens of the reference audio, may be empty.
  /// `noise` must outlive the generation. Throws std::invalid_argument as T2S::prefill does.
  void start(std::span<const std::int32_t> phonemes, std::span<const float> bert, std::span<const std::int32_t> prompt,
             const Options& options, const NoiseSource& noise);
  void start(std::span<const std::int32_t> phonemes, std::span<const float> bert, std::span<const std::int32_t> prompt,
             const Options& options, NoiseSource&& noise) = delete;

  /// The next token, or nothing when the speech has ended; see reason(). The first call costs no decode step.
  /// Throws std::runtime_error when the logits are not finite.
  [[nodiscard]] std::optional<std::int32_t> next();

  [[nodiscard]] FinishReason reason() const noexcept { return reason_; }
  /// Tokens given out so far, without the prompt.
  [[nodiscard]] std::span<const std::int32_t> tokens() const noexcept;
  /// tokens(), or what the reference would use of them under upstream_compat.
  [[nodiscard]] std::span<const std::int32_t> result() const noexcept;

  /// The last draw, also the one that ended the speech.
  [[nodiscard]] const Draw& last_draw() const noexcept { return draw_; }
  /// Steps drawn so far, the last one included.
  [[nodiscard]] std::int64_t steps() const noexcept { return step_; }
  /// For attention probes and caches.
  [[nodiscard]] T2S::State& state() noexcept { return state_; }
  [[nodiscard]] const T2S::State& state() const noexcept { return state_; }

 private:
  const T2S& model_;
  T2S::State state_;
  Sampler sampler_;
  Options options_;
  const NoiseSource* noise_ = nullptr;
  std::vector<std::int32_t> history_;  ///< prompt, then generated tokens
  std::size_t n_prompt_ = 0;
  std::vector<float> logits_;
  std::int64_t step_ = 0;
  bool pending_ = false;  ///< the last token of history_ has not been fed yet
  Draw draw_;
  FinishReason reason_ = FinishReason::eos;
};

/// Cuts tokens into chunks by the reference's streaming rules, so that its output can be reproduced exactly. Our own
/// streaming hands out tokens as they come and does not need it.
class UpstreamChunker {
 public:
  struct Chunk {
    std::vector<std::int32_t> tokens;  ///< may be empty at the very end
    bool final = false;
  };

  /// Cuts every `chunk_length` tokens.
  explicit UpstreamChunker(std::int64_t chunk_length) : chunk_length_(chunk_length) {}
  /// Cuts near tokens that resemble the mute token: `similarity` [vocab] is each token's cosine to it. Tokens after
  /// the cut are given out again at the head of the next chunk, as the reference does.
  UpstreamChunker(std::int64_t chunk_length, std::vector<float> similarity, float threshold)
      : chunk_length_(chunk_length), similarity_(std::move(similarity)), threshold_(threshold) {}

  /// One generated token that was kept. The one that reaches the length limit is `last`: it never cuts.
  [[nodiscard]] std::optional<Chunk> push(std::int32_t token, bool last = false);
  /// End of the utterance.
  [[nodiscard]] Chunk finish() const;

 private:
  std::int64_t chunk_length_;
  std::vector<float> similarity_;
  float threshold_ = 0.0F;
  std::vector<std::int32_t> tokens_;
  std::size_t start_ = 0;
  std::int64_t since_ = 0;
};

/// Cosine of every token's embedding to `token`'s: [vocab].
[[nodiscard]] std::vector<float> token_similarity(const T2S& model, std::int32_t token);

}  // namespace tts
