#pragma once

#include <string_view>
#include <vector>

#include "src/text/zh_data.h"
#include "src/text/zh_segment.h"

namespace tts {

/// Joins words that change tones together: 不 and 一 with what follows, 听一听, doubled words, words of third tones,
/// 儿. `text` is what `words` point into.
[[nodiscard]] std::vector<ZhWord> join_for_tones(const ZhData& data, std::u32string_view text,
                                                 std::vector<ZhWord> words);

/// Changes the tones of a word to those it is spoken with: 不 and 一 before their neighbours, neutral tones, third
/// tones in a row; then 儿 as the end of the syllable before it, where `tag` and the word allow. One reading per
/// character.
void change_tones(const ZhData& data, std::u32string_view word, std::string_view tag, bool reference,
                  std::vector<ZhReading>& readings);

}  // namespace tts
