#include "src/text/zh_pinyin.h"

#include <cstddef>
#include <span>

namespace tts {
namespace {

// One run of Han characters, to readings[0..run.size()).
void read_run(const ZhData& data, std::u32string_view run, std::span<ZhReading> readings) {
  for (std::size_t i = 0; i < run.size();) {
    ZhData::Node node = 0;
    ZhData::Node phrase = 0;
    std::size_t length = 0;
    std::size_t k = i;
    for (; k < run.size(); ++k) {
      node = data.child(node, run[k]);
      if (node == 0 || !data.begins_phrase(node)) break;
      if (data.is_phrase(node)) {
        phrase = node;
        length = k + 1 - i;
      }
    }
    if (length != 0) {
      data.phrase_readings(phrase, run.substr(i, length), readings.subspan(i, length));
      i += length;
      continue;
    }
    // A rest that only begins a phrase is read character by character to its end.
    const std::size_t end = k == run.size() ? k : i + 1;
    for (; i < end; ++i) readings[i] = data.reading(run[i]);
  }
}

}  // namespace

std::vector<ZhReading> phrase_readings(const ZhData& data, std::u32string_view text) {
  std::vector<ZhReading> readings(text.size());
  for (std::size_t i = 0; i < text.size();) {
    if (!ZhData::is_han(text[i])) {
      ++i;
      continue;
    }
    std::size_t end = i + 1;
    while (end < text.size() && ZhData::is_han(text[end])) ++end;
    read_run(data, text.substr(i, end - i), std::span(readings).subspan(i, end - i));
    i = end;
  }
  return readings;
}

}  // namespace tts
