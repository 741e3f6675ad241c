#include "src/text/zh_normalize.h"

#include <unicode/uchar.h>
#include <algorithm>
#include <array>
#include <utility>

#include "src/text/zh_numbers.h"

namespace tts {
namespace {

using chinese::cardinal;
using chinese::number;
using chinese::one_by_one;
using View = std::u32string_view;

constexpr bool is_digit(char32_t c) {
  return c >= U'0' && c <= U'9';
}
constexpr bool is_latin(char32_t c) {
  return (c >= U'a' && c <= U'z') || (c >= U'A' && c <= U'Z');
}
constexpr bool one_of(char32_t c, View set) {
  return set.find(c) != View::npos;
}

constexpr View kMarks = U",.!?…-";
constexpr View kRemovedFirst = U" —《》【】<>{}()（）#&@“”^_|\\";
constexpr View kRemovedLast = U"-—《》【】<=>{}()（）#&@“”^_|\\";
constexpr View kSuperscripts = U"⁰¹²³⁴⁵⁶⁷⁸⁹ˣʸⁿ";
constexpr View kSuperscriptsPlain = U"0123456789xyn";

/// The text a rule looks at, with what makes every look cheap.
struct Source {
  View text;
  std::vector<std::uint32_t> digits_end;  // of the run of digits that begins or continues here

  [[nodiscard]] char32_t at(std::size_t i) const { return i < text.size() ? text[i] : U'\0'; }
  [[nodiscard]] std::size_t digits(std::size_t i) const { return i < text.size() ? digits_end[i] : i; }
  // [0-9]+ or [0-9]+.[0-9]+ at i; i when there is none.
  [[nodiscard]] std::size_t decimal(std::size_t i) const {
    const std::size_t end = digits(i);
    if (end == i || at(end) != U'.') return end;
    const std::size_t fraction = digits(end + 1);
    return fraction > end + 1 ? fraction : end;
  }
  // A decimal, or one that begins with the point.
  [[nodiscard]] std::size_t any_decimal(std::size_t i) const {
    if (const std::size_t end = decimal(i); end != i) return end;
    if (at(i) == U'.' && digits(i + 1) > i + 1) return digits(i + 1);
    return i;
  }
  [[nodiscard]] View part(std::size_t from, std::size_t to) const { return text.substr(from, to - from); }
};

/// A text that rules rewrite one after the other, each from left to right and once.
class Rewriter {
 public:
  explicit Rewriter(ZhText text) : text_(std::move(text)) {}
  [[nodiscard]] ZhText take() { return std::move(text_); }
  [[nodiscard]] View text() const { return text_.text; }

  /// rule(source, i, out) returns how many characters from i it replaces by `out`, 0 for none. True if it ever did.
  template <class Rule>
  bool apply(Rule rule) {
    Source source{text_.text, {}};
    source.digits_end.resize(text_.text.size());
    for (std::size_t i = text_.text.size(); i-- > 0;) {
      const bool joins = i + 1 < text_.text.size() && is_digit(text_.text[i + 1]);
      source.digits_end[i] = !is_digit(text_.text[i]) ? static_cast<std::uint32_t>(i)
                             : joins                  ? source.digits_end[i + 1]
                                                      : static_cast<std::uint32_t>(i + 1);
    }
    ZhText result;
    result.text.reserve(text_.text.size());
    bool changed = false;
    std::u32string out;
    for (std::size_t i = 0; i < text_.text.size();) {
      out.clear();
      const std::size_t length = rule(std::as_const(source), i, out);
      if (length == 0) {
        result.text += text_.text[i];
        result.start.push_back(text_.start[i]);
        result.end.push_back(text_.end[i]);
        ++i;
        continue;
      }
      changed = true;
      result.text += out;
      // Character by character where that is how it is read, which keeps the spans of long numbers short.
      for (std::size_t k = 0; k < out.size(); ++k) {
        result.start.push_back(text_.start[out.size() == length ? i + k : i]);
        result.end.push_back(text_.end[out.size() == length ? i + k : i + length - 1]);
      }
      i += length;
    }
    text_ = std::move(result);
    return changed;
  }

