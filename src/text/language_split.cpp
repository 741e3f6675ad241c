#include "src/text/language_split.h"

#include <unicode/uchar.h>
#include <unicode/uscript.h>
#include <algorithm>
#include <array>

#include "src/text/zh_normalize.h"

namespace tts {
namespace {

using View = std::u32string_view;

/// What letters say of their language. Han is written by several; the first that is spoken has it.
struct Script {
  UScriptCode script;
  std::array<std::string_view, 3> languages;
};
constexpr std::array<Script, 6> kScripts = {{{USCRIPT_HAN, {"zh", "ja", "yue"}},
                                             {USCRIPT_LATIN, {"en", "", ""}},
                                             {USCRIPT_HIRAGANA, {"ja", "", ""}},
                                             {USCRIPT_KATAKANA, {"ja", "", ""}},
                                             {USCRIPT_HANGUL, {"ko", "", ""}},
                                             {USCRIPT_BOPOMOFO, {"zh", "", ""}}}};

bool is_digit(char32_t c) {
  return u_charType(static_cast<UChar32>(c)) == U_DECIMAL_DIGIT_NUMBER;
}

bool one_of(char32_t c, View set) {
  return set.find(c) != View::npos;
}

constexpr View kCurrency = U"$＄￥¥€£￡";
constexpr View kStops = U",.!?，。！？";

struct Token {
  enum class Kind { letters, number, other } kind;
  std::string_view lang;  // of letters; empty while it is open
  std::size_t begin, end;
};

class Splitter {
 public:
  Splitter(View text, std::string_view lang, std::span<const std::string_view> languages, bool reference)
      : text_(text), lang_(lang), languages_(languages), reference_(reference) {}

  std::vector<LanguageRun> run() {
    tokenize();
    settle();
    std::vector<LanguageRun> runs;
    for (const Token& token : tokens_) {
      if (!runs.empty() && runs.back().lang == token.lang) {
        runs.back().end = token.end;
      } else {
        runs.push_back({token.lang, token.begin, token.end});
      }
    }
    return runs;
  }

 private:
  // The language of a letter: empty for what is no letter, or one of no language that is spoken.
  std::string_view language_of(char32_t c) const {
    if (c < 0x80) {
      if (!((c >= U'a' && c <= U'z') || (c >= U'A' && c <= U'Z'))) return {};
      return spoken(kScripts[1]);
    }
    if (c == U'〇') return spoken(kScripts[0]);
    if (u_isalpha(static_cast<UChar32>(c)) == 0) return {};
    UErrorCode status = U_ZERO_ERROR;
    const UScriptCode script = uscript_getScript(static_cast<UChar32>(c), &status);
    const auto* const found =
        std::find_if(kScripts.begin(), kScripts.end(), [&](const Script& row) { return row.script == script; });
    return found == kScripts.end() ? std::string_view() : spoken(*found);
  }
  std::string_view spoken(const Script& script) const {
    for (const std::string_view candidate : script.languages) {
      const auto found = std::find(languages_.begin(), languages_.end(), candidate);
      if (!candidate.empty() && found != languages_.end()) return *found;
    }
    return {};
  }

  // Numbers with what stands inside them: "8:30", "3.11", "-5".
  std::size_t number_end(std::size_t i) const {
    while (i < text_.size()) {
      if (is_digit(text_[i])) {
        ++i;
      } else if (one_of(text_[i], U".:/,~-") && i + 1 < text_.size() && is_digit(text_[i + 1])) {
        i += 2;
      } else {
        break;
      }
    }
    return i;
  }

  void tokenize() {
    for (std::size_t i = 0; i < text_.size();) {
      const std::size_t begin = i;
      const char32_t c = text_[i];
      const bool priced = !reference_ && one_of(c, kCurrency) && i + 1 < text_.size() && is_digit(text_[i + 1]);
      if (is_digit(c) || priced) {
        i = number_end(i + 1);
        if (!reference_ && text_.substr(i, 2) == U"°C") i += 2;
        tokens_.push_back({Token::Kind::number, {}, begin, i});
        continue;
      }
      const std::string_view lang = language_of(c);
      ++i;
      if (!lang.empty()) {
        while (i < text_.size() && language_of(text_[i]) == lang) ++i;
        tokens_.push_back({Token::Kind::letters, lang, begin, i});
        continue;
      }
      while (i < text_.size() && language_of(text_[i]).empty() && !is_digit(text_[i]) &&
             (reference_ || !one_of(text_[i], kCurrency))) {
        ++i;
      }
      tokens_.push_back({Token::Kind::other, {}, begin, i});
    }
  }

