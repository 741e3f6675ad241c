#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "src/text/fold.h"
#include "src/text/lexicon.h"

namespace tts {

/// One thing to be said.
struct SpokenToken {
  enum class Kind {
    word,     ///< `text`: letters and apostrophes in the case of the input; expansions are lower case
    letters,  ///< `text`: capitals that are read by name, "FBI"; a final lower-case "s" is the plural, "GPUs"
    mark,     ///< `text`: one of , . ! ? and … ; never first, never two in a row
  };
  Kind kind = Kind::word;
  std::string text;
  std::size_t in_start = 0;  ///< code points of the input; every word of an expansion has the whole span: "$5" is
  std::size_t in_end = 0;    ///< "five" and "dollars", both [0, 2). Spans never go backwards.
};

/// English text as it is spoken: numbers, dates, money, units, abbreviations, addresses and signs become words; all
/// other punctuation becomes one of the marks (; : brackets and dashes a comma, … stays) or nothing (quotes). The
/// lexicon decides which capitals are a word ("NASA") and where camelCase parts. Linear in the text; never throws.
/// The last token, if there is any word, is one of . ! ? and … . No word: no tokens.
[[nodiscard]] std::vector<SpokenToken> normalize_english(const Folded& text, const Lexicon& lexicon);

/// "The F B I paid five dollars."
[[nodiscard]] std::string to_string(std::span<const SpokenToken> tokens);

}  // namespace tts
