#include <string>

#include "src/text/phonemes.h"
#include "tests/text/data_dir.h"

namespace {

// Phonemes of the first word of `text` that is `word`.
std::string said(const std::string& text, const std::string& word) {
  const auto& english = tts::test::english();
  const auto tokens = tts::normalize_english(tts::fold(text), english.lexicon());
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i].text == word) return tts::test::symbols(english.phonemes(tokens, i));
  }
  return "(" + word + " is not there)";
}

struct Case {
  const char *text, *word, *wanted;
};

constexpr Case kCases[] = {
    {"I like to read.", "read", "R IY1 D"},
    {"I have read it.", "read", "R EH1 D"},
    {"She read it yesterday.", "read", "R EH1 D"},
    {"Please read this.", "read", "R IY1 D"},
    {"They live here.", "live", "L IH1 V"},
    {"It is a live show.", "live", "L AY1 V"},
    {"We went live.", "live", "L AY1 V"},
    {"She lives in Rome.", "lives", "L IH1 V Z"},
    {"It saved their lives.", "lives", "L AY1 V Z"},
    {"They lead the way.", "lead", "L IY1 D"},
    {"A lead pipe broke.", "lead", "L EH1 D"},
    {"The wind is cold.", "wind", "W IH1 N D"},
    {"You must wind the clock.", "wind", "W AY1 N D"},
    {"A tear fell.", "tear", "T IH1 R"},
    {"Do not tear it.", "tear", "T EH1 R"},
    {"Take a bow.", "bow", "B AW1"},
    {"A bow and arrow.", "bow", "B OW1"},
    {"You can use it.", "use", "Y UW1 Z"},
    {"What is the use of it?", "use", "Y UW1 S"},
    {"Please close the door.", "close", "K L OW1 Z"},
    {"We are close to home.", "close", "K L OW1 S"},
    {"A close friend.", "close", "K L OW1 S"},
    {"We record music.", "record", "R AH0 K AO1 R D"},
    {"She broke the record.", "record", "R EH1 K ER0 D"},
    {"I will present the plan.", "present", "P R IY0 Z EH1 N T"},
    {"A birthday present.", "present", "P R EH1 Z AH0 N T"},
    {"I object to that.", "object", "AH0 B JH EH1 K T"},
    {"A strange object.", "object", "AA1 B JH EH0 K T"},
    {"They produce food.", "produce", "P R AH0 D UW1 S"},
    {"Fresh produce is good.", "produce", "P R OW1 D UW0 S"},
    {"Sign the contract.", "contract", "K AA1 N T R AE2 K T"},
    {"Muscles can contract.", "contract", "K AH0 N T R AE1 K T"},
    {"They refuse to go.", "refuse", "R AH0 F Y UW1 Z"},
    {"The desert is dry.", "desert", "D EH1 Z ER0 T"},
    {"They will desert us.", "desert", "D IH0 Z ER1 T"},
    {"The content of it.", "content", "K AA1 N T EH0 N T"},
    {"She is content.", "content", "K AH0 N T EH1 N T"},
    {"Wait a minute.", "minute", "M IH1 N AH0 T"},
    {"A minute.", "minute", "M IH1 N AH0 T"},
    {"They wound up here.", "wound", "W AW1 N D"},
    {"The wound healed.", "wound", "W UW1 N D"},
    {"He plays bass.", "bass", "B EY1 S"},
    {"A sea bass.", "bass", "B AE1 S"},
    {"The Polish team.", "Polish", "P OW1 L IH0 SH"},
    {"Some shoe polish.", "polish", "P AA1 L IH0 SH"},
    {"Send your resume.", "resume", "R EH1 Z AH0 M EY2"},
    {"Let us resume.", "resume", "R IH0 Z UW1 M"},
    {"Separate the eggs.", "Separate", "S EH1 P ER0 EY2 T"},
    {"A separate room.", "separate", "S EH1 P ER0 IH0 T"},
    {"I used to go.", "used", "Y UW1 S T"},
    {"He used it.", "used", "Y UW1 Z D"},
    {"A dog and the cat.", "A", "AH0"},
    {"Take plan A.", "A", "EY1"},
    {"a", "a", "EY1"},
    {"He is, as a, shall we say, rule.", "a", "AH0"},
    {"Mr. Robert A Frazier", "A", "EY1"},
    {"Life and A Sweet Death", "A", "AH0"},
    {"A is for apple.", "A", "EY1"},
    {"the end", "the", "DH AH0"},
};

}  // namespace

TEST_SUITE("text/homographs") {
  TEST_CASE("the words around choose the pronunciation") {
    for (const Case& one : kCases) {
      CAPTURE(one.text);
      CHECK(said(one.text, one.word) == one.wanted);
    }
  }
}
