#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "src/engine/synthesizer.h"

namespace tts {

/// Lengths count what is heard: letters, digits and symbols, not spaces or punctuation; a CJK character counts 3.
struct FeedOptions {
  int min_chars = 10;        ///< a sentence shorter than this joins the next
  int max_chars = 110;       ///< a sentence longer than this is cut at a clause mark, else between words: what a small
                             ///< model reads without losing its place
  int min_first_chars = 24;  ///< the first segment, and the first after a flush, may end at a clause mark from here on
  /// Text without a sentence end is spoken up to its last whole word once nothing came for this long; unset: never.
  std::optional<std::chrono::milliseconds> max_delay{3'000};
};

/// Finds speakable segments in text that arrives in any pieces. Each segment is synthesised on its own, so it is a
/// sentence where possible, never a lone word unless flushed.
///
/// The text is looked at one code point at a time, so however it is cut into pushes (inside a word, a code point, or a
/// surrogate pair, see TextMessage::text), the segments are the same; only flush() and a stall depend on time. Bytes
/// that are no UTF-8 become U+FFFD. Segments are trimmed of white space; offsets are code points into all text pushed.
class TextFeed {
 public:
  using Clock = std::chrono::steady_clock;

  explicit TextFeed(const FeedOptions& options);

  /// Appends to the text; returns the segments that are complete now.
  [[nodiscard]] std::vector<TextSegment> push(std::string_view bytes, Clock::time_point now);
  /// All text so far, the last segment marked with the flush; an empty segment carries the mark when nothing is
  /// pending. A code point that has only half arrived stays for the next push.
  [[nodiscard]] std::vector<TextSegment> flush(std::string flush_id);
  /// All text so far; nothing may follow.
  [[nodiscard]] std::vector<TextSegment> end();
  /// To be called at deadline(): what the stall releases, possibly nothing.
  [[nodiscard]] std::vector<TextSegment> poll(Clock::time_point now);
  /// When a stall would release pending text; nullopt when there is none to release.
  [[nodiscard]] std::optional<Clock::time_point> deadline() const;

  /// All text so far as well-formed UTF-8; offsets of segments index its code points.
  [[nodiscard]] const std::string& text() const noexcept { return text_; }
  /// Code points in text().
  [[nodiscard]] std::size_t size() const noexcept { return start_ + pending_.size(); }

 private:
  /// What stands between the last terminator seen and the decision whether it ends the sentence.
  enum class Terminator {
    none,
    run,     ///< in the terminators and the closing marks after them
    spaced,  ///< white space seen; the next character decides
  };
  /// What a terminator says by itself.
  enum class Stop {
    plain,          ///< ends the sentence
    ellipsis,       ///< ends it unless a small letter follows
    may,            ///< "etc.", "1999.": ends it unless a small letter or a number follows
    unless_number,  ///< "No.", "Dec."
    never,          ///< "Dr.", "J.", "U.S."
  };

  void decode(std::string_view bytes);
  void put_code_point(char32_t c);
  void put_replacement();
  void finish_decoding();

  void scan(std::vector<TextSegment>& out);
  /// Looks at pending_[i], knowing only what stands before it. Returns where to cut, if anywhere, in (0, i].
  [[nodiscard]] std::optional<std::size_t> step(std::size_t i);
  [[nodiscard]] std::optional<std::size_t> sentence_end(std::size_t at);
  [[nodiscard]] std::optional<std::size_t> clause_end(std::size_t at);
  [[nodiscard]] std::optional<std::size_t> cut_long(std::size_t i);
  [[nodiscard]] Stop classify_period(std::size_t at) const;
  [[nodiscard]] bool ends_sentence(std::size_t run_begin, char32_t next) const;
  /// Removes [0, at) from pending_; appends its segment unless it is white space.
  void take(std::size_t at, std::vector<TextSegment>& out);

  FeedOptions options_;
  std::string text_;
  std::u32string pending_;  ///< not yet in a segment
  std::size_t start_ = 0;   ///< of pending_, in code points of the whole text
  bool first_ = true;       ///< no segment yet since the start or the last flush
  bool ended_ = false;
  std::optional<Clock::time_point> last_push_;  ///< unset: the stall has already been used

  // UTF-8 decoder.
  char32_t partial_ = 0;    ///< bits so far
  int partial_bytes_ = 0;   ///< seen
  int partial_wanted_ = 0;  ///< in all; 0: none
  char32_t half_ = 0;       ///< a high surrogate waiting for its other half

  // Scanner; offsets into pending_.
  std::size_t scanned_ = 0;
  int weight_ = 0;  ///< of [0, scanned_)
  int words_ = 0;   ///< begun in [0, scanned_)
  bool in_word_ = false;
  Terminator terminator_ = Terminator::none;
  std::size_t run_begin_ = 0;
  std::size_t run_end_ = 0;
  bool run_closed_ = false;      ///< the run has closing quotes or brackets
  int newlines_ = 0;             ///< in the latest white space
  std::size_t blank_begin_ = 0;  ///< of the latest white space
  struct Place {
    std::size_t at = 0;  ///< 0: none
    int weight = 0;      ///< before it
    int words = 0;
  };
  Place clause_;  ///< last place a long sentence may be cut at
  Place word_;    ///< last gap between words
};

}  // namespace tts
