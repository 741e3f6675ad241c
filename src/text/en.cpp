#include <optional>
#include <stdexcept>
#include <utility>

#include "src/text/code_points.h"
#include "src/text/en_g2p.h"
#include "src/text/en_normalize.h"
#include "src/text/fold.h"
#include "src/text/language.h"
#include "src/text/phonemes.h"

namespace tts {
namespace {

class English : public Language {
 public:
  explicit English(EnglishG2p g2p) : g2p_(std::move(g2p)) {}

  [[nodiscard]] std::string_view code() const noexcept override { return "en"; }

  [[nodiscard]] SpokenText speak(std::u32string_view text, const LanguageOptions& options) const override {
    const Folded folded = fold(to_utf8(text));
    std::vector<SpokenToken> tokens = normalize_english(folded, g2p_.lexicon());
    // The normaliser closes every text as a sentence; one that goes on in another language is not one.
    if (!tokens.empty() && tokens.back().kind == SpokenToken::Kind::mark) {
      const char last = last_mark(folded);
      if (last == '\0') tokens.pop_back();
      if (last == ',') tokens.back().text.assign(1, ',');
    }
    std::optional<std::int32_t> separator;
    if (!options.word_separator.empty()) separator = phoneme_id(options.word_separator);

    SpokenText result;
    result.normalized = to_string(tokens);
    bool after_word = false;
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      const SpokenToken& token = tokens[i];
      const std::vector<std::int32_t> phonemes = g2p_.phonemes(tokens, i);
      if (phonemes.empty()) continue;
      if (token.kind == SpokenToken::Kind::mark) {
        result.phonemes.insert(result.phonemes.end(), phonemes.begin(), phonemes.end());
        after_word = false;
        continue;
      }
      if (after_word && separator) result.phonemes.push_back(*separator);
      SpokenWord word;
      word.text = std::string(folded.slice(token.in_start, token.in_end));
      word.in_start = token.in_start;
      word.in_end = token.in_end;
      word.phoneme_begin = result.phonemes.size();
      result.phonemes.insert(result.phonemes.end(), phonemes.begin(), phonemes.end());
      word.phoneme_end = result.phonemes.size();
      result.words.push_back(std::move(word));
      after_word = true;
    }
    return result;
  }

 private:
  // A comma, a full stop for all that ends a sentence, 0 for neither.
  static char last_mark(const Folded& folded) {
    const std::size_t last = folded.text.find_last_not_of(" \n\"')]}");
    if (last == std::string::npos) return '\0';
    switch (folded.text[last]) {
      case '.':
      case '!':
      case '?':
      case sign::kEllipsis:
        return '.';
      case ',':
      case ';':
      case ':':
        return ',';
      default:
        return '\0';
    }
  }

  EnglishG2p g2p_;
};

}  // namespace

std::unique_ptr<Language> make_english(const std::filesystem::path& data_dir) {
  auto opened = EnglishG2p::open(data_dir);
  if (!opened) throw std::runtime_error(opened.error().detail);
  return std::make_unique<English>(std::move(*opened));
}

}  // namespace tts
