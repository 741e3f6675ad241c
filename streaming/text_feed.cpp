#include "streaming/text_feed.h"

#include <algorithm>
#include <array>

#include "src/core/assert.h"
#include "src/core/utf8.h"

namespace tts {
namespace {

constexpr int kCjkWeight = 3;
constexpr int kMinWords = 2;       // a sentence of fewer joins the next
constexpr int kMinFirstWords = 4;  // a first clause of fewer is not spoken early
constexpr std::size_t kMaxWordLooked = 24;
constexpr std::size_t kMaxMarksPerCluster = 16;

bool is_space(char32_t c) noexcept {
  return c == U' ' || (c >= U'\t' && c <= U'\r') || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool one_of(char32_t c, std::u32string_view set) noexcept {
  return set.find(c) != std::u32string_view::npos;
}

bool is_cjk_terminator(char32_t c) noexcept {
  return one_of(c, U"。！？｡");
}
bool is_terminator(char32_t c) noexcept {
  return one_of(c, U".!?…‼⁇⁈⁉") || is_cjk_terminator(c);
}
bool is_closer(char32_t c) noexcept {
  return one_of(c, U"\"')]}”’»›」』）】》〉");
}
bool is_opener(char32_t c) noexcept {
  return one_of(c, U"\"'([{“‘«‹「『（【《〈");
}
bool is_clause_mark(char32_t c) noexcept {
  return one_of(c, U",;:");
}
bool is_cjk_clause_mark(char32_t c) noexcept {
  return one_of(c, U"，；：、");
}
bool is_long_dash(char32_t c) noexcept {
  return c == U'—' || c == U'―';
}

bool is_digit(char32_t c) noexcept {
  return (c >= U'0' && c <= U'9') || (c >= 0xFF10 && c <= 0xFF19);
}
bool is_ascii_upper(char32_t c) noexcept {
  return c >= U'A' && c <= U'Z';
}
bool is_ascii_lower(char32_t c) noexcept {
  return c >= U'a' && c <= U'z';
}

bool is_lower(char32_t c) noexcept {
  return is_ascii_lower(c) || (c >= 0xDF && c <= 0xFF && c != 0xF7) || (c >= 0x100 && c <= 0x17F && (c & 1) != 0) ||
         (c >= 0x3AC && c <= 0x3CE) || (c >= 0x430 && c <= 0x45F);
}

/// Joins the character before it: never cut in front of it.
bool is_joining(char32_t c) noexcept {
  return (c >= 0x300 && c <= 0x36F) || (c >= 0x1AB0 && c <= 0x1AFF) || (c >= 0x20D0 && c <= 0x20FF) ||
         (c >= 0xFE00 && c <= 0xFE0F) || c == 0x200D || (c >= 0x1F3FB && c <= 0x1F3FF) ||
         (c >= 0xE0020 && c <= 0xE007F);
}

bool is_cjk(char32_t c) noexcept {
  return (c >= 0x2E80 && c <= 0x2FDF) || (c >= 0x3005 && c <= 0x3007) || (c >= 0x3041 && c <= 0x30FF) ||
         (c >= 0x3100 && c <= 0x31FF) || (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x4E00 && c <= 0x9FFF) ||
         (c >= 0xAC00 && c <= 0xD7A3) || (c >= 0xF900 && c <= 0xFAFF) || (c >= 0xFF66 && c <= 0xFF9F) ||
         (c >= 0x20000 && c <= 0x323AF);
}

/// How much of what is heard a character stands for.
int weight_of(char32_t c) noexcept {
  if (c < 0x80) {
    const bool alnum = is_digit(c) || is_ascii_upper(c) || is_ascii_lower(c);
    return alnum || one_of(c, U"$%&+=@#*/<>~^|\\_") ? 1 : 0;
  }
  if (is_cjk(c)) return kCjkWeight;
  if (is_space(c) || is_joining(c) || is_terminator(c) || is_closer(c) || is_opener(c)) return 0;
  if ((c >= 0x2000 && c <= 0x206F) || (c >= 0x3000 && c <= 0x303F) || (c >= 0xFE30 && c <= 0xFE4F)) return 0;
  if (is_cjk_clause_mark(c) || c == 0xAB || c == 0xBB || c == 0xA1 || c == 0xBF || c == 0xFEFF) return 0;
  return 1;
}

/// A period after these never ends a sentence: a name or an explanation follows.
constexpr std::array kNeverEnd{
    "adm", "al", "approx", "asst", "attn", "brig", "capt",  "cf",  "cmdr", "col",    "cpl",  "det",  "dr",  "eq",
    "esp", "fr", "gen",    "gov",  "hon",  "insp", "lieut", "lt",  "maj",  "messrs", "mlle", "mme",  "mr",  "mrs",
    "ms",  "mt", "ofc",    "pres", "prof", "pvt",  "rep",   "rev", "sen",  "sgt",    "st",   "supt", "viz", "vs"};
/// A period after these ends a sentence unless a number follows.
constexpr std::array kNumberFollows{"apr", "art", "aug", "ch",  "chap", "dec", "fig", "feb", "jan",  "jul", "jun",
                                    "no",  "nos", "nov", "oct", "p",    "pp",  "sec", "sep", "sept", "tel", "vol"};
/// A period after these ends a sentence only when the next begins like one.
constexpr std::array kMayEnd{"ave",  "blvd", "bros", "co",  "corp", "dept", "est", "etc", "ft",
                             "hr",   "hrs",  "inc",  "in",  "jr",   "lb",   "lbs", "ltd", "min",
                             "misc", "oz",   "rd",   "sec", "sq",   "sr",   "univ"};

template <std::size_t N>
bool in_list(const std::array<const char*, N>& list, std::string_view word) {
  return std::any_of(list.begin(), list.end(), [word](const char* entry) { return word == entry; });
}

}  // namespace

TextFeed::TextFeed(const FeedOptions& options) : options_(options) {
  TTS_ASSERT(options.max_chars >= 2 * kCjkWeight);
}

std::vector<TextSegment> TextFeed::push(std::string_view bytes, Clock::time_point now) {
  TTS_ASSERT(!ended_);
  std::vector<TextSegment> out;
  if (bytes.empty()) return out;
  decode(bytes);
  scan(out);
  last_push_ = now;
  return out;
}

std::vector<TextSegment> TextFeed::flush(std::string flush_id) {
  TTS_ASSERT(!ended_);
  std::vector<TextSegment> out;
  take(pending_.size(), out);
  if (out.empty()) out.push_back(TextSegment{{}, start_, start_, false, {}});
  out.back().flush = true;
  out.back().flush_id = std::move(flush_id);
  first_ = true;
  return out;
}

std::vector<TextSegment> TextFeed::end() {
  std::vector<TextSegment> out;
  if (ended_) return out;
  finish_decoding();
  scan(out);
  take(pending_.size(), out);
  ended_ = true;
  return out;
}

std::vector<TextSegment> TextFeed::poll(Clock::time_point now) {
  std::vector<TextSegment> out;
  const auto due = deadline();
  if (!due || now < *due) return out;
  last_push_.reset();
  std::size_t at = 0;
  const bool after_end = (terminator_ == Terminator::run || terminator_ == Terminator::spaced) &&
                         classify_period(run_begin_) != Stop::never;
  if (after_end || is_cjk(pending_.back())) {
    at = pending_.size();
  } else if (is_space(pending_.back()) && words_ >= kMinWords) {
    at = pending_.size();
  } else if (word_.words >= kMinWords) {
    at = word_.at;
  }
  if (at == 0) return out;
  take(at, out);
  scan(out);
  return out;
}

std::optional<TextFeed::Clock::time_point> TextFeed::deadline() const {
  if (!options_.max_delay || !last_push_ || weight_ == 0) return std::nullopt;
  return *last_push_ + *options_.max_delay;
}

// --- decoding ---

void TextFeed::put_code_point(char32_t c) {
  const bool low = c >= 0xDC00 && c < 0xE000;
  if (half_ != 0) {
    const char32_t high = half_;
    half_ = 0;
    if (low) {
      c = 0x10000 + ((high - 0xD800) << 10) + (c - 0xDC00);
      pending_ += c;
      utf8::append(text_, c);
      return;
    }
    put_replacement();
  }
  if (c >= 0xD800 && c < 0xDC00) {
    half_ = c;
    return;
  }
  if (low) {
    put_replacement();
    return;
  }
  pending_ += c;
  utf8::append(text_, c);
}

void TextFeed::put_replacement() {
  pending_ += char32_t{0xFFFD};
  utf8::append(text_, 0xFFFD);
}

void TextFeed::decode(std::string_view bytes) {
  for (const char raw : bytes) {
    const auto byte = static_cast<unsigned char>(raw);
    if (partial_wanted_ != 0) {
      // The second byte's range excludes overlong forms and what lies above U+10FFFF.
      unsigned char low = 0x80;
      unsigned char high = 0xBF;
      if (partial_bytes_ == 1 && partial_wanted_ == 3 && partial_ == 0) low = 0xA0;
      if (partial_bytes_ == 1 && partial_wanted_ == 4 && partial_ == 0) low = 0x90;
      if (partial_bytes_ == 1 && partial_wanted_ == 4 && partial_ == 4) high = 0x8F;
      if (byte >= low && byte <= high) {
        partial_ = (partial_ << 6) | (byte & 0x3F);
        if (++partial_bytes_ == partial_wanted_) {
          partial_wanted_ = 0;
          put_code_point(partial_);
        }
        continue;
      }
      partial_wanted_ = 0;
      put_code_point(0xFFFD);
    }
    partial_bytes_ = 1;
    if (byte < 0x80) {
      put_code_point(byte);
    } else if (byte >= 0xC2 && byte <= 0xDF) {
      partial_ = byte & 0x1F;
      partial_wanted_ = 2;
    } else if (byte >= 0xE0 && byte <= 0xEF) {
      partial_ = byte & 0x0F;
      partial_wanted_ = 3;
    } else if (byte >= 0xF0 && byte <= 0xF4) {
      partial_ = byte & 0x07;
      partial_wanted_ = 4;
    } else {
      put_code_point(0xFFFD);
    }
  }
}

void TextFeed::finish_decoding() {
  if (partial_wanted_ != 0) {
    partial_wanted_ = 0;
    put_code_point(0xFFFD);
  }
  if (half_ != 0) {
    half_ = 0;
    put_replacement();
  }
}

// --- scanning ---

void TextFeed::scan(std::vector<TextSegment>& out) {
  while (scanned_ < pending_.size()) {
    if (const auto cut = step(scanned_)) {
      take(*cut, out);  // and look again at what follows the cut, as the start of a segment
    } else {
      ++scanned_;
    }
  }
}

std::optional<std::size_t> TextFeed::step(std::size_t i) {
  const char32_t c = pending_[i];
  const bool space = is_space(c);
  if (i == 0) {
    blank_begin_ = 0;
  } else if (!space && blank_begin_ == 0 && is_space(pending_[0])) {
    return i;  // white space before a segment
  }

  // 1. Does a terminator before this character end a sentence?
  if (terminator_ == Terminator::run) {
    if (is_terminator(c) || is_closer(c)) {
      run_closed_ = run_closed_ || is_closer(c);
      run_end_ = i + 1;
    } else if (is_cjk_terminator(pending_[run_begin_])) {
      terminator_ = Terminator::none;
      if (const auto cut = sentence_end(run_end_)) return cut;
    } else if (!space) {
      terminator_ = Terminator::none;  // 3.5, example.com
    } else if (!run_closed_ && classify_period(run_begin_) == Stop::plain) {
      terminator_ = Terminator::none;
      if (const auto cut = sentence_end(run_end_)) return cut;
    } else {
      terminator_ = Terminator::spaced;
    }
  } else if (terminator_ == Terminator::spaced && !space) {
    terminator_ = Terminator::none;
    if (ends_sentence(run_begin_, c)) {
      if (const auto cut = sentence_end(run_end_)) return cut;
    } else if (const auto cut = clause_end(run_end_)) {
      return cut;
    }
  }
  if (terminator_ == Terminator::none && is_terminator(c)) {
    terminator_ = Terminator::run;
    run_begin_ = i;
    run_end_ = i + 1;
    run_closed_ = false;
  }

  // 2. White space: gaps between words, blank lines, list items.
  const bool after_space = i > 0 && is_space(pending_[i - 1]);
  if (space) {
    if (!after_space) {
      blank_begin_ = i;
      newlines_ = 0;
      word_ = Place{i, weight_, words_};
    }
    if (c == U'\n' && ++newlines_ == 2 && i > 0) {
      terminator_ = Terminator::none;
      if (const auto cut = sentence_end(blank_begin_)) return cut;
    }
  } else if (after_space && newlines_ > 0) {
    const bool item = is_digit(c) || one_of(c, U"-*•–#");
    if (const auto cut = item ? sentence_end(blank_begin_) : clause_end(blank_begin_)) return cut;
    newlines_ = 0;
  }

  // 3. Clause marks before this character.
  if (i > 0) {
    const char32_t before = pending_[i - 1];
    const bool spaced_hyphen = space && (before == U'-' || before == U'–') && i > 1 && is_space(pending_[i - 2]);
    if ((space && is_clause_mark(before)) || (is_cjk_clause_mark(before) && !is_closer(c)) ||
        (is_long_dash(before) && !is_long_dash(c)) || spaced_hyphen) {
      if (const auto cut = clause_end(i)) return cut;
    }
  }

  // 4. Weigh it.
  if (is_cjk(c)) {
    if (i > 0) word_ = Place{i, weight_, words_};
    ++words_;
    in_word_ = false;
  } else if (space) {
    in_word_ = false;
  } else if (weight_of(c) > 0 && !in_word_) {
    in_word_ = true;
    ++words_;
  }
  const int weight = weight_of(c);
  if (weight_ + weight > options_.max_chars || i >= static_cast<std::size_t>(options_.max_chars) * 6) {
    if (const auto cut = cut_long(i)) return cut;
  }
  weight_ += weight;
  return std::nullopt;
}

std::optional<std::size_t> TextFeed::sentence_end(std::size_t at) {
  if (weight_ >= options_.min_chars && words_ >= kMinWords) return at;
  clause_ = Place{at, weight_, words_};
  return std::nullopt;
}

std::optional<std::size_t> TextFeed::clause_end(std::size_t at) {
  const int min = std::max(options_.min_first_chars, options_.min_chars);
  if (first_ && weight_ >= min && words_ >= kMinFirstWords) return at;
  clause_ = Place{at, weight_, words_};
  return std::nullopt;
}

std::optional<std::size_t> TextFeed::cut_long(std::size_t i) {
  if (i == 0) return std::nullopt;
  if (clause_.at > 0 && clause_.weight * 5 >= options_.max_chars * 2) return clause_.at;
  if (word_.at > 0 && word_.weight * 4 >= options_.max_chars) return word_.at;
  std::size_t joining = 0;
  while (joining < kMaxMarksPerCluster && i - joining > 0 && is_joining(pending_[i - joining])) ++joining;
  if (joining > 0 && joining < kMaxMarksPerCluster) return std::nullopt;  // the next character is soon enough
  return i;
}

TextFeed::Stop TextFeed::classify_period(std::size_t at) const {
  std::size_t periods = 0;
  for (std::size_t i = at; i < pending_.size() && is_terminator(pending_[i]); ++i) {
    if (pending_[i] == U'…') return Stop::ellipsis;
    if (pending_[i] != U'.') return Stop::plain;
    ++periods;
  }
  if (periods > 1) return Stop::ellipsis;

  std::size_t begin = at;
  while (begin > 0 && at - begin < kMaxWordLooked && !is_space(pending_[begin - 1]) &&
         !is_opener(pending_[begin - 1]) && !is_cjk(pending_[begin - 1])) {
    --begin;
  }
  std::string word;  // lower-case ASCII
  bool digits = begin < at;
  bool parts_single = true;  // single letters between periods: U.S, p.m
  std::size_t letters_in_part = 0;
  for (std::size_t i = begin; i < at; ++i) {
    const char32_t c = pending_[i];
    if (c >= 0x80) return Stop::plain;
    digits = digits && (is_digit(c) || c == U'.' || c == U',');
    if (c == U'.')
      letters_in_part = 0;
    else if (++letters_in_part > 1)
      parts_single = false;
    word += static_cast<char>(is_ascii_upper(c) ? c + 32 : c);
  }
  if (word.empty()) return Stop::may;
  if (digits) {
    const bool opens_segment = std::all_of(pending_.begin(), pending_.begin() + static_cast<std::ptrdiff_t>(begin),
                                           [](char32_t c) { return is_space(c); });
    const bool opens_line = begin > 0 && pending_[begin - 1] == U'\n';
    return opens_segment || opens_line ? Stop::never : Stop::may;  // "1. First" is a list
  }
  if (word == "i" || word == "a.m" || word == "p.m") return Stop::may;
  if (parts_single) return is_ascii_lower(pending_[begin]) && word.size() == 1 ? Stop::may : Stop::never;
  if (word == "ph.d" || in_list(kMayEnd, word)) return Stop::may;
  if (in_list(kNumberFollows, word)) return Stop::unless_number;
  return in_list(kNeverEnd, word) ? Stop::never : Stop::plain;
}

bool TextFeed::ends_sentence(std::size_t run_begin, char32_t next) const {
  if (is_lower(next)) return false;
  switch (classify_period(run_begin)) {
    case Stop::plain:
    case Stop::ellipsis:
      return true;
    case Stop::unless_number:
    case Stop::may:
      return !is_digit(next);
    case Stop::never:
      return false;
  }
  return true;
}

void TextFeed::take(std::size_t at, std::vector<TextSegment>& out) {
  TTS_ASSERT(at <= pending_.size());
  std::size_t begin = 0;
  std::size_t end = at;
  while (begin < end && is_space(pending_[begin])) ++begin;
  while (end > begin && is_space(pending_[end - 1])) --end;
  if (begin < end) {
    TextSegment segment;
    for (std::size_t i = begin; i < end; ++i) utf8::append(segment.text, pending_[i]);
    segment.in_start = start_ + begin;
    segment.in_end = start_ + end;
    out.push_back(std::move(segment));
    first_ = false;
  }
  pending_.erase(0, at);
  start_ += at;

  scanned_ = 0;
  weight_ = 0;
  words_ = 0;
  in_word_ = false;
  terminator_ = Terminator::none;
  run_begin_ = run_end_ = 0;
  run_closed_ = false;
  newlines_ = 0;
  blank_begin_ = 0;
  clause_ = word_ = Place{};
}

}  // namespace tts
