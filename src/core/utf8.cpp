#include "src/core/utf8.h"

#include <cstdint>

namespace tts::utf8 {
namespace {

struct Sequence {
  std::size_t length = 0;  ///< bytes of the sequence, or of the maximal ill-formed subpart (>= 1)
  bool valid = false;
};

bool is_continuation(char c) noexcept {
  return (static_cast<std::uint8_t>(c) & 0xC0U) == 0x80U;
}

/// Reads the sequence at `at` (< text.size()), by Unicode table 3-7.
Sequence read_sequence(std::string_view text, std::size_t at) noexcept {
  const auto lead = static_cast<std::uint8_t>(text[at]);
  if (lead < 0x80U) return {1, true};
  std::size_t length = 0;
  std::uint8_t low = 0x80U;  // bounds of the second byte
  std::uint8_t high = 0xBFU;
  if (lead >= 0xC2U && lead <= 0xDFU) {
    length = 2;
  } else if (lead >= 0xE0U && lead <= 0xEFU) {
    length = 3;
    if (lead == 0xE0U) low = 0xA0U;   // overlong
    if (lead == 0xEDU) high = 0x9FU;  // surrogates
  } else if (lead >= 0xF0U && lead <= 0xF4U) {
    length = 4;
    if (lead == 0xF0U) low = 0x90U;   // overlong
    if (lead == 0xF4U) high = 0x8FU;  // above U+10FFFF
  } else {
    return {1, false};
  }
  for (std::size_t i = 1; i < length; ++i) {
    if (at + i >= text.size()) return {i, false};
    const auto byte = static_cast<std::uint8_t>(text[at + i]);
    if (byte < low || byte > high) return {i, false};
    low = 0x80U;
    high = 0xBFU;
  }
  return {length, true};
}

}  // namespace

std::size_t valid_prefix(std::string_view text) noexcept {
  std::size_t at = 0;
  while (at < text.size()) {
    const Sequence sequence = read_sequence(text, at);
    if (!sequence.valid) return at;
    at += sequence.length;
  }
  return at;
}

bool is_valid(std::string_view text) noexcept {
  return valid_prefix(text) == text.size();
}

std::size_t count_code_points(std::string_view text) noexcept {
  std::size_t count = 0;
  for (const char c : text) count += is_continuation(c) ? 0 : 1;
  return count;
}

std::size_t byte_offset(std::string_view text, std::size_t n_code_points) noexcept {
  std::size_t seen = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (is_continuation(text[i])) continue;
    if (seen == n_code_points) return i;
    ++seen;
  }
  return text.size();
}

std::size_t floor_boundary(std::string_view text, std::size_t max_bytes) noexcept {
  if (max_bytes >= text.size()) return text.size();
  std::size_t at = max_bytes;
  // At most three steps back: a well-formed code point has no more continuation bytes.
  for (int step = 0; step < 3 && at > 0 && is_continuation(text[at]); ++step) --at;
  return is_continuation(text[at]) ? max_bytes : at;
}

std::string to_valid(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  std::size_t at = 0;
  while (at < text.size()) {
    const Sequence sequence = read_sequence(text, at);
    if (sequence.valid) {
      out.append(text.substr(at, sequence.length));
    } else {
      out.append("\xEF\xBF\xBD");
    }
    at += sequence.length;
  }
  return out;
}

void append(std::string& out, char32_t c) {
  const auto tail = [&out, c](int shift) { out += static_cast<char>(0x80 | ((c >> shift) & 0x3F)); };
  if (c < 0x80) {
    out += static_cast<char>(c);
  } else if (c < 0x800) {
    out += static_cast<char>(0xC0 | (c >> 6));
    tail(0);
  } else if (c < 0x10000) {
    out += static_cast<char>(0xE0 | (c >> 12));
    tail(6);
    tail(0);
  } else {
    out += static_cast<char>(0xF0 | (c >> 18));
    tail(12);
    tail(6);
    tail(0);
  }
}

}  // namespace tts::utf8
