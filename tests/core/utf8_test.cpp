#include "src/core/utf8.h"

#include <algorithm>
#include <cstdint>
#include <random>
#include <string>

#include "tests/doctest.h"

namespace utf8 = tts::utf8;

TEST_SUITE("core/utf8") {
  TEST_CASE("well-formed text of every length is valid and counted in code points") {
    CHECK(utf8::is_valid(""));
    CHECK(utf8::is_valid("plain"));
    const std::string text = "a\xC3\xA9\xE4\xBD\xA0\xF0\x9F\x98\x80";  // a, e acute, ni, grinning face
    CHECK(utf8::is_valid(text));
    CHECK(utf8::count_code_points(text) == 4);
    CHECK(utf8::byte_offset(text, 0) == 0);
    CHECK(utf8::byte_offset(text, 2) == 3);
    CHECK(utf8::byte_offset(text, 3) == 6);
    CHECK(utf8::byte_offset(text, 4) == text.size());
    CHECK(utf8::byte_offset(text, 99) == text.size());
    CHECK(utf8::is_valid("\xEF\xBF\xBF\xF4\x8F\xBF\xBF"));  // U+FFFF, U+10FFFF
  }

  TEST_CASE("ill-formed text is refused at the exact byte") {
    const std::pair<std::string, std::size_t> cases[] = {
        {"ab\x80", 2},                   // lone continuation
        {"ab\xC3", 2},                   // cut off
        {"\xC0\xAF", 0},                 // overlong
        {"\xE0\x80\x80", 0},             // overlong
        {"\xF0\x8F\xBF\xBF", 0},         // overlong
        {"x\xED\xA0\x80", 1},            // surrogate
        {"\xF4\x90\x80\x80", 0},         // above U+10FFFF
        {"\xFF", 0},                     // never a lead
        {"\xE4\xBD\xA0\xE4\xBD", 3},     // second one cut off
        {std::string("a\0\xFE", 3), 2},  // NUL itself is fine
    };
    for (const auto& [text, prefix] : cases) {
      CAPTURE(prefix);
      CHECK(!utf8::is_valid(text));
      CHECK(utf8::valid_prefix(text) == prefix);
    }
  }

  TEST_CASE("splitting at a floor boundary never cuts a character") {
    const std::string text = "a\xC3\xA9\xE4\xBD\xA0\xF0\x9F\x98\x80z";
    for (std::size_t n = 0; n <= text.size() + 2; ++n) {
      CAPTURE(n);
      const std::size_t at = utf8::floor_boundary(text, n);
      CHECK(at <= n);
      CHECK(std::min(n, text.size()) - at <= 3);
      CHECK(utf8::is_valid(text.substr(0, at)));
      CHECK(utf8::is_valid(text.substr(at)));
    }
    CHECK(utf8::floor_boundary(text, 2) == 1);
    CHECK(utf8::floor_boundary(text, 9) == 6);
    CHECK(utf8::floor_boundary(text, 10) == 10);
  }

  TEST_CASE("replacement gives valid text, keeps what was valid, one mark per maximal subpart") {
    CHECK(utf8::to_valid("good \xE4\xBD\xA0") == "good \xE4\xBD\xA0");
    CHECK(utf8::to_valid("a\xF0\x9F\x98z") == "a\xEF\xBF\xBDz");
    CHECK(utf8::to_valid("\xC0\xAF") == "\xEF\xBF\xBD\xEF\xBF\xBD");
    std::mt19937 random(20240501);
    for (int round = 0; round < 2000; ++round) {
      std::string bytes(random() % 24, '\0');
      for (char& c : bytes) c = static_cast<char>(random());
      const std::string valid = utf8::to_valid(bytes);
      CHECK(utf8::is_valid(valid));
      if (utf8::is_valid(bytes)) CHECK(valid == bytes);
      const std::size_t prefix = utf8::valid_prefix(bytes);
      CHECK(valid.compare(0, prefix, bytes, 0, prefix) == 0);
    }
  }

  TEST_CASE("every code point that is appended reads as one, at its shortest") {
    for (char32_t c = 0; c <= 0x10FFFF; c += (c < 0x3000 ? 1 : 37)) {
      if (c >= 0xD800 && c <= 0xDFFF) continue;
      std::string text;
      utf8::append(text, c);
      if (!utf8::is_valid(text) || utf8::count_code_points(text) != 1) FAIL_CHECK(static_cast<std::uint32_t>(c));
      if (text.size() != (c < 0x80 ? 1U : c < 0x800 ? 2U : c < 0x10000 ? 3U : 4U)) {
        FAIL_CHECK(static_cast<std::uint32_t>(c));
      }
    }
    std::string text = "a";
    utf8::append(text, U'\u4F60');
    CHECK(text == "a\xE4\xBD\xA0");
  }
}
