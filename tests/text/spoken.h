#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "src/text/frontend.h"
#include "src/text/phonemes.h"
#include "tests/doctest.h"

namespace tts::test {

/// What holds for every text: words in order and inside it and the phonemes, marks (and separators, where there is one)
/// never together nor first, ids of the inventory, a sentence mark at the end. `length`: code points of the text.
inline void check_spoken(const Phonemized& spoken, std::size_t length, std::optional<std::int32_t> separator = {}) {
  bool good = true;
  std::size_t start = 0;
  std::size_t begin = 0;
  for (const SpokenWord& word : spoken.words) {
    good = good && word.in_start >= start && word.in_start < word.in_end && word.in_end <= length && !word.text.empty();
    good = good && word.phoneme_begin >= begin && word.phoneme_begin < word.phoneme_end &&
           word.phoneme_end <= spoken.phonemes.size();
    start = word.in_start;
    begin = word.phoneme_end;
  }
  CHECK(good);
  CHECK(spoken.words.empty() == spoken.phonemes.empty());
  bool after_mark = true;
  for (const std::int32_t id : spoken.phonemes) {
    const bool mark = is_punctuation(id) || id == separator;
    good = good && !(mark && after_mark) && id >= 0 && id < kPhonemesV2;
    after_mark = mark;
  }
  CHECK(good);
  if (!spoken.phonemes.empty()) {
    const std::string_view last = phoneme_symbol(spoken.phonemes.back());
    CHECK((last == "." || last == "!" || last == "?" || last == "…"));
  }
}

}  // namespace tts::test
