#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "models/decode_guard.h"
#include "models/sampling.h"
#include "models/semantic_decoder.h"
#include "models/t2s.h"

namespace tts {

/// What the guard met and did in one segment.
struct GuardReport {
  int faults = 0;
  int retries = 0;  ///< parts or wholes drawn again with another seed
  int resumes = 0;  ///< times the rest of the text was begun anew
  int cuts = 0;     ///< ends put where the model had set none
  Verdict first = Verdict::ok;
};

/// The semantic tokens of one segment, drawn under a DecodeGuard. It does no step itself: it says what the T2S has to
/// do next (needs_prefill, input), and take() draws from what that gave; so many of them share one batch.
///
/// What is done about a fault, as far as its tokens have not been released as audio:
/// 1. the tokens from a little before its onset are drawn again with another seed; all of them when none was released
///    and the fault is near the start or the reference was spoken;
/// 2. when that goes wrong again, or attention is lost, which seeds do not cure, the rest of the text is begun anew
///    at the word the speech had come to, as a text of its own;
/// 3. where attention does not tell which word that is, the better of two whole tries goes out, cut at its fault
///    (DecodeGuard::score), or the speech is cut at the fault.
/// A skip that comes back, or that was released already, is let through. Without a fault the tokens are those of a
/// SemanticDecoder with the same seed, except that EOS is not drawn before the text's end (DecodeGuard::may_end).
class GuardedDecoder {
 public:
  struct Text {
    std::vector<std::int32_t> prompt_phonemes;
    std::vector<std::int32_t> phonemes;
    std::vector<float> bert;  ///< [prompt phonemes + phonemes, bert_dim], or empty
    std::vector<std::int32_t> prompt_tokens;
  };
  struct Options {
    SamplingParams sampling;
    std::int64_t max_tokens = 0;  ///< of this text
    std::uint64_t seed = 0;
    bool guard = true;
    GuardLimits limits;
    /// False for a state whose cache is a window: only wholes are drawn again.
    bool can_rewind = true;
  };

  GuardedDecoder(const T2SConfig& config, Text text, Options options);

  /// What the T2S must be given before take(): a prefill with phonemes(), bert() and prompt(), or else a step with
  /// input().
  [[nodiscard]] bool needs_prefill() const noexcept { return needs_prefill_; }
  [[nodiscard]] std::span<const std::int32_t> phonemes() const noexcept { return given_phonemes_; }
  [[nodiscard]] std::span<const float> bert() const noexcept { return given_bert_; }
  [[nodiscard]] std::span<const std::int32_t> prompt() const noexcept { return history_; }
  [[nodiscard]] std::int32_t input() const { return history_.back(); }

  /// Draws one token from the logits [vocab]. `attention`: [at least phonemes()] of the probed head's newest query, or
  /// empty. `released`: how many of tokens() have become audio. Afterwards tokens() is longer by one, or shorter.
  void take(std::span<const float> logits, std::span<const float> attention, std::size_t released);

  [[nodiscard]] bool finished() const noexcept { return finished_; }
  [[nodiscard]] std::span<const std::int32_t> tokens() const noexcept { return tokens_; }
  /// How many of tokens() may be released now; all once finished.
  [[nodiscard]] std::size_t certain() const;
  [[nodiscard]] const GuardReport& report() const noexcept { return report_; }
  /// Positions a state must have room for, whatever happens.
  [[nodiscard]] std::int64_t capacity() const;

 private:
  struct Try {
    std::vector<std::int32_t> tokens;
    double score = 0;
  };

  void begin(std::size_t from_phoneme);
  void cure(const Fault& fault, std::size_t released);
  void redraw(std::size_t keep);
  void cut(std::size_t keep);
  [[nodiscard]] std::optional<std::size_t> next_word(std::size_t place) const;
  /// Tokens of tokens_ that belong to texts before the one being spoken.
  [[nodiscard]] std::size_t base() const noexcept { return base_; }

  const std::int64_t eos_;
  const std::int64_t bert_dim_;
  const Text text_;
  const Options options_;
  std::optional<DecodeGuard> guard_;
  Sampler sampler_;
  std::vector<float> logits_;
  std::vector<std::int32_t> given_phonemes_;
  std::vector<float> given_bert_;
  std::vector<std::int32_t> history_;  ///< prompt, then tokens of the text being spoken
  std::vector<std::int32_t> tokens_;
  std::optional<Try> first_try_;
  std::size_t from_ = 0;  ///< first phoneme of the text being spoken
  std::size_t base_ = 0;
  std::size_t last_onset_ = 0;
  std::uint64_t draws_again_ = 0;
  int tries_ = 0;  ///< of the text being spoken
  bool needs_prefill_ = true;
  bool finished_ = false;
  GuardReport report_;
};

/// The head whose attention follows the text best, or nothing when none does: found by speaking, with all heads
/// watched. `tokens` are those of a recording that says `phonemes`; without, the model speaks them itself.
[[nodiscard]] std::optional<T2S::State::Probe> find_alignment_head(const T2S& model,
                                                                   std::span<const std::int32_t> phonemes,
                                                                   std::span<const float> bert,
                                                                   std::span<const std::int32_t> tokens,
                                                                   const SamplingParams& sampling);

}  // namespace tts
