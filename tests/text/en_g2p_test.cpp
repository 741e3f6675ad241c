#include "src/text/en_g2p.h"

#include <filesystem>
#include <string>

#include "src/text/phonemes.h"
#include "tests/text/data_dir.h"

namespace {

using tts::test::symbols;

std::string said(const std::string& word) {
  const tts::SpokenToken token{tts::SpokenToken::Kind::word, word, 0, word.size()};
  return symbols(tts::test::english().phonemes(std::span(&token, 1), 0));
}
std::string spelled(const std::string& letters) {
  const tts::SpokenToken token{tts::SpokenToken::Kind::letters, letters, 0, letters.size()};
  return symbols(tts::test::english().phonemes(std::span(&token, 1), 0));
}

}  // namespace

TEST_SUITE("text/en_g2p") {
  TEST_CASE("the network answers as its training script did, on 200 held-out words") {
    const auto golden = tts::test::rows("tests/text/data/g2p_golden.tsv");
    REQUIRE(golden.size() == 200);
    for (const auto& [word, wanted] : golden) {
      CAPTURE(word);
      CHECK(symbols(tts::test::english().network().phonemes(word)) == wanted);
    }
  }

  TEST_CASE("derivations of dictionary words follow the last sound") {
    CHECK(said("vocoder's") == said("vocoder") + " Z");
    CHECK(said("codec's") == said("codec") + " S");
    CHECK(said("nginx's") == said("nginx") + " AH0 Z");
    CHECK(said("spectrograms") == said("spectrogram") + " Z");
    CHECK(said("vlogged") == said("vlog") + " D");
    CHECK(said("tokenized") == said("tokenize") + " D");
    CHECK(said("tokenizing") == said("tokenize") + " IH0 NG");
    CHECK(said("vlogging") == said("vlog") + " IH0 NG");
    CHECK(said("unfollowable") != "");
    CHECK(said("ultraquiet") == "AH2 L T R AH0 " + said("quiet"));
  }

  TEST_CASE("compounds keep the first part's stress") {
    CHECK(said("keyboardwarrior").starts_with(said("keyboard")));
    CHECK(said("laptopscreen") == said("laptop") + " S K R IY2 N");
  }

  TEST_CASE("letters are read by name, with their plural") {
    CHECK(spelled("FBI") == "EH1 F B IY1 AY1");
    CHECK(spelled("A") == "EY1");
    CHECK(spelled("GPUs") == "JH IY1 P IY1 Y UW1 Z");
    CHECK(spelled("PCs") == "P IY1 S IY1 Z");
    CHECK(spelled("OSs") == "OW1 EH1 S AH0 Z");
  }

  TEST_CASE("anything made of letters is said, however odd") {
    for (const char* word :
         {"x", "zxcvb", "qwrtpsdf", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "o'o'o", "''a"}) {
      CAPTURE(word);
      CHECK(said(word) != "");
    }
    CHECK(said(std::string(100000, 'b') + "a") != "");
  }

  TEST_CASE("a missing data folder is an error that names the file") {
    const auto opened = tts::EnglishG2p::open("no/such/folder");
    REQUIRE_FALSE(opened.has_value());
    CHECK(opened.error().code == tts::Errc::bad_file);
    CHECK(opened.error().detail.find("cmudict.bin") != std::string::npos);
  }
}