  View of(const Token& token) const { return text_.substr(token.begin, token.end - token.begin); }

  void settle() {
    // "5kg" in Chinese is Chinese.
    if (!reference_) {
      for (std::size_t i = 1; i < tokens_.size(); ++i) {
        Token& token = tokens_[i];
        if (token.kind != Token::Kind::letters || token.lang != "en" || tokens_[i - 1].kind != Token::Kind::number) {
          continue;
        }
        if (!neighbour_is_chinese(i) || !is_chinese_unit(of(token))) continue;
        token.lang = *std::find(languages_.begin(), languages_.end(), "zh");
        // "km/h"
        if (i + 2 < tokens_.size() && of(tokens_[i + 1]) == U"/" && of(tokens_[i + 2]).size() == 1 &&
            tokens_[i + 2].kind == Token::Kind::letters) {
          tokens_[i + 2].lang = token.lang;
        }
      }
    }
    // Punctuation goes with the letters or the number before it.
    std::vector<Token> joined;
    for (const Token& token : tokens_) {
      if (token.kind == Token::Kind::other && !joined.empty()) {
        joined.back().end = token.end;
      } else {
        joined.push_back(token);
      }
    }
    tokens_ = std::move(joined);
    // At the start it goes with what follows.
    if (tokens_.size() > 1 && tokens_[0].kind == Token::Kind::other) {
      tokens_[1].begin = tokens_[0].begin;
      tokens_.erase(tokens_.begin());
    }
    const std::string_view fallback = default_language();
    for (std::size_t i = 0; i < tokens_.size(); ++i) {
      if (!tokens_[i].lang.empty()) continue;
      const bool before = i > 0;
      const bool after = i + 1 < tokens_.size() && !tokens_[i + 1].lang.empty();
      tokens_[i].lang = !before && !after ? fallback
                        : !after          ? tokens_[i - 1].lang
                        : !before         ? tokens_[i + 1].lang
                                          : between(i);
    }
  }

  // The language of a number between two languages.
  std::string_view between(std::size_t i) const {
    const Token& right = tokens_[i + 1];
    const std::string_view left = tokens_[i - 1].lang;
    if (left == right.lang) return left;
    if (one_of(text_[tokens_[i - 1].end - 1], kStops)) return right.lang;
    if (one_of(text_[tokens_[i].end - 1], kStops)) return left;
    std::size_t begin = i - 1;
    while (begin > 0 && tokens_[begin - 1].lang == left) --begin;
    return tokens_[i - 1].end - tokens_[begin].begin >= right.end - right.begin ? left : right.lang;
  }

  // Whether the nearest letters that are not English are Chinese; looks past one token of others at most.
  bool neighbour_is_chinese(std::size_t i) const {
    for (std::size_t k = 2; k <= 3 && k <= i; ++k) {
      if (tokens_[i - k].kind == Token::Kind::letters) return tokens_[i - k].lang == "zh";
    }
    for (std::size_t k = 1; k <= 2 && i + k < tokens_.size(); ++k) {
      if (tokens_[i + k].kind == Token::Kind::letters) return tokens_[i + k].lang == "zh";
    }
    return false;
  }

  std::string_view default_language() const {
    const auto found = std::find(languages_.begin(), languages_.end(), lang_);
    if (found != languages_.end()) return *found;
    for (const Token& token : tokens_) {
      if (!token.lang.empty()) return token.lang;
    }
    return languages_.front();
  }

  View text_;
  std::string_view lang_;
  std::span<const std::string_view> languages_;
  bool reference_;
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<LanguageRun> split_languages(View text, std::string_view lang, std::span<const std::string_view> languages,
                                         bool reference) {
  if (text.empty()) return {};
  const auto english = std::find(languages.begin(), languages.end(), "en");
  if (languages.size() == 1) return {{languages.front(), 0, text.size()}};
  if (lang == "en" && english != languages.end()) return {{*english, 0, text.size()}};
  return Splitter(text, lang, languages, reference).run();
}

}  // namespace tts
