#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tts {

/// Code points [begin, end) of a text, to be spoken in one language.
struct LanguageRun {
  std::string_view lang;  ///< one of those that were asked for
  std::size_t begin = 0;
  std::size_t end = 0;
};

/// Cuts a text where the language changes; every code point is in a run, in order. Letters decide: Han is "zh", Latin
/// "en", and so on; letters of none of `languages` go with their neighbours and are left out by them. Punctuation goes
/// with what stands before it.
///
/// Numbers between two languages go with the longer neighbour, as in GPT-SoVITS. `lang` is the language of a text
/// without letters, and "en" makes all of the text English; with "auto" it is the first of `languages`. `reference`: a
/// unit after a number ("5kg") is English in a Chinese sentence, as in GPT-SoVITS.
///
/// `languages` is not empty. Linear in the text.
[[nodiscard]] std::vector<LanguageRun> split_languages(std::u32string_view text, std::string_view lang,
                                                       std::span<const std::string_view> languages, bool reference);

}  // namespace tts
