#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "src/core/result.h"

namespace tts {

/// How GPT-SoVITS cuts a text into pieces that are each synthesised alone.
enum class CutMethod {
  none,           ///< cut0: not at all, except at line breaks
  four_clauses,   ///< cut1: after every fourth clause
  fifty_letters,  ///< cut2: at the clause that makes it more than 50 characters
  chinese_stops,  ///< cut3: at 。
  english_stops,  ///< cut4: at full stops that stand in no number
  all_marks,      ///< cut5: at every mark
};

/// "cut0" .. "cut5". Errc::bad_message naming what was got.
[[nodiscard]] Result<CutMethod> parse_cut_method(std::string_view name);

/// The pieces of a whole text as GPT-SoVITS makes them, with its additions: a stop in front when the first clause is
/// shorter than four characters, a stop at the end of a piece without a mark, pieces shorter than five characters
/// joined to the next, longer than 510 parted at marks. `lang` decides which stop. `text` is taken as valid UTF-8 or
/// made so.
[[nodiscard]] std::vector<std::string> cut_text(std::string_view text, std::string_view lang, CutMethod method);

}  // namespace tts
