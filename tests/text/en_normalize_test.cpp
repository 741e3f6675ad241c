#include "src/text/en_normalize.h"

#include <string>

#include "tests/text/data_dir.h"

namespace {

std::vector<tts::SpokenToken> tokens(const std::string& text) {
  return tts::normalize_english(tts::fold(text), tts::test::english().lexicon());
}
std::string spoken(const std::string& text) {
  return tts::to_string(tokens(text));
}

// "five[0,2) dollars[0,2)"
std::string spans(const std::string& text) {
  std::string result;
  for (const tts::SpokenToken& token : tokens(text)) {
    if (token.kind == tts::SpokenToken::Kind::mark) continue;
    if (!result.empty()) result += ' ';
    result += token.text + "[" + std::to_string(token.in_start) + "," + std::to_string(token.in_end) + ")";
  }
  return result;
}

}  // namespace

TEST_SUITE("text/en_normalize") {
  TEST_CASE("the table of written and spoken forms") {
    const auto table = tts::test::rows("tests/text/data/normalize.tsv");
    CHECK(table.size() >= 400);
    for (const auto& [written, wanted] : table) {
      CAPTURE(written);
      CHECK(spoken(written) == wanted);
    }
  }

  TEST_CASE("every word of an expansion has the span of what was written") {
    CHECK(spans("$5") == "five[0,2) dollars[0,2)");
    CHECK(spans("a $5M b") == "a[0,1) five[2,5) million[2,5) dollars[2,5) B[6,7)");
    CHECK(spans("Dr. Lee") == "doctor[0,3) Lee[4,7)");
    CHECK(spans("née 3rd") == "nee[0,3) third[4,7)");
    CHECK(spans("😀 hi") == "hi[2,4)");
    CHECK(spans("3 km") == "three[0,4) kilometers[0,4)");
    CHECK(spans("10-20") == "ten[0,2) to[2,3) twenty[3,5)");
    CHECK(spans("#YesNo") == "hashtag[0,1) Yes[1,6) No[1,6)");
    CHECK(spans("3 May 2020") == "the[0,1) third[0,1) of[0,1) may[2,5) twenty[6,10) twenty[6,10)");
  }

  TEST_CASE("lines: wrapped text runs on, list items and blank lines end") {
    CHECK(spoken("one\ntwo") == "one two.");
    CHECK(spoken("one\n\ntwo") == "one. two.");
    CHECK(spoken("Buy:\n- milk\n- eggs\n* bread") == "Buy, milk. eggs. bread.");
    CHECK(spoken("a list\n1. milk\n2. eggs") == "a list. one. milk. two. eggs.");
    CHECK(spoken("# Title\ntext") == "Title text.");
  }

  TEST_CASE("nothing to say gives nothing") {
    for (const char* text :
         {"", " ", "\n\n", "...", "?!", "—", "😀👍🏽", "你好", "()", "\"\"", "\xff\xfe", "'", "*", "- "}) {
      CAPTURE(text);
      CHECK(tokens(text).empty());
    }
  }

  TEST_CASE("marks: one at a time, none first, a sentence mark last") {
    for (const char* text :
         {"Hi", "Hi,", ",Hi;", "Hi (there), you...", "(a) b", "Hi -- you", "x: y: ", "No.\", he said"}) {
      CAPTURE(text);
      const auto all = tokens(text);
      REQUIRE_FALSE(all.empty());
      bool after_mark = true;
      for (const auto& token : all) {
        const bool mark = token.kind == tts::SpokenToken::Kind::mark;
        CHECK_FALSE((mark && after_mark));
        after_mark = mark;
      }
      CHECK(all.back().kind == tts::SpokenToken::Kind::mark);
      CHECK(all.back().text != ",");
    }
  }
}
