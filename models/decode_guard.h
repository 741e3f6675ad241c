#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace tts {

/// What went wrong while the semantic tokens of a text were drawn.
enum class Verdict {
  ok,
  loop,       ///< tokens go in circles, or a part of the text is read again
  stall,      ///< one sound, silence or place in the text for too long
  skip,       ///< words were passed over
  lost,       ///< attention no longer points anywhere in the text
  early_end,  ///< the model wants to stop long before the text does
  leak,       ///< the reference is spoken instead of the text
  babble,     ///< the longest plausible length was reached
};

[[nodiscard]] std::string_view to_string(Verdict verdict) noexcept;

struct Fault {
  Verdict verdict = Verdict::ok;
  std::size_t onset = 0;  ///< the first token that belongs to it
  bool complete = false;  ///< the text had been read to its end before: cutting at `onset` loses nothing

  explicit operator bool() const noexcept { return verdict != Verdict::ok; }
};

/// What a text should sound like, as far as the guard is concerned.
struct GuardText {
  std::vector<std::int32_t> phonemes;         ///< of the text
  std::vector<std::int32_t> prompt_phonemes;  ///< of the reference; they stand before the text's in the attention
  std::vector<std::int32_t> prompt_tokens;    ///< of the reference
};

/// One drawn token, and what the model showed when it was drawn.
struct GuardStep {
  std::int32_t token = 0;
  float eos_probability = 0;         ///< of the logits as they were, whether or not EOS could be drawn
  std::span<const float> attention;  ///< [prompt + text phonemes] of a head that follows the text; empty: none known
};

/// Numbers the guard goes by; tokens are 40 ms. Where they come from: scripts/eval/README.md.
struct GuardLimits {
  std::size_t skipped_sounds = 4;   ///< passed over at once. Natural speech swallows up to three ("of the")
  std::size_t repeated_sounds = 6;  ///< read again
  std::size_t settle = 4;           ///< tokens attention stays elsewhere before that counts: single ones are noise
  std::size_t stay = 30;            ///< tokens at one place of the text; the longest of 400 good sentences: 14
  std::size_t lost_window = 16;     ///< tokens over which attention is averaged
  float lost_weight = 0.25F;        ///< mean of its largest weights. Good speech: 0.7; the least over 12 tokens: 0.32
  std::size_t longest_cycle = 40;   ///< tokens
  std::size_t still = 30;           ///< tokens, of which at most two are distinct
  std::size_t leak_within = 40;     ///< tokens from the start that are compared with the prompt's
  int leak_score = 10;              ///< match 2, mismatch and gap -1. Other sentences of the same voice: 9 at most
  float min_tokens_per_sound = 0.75F;  ///< EOS before that is not believed when attention says nothing
  std::size_t eager = 8;               ///< tokens in a row at which EOS was wanted and not allowed
};

/// Watches one text being spoken, token by token, and says when it goes wrong and since when. Pure bookkeeping: it
/// neither draws nor decides what is done about it (guarded_decoder.h). Two ways of seeing: attention that follows the
/// text, where a head does, tells skips, repeats, leaks and the end of the text; the tokens alone tell cycles, standing
/// still, a copy of the reference's tokens and ends that come impossibly early.
class DecodeGuard {
 public:
  explicit DecodeGuard(GuardText text, const GuardLimits& limits = {});

  /// Whether the speech may end now. False: EOS is to be kept from the next draw.
  [[nodiscard]] bool may_end() const;
  /// Takes the next token. After a fault was reported, rewind(), or go on: the same fault is not reported again.
  [[nodiscard]] Fault see(const GuardStep& step);
  /// The length limit was reached.
  [[nodiscard]] Fault limit_reached() const;

  /// Forgets all but the first n tokens.
  void rewind(std::size_t n);
  /// From now on EOS is always believed: the ends of this text cannot be judged.
  void believe_ends() noexcept { believe_ends_ = true; }

  [[nodiscard]] std::size_t size() const noexcept { return seen_.size(); }
  /// Tokens before anything that is under suspicion now and not decided yet. What lies behind is better not released.
  [[nodiscard]] std::size_t certain() const;
  /// Phoneme of the text being spoken after n tokens; 0 when attention says nothing.
  [[nodiscard]] std::size_t place(std::size_t n) const;
  /// True when attention was given and the text's last sound has been reached.
  [[nodiscard]] bool at_end() const;
  /// How good the speech up to token n is, 1 at best: the share of the text's sounds that were read (by attention, or
  /// by the length when there is none) less the share of tokens after n.
  [[nodiscard]] double score(std::size_t n) const;

 private:
  struct Seen {
    std::int32_t token = 0;
    std::int32_t column = 0;   ///< where attention points, from the text's first phoneme; negative: in the prompt
    std::int32_t place = 0;    ///< phoneme being spoken: column without its single strays
    std::uint32_t strays = 0;  ///< columns in a row, this one included, that are far from place
    std::uint32_t stay = 0;    ///< tokens in a row at this place
    std::uint32_t eager = 0;
    std::uint32_t skipped = 0;  ///< sounds passed over so far
    float weight = 0;           ///< attention at column
  };

  [[nodiscard]] std::size_t sounds_between(std::int32_t from, std::int32_t to) const;
  [[nodiscard]] Fault follow(const GuardStep& step, Seen& now);
  [[nodiscard]] Fault judge_tokens() const;
  [[nodiscard]] std::optional<std::size_t> cycle(std::size_t period, std::size_t window) const;
  [[nodiscard]] bool copies_prompt() const;

  GuardText text_;
  GuardLimits limits_;
  std::vector<std::size_t> sounds_before_;  ///< [phonemes + 1]
  std::size_t last_sound_ = 0;
  std::size_t own_repeats_ = 1;       ///< how often the text says the same in a row
  std::vector<std::int32_t> prompt_;  ///< its tokens without immediate repeats
  std::vector<Seen> seen_;
  bool follows_ = false;  ///< attention was given
  bool believe_ends_ = false;
  std::size_t reported_ = 0;  ///< tokens seen when the last fault was reported
};

/// Best local alignment of two token sequences: match 2, mismatch and gap -1.
[[nodiscard]] int local_alignment(std::span<const std::int32_t> a, std::span<const std::int32_t> b);

}  // namespace tts
