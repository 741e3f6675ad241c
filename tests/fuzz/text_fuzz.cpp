// Any bytes as text, in each language and as the reference does it: the front end neither crashes nor hangs, and its
// spans stay in range and in order. The same bytes through every way of cutting.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <utility>

#include "src/core/utf8.h"
#include "src/text/cut.h"
#include "src/text/frontend.h"
#include "src/text/phonemes.h"

namespace {

void require(bool holds) {
  if (!holds) std::abort();
}

void check(const tts::Phonemized& spoken, std::size_t length, bool reference) {
  std::size_t start = 0;
  std::size_t begin = 0;
  for (const tts::SpokenWord& word : spoken.words) {
    require(word.in_start >= start && word.in_end > word.in_start && word.in_end <= length);
    require(word.phoneme_begin >= begin && word.phoneme_end > word.phoneme_begin);
    require(word.phoneme_end <= spoken.phonemes.size());
    start = word.in_start;
    begin = word.phoneme_end;
  }
  std::size_t at = 0;
  for (const tts::BertSpan& span : spoken.bert) {
    require(span.phoneme_begin >= at);
    require(tts::utf8::count_code_points(span.text) == span.phonemes_per_character.size());
    at = span.phoneme_begin;
    for (const std::uint8_t n : span.phonemes_per_character) at += n;
    require(at <= spoken.phonemes.size());
  }
  if (reference) return;
  require(spoken.words.empty() == spoken.phonemes.empty());
  require(spoken.phonemes.empty() || tts::is_punctuation(spoken.phonemes.back()));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const tts::TextFrontend frontend("src/text/data");
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const std::size_t length = tts::utf8::count_code_points(tts::utf8::to_valid(text));
  for (const auto& [lang, reference] : {std::pair("en", false), std::pair("zh", false), std::pair("auto", true)}) {
    tts::FrontendOptions options;
    options.lang = lang;
    options.reference = reference;
    if (!reference) options.word_separator = "SP";
    check(frontend.phonemize(text, options), length, reference);
  }
  for (int method = 0; method < 6; ++method) {
    for (const std::string& piece : tts::cut_text(text, "zh", static_cast<tts::CutMethod>(method))) {
      require(!piece.empty() && tts::utf8::is_valid(piece));
    }
  }
  return 0;
}
