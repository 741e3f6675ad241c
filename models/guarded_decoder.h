#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "models/decode_guard.h"
#include "models/sampling.h"
#include "models/token_model.h"

namespace tts {

/// What the guard met and did in one segment.
struct GuardReport {
  int faults = 0;
  int retries = 0;  ///< parts or wholes drawn again with another seed
  int resumes = 0;  ///< times the rest of the text was begun anew
  int cuts = 0;     ///< ends put where the model had set none
  Verdict first = Verdict::ok;
};

/// The semantic tokens of one segment, drawn under a DecodeGuard, in a row of a T2S state that others may share: each
/// token takes a feed() of all decoders and a draw() of each.
///
/// Tokens are given out a little after they were drawn, so that faulty ones can be taken back: none until there are
/// enough for the first sound, which takes as many without the guard; then all that are not under suspicion; from then
/// on a growing number stays behind, which costs decode time that runs far ahead of the listener, and no sound.
///
/// What is done about a fault, as far as its tokens have not been given out:
/// 1. the tokens from a little before its onset are drawn again with another seed; all of them when none was given out
///    and the fault is near the start or the reference was spoken;
/// 2. when that goes wrong again, or attention is lost, which seeds do not cure, the rest of the text is begun anew
///    at the word the speech had come to, as a text of its own;
/// 3. where attention does not tell which word that is, the better of two whole tries goes out, cut at its fault
///    (DecodeGuard::score), or the speech is cut at the fault.
/// A skip that comes back, or that was given out already, is let through. Without a fault the tokens are those of a
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
    /// The state's probe 0 is a head that follows the text (find_alignment_head).
    bool watched = false;
    GuardLimits limits;
    std::size_t first_block = 1;  ///< tokens without which there is no sound
    std::size_t held_back = 12;   ///< most tokens that stay behind while speech goes on
    /// False for a state whose cache is a window: only wholes are drawn again.
    bool can_rewind = true;
  };

  GuardedDecoder(const T2SConfig& config, Text text, Options options);

  /// Runs what each of `decoders` needs before its draw(), decoder i in row rows[i] of `state`: prefills one by one,
  /// all decode steps in one pass over the weights. Throws as TokenModel::start_row and step_rows.
  static void feed(const TokenModel& model, TokenState& state, std::span<GuardedDecoder* const> decoders,
                   std::span<const std::int64_t> rows);
  /// Draws one token of what feed() made. Throws std::runtime_error when the logits are not finite.
  void draw(const TokenState& state, std::int64_t row = 0);
  /// The same of given logits [vocab] and attention, which may be empty.
  void draw(std::span<const float> logits, std::span<const float> attention);

  /// What feed() gives the T2S: a prefill with phonemes(), bert() and history(), or a step with the last of history().
  [[nodiscard]] bool needs_prefill() const noexcept { return needs_prefill_; }
  [[nodiscard]] std::span<const std::int32_t> phonemes() const noexcept { return given_phonemes_; }
  [[nodiscard]] std::span<const float> bert() const noexcept { return given_bert_; }
  [[nodiscard]] std::span<const std::int32_t> history() const noexcept { return history_; }

  [[nodiscard]] bool finished() const noexcept { return finished_; }
  /// The tokens given out so far, which only grow; all once finished().
  [[nodiscard]] std::span<const std::int32_t> tokens() const noexcept {
    return std::span<const std::int32_t>(drawn_).first(given_out_);
  }
  [[nodiscard]] const GuardReport& report() const noexcept { return report_; }
  /// Draws so far, those of tokens that were taken back included.
  [[nodiscard]] std::int64_t draws() const noexcept { return draws_; }
  /// Positions a state must have room for, whatever happens.
  [[nodiscard]] std::int64_t capacity() const;

 private:
  struct Try {
    std::vector<std::int32_t> tokens;
    double score = 0;
  };

  void begin(std::size_t from_phoneme);
  void draw_one(std::span<const float> logits, std::span<const float> attention);
  void cure(const Fault& fault);
  void give_out();
  void redraw(std::size_t keep);
  void cut(std::size_t keep);
  [[nodiscard]] std::optional<std::size_t> next_word(std::size_t place) const;

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
  std::vector<std::int32_t> drawn_;
  std::size_t given_out_ = 0;  ///< of drawn_
  std::int64_t draws_ = 0;
  std::optional<Try> first_try_;
  std::size_t from_ = 0;  ///< first phoneme of the text being spoken
  std::size_t base_ = 0;  ///< tokens of drawn_ that belong to texts before it
  std::size_t last_onset_ = 0;
  std::uint64_t draws_again_ = 0;
  int tries_ = 0;  ///< of the text being spoken
  bool needs_prefill_ = true;
  bool fed_ = false;  ///< and not drawn since
  bool finished_ = false;
  GuardReport report_;
};

/// The tokens, at most `longest`, that the model says `phonemes` with, of one fixed seed and without a prompt.
[[nodiscard]] std::vector<std::int32_t> say(const TokenModel& model, std::span<const std::int32_t> phonemes,
                                            const SamplingParams& sampling, std::size_t longest);

/// The head whose attention follows the text best, or nothing when none does: found by reading `tokens`, which say
/// `phonemes`, with all heads watched.
[[nodiscard]] std::optional<TokenState::Probe> find_alignment_head(const TokenModel& model,
                                                                   std::span<const std::int32_t> phonemes,
                                                                   std::span<const float> bert,
                                                                   std::span<const std::int32_t> tokens);

}  // namespace tts
