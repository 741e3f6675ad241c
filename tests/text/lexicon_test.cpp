#include "src/text/lexicon.h"

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include <unistd.h>

#include "src/text/phonemes.h"
#include "tests/text/data_dir.h"

using tts::Lexicon;

namespace {

std::string said(const Lexicon& lexicon, const char* word) {
  return tts::test::symbols(lexicon.find(word).value());
}

std::string bytes_of_data() {
  std::ifstream in(std::string(tts::test::kData) + "/cmudict.bin", std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

bool opens(const std::string& bytes) {
  const auto file = std::filesystem::temp_directory_path() / ("lexicon_test_" + std::to_string(::getpid()) + ".bin");
  std::ofstream(file, std::ios::binary) << bytes;
  const bool good = Lexicon::open(file).has_value();
  std::filesystem::remove(file);
  return good;
}

}  // namespace

TEST_SUITE("text/lexicon") {
  TEST_CASE("words are found with the first pronunciation, others are not") {
    const Lexicon& lexicon = tts::test::english().lexicon();
    CHECK(lexicon.size() > 120000);
    CHECK(said(lexicon, "the") == "DH AH0");
    CHECK(said(lexicon, "hello") == "HH AH0 L OW1");
    CHECK(said(lexicon, "don't") == "D OW1 N T");
    CHECK(said(lexicon, "zyuganov's") == "Z Y UW1 G AA0 N AA0 V Z");
    CHECK(said(lexicon, "json") == "JH EY1 S AH0 N");
    for (const char* word : {"", "Hello", "hell0", "zzzzzz", "'", "\xff"}) CHECK_FALSE(lexicon.contains(word));
  }

  TEST_CASE("a damaged file is refused, not believed") {
    const std::string good = bytes_of_data();
    REQUIRE(opens(good));
    CHECK_FALSE(Lexicon::open("no/such/file").has_value());
    for (const std::size_t size :
         {std::size_t{0}, std::size_t{7}, std::size_t{24}, std::size_t{300}, good.size() - 1}) {
      CAPTURE(size);
      CHECK_FALSE(opens(good.substr(0, size)));
    }
    CHECK_FALSE(opens(good + "x"));
    for (const std::size_t at :
         {std::size_t{0}, std::size_t{8}, std::size_t{12}, std::size_t{16}, std::size_t{24}, std::size_t{310}}) {
      CAPTURE(at);
      std::string bad = good;
      bad[at] = static_cast<char>(0xFF);
      CHECK_FALSE(opens(bad));
    }
  }
}