 private:
  ZhText text_;
};

// ---- dates and times ------------------------------------------------------------------------------------------------

// 1..12 without or with one zero before it, followed by `unit` (0: by anything).
std::size_t month_at(const Source& s, std::size_t i, char32_t unit) {
  const auto ends = [&](std::size_t end) { return unit == 0 || s.at(end) == unit; };
  const std::size_t one = i + (s.at(i) == U'0' ? 1 : 0);
  if (s.at(one) >= U'1' && s.at(one) <= U'9' && ends(one + 1)) return one + 1;
  if (s.at(i) == U'1' && s.at(i + 1) >= U'0' && s.at(i + 1) <= U'2' && ends(i + 2)) return i + 2;
  return i;
}

std::size_t year_month_day(const Source& s, std::size_t i, std::u32string& out) {
  std::size_t end = i;
  for (const std::size_t n : {4, 2}) {
    if (s.digits(i) >= i + n && s.at(i + n) == U'年') {
      end = i + n;
      break;
    }
  }
  if (end == i) return 0;
  out = one_by_one(s.part(i, end), false) + U'年';
  ++end;
  if (const std::size_t month = month_at(s, end, U'月'); month != end) {
    out += cardinal(s.part(end, month)) + U'月';
    end = month + 1;
  }
  const auto day = [&](std::size_t to) {
    if (s.at(to) != U'日' && s.at(to) != U'号') return false;
    out += cardinal(s.part(end, to)) + s.at(to);
    end = to + 1;
    return true;
  };
  const char32_t a = s.at(end);
  const char32_t b = s.at(end + 1);
  if (a == U'0' && b >= U'1' && b <= U'9' && day(end + 2)) return end - i;
  if (a >= U'1' && a <= U'9' && day(end + 1)) return end - i;
  if ((a == U'1' || a == U'2') && is_digit(b) && day(end + 2)) return end - i;
  if (a == U'3' && (b == U'0' || b == U'1')) day(end + 2);
  return end - i;
}

// 2024-05-01 and the same with / and full stop.
std::size_t written_date(const Source& s, std::size_t i, std::u32string& out) {
  if (s.digits(i) < i + 4) return 0;
  const char32_t separator = s.at(i + 4);
  if (!one_of(separator, U"- /.")) return 0;
  const auto two = [&](std::size_t at) {
    return is_digit(s.at(at)) && is_digit(s.at(at + 1)) ? (s.at(at) - U'0') * 10 + (s.at(at + 1) - U'0') : 0;
  };
  const auto month = two(i + 5);
  const auto day = two(i + 8);
  if (month < 1 || month > 12 || s.at(i + 7) != separator || day < 1 || day > 31) return 0;
  out = one_by_one(s.part(i, i + 4), false) + U'年' + cardinal(s.part(i + 5, i + 7)) + U'月' +
        cardinal(s.part(i + 8, i + 10)) + U'日';
  return 10;
}

// 2024-5-1: month and day of one or two digits, apart from other digits.
std::size_t short_date(const Source& s, std::size_t i, std::u32string& out) {
  if ((i > 0 && is_digit(s.at(i - 1))) || s.digits(i) != i + 4 || (s.at(i) != U'1' && s.at(i) != U'2')) return 0;
  const char32_t separator = s.at(i + 4);
  if (separator != U'-' && separator != U'/') return 0;
  const std::size_t month = s.digits(i + 5);
  if (month - (i + 5) < 1 || month - (i + 5) > 2 || s.at(month) != separator) return 0;
  const std::size_t day = s.digits(month + 1);
  if (day - (month + 1) < 1 || day - (month + 1) > 2 || s.at(day) == separator) return 0;
  const auto value = [&](std::size_t from, std::size_t to) {
    std::uint32_t n = 0;
    for (; from < to; ++from) n = n * 10 + (s.at(from) - U'0');
    return n;
  };
  const std::uint32_t m = value(i + 5, month);
  const std::uint32_t d = value(month + 1, day);
  if (m < 1 || m > 12 || d < 1 || d > 31) return 0;
  out = one_by_one(s.part(i, i + 4), false) + U'年' + cardinal(s.part(i + 5, month)) + U'月' +
        cardinal(s.part(month + 1, day)) + U'日';
  return day - i;
}

struct Clock {
  View hour, minute, second;
};

// 8:30 or 08:30:15 at i; the end, or i.
std::size_t clock_at(const Source& s, std::size_t i, Clock& clock) {
  std::size_t colon = i;
  if ((s.at(i) == U'0' || s.at(i) == U'1') && is_digit(s.at(i + 1)) && s.at(i + 2) == U':') {
    colon = i + 2;
  } else if (is_digit(s.at(i)) && s.at(i + 1) == U':') {
    colon = i + 1;
  } else if (s.at(i) == U'2' && s.at(i + 1) >= U'0' && s.at(i + 1) <= U'3' && s.at(i + 2) == U':') {
    colon = i + 2;
  } else {
    return i;
  }
  const auto sixty = [&](std::size_t at) { return s.at(at) >= U'0' && s.at(at) <= U'5' && is_digit(s.at(at + 1)); };
  if (!sixty(colon + 1)) return i;
  clock.hour = s.part(i, colon);
  clock.minute = s.part(colon + 1, colon + 3);
  clock.second = {};
  if (s.at(colon + 3) != U':' || !sixty(colon + 4)) return colon + 3;
  clock.second = s.part(colon + 4, colon + 6);
  return colon + 6;
}

// 零五 for 05. "00" gives nothing.
std::u32string clock_number(View two) {
  return two.front() == U'0' ? U'零' + cardinal(two.substr(1)) : cardinal(two);
}

void say_clock(const Clock& clock, bool half, std::u32string& out) {
  out += cardinal(clock.hour) + U'点';
  if (clock.minute != U"00") {
    if (half) {
      out += U'半';
    } else {
      out += clock_number(clock.minute) + U'分';
    }
  }
  if (!clock.second.empty() && clock.second != U"00") out += clock_number(clock.second) + U'秒';
}

std::size_t clock_range(const Source& s, std::size_t i, std::u32string& out, bool reference) {
  Clock first;
  Clock second;
  const std::size_t middle = clock_at(s, i, first);
  if (middle == i || (s.at(middle) != U'-' && s.at(middle) != U'~')) return 0;
  const std::size_t end = clock_at(s, middle + 1, second);
  if (end == middle + 1) return 0;
  say_clock(first, first.minute == U"30", out);
  out += U'至';
  // The reference asks the first minute whether the second is a half hour.
  say_clock(second, (reference ? first : second).minute == U"30", out);
  return end - i;
}

std::size_t clock_alone(const Source& s, std::size_t i, std::u32string& out) {
  Clock clock;
  const std::size_t end = clock_at(s, i, clock);
  if (end == i) return 0;
  say_clock(clock, clock.minute == U"30", out);
  return end - i;
}

// ---- units ----------------------------------------------------------------------------------------------------------

struct Unit {
  View sign, name;
};
// In the reference's order: the first that matches wins.
constexpr std::array<Unit, 17> kReferenceUnits = {{{U"cm2", U"平方厘米"},
                                                   {U"cm²", U"平方厘米"},
                                                   {U"cm3", U"立方厘米"},
                                                   {U"cm³", U"立方厘米"},
                                                   {U"cm", U"厘米"},
                                                   {U"db", U"分贝"},
                                                   {U"ds", U"毫秒"},
                                                   {U"kg", U"千克"},
                                                   {U"km", U"千米"},
                                                   {U"m2", U"平方米"},
                                                   {U"m²", U"平方米"},
                                                   {U"m³", U"立方米"},
                                                   {U"m3", U"立方米"},
                                                   {U"ml", U"毫升"},
                                                   {U"m", U"米"},
                                                   {U"mm", U"毫米"},
                                                   {U"s", U"秒"}}};
// Ours, longest first.
constexpr std::array<Unit, 36> kUnits = {{{U"km/h", U"千米每小时"},
                                          {U"kWh", U"千瓦时"},
                                          {U"m/s", U"米每秒"},
                                          {U"km2", U"平方千米"},
                                          {U"km²", U"平方千米"},
                                          {U"cm2", U"平方厘米"},
                                          {U"cm²", U"平方厘米"},
                                          {U"cm3", U"立方厘米"},
                                          {U"cm³", U"立方厘米"},
                                          {U"mm2", U"平方毫米"},
                                          {U"mm²", U"平方毫米"},
                                          {U"kHz", U"千赫兹"},
                                          {U"MHz", U"兆赫兹"},
                                          {U"GHz", U"吉赫兹"},
                                          {U"min", U"分钟"},
                                          {U"m2", U"平方米"},
                                          {U"m²", U"平方米"},
                                          {U"m3", U"立方米"},
                                          {U"m³", U"立方米"},
                                          {U"cm", U"厘米"},
                                          {U"mm", U"毫米"},
                                          {U"km", U"千米"},
                                          {U"kg", U"千克"},
                                          {U"mg", U"毫克"},
                                          {U"ml", U"毫升"},
                                          {U"mL", U"毫升"},
                                          {U"ms", U"毫秒"},
                                          {U"dB", U"分贝"},
                                          {U"db", U"分贝"},
                                          {U"Hz", U"赫兹"},
                                          {U"kW", U"千瓦"},
                                          {U"g", U"克"},
                                          {U"m", U"米"},
                                          {U"s", U"秒"},
                                          {U"h", U"小时"},
                                          {U"L", U"升"}}};

// "5cm": the unit after a number that no letter or digit continues.
std::size_t unit_after_number(const Source& s, std::size_t i, std::u32string& out) {
  if (i == 0 || !(is_digit(s.at(i - 1)) || one_of(s.at(i - 1), U"十百千万亿半几两多"))) return 0;
  for (const Unit& unit : kUnits) {
    const std::size_t end = i + unit.sign.size();
    if (s.text.compare(i, unit.sign.size(), unit.sign) != 0 || is_latin(s.at(end)) || is_digit(s.at(end))) continue;
    out = unit.name;
    return unit.sign.size();
  }
  return 0;
}

// The sign of temperature at i, or of anything that a range may end in; 0: none.
std::size_t degree_at(const Source& s, std::size_t i) {
  for (const View sign : {View(U"°C"), View(U"℃"), View(U"度"), View(U"摄氏度")}) {
    if (s.text.compare(std::min(i, s.text.size()), sign.size(), sign) == 0) return sign.size();
  }
  return 0;
}

bool range_unit(const Source& s, std::size_t i, char32_t then) {
  const auto fits = [&](std::size_t n) { return n > 0 && (then == 0 || s.at(i + n) == then); };
  if (s.at(i) == U'%' && fits(1)) return true;
  if (fits(degree_at(s, i))) return true;
  return std::any_of(kReferenceUnits.begin(), kReferenceUnits.end(), [&](const Unit& unit) {
    return s.text.compare(std::min(i, s.text.size()), unit.sign.size(), unit.sign) == 0 && fits(unit.sign.size());
  });
}

// "5kg~8kg": the tilde of a range between two numbers with units.
std::size_t unit_range(const Source& s, std::size_t i, std::u32string& out) {
  std::size_t at = i + (s.at(i) == U'-' ? 1 : 0);
  std::size_t end = at < s.text.size() && is_digit(s.at(at)) ? s.decimal(at) : s.any_decimal(i);
  if (end == at || end == i) return 0;
  if (!range_unit(s, end, U'~')) {
    // "3.5" may also be read as "3" here, but then no unit follows.
    return 0;
  }
  const std::size_t tilde = s.text.find(U'~', end);
  at = tilde + 1;
  const std::size_t number_at = at + (s.at(at) == U'-' ? 1 : 0);
  end = s.at(number_at) == U'.' && number_at != at ? number_at : s.any_decimal(number_at);
  if (end == number_at) return 0;
  if (!range_unit(s, end, 0)) return 0;
  out = s.part(i, tilde);
  out += U'至';
  out += s.part(tilde + 1, end);
  return end - i;
}

std::size_t temperature(const Source& s, std::size_t i, std::u32string& out, bool reference) {
  const std::size_t from = i + (s.at(i) == U'-' ? 1 : 0);
  const std::size_t end = s.decimal(from);
  if (end == from) return 0;
  const std::size_t sign = degree_at(s, end);
  if (sign == 0) return 0;
  if (from != i) out = U"零下";
  out += number(s.part(from, end));
  out += sign == 3 && !reference ? View(U"摄氏度") : View(U"度");
  return end + sign - i;
}

// ---- sums -----------------------------------------------------------------------------------------------------------

std::size_t operand(const Source& s, std::size_t i) {
  std::size_t end = i;
  if (const std::size_t from = i + (s.at(i) == U'-' ? 1 : 0); s.decimal(from) != from) {
    end = s.decimal(from);
  } else if (s.at(i) == U'.' && s.digits(i + 1) > i + 1) {
    end = s.digits(i + 1);
  } else if (is_latin(s.at(i))) {
    end = i + 1;
  } else {
    return i;
  }
  while (end < s.text.size() && one_of(s.at(end), kSuperscripts)) ++end;
  return end;
}

View operation(char32_t c) {
  switch (c) {
    case U'+':
      return U"加";
    case U'-':
      return U"减";
    case U'×':
      return U"乘";
    case U'÷':
      return U"除";
    case U'=':
      return U"等于";
    default:
      return {};
  }
}

std::size_t sum(const Source& s, std::size_t i, std::u32string& out) {
  const std::size_t middle = operand(s, i);
  if (middle == i || operation(s.at(middle)).empty()) return 0;
  const std::size_t end = operand(s, middle + 1);
  if (end == middle + 1) return 0;
  out = s.part(i, middle);
  out += operation(s.at(middle));
  out += s.part(middle + 1, end);
  return end - i;
}

std::size_t power(const Source& s, std::size_t i, std::u32string& out) {
  std::size_t end = i;
  while (end < s.text.size() && one_of(s.at(end), kSuperscripts)) ++end;
  if (end == i) return 0;
  out = U"的";
  for (; i < end; ++i) out += kSuperscriptsPlain[kSuperscripts.find(s.at(i))];
  out += U"次方";
  return out.size() - 3;
}

std::size_t fraction(const Source& s, std::size_t i, std::u32string& out) {
  const std::size_t from = i + (s.at(i) == U'-' ? 1 : 0);
  const std::size_t slash = s.digits(from);
  if (slash == from || s.at(slash) != U'/') return 0;
  const std::size_t end = s.digits(slash + 1);
  if (end == slash + 1) return 0;
  if (from != i) out = U"负";
  out += cardinal(s.part(slash + 1, end)) + U"分之" + cardinal(s.part(from, slash));
  return end - i;
}

std::size_t percentage(const Source& s, std::size_t i, std::u32string& out) {
  const std::size_t from = i + (s.at(i) == U'-' ? 1 : 0);
  const std::size_t end = s.decimal(from);
  if (end == from || s.at(end) != U'%') return 0;
  if (from != i) out = U"负";
  out += U"百分之" + number(s.part(from, end));
  return end + 1 - i;
}

// ---- telephone numbers ----------------------------------------------------------------------------------------------

std::size_t mobile(const Source& s, std::size_t i, std::u32string& out) {
  if (i > 0 && is_digit(s.at(i - 1))) return 0;
  const auto number_at = [&](std::size_t at) {
    if (s.at(at) != U'1' || s.digits(at) != at + 11) return false;
    const char32_t b = s.at(at + 1);
    const char32_t c = s.at(at + 2);
    return b == U'3' || b == U'8' || (b == U'5' && c != U'4') || (b == U'7' && c >= U'6' && c <= U'8') ||
           (b == U'9' && c >= U'8');
  };
  const std::size_t plus = i + (s.at(i) == U'+' ? 1 : 0);
  // With the country's number in front, all in one.
  if (s.at(plus) == U'8' && s.at(plus + 1) == U'6' && s.digits(plus) == plus + 13) {
    const char32_t b = s.at(plus + 3);
    const char32_t c = s.at(plus + 4);
    if (s.at(plus + 2) == U'1' && (b == U'3' || b == U'8' || (b == U'5' && c != U'4') ||
                                   (b == U'7' && c >= U'6' && c <= U'8') || (b == U'9' && c >= U'8'))) {
      out = one_by_one(s.part(plus, plus + 13), true);
      return plus + 13 - i;
    }
  }
  if (plus != i || !number_at(i)) return 0;
  out = one_by_one(s.part(i, i + 11), true);
  return 11;
}

// 010-12345678, 12345678.
std::size_t telephone(const Source& s, std::size_t i, std::u32string& out) {
  if (i > 0 && is_digit(s.at(i - 1))) return 0;
  const auto local = [&](std::size_t at) -> std::size_t {
    if (s.at(at) < U'1' || s.at(at) > U'9') return at;
    const std::size_t n = s.digits(at) - at;
    return n == 7 || n == 8 ? at + n : at;
  };
  if (s.at(i) == U'0' && is_digit(s.at(i + 1)) && is_digit(s.at(i + 2))) {
    const char32_t a = s.at(i + 1);
    const char32_t b = s.at(i + 2);
    std::size_t area = i;
    if ((a == U'1' && b == U'0') || (a == U'2' && b >= U'1' && b <= U'3')) {
      area = i + 3;
    } else if (a >= U'3' && is_digit(s.at(i + 3))) {
      area = i + 4;
    }
    if (area == i) return 0;
    const std::size_t from = area + (s.at(area) == U'-' ? 1 : 0);
    const std::size_t end = local(from);
    if (end == from) return 0;
    out = one_by_one(s.part(i, area), true);
    if (from != area) out += U'，';
    out += one_by_one(s.part(from, end), true);
    return end - i;
  }
  const std::size_t end = local(i);
  if (end == i) return 0;
  out = one_by_one(s.part(i, end), true);
  return end - i;
}

// 400-123-4567.
std::size_t service_number(const Source& s, std::size_t i, std::u32string& out) {
  if (s.text.compare(i, 3, U"400") != 0) return 0;
  const std::size_t first = i + 3 + (s.at(i + 3) == U'-' ? 1 : 0);
  if (s.digits(first) < first + 3) return 0;
  const std::size_t second = first + 3 + (s.at(first + 3) == U'-' ? 1 : 0);
  if (s.digits(second) < second + 4) return 0;
  out = one_by_one(s.part(i, i + 3), true);
  if (first != i + 3) out += U'，';
  out += one_by_one(s.part(first, first + 3), true);
  if (second != first + 3) out += U'，';
  out += one_by_one(s.part(second, second + 4), true);
  return second + 4 - i;
}

// ---- numbers --------------------------------------------------------------------------------------------------------

// "10-20" apart from sums. `signs`: what may not stand beside it.
std::size_t range(const Source& s, std::size_t i, std::u32string& out) {
  constexpr View kSums = U"+-×÷=";
  if (i > 0 && (is_digit(s.at(i - 1)) || one_of(s.at(i - 1), kSums))) return 0;
  const std::size_t from = i + (s.at(i) == U'-' ? 1 : 0);
  const std::size_t middle = s.decimal(from);
  if (middle == from || (s.at(middle) != U'-' && s.at(middle) != U'~')) return 0;
  const std::size_t second = middle + 1 + (s.at(middle + 1) == U'-' ? 1 : 0);
  std::size_t end = s.decimal(second);
  if (end == second) return 0;
  const auto free = [&](std::size_t at) {
    return at >= s.text.size() || !(is_digit(s.at(at)) || one_of(s.at(at), kSums));
  };
  if (!free(end)) {
    end = s.digits(second);  // without the decimals the point follows, which is free
    if (!free(end)) return 0;
  }
  if (from != i) out = U"负";
  out += number(s.part(from, middle)) + U'到';
  if (second != middle + 1) out += U'负';
  out += number(s.part(second, end));
  return end - i;
}

// "5%-10%", "5%~10%".
std::size_t percent_range(const Source& s, std::size_t i, std::u32string& out) {
  const std::size_t first = s.decimal(i);
  if (first == i || s.at(first) != U'%' || (s.at(first + 1) != U'-' && s.at(first + 1) != U'~')) return 0;
  const std::size_t second = s.decimal(first + 2);
  if (second == first + 2 || s.at(second) != U'%') return 0;
  out = U"百分之" + number(s.part(i, first)) + U"到百分之" + number(s.part(first + 2, second));
  return second + 1 - i;
}

std::size_t negative(const Source& s, std::size_t i, std::u32string& out, bool reference) {
  if (s.at(i) != U'-') return 0;
  const std::size_t end = reference ? s.digits(i + 1) : s.decimal(i + 1);
  if (end == i + 1) return 0;
  out = U'负' + number(s.part(i + 1, end));
  return end - i;
}

// "1.2.3": read one by one.
std::size_t version(const Source& s, std::size_t i, std::u32string& out) {
  std::size_t end = s.digits(i);
  if (end == i) return 0;
  std::size_t points = 0;
  while (s.at(end) == U'.' && s.digits(end + 1) > end + 1) {
    end = s.digits(end + 1);
    ++points;
  }
  if (points < 2) return 0;
  for (const char32_t c : s.part(i, end)) out += c == U'.' ? std::u32string(U"点") : one_by_one(View(&c, 1), false);
  return end - i;
}

std::size_t with_decimals(const Source& s, std::size_t i, std::u32string& out) {
  const std::size_t from = i + (s.at(i) == U'-' ? 1 : 0);
  if (const std::size_t end = s.decimal(from); end != from && end != s.digits(from)) {
    if (from != i) out = U"负";
    out += number(s.part(from, end));
    return end - i;
  }
  if (s.at(i) == U'.' && s.digits(i + 1) > i + 1) {
    out = number(s.part(i, s.digits(i + 1)));
    return s.digits(i + 1) - i;
  }
  return 0;
}

// Measure words after a number. Those of several characters whose first is not itself one.
constexpr View kMeasure =
    U"处台架枚趟幅平方堵间床株批项例列篇栋注亩封艘把目套段人所朵匹张座回场尾条个首阙阵网炮顶丘棵只支袭辆挑担颗壳窠曲墙"
    U"群"
    U"腔砣客贯扎捆刀令打手罗坡山岭江溪钟队单双对出口头脚板跳枝件贴针线管名位身堂课本页家户层丝毫厘分钱两斤铢石钧锱忽"
    U"寸尺丈里寻常铺程米撮勺合升斗盘碗碟叠桶笼盆盒杯斛锅簋篮罐瓶壶卮盏箩箱煲啖袋钵年月日季刻时周天秒旬纪岁世更夜春夏"
    U"秋冬代伏辈丸泡粒幢堆根道面片块元亿万千百角毛吨";
constexpr std::array<View, 6> kLongMeasure = {U"小时", U"公分", U"微克", U"微米", U"美元", U"十吨"};

// Ours, besides those: times, kinds, steps, floors, points, and the first characters of 公里, 公斤, 英尺, 欧元, 港币.
constexpr View kMoreMeasures = U"次种倍步楼点局组排届班集章节级声卷项顿票字招席户轮滴碗股场公英欧港";
// Before these 2 is 二: the second month is no two months.
constexpr View kOrdinalMeasures = U"月日号世代层楼线级班季";

bool measure_at(const Source& s, std::size_t i, bool reference) {
  if (i < s.text.size() && (one_of(s.at(i), kMeasure) || (!reference && one_of(s.at(i), kMoreMeasures)))) return true;
  return std::any_of(kLongMeasure.begin(), kLongMeasure.end(),
                     [&](View name) { return s.text.compare(std::min(i, s.text.size()), name.size(), name) == 0; });
}

std::size_t counted(const Source& s, std::size_t i, std::u32string& out, bool reference) {
  std::size_t end = s.digits(i);
  if (end == i) return 0;
  const std::size_t number_end = end;
  const bool more = one_of(s.at(end), U"多余几+") && end < s.text.size();
  if (more && measure_at(s, end + 1, reference)) {
    ++end;
  } else if (!measure_at(s, end, reference)) {
    return 0;
  }
  out = cardinal(s.part(i, number_end));
  const bool ordinal = !reference && ((i > 0 && s.at(i - 1) == U'第') || one_of(s.at(end), kOrdinalMeasures) ||
                                      (s.at(end) == U'次' && s.at(end + 1) == U'方'));
  if (out == U"二" && !ordinal) out.assign(1, U'两');
  if (end != number_end) out += s.at(number_end) == U'+' ? U'多' : s.at(number_end);
  return end - i;
}

std::size_t long_number(const Source& s, std::size_t i, std::u32string& out) {
  const std::size_t end = s.digits(i);
  if (end < i + 3) return 0;
  out = one_by_one(s.part(i, end), true);
  return end - i;
}

std::size_t any_number(const Source& s, std::size_t i, std::u32string& out) {
  if (const std::size_t length = with_decimals(s, i, out); length != 0) return length;
  const std::size_t from = i + (s.at(i) == U'-' ? 1 : 0);
  const std::size_t end = s.digits(from);
  if (end == from) return 0;
  if (from != i) out = U"负";
  out += cardinal(s.part(from, end));
  return end - i;
}

// "$5.50", "￥3万", "€20": the unit goes behind.
std::size_t money(const Source& s, std::size_t i, std::u32string& out) {
  View unit;
  switch (s.at(i)) {
    case U'$':
    case U'＄':
      unit = U"美元";
      break;
    case U'￥':
    case U'¥':
      unit = U"元";
      break;
    case U'€':
      unit = U"欧元";
      break;
    case U'£':
    case U'￡':
      unit = U"英镑";
      break;
    default:
      return 0;
  }
  const std::size_t end = s.decimal(i + 1);
  if (end == i + 1) return 0;
  out = number(s.part(i + 1, end));
  const bool large = s.at(end) == U'万' || s.at(end) == U'亿';
  if (large) out += s.at(end);
  out += unit;
  std::size_t after = end + (large ? 1 : 0);
  if (s.at(after) == U'元') ++after;
  return after - i;
}

// "1,234,567" without its commas; `number_of` it is said at once unless a unit or a point follows.
std::size_t grouped(const Source& s, std::size_t i, std::u32string& out) {
  if (i > 0 && (is_digit(s.at(i - 1)) || s.at(i - 1) == U'.' || s.at(i - 1) == U',')) return 0;
  std::size_t end = s.digits(i);
  if (end == i || end > i + 3 || s.at(end) != U',') return 0;
  std::u32string digits(s.part(i, end));
  while (s.at(end) == U',' && s.digits(end + 1) == end + 4) {
    digits += s.part(end + 1, end + 4);
    end += 4;
  }
  if (digits.size() == end - i) return 0;
  const bool bare = !(s.at(end) == U'.' && is_digit(s.at(end + 1))) && s.at(end) != U'%' && s.at(end) != U'/';
  out = bare && !(i > 0 && one_of(s.at(i - 1), U"$￥¥€£")) ? cardinal(digits) : digits;
  return end - i;
}

// ---- letters and marks ----------------------------------------------------------------------------------------------

View greek(char32_t c) {
  switch (c) {
    case U'α':
      return U"阿尔法";
    case U'β':
      return U"贝塔";
    case U'γ':
    case U'Γ':
      return U"伽玛";
    case U'δ':
    case U'Δ':
      return U"德尔塔";
    case U'ε':
      return U"艾普西龙";
    case U'ζ':
      return U"捷塔";
    case U'η':
      return U"依塔";
    case U'θ':
    case U'Θ':
      return U"西塔";
    case U'ι':
      return U"艾欧塔";
    case U'κ':
      return U"喀帕";
    case U'λ':
    case U'Λ':
      return U"拉姆达";
    case U'μ':
      return U"缪";
    case U'ν':
      return U"拗";
    case U'ξ':
    case U'Ξ':
      return U"克西";
    case U'ο':
      return U"欧米克伦";
    case U'π':
    case U'Π':
      return U"派";
    case U'ρ':
      return U"肉";
    case U'ς':
    case U'Σ':
    case U'σ':
      return U"西格玛";
    case U'τ':
      return U"套";
    case U'υ':
      return U"宇普西龙";
    case U'φ':
    case U'Φ':
      return U"服艾";
    case U'χ':
      return U"器";
    case U'ψ':
    case U'Ψ':
      return U"普赛";
    case U'ω':
    case U'Ω':
      return U"欧米伽";
    default:
      return {};
  }
}

std::size_t sign(const Source& s, std::size_t i, std::u32string& out) {
  const char32_t c = s.at(i);
  if (c >= U'①' && c <= U'⑩') {
    out = cardinal(c == U'⑩' ? std::u32string(U"10") : std::u32string(1, U'1' + (c - U'①')));
    return 1;
  }
  switch (c) {
    case U'/':
      out = U"每";
      return 1;
    case U'+':
      out = U"加";
      return 1;
    case U'-':
      out = U"减";
      return 1;
    case U'×':
      out = U"乘";
      return 1;
    case U'÷':
      out = U"除";
      return 1;
    case U'=':
      out = U"等";
      return 1;
    default:
      break;
  }
  if (const View name = greek(c); !name.empty()) {
    out = name;
    return 1;
  }
  return one_of(c, kRemovedLast) ? 1 : 0;
}

// The mark that a character is spoken as; 0: it is no mark.
char32_t mark_of(char32_t c) {
  switch (c) {
    case U'：':
    case U'；':
    case U'，':
    case U'·':
    case U'、':
    case U'/':
    case U',':
      return U',';
    case U'。':
    case U'$':
    case U'.':
      return U'.';
    case U'！':
    case U'!':
      return U'!';
    case U'？':
    case U'?':
      return U'?';
    case U'~':
    case U'～':
    case U'…':
      return U'…';
    case U'-':
      return U'-';
    default:
      return 0;
  }
}

// Marks and Han characters are left.
std::size_t only_spoken(const ZhData& data, const Source& s, std::size_t i, std::u32string& out) {
  if (s.text.compare(i, 3, U"...") == 0) {
    out = U"…";
    return 3;
  }
  char32_t c = s.at(i);
  if (const char32_t mark = mark_of(c); mark != 0) {
    out = mark;
    return 1;
  }
  if (c == U'嗯') c = U'恩';
  if (c == U'呣') c = U'母';
  if (ZhData::is_han(c) && data.reading(c).spoken()) out = c;
  return 1;
}

// Of marks in a row the first stays.
std::size_t one_mark(const Source& s, std::size_t i, std::u32string& out) {
  if (!one_of(s.at(i), kMarks)) return 0;
  std::size_t end = i + 1;
  while (end < s.text.size() && one_of(s.at(end), kMarks)) ++end;
  out = s.at(i);
  return end - i;
}

// ASCII for full-width letters and digits and for the digits of other scripts.
char32_t half_width(char32_t c) {
  if ((c >= U'Ａ' && c <= U'Ｚ') || (c >= U'ａ' && c <= U'ｚ') || (c >= U'０' && c <= U'９')) return c - 65248U;
  if (c > 0x7F && !ZhData::is_han(c)) {
    const int digit = u_charDigitValue(static_cast<UChar32>(c));
    if (digit >= 0) return U'0' + static_cast<char32_t>(digit);
  }
  return c;
}

}  // namespace

bool is_chinese_unit(View letters) {
  return std::any_of(kUnits.begin(), kUnits.end(), [&](const Unit& unit) {
    return unit.sign == letters || (unit.sign.size() > letters.size() && unit.sign.starts_with(letters) &&
                                    !is_latin(unit.sign[letters.size()]));
  });
}

ZhText normalize_chinese(const ZhData& data, std::u32string_view text, bool reference) {
  ZhText raw;
  raw.text.reserve(text.size());
  const auto put = [&raw](char32_t c, std::size_t from, std::size_t to) {
    raw.text += c;
    raw.start.push_back(static_cast<std::uint32_t>(from));
    raw.end.push_back(static_cast<std::uint32_t>(to));
  };
  for (std::size_t i = 0; i < text.size();) {
    View phrase;
    const std::size_t length = reference ? 0 : data.simplified_phrase(text.substr(i), phrase);
    if (length != 0) {
      for (std::size_t k = 0; k < length; ++k) put(phrase[k], i + k, i + k + 1);
      i += length;
      continue;
    }
    const char32_t c = text[i];
    if (!one_of(c, kRemovedFirst)) {
      put(c == U'\n' && !reference ? U'。' : half_width(data.simplified(c, reference)), i, i + 1);
    }
    ++i;
  }

  Rewriter rewriter(std::move(raw));
  const bool digits = std::any_of(rewriter.text().begin(), rewriter.text().end(), is_digit);
  if (digits) {
    if (!reference) {
      rewriter.apply(grouped);
      rewriter.apply(money);
    }
    rewriter.apply(year_month_day);
    rewriter.apply(written_date);
    if (!reference) rewriter.apply(short_date);
    rewriter.apply(
        [&](const Source& s, std::size_t i, std::u32string& out) { return clock_range(s, i, out, reference); });
    rewriter.apply(clock_alone);
    rewriter.apply(unit_range);
    rewriter.apply(
        [&](const Source& s, std::size_t i, std::u32string& out) { return temperature(s, i, out, reference); });
  }
  if (reference) {
    for (const Unit& unit : kReferenceUnits) {
      if (rewriter.text().find(unit.sign) == View::npos) continue;
      rewriter.apply([&](const Source& s, std::size_t i, std::u32string& out) -> std::size_t {
        if (s.text.compare(i, unit.sign.size(), unit.sign) != 0) return 0;
        out = unit.name;
        return unit.sign.size();
      });
    }
  } else if (digits) {
    rewriter.apply(unit_after_number);
    rewriter.apply(mobile);
    rewriter.apply(telephone);
    rewriter.apply(service_number);
    rewriter.apply(percent_range);
    rewriter.apply(range);
  }
  for (int round = 0; round < 64 && rewriter.apply(sum); ++round) {
  }
  rewriter.apply(power);
  if (std::any_of(rewriter.text().begin(), rewriter.text().end(), is_digit)) {
    rewriter.apply(fraction);
    rewriter.apply(percentage);
    if (reference) {
      rewriter.apply(mobile);
      rewriter.apply(telephone);
      rewriter.apply(service_number);
      rewriter.apply(range);
    }
    rewriter.apply([&](const Source& s, std::size_t i, std::u32string& out) { return negative(s, i, out, reference); });
    rewriter.apply(version);
    rewriter.apply(with_decimals);
    rewriter.apply([&](const Source& s, std::size_t i, std::u32string& out) { return counted(s, i, out, reference); });
    rewriter.apply(long_number);
    rewriter.apply(any_number);
  }
  rewriter.apply(sign);
  rewriter.apply([&](const Source& s, std::size_t i, std::u32string& out) { return only_spoken(data, s, i, out); });
  rewriter.apply(one_mark);
  return rewriter.take();
}

}  // namespace tts
