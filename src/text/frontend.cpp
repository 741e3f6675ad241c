#include "src/text/frontend.h"

#include <algorithm>
#include <optional>
#include <stdexcept>
#include <utility>

#include "src/text/code_points.h"
#include "src/text/language.h"
#include "src/text/language_split.h"
#include "src/text/phonemes.h"
#include "src/text/polyphones.h"

namespace tts {
namespace {

bool ends_sentence(std::int32_t id) {
  const std::string_view symbol = phoneme_symbol(id);
  return symbol == "." || symbol == "!" || symbol == "?" || symbol == "…";
}

// Appends what a run of text gave; `offset` is where the run begins.
void append(SpokenText&& spoken, std::size_t offset, Phonemized& result) {
  const std::size_t base = result.phonemes.size();
  result.phonemes.insert(result.phonemes.end(), spoken.phonemes.begin(), spoken.phonemes.end());
  for (SpokenWord& word : spoken.words) {
    word.in_start += offset;
    word.in_end += offset;
    word.phoneme_begin += base;
    word.phoneme_end += base;
    result.words.push_back(std::move(word));
  }
  if (!spoken.bert.empty()) result.bert.push_back({spoken.normalized, std::move(spoken.bert), base});
  if (!result.normalized.empty() && !spoken.normalized.empty() && spoken.normalized.front() != ' ' &&
      (static_cast<unsigned char>(result.normalized.back()) < 0x80 ||
       static_cast<unsigned char>(spoken.normalized.front()) < 0x80)) {
    result.normalized += ' ';
  }
  result.normalized += spoken.normalized;
}

// The sentence mark at the end: a comma or dash becomes one, else one is added.
void close(Phonemized& result) {
  const std::int32_t stop = *phoneme_id(".");
  if (result.words.empty()) {
    result = {};
    return;
  }
  if (ends_sentence(result.phonemes.back())) return;
  const bool mark = result.words.back().phoneme_end < result.phonemes.size() && is_punctuation(result.phonemes.back());
  if (!mark) {
    const bool joins = !result.bert.empty() && [&] {
      std::size_t end = result.bert.back().phoneme_begin;
      for (const std::uint8_t n : result.bert.back().phonemes_per_character) end += n;
      return end == result.phonemes.size();
    }();
    if (joins) {
      result.bert.back().text += '.';
      result.bert.back().phonemes_per_character.push_back(1);
    }
    result.phonemes.push_back(stop);
    result.normalized += '.';
    return;
  }
  if (!result.bert.empty() && result.bert.back().phonemes_per_character.back() == 1 &&
      (result.bert.back().text.back() == ',' || result.bert.back().text.back() == '-')) {
    std::size_t end = result.bert.back().phoneme_begin;
    for (const std::uint8_t n : result.bert.back().phonemes_per_character) end += n;
    if (end == result.phonemes.size()) result.bert.back().text.back() = '.';
  }
  result.phonemes.back() = stop;
  if (!result.normalized.empty()) result.normalized.back() = '.';
}

}  // namespace

struct TextFrontend::Impl {
  std::vector<std::unique_ptr<Language>> languages;

  [[nodiscard]] Phonemized phonemize(std::u32string_view text, const FrontendOptions& options) const;
};

TextFrontend::TextFrontend(const std::filesystem::path& data_dir, std::shared_ptr<const PolyphoneModel> polyphones)
    : impl_(std::make_unique<Impl>()) {
  impl_->languages.push_back(make_english(data_dir));
  impl_->languages.push_back(make_chinese(data_dir, std::move(polyphones)));
}
TextFrontend::~TextFrontend() = default;
TextFrontend::TextFrontend(TextFrontend&&) noexcept = default;
TextFrontend& TextFrontend::operator=(TextFrontend&&) noexcept = default;

Phonemized TextFrontend::Impl::phonemize(std::u32string_view text, const FrontendOptions& options) const {
  std::vector<std::string_view> codes;
  for (const auto& language : languages) {
    const auto& wanted = options.languages;
    if (wanted.empty() || std::find(wanted.begin(), wanted.end(), language->code()) != wanted.end()) {
      codes.push_back(language->code());
    }
  }
  Phonemized result;
  if (codes.empty()) return result;
  LanguageOptions how;
  how.word_separator = options.word_separator;
  how.reference = options.reference;
  const std::int32_t comma = *phoneme_id(",");
  for (const LanguageRun& run : split_languages(text, options.lang, codes, options.reference)) {
    const auto language = std::find_if(languages.begin(), languages.end(),
                                       [&](const auto& candidate) { return candidate->code() == run.lang; });
    how.first = result.phonemes.empty() || is_punctuation(result.phonemes.back());
    SpokenText spoken = (*language)->speak(text.substr(run.begin, run.end - run.begin), how);
    if (options.reference && run.lang == "en" && spoken.phonemes.size() < 4) {
      spoken.phonemes.insert(spoken.phonemes.begin(), comma);
      for (SpokenWord& word : spoken.words) {
        ++word.phoneme_begin;
        ++word.phoneme_end;
      }
    }
    append(std::move(spoken), run.begin, result);
  }
  if (!options.reference) close(result);
  return result;
}

Phonemized TextFrontend::phonemize(std::string_view text, const FrontendOptions& options) const {
  const std::u32string input = to_code_points(text);
  Phonemized result = impl_->phonemize(input, options);
  // The reference puts a full stop before what is shorter than six phonemes, once.
  if (options.reference && result.phonemes.size() < 6) {
    result = impl_->phonemize(U"." + input, options);
    for (SpokenWord& word : result.words) {
      word.in_start -= word.in_start > 0 ? 1 : 0;
      word.in_end -= 1;
    }
  }
  return result;
}

}  // namespace tts
