#pragma once

#include <string>
#include <string_view>

namespace tts::chinese {

// Numbers in Chinese words. `digits` holds ASCII digits only.

/// "1204" -> 一千二百零四; "" -> ""; more than 48 digits are read one by one.
[[nodiscard]] std::u32string cardinal(std::u32string_view digits);
/// "907" -> 九零七; `telephone`: 1 is 幺.
[[nodiscard]] std::u32string one_by_one(std::u32string_view digits, bool telephone);
/// "3.140" -> 三点一四零, ".5" -> 零点五, "12" -> 十二. Of several zeros at the end one is read. At most one point.
[[nodiscard]] std::u32string number(std::u32string_view value);

}  // namespace tts::chinese
