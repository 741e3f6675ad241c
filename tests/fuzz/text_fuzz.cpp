// Any bytes as text: the front end neither crashes nor hangs, and its spans stay in range and in order.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "src/core/utf8.h"
#include "src/text/frontend.h"
#include "src/text/phonemes.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const tts::TextFrontend frontend("src/text/data");
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  tts::FrontendOptions options;
  options.word_separator = "SP";
  const tts::Phonemized spoken = frontend.phonemize(text, options);
  const std::size_t length = tts::utf8::count_code_points(tts::utf8::to_valid(text));
  std::size_t start = 0;
  std::size_t begin = 0;
  for (const tts::SpokenWord& word : spoken.words) {
    if (word.in_start < start || word.in_end <= word.in_start || word.in_end > length) std::abort();
    if (word.phoneme_begin < begin || word.phoneme_end <= word.phoneme_begin) std::abort();
    if (word.phoneme_end > spoken.phonemes.size()) std::abort();
    start = word.in_start;
    begin = word.phoneme_end;
  }
  if (spoken.words.empty() != spoken.phonemes.empty()) std::abort();
  if (!spoken.phonemes.empty() && !tts::is_punctuation(spoken.phonemes.back())) std::abort();
  return 0;
}
