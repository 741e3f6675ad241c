#include "src/text/en_numbers.h"

#include <array>
#include <cstddef>

namespace tts::english {
namespace {

constexpr std::array<std::string_view, 20> kOnes = {
    "zero", "one",    "two",    "three",    "four",     "five",    "six",     "seven",     "eight",    "nine",
    "ten",  "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"};
constexpr std::array<std::string_view, 10> kTens = {"",      "",      "twenty",  "thirty", "forty",
                                                    "fifty", "sixty", "seventy", "eighty", "ninety"};
constexpr std::array<std::string_view, 7> kGroups = {"",         "thousand",    "million",    "billion",
                                                     "trillion", "quadrillion", "quintillion"};
constexpr std::size_t kMostDigits = 21;

void append(std::string& text, std::string_view word) {
  if (!text.empty()) text += ' ';
  text += word;
}

void append_below_hundred(std::string& text, int n) {
  if (n < 20) {
    append(text, kOnes[static_cast<std::size_t>(n)]);
    return;
  }
  append(text, kTens[static_cast<std::size_t>(n / 10)]);
  if (n % 10 != 0) append(text, kOnes[static_cast<std::size_t>(n % 10)]);
}

std::string_view strip_zeros(std::string_view digits) {
  while (digits.size() > 1 && digits.front() == '0') digits.remove_prefix(1);
  return digits;
}

int to_int(std::string_view digits) {
  int n = 0;
  for (const char c : digits) n = n * 10 + (c - '0');
  return n;
}

}  // namespace

std::string one_by_one(std::string_view digits) {
  std::string text;
  for (const char c : digits) append(text, kOnes[static_cast<std::size_t>(c - '0')]);
  return text;
}

std::string cardinal(std::string_view digits) {
  digits = strip_zeros(digits);
  if (digits.size() > kMostDigits) return one_by_one(digits);
  if (digits == "0") return "zero";
  std::string text;
  std::size_t at = 0;
  while (at < digits.size()) {
    const std::size_t left = digits.size() - at;
    const std::size_t width = (left - 1) % 3 + 1;
    const int n = to_int(digits.substr(at, width));
    at += width;
    if (n == 0) continue;
    if (n >= 100) {
      append(text, kOnes[static_cast<std::size_t>(n / 100)]);
      append(text, "hundred");
    }
    if (n % 100 != 0) append_below_hundred(text, n % 100);
    const std::size_t group = (digits.size() - at) / 3;
    if (group > 0) append(text, kGroups[group]);
  }
  return text;
}

std::string ordinal(std::string_view digits) {
  std::string text = cardinal(digits);
  const std::size_t space = text.rfind(' ');
  const std::size_t at = space == std::string::npos ? 0 : space + 1;
  std::string last = text.substr(at);
  if (last == "one") {
    last = "first";
  } else if (last == "two") {
    last = "second";
  } else if (last == "three") {
    last = "third";
  } else if (last == "five") {
    last = "fifth";
  } else if (last == "eight") {
    last = "eighth";
  } else if (last == "nine") {
    last = "ninth";
  } else if (last == "twelve") {
    last = "twelfth";
  } else if (last.back() == 'y') {
    last.replace(last.size() - 1, 1, "ieth");
  } else {
    last += "th";
  }
  return text.substr(0, at) + last;
}

std::string year(std::string_view digits) {
  if (digits.size() != 4 || digits.front() == '0') return cardinal(digits);
  const int high = to_int(digits.substr(0, 2));
  const int low = to_int(digits.substr(2));
  std::string text;
  if (high % 10 == 0 && low < 10) return cardinal(digits);
  append_below_hundred(text, high);
  if (low == 0) {
    append(text, "hundred");
  } else {
    if (low < 10) append(text, "oh");
    append_below_hundred(text, low);
  }
  return text;
}

std::string fraction(std::string_view numerator, std::string_view denominator) {
  const std::string_view top = strip_zeros(numerator);
  const std::string_view bottom = strip_zeros(denominator);
  std::string text = cardinal(top);
  const bool one = top == "1";
  if (bottom == "2") {
    append(text, one ? "half" : "halves");
  } else if (bottom == "4") {
    append(text, one ? "quarter" : "quarters");
  } else {
    append(text, ordinal(bottom));
    if (!one) text += 's';
  }
  return text;
}

std::string plural(std::string words) {
  if (words.back() == 'y') {
    words.replace(words.size() - 1, 1, "ies");
  } else if (words.back() == 'x') {
    words += "es";
  } else {
    words += 's';
  }
  return words;
}

int roman(std::string_view text) {
  if (text.empty() || text.size() > 15) return 0;
  struct Step {
    int value;
    std::string_view letters;
  };
  static constexpr std::array<Step, 13> kSteps = {{{1000, "M"},
                                                   {900, "CM"},
                                                   {500, "D"},
                                                   {400, "CD"},
                                                   {100, "C"},
                                                   {90, "XC"},
                                                   {50, "L"},
                                                   {40, "XL"},
                                                   {10, "X"},
                                                   {9, "IX"},
                                                   {5, "V"},
                                                   {4, "IV"},
                                                   {1, "I"}}};
  int value = 0;
  std::size_t at = 0;
  for (const Step& step : kSteps) {
    const bool many =
        step.letters.size() == 1 && (step.value == 1000 || step.value == 100 || step.value == 10 || step.value == 1);
    for (int k = 0; k < (many ? 3 : 1) && text.substr(at).starts_with(step.letters); ++k) {
      value += step.value;
      at += step.letters.size();
    }
  }
  if (at != text.size()) return 0;
  // Only the standard form: written back, it must be the same ("IVI" is not).
  std::string standard;
  int left = value;
  for (const Step& step : kSteps) {
    for (; left >= step.value; left -= step.value) standard += step.letters;
  }
  return standard == text ? value : 0;
}

}  // namespace tts::english
