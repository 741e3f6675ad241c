#include <algorithm>
#include <stdexcept>
#include <utility>

#include "src/text/code_points.h"
#include "src/text/language.h"
#include "src/text/phonemes.h"
#include "src/text/polyphones.h"
#include "src/text/zh_data.h"
#include "src/text/zh_normalize.h"
#include "src/text/zh_pinyin.h"
#include "src/text/zh_segment.h"
#include "src/text/zh_tones.h"

namespace tts {
namespace {

using View = std::u32string_view;

constexpr View kMarks = U",.!?…-";

bool is_mark(char32_t c) {
  return kMarks.find(c) != View::npos;
}

class Chinese : public Language {
 public:
  Chinese(ZhData data, std::shared_ptr<const PolyphoneModel> polyphones)
      : data_(std::move(data)), polyphones_(std::move(polyphones)) {
    for (std::size_t i = 0; i < kMarks.size(); ++i) {
      marks_.push_back(*phoneme_id(to_utf8(kMarks.substr(i, 1))));
    }
  }

  [[nodiscard]] std::string_view code() const noexcept override { return "zh"; }

  [[nodiscard]] SpokenText speak(View text, const LanguageOptions& options) const override {
    // The reference makes every comma a long pause when a sign of one is in the text, and reads the sign as a comma.
    std::u32string with_pauses;
    std::int32_t comma = marks_[0];
    if (options.reference) {
      for (const auto& [sign, symbol] : {std::pair(U'￥', "SP2"), std::pair(U'^', "SP3")}) {
        if (text.find(sign) == View::npos) continue;
        for (const char32_t c : text) with_pauses += c == sign ? U',' : c;
        text = with_pauses;
        comma = *phoneme_id(symbol);
        break;
      }
    }
    ZhText normal = normalize_chinese(data_, text, options.reference);
    std::size_t begin = 0;
    if (options.first && !options.reference) {
      while (begin < normal.text.size() && is_mark(normal.text[begin])) ++begin;
    }
    SpokenText result;
    result.normalized = to_utf8(View(normal.text).substr(begin));
    result.bert.reserve(normal.text.size() - begin);
    while (begin < normal.text.size()) {
      std::size_t end = begin;
      while (end < normal.text.size() && !is_mark(normal.text[end])) ++end;
      if (end < normal.text.size()) ++end;  // a mark ends the segment that it is in
      speak_segment(text, normal, begin, end, comma, options.reference, result);
      begin = end;
    }
    return result;
  }

 private:
  void speak_segment(View input, const ZhText& normal, std::size_t begin, std::size_t end, std::int32_t comma,
                     bool reference, SpokenText& out) const {
    const View segment = View(normal.text).substr(begin, end - begin);
    const std::vector<ZhWord> words = join_for_tones(data_, segment, tag_words(data_, segment));
    std::vector<ZhReading> by_sentence;
    if (polyphones_) by_sentence = sentence_readings(segment);
    for (const ZhWord& word : words) {
      const View text = segment.substr(word.begin, word.end - word.begin);
      std::vector<ZhReading> readings;
      if (polyphones_) {
        readings.assign(by_sentence.begin() + static_cast<std::ptrdiff_t>(word.begin),
                        by_sentence.begin() + static_cast<std::ptrdiff_t>(word.end));
        correct(text, readings);
      } else {
        readings = phrase_readings(data_, text);
      }
      change_tones(data_, text, word.tag, reference, readings);

      SpokenWord spoken;
      spoken.phoneme_begin = out.phonemes.size();
      std::size_t last = word.begin;
      for (std::size_t i = 0; i < text.size(); ++i) {
        if (const std::size_t mark = kMarks.find(text[i]); mark != View::npos) {
          out.phonemes.push_back(mark == 0 ? comma : marks_[mark]);
          out.bert.push_back(1);
          continue;
        }
        if (!readings[i].spoken()) {
          out.bert.push_back(0);
          continue;
        }
        const ZhData::Syllable& syllable = data_.syllable(readings[i]);
        out.phonemes.push_back(syllable.initial);
        out.phonemes.push_back(syllable.final[readings[i].tone - 1U]);
        out.bert.push_back(2);
        last = word.begin + i;
        spoken.phoneme_end = out.phonemes.size();
      }
      if (spoken.phoneme_end <= spoken.phoneme_begin) continue;
      spoken.in_start = normal.start[begin + word.begin];
      spoken.in_end = normal.end[begin + last];
      spoken.text = to_utf8(input.substr(spoken.in_start, spoken.in_end - spoken.in_start));
      out.words.push_back(std::move(spoken));
    }
  }

  std::vector<ZhReading> sentence_readings(View segment) const {
    std::vector<ZhReading> readings = phrase_readings(data_, segment);
    const std::vector<std::string> chosen = polyphones_->readings(segment);
    for (std::size_t i = 0; i < std::min(chosen.size(), readings.size()); ++i) {
      const ZhReading reading = data_.parse_reading(chosen[i]);
      if (reading.spoken() && ZhData::is_han(segment[i])) readings[i] = reading;
    }
    return readings;
  }

  // Words, else characters, that the model is known to get wrong.
  void correct(View word, std::vector<ZhReading>& readings) const {
    const ZhData::Node whole = data_.find(word);
    if (whole != 0 && data_.is_correction(whole)) {
      data_.correction_readings(whole, word, readings);
      return;
    }
    for (std::size_t i = 0; i < word.size(); ++i) {
      const ZhData::Node one = data_.child(0, word[i]);
      if (one != 0 && data_.is_correction(one)) {
        data_.correction_readings(one, word.substr(i, 1), std::span(readings).subspan(i, 1));
      }
    }
  }

  ZhData data_;
  std::shared_ptr<const PolyphoneModel> polyphones_;
  std::vector<std::int32_t> marks_;
};

}  // namespace

std::unique_ptr<Language> make_chinese(const std::filesystem::path& data_dir,
                                       std::shared_ptr<const PolyphoneModel> polyphones) {
  auto opened = ZhData::open(data_dir / "zh.bin");
  if (!opened) throw std::runtime_error(opened.error().detail);
  return std::make_unique<Chinese>(std::move(*opened), std::move(polyphones));
}

}  // namespace tts
