#pragma once

#include <string>
#include <string_view>

#include "src/core/utf8.h"

namespace tts {

/// The code points of any bytes; ill-formed ones give U+FFFD, one per maximal subpart.
[[nodiscard]] inline std::u32string to_code_points(std::string_view bytes) {
  const std::string repaired = utf8::is_valid(bytes) ? std::string() : utf8::to_valid(bytes);
  const std::string_view valid = utf8::is_valid(bytes) ? bytes : std::string_view(repaired);
  std::u32string out;
  out.reserve(valid.size());
  for (std::size_t i = 0; i < valid.size();) {
    const auto lead = static_cast<unsigned char>(valid[i]);
    const std::size_t n = lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    char32_t c = n == 1 ? lead : lead & (0x7FU >> n);
    for (std::size_t k = 1; k < n; ++k) c = c << 6U | (static_cast<unsigned char>(valid[i + k]) & 0x3FU);
    out += c;
    i += n;
  }
  return out;
}

[[nodiscard]] inline std::string to_utf8(std::u32string_view text) {
  std::string out;
  out.reserve(text.size() * 3);
  for (const char32_t c : text) utf8::append(out, c);
  return out;
}

}  // namespace tts
