#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "src/text/frontend.h"

namespace tts {

struct LanguageOptions {
  std::string_view word_separator;  ///< symbol between words, where the language has any; empty: none
  bool first = true;                ///< nothing is spoken before: no mark may come first
  bool reference = false;           ///< as GPT-SoVITS v2 does it, see FrontendOptions
};

/// A stretch of text as one language speaks it.
struct SpokenText {
  std::vector<std::int32_t> phonemes;
  std::vector<SpokenWord> words;   ///< in_start, in_end: code points of the stretch
  std::string normalized;          ///< as it is spoken
  std::vector<std::uint8_t> bert;  ///< phonemes per code point of `normalized`; empty: the language has no features
};

/// One language's way from text to phonemes. A new language is one file: its class and the function that makes it,
/// which is named here, called in frontend.cpp and given its letters in language_split.cpp. Const and thread-safe.
class Language {
 public:
  virtual ~Language() = default;
  [[nodiscard]] virtual std::string_view code() const noexcept = 0;  ///< "en"
  /// Never throws on any text. `text` begins and ends where the language does; it may hold digits and punctuation.
  /// Phonemes never have two marks in a row, and end with a mark only where the text does.
  [[nodiscard]] virtual SpokenText speak(std::u32string_view text, const LanguageOptions& options) const = 0;
};

/// Both throw std::runtime_error naming a file of `data_dir` that is missing or bad.
[[nodiscard]] std::unique_ptr<Language> make_english(const std::filesystem::path& data_dir);
[[nodiscard]] std::unique_ptr<Language> make_chinese(const std::filesystem::path& data_dir,
                                                     std::shared_ptr<const PolyphoneModel> polyphones);

}  // namespace tts
