#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "src/text/zh_data.h"

namespace tts {

/// Characters with the code points [start, end) of the input that each stands for. Spans never go backwards; every
/// character of an expansion has the whole span: "5%" is 百分之五, all [0, 2). What is read one to one keeps its own.
struct ZhText {
  std::u32string text;
  std::vector<std::uint32_t> start, end;
};

/// Chinese text as it is spoken: traditional characters become simplified, numbers, dates, times, telephone numbers,
/// money, fractions, ranges, percentages, temperatures, units, sums and Greek letters become characters. What remains
/// is Han characters with a reading and the marks , . ! ? … and -, never two marks in a row; all else, Latin letters
/// included, is gone. Linear in the text; never throws.
///
/// `reference`: exactly as GPT-SoVITS v2 does it, where we by default differ: "10-20" is a range and not a difference,
/// "010-12345678" a telephone number, "-5.5" 负五点五, "$5" 五美元, "1,000" one number, "mm" 毫米, a letter a unit only
/// after a number, "2月" 二月 and "第2个" 第二个, "100000次" a number and no row of digits, "5摄氏度" 五摄氏度, a line
/// break a full stop.
[[nodiscard]] ZhText normalize_chinese(const ZhData& data, std::u32string_view text, bool reference);

/// True for letters that are a unit after a number: "kg", "cm".
[[nodiscard]] bool is_chinese_unit(std::u32string_view letters);

}  // namespace tts
