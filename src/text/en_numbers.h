#pragma once

#include <string>
#include <string_view>

namespace tts::english {

// Numbers in words: lower case, separated by single spaces, no hyphens, no "and". `digits` holds ASCII digits only and
// is never empty.

/// "1204" -> "one thousand two hundred four". Leading zeros do not count; more than 21 digits are read one by one.
[[nodiscard]] std::string cardinal(std::string_view digits);
/// "21" -> "twenty first".
[[nodiscard]] std::string ordinal(std::string_view digits);
/// "1984" -> "nineteen eighty four", "2005" -> "two thousand five", "1900" -> "nineteen hundred", "1066" -> "ten sixty
/// six". Other than four digits: cardinal.
[[nodiscard]] std::string year(std::string_view digits);
/// "907" -> "nine zero seven".
[[nodiscard]] std::string one_by_one(std::string_view digits);
/// "1/2" -> "one half", "3/4" -> "three quarters", "2/21" -> "two twenty firsts".
[[nodiscard]] std::string fraction(std::string_view numerator, std::string_view denominator);
/// The plural of a number in words: "nineteen ninety" -> "nineteen nineties", "six" -> "sixes".
[[nodiscard]] std::string plural(std::string words);

/// Value of a Roman numeral in capitals (1..3999, in standard form), 0 for anything else.
[[nodiscard]] int roman(std::string_view text);

}  // namespace tts::english
