#include "src/text/fold.h"

#include <string>

#include "src/core/utf8.h"
#include "tests/doctest.h"

using tts::fold;
using tts::Folded;

TEST_SUITE("text/fold") {
  TEST_CASE("Latin letters lose their accents and keep their place") {
    const Folded folded = fold("né Ærø");
    CHECK(folded.text == "ne AEro");
    CHECK(folded.start == std::vector<std::uint32_t>{0, 1, 2, 3, 3, 4, 5});
    CHECK(folded.end == std::vector<std::uint32_t>{1, 2, 3, 4, 4, 5, 6});
    CHECK(folded.slice(3, 6) == "Ærø");
  }

  TEST_CASE("a combining accent belongs to its letter") {
    const Folded folded = fold("e\u0301a");
    CHECK(folded.text == "ea");
    CHECK(folded.end == std::vector<std::uint32_t>{2, 3});
    CHECK(folded.slice(0, 2) == "e\u0301");
  }

  TEST_CASE("compatibility forms, digits of other scripts, quotes and fractions") {
    CHECK(fold("ﬁ Ｈ１ 𝐁 ٣").text == "fi H1 B 3");
    CHECK(fold("“it’s”").text == "\"it's\"");
    CHECK(fold("2½").text == "2 1/2");
    CHECK(fold("½").text == "1/2");
    CHECK(fold("℃").text == std::string{tts::sign::kDegree, 'C'});
  }

  TEST_CASE("other scripts, emoji and controls become spaces") {
    CHECK(fold("你好").text == "  ");
    CHECK(fold("😀").text == " ");
    CHECK(fold(std::string("a\0b\tc", 5)).text == "a b c");
  }

  TEST_CASE("ill-formed UTF-8 counts one code point per maximal subpart") {
    const Folded folded = fold("a\xE2\x82z\xFF");
    CHECK(folded.text == "a z ");
    CHECK(folded.byte_at.size() == 5);
    CHECK(tts::utf8::is_valid(folded.input));
  }
}
