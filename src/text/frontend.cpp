#include "src/text/frontend.h"

#include <optional>
#include <stdexcept>
#include <utility>

#include "src/text/en_g2p.h"
#include "src/text/en_normalize.h"
#include "src/text/fold.h"
#include "src/text/phonemes.h"

namespace tts {
namespace {

EnglishG2p open_or_throw(const std::filesystem::path& data_dir) {
  auto opened = EnglishG2p::open(data_dir);
  if (!opened) throw std::runtime_error(opened.error().detail);
  return std::move(*opened);
}

}  // namespace

struct TextFrontend::Impl {
  EnglishG2p english;
};

TextFrontend::TextFrontend(const std::filesystem::path& data_dir)
    : impl_(std::make_unique<Impl>(Impl{open_or_throw(data_dir)})) {}
TextFrontend::~TextFrontend() = default;
TextFrontend::TextFrontend(TextFrontend&&) noexcept = default;
TextFrontend& TextFrontend::operator=(TextFrontend&&) noexcept = default;

Phonemized TextFrontend::phonemize(std::string_view text, const FrontendOptions& options) const {
  const EnglishG2p& english = impl_->english;
  const Folded folded = fold(text);
  const std::vector<SpokenToken> tokens = normalize_english(folded, english.lexicon());
  std::optional<std::int32_t> separator;
  if (!options.word_separator.empty()) separator = phoneme_id(options.word_separator);

  Phonemized result;
  result.normalized = to_string(tokens);
  bool after_word = false;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const SpokenToken& token = tokens[i];
    const std::vector<std::int32_t> phonemes = english.phonemes(tokens, i);
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

}  // namespace tts
