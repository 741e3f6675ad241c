#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

#include "src/text/zh_data.h"

namespace tts {

/// Code points [begin, end) of a text, with the tag of the word there ("v", "nr", "x" for marks, ...).
struct ZhWord {
  std::size_t begin = 0;
  std::size_t end = 0;
  std::string_view tag;  ///< lives as long as the ZhData
};

/// Words and tags as jieba.posseg cuts them: the most probable way through the dictionary's words; runs of characters
/// that it leaves single go through the tagging model. `text` holds Han characters and marks. Linear in the text.
[[nodiscard]] std::vector<ZhWord> tag_words(const ZhData& data, std::u32string_view text);

/// A word in two parts as upstream's tone sandhi cuts it, at the shortest of the words and subwords in it (those of
/// jieba.cut_for_search): `first` is that subword, or all but as many characters at the end when it is not at the
/// start.
struct ZhSplit {
  std::u32string_view first;    ///< the whole word when it is one piece
  std::u32string_view second;   ///< the rest
  std::u32string_view subword;  ///< what upstream takes for the second part; it may stand in the middle
};
[[nodiscard]] ZhSplit split_word(const ZhData& data, std::u32string_view text);

}  // namespace tts
