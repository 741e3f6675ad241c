#include "src/text/zh_numbers.h"

#include <array>
#include <cstddef>
#include <utility>

namespace tts::chinese {
namespace {

constexpr std::u32string_view kDigits = U"零一二三四五六七八九";
// Powers of ten with a name, the largest first.
constexpr std::array<std::pair<std::size_t, char32_t>, 5> kUnits = {
    {{8, U'亿'}, {4, U'万'}, {3, U'千'}, {2, U'百'}, {1, U'十'}}};
constexpr std::size_t kMostDigits = 48;

char32_t digit(char32_t c) {
  return kDigits[c - U'0'];
}

std::u32string_view without_zeros(std::u32string_view digits) {
  while (!digits.empty() && digits.front() == U'0') digits.remove_prefix(1);
  return digits;
}

void append(std::u32string_view digits, std::u32string& out) {
  const std::u32string_view value = without_zeros(digits);
  if (value.empty()) return;
  if (value.size() == 1) {
    if (value.size() < digits.size()) out += U'零';
    out += digit(value.front());
    return;
  }
  for (const auto& [power, name] : kUnits) {
    if (power >= value.size()) continue;
    append(digits.substr(0, digits.size() - power), out);
    out += name;
    append(digits.substr(digits.size() - power), out);
    return;
  }
}

}  // namespace

std::u32string cardinal(std::u32string_view digits) {
  if (digits.empty()) return {};
  const std::u32string_view value = without_zeros(digits);
  if (value.empty()) return U"零";
  if (value.size() > kMostDigits) return one_by_one(value, false);
  std::u32string out;
  append(value, out);
  if (out.starts_with(U"一十")) out.erase(0, 1);
  return out;
}

std::u32string one_by_one(std::u32string_view digits, bool telephone) {
  std::u32string out;
  for (const char32_t c : digits) out += telephone && c == U'1' ? U'幺' : digit(c);
  return out;
}

std::u32string number(std::u32string_view value) {
  const std::size_t point = value.find(U'.');
  std::u32string out = cardinal(value.substr(0, point));
  if (point == std::u32string_view::npos) return out;
  std::u32string_view decimals = value.substr(point + 1);
  const bool zero = decimals.ends_with(U'0');
  while (decimals.ends_with(U'0')) decimals.remove_suffix(1);
  if (decimals.empty() && !zero) return out;
  if (out.empty()) out += U'零';
  out += U'点';
  out += one_by_one(decimals, false);
  if (zero) out += U'零';
  return out;
}

}  // namespace tts::chinese
