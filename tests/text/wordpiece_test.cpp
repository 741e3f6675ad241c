#include "src/text/wordpiece.h"

#include <fstream>
#include <iterator>
#include <sstream>

#include "src/core/utf8.h"
#include "tests/doctest.h"

namespace tts {
namespace {

std::string read(const char* path) {
  std::ifstream file(path, std::ios::binary);
  REQUIRE_MESSAGE(file.good(), path);
  return {std::istreambuf_iterator<char>(file), {}};
}

WordPiece of_lines(std::string_view lines, WordPieceOptions options = {}) {
  const Result<WordPiece> made = WordPiece::from_lines(lines, std::move(options));
  REQUIRE(made.has_value());
  return *made;
}

WordPiece small(WordPieceOptions options = {}) {
  return of_lines("[UNK]\n[CLS]\n[SEP]\n好\n,\nun\n##do\ndo\né\ne\nE\n", std::move(options));
}

std::vector<std::int32_t> ids_of(const WordPiece& tokenizer, std::string_view text) {
  std::vector<std::int32_t> ids;
  for (const WordPiece::Token& token : tokenizer.encode(text)) ids.push_back(token.id);
  return ids;
}

using Ids = std::vector<std::int32_t>;

TEST_SUITE("text/wordpiece") {
  TEST_CASE("tokens and their places are those of the published tokeniser") {
    const WordPiece tokenizer = of_lines(read("tests/text/data/wordpiece_vocab.txt"));
    std::istringstream lines(read("tests/text/data/wordpiece.txt"));
    int n = 0;
    for (std::string line; std::getline(lines, line);) {
      if (line.starts_with("# ")) continue;
      const std::size_t bar = line.find('|');
      REQUIRE(bar != std::string::npos);
      std::istringstream codes(line.substr(0, bar));
      codes >> std::hex;
      std::string text;
      for (unsigned code = 0; codes >> code;) utf8::append(text, static_cast<char32_t>(code));
      std::istringstream numbers(line.substr(bar + 1));
      std::vector<WordPiece::Token> want;
      for (WordPiece::Token token; numbers >> token.id >> token.begin >> token.end;) want.push_back(token);
      CAPTURE(line);
      CHECK(tokenizer.encode(text) == want);
      ++n;
    }
    CHECK(n > 100);
  }

  TEST_CASE("a word is its longest pieces, or unknown as a whole") {
    CHECK(ids_of(small(), "undo do") == Ids{5, 6, 7});
    CHECK(ids_of(small(), "dodo,") == Ids{7, 6, 4});
    CHECK(ids_of(small(), "undone") == Ids{0});
    WordPieceOptions options;
    options.max_word = 3;
    CHECK(ids_of(small(options), "undo do") == Ids{0, 7});
  }

  TEST_CASE("options: case, accents, ideographs") {
    CHECK(ids_of(small(), "É") == Ids{9});
    WordPieceOptions options;
    options.lowercase = false;
    CHECK(ids_of(small(options), "É") == Ids{10});
    options.lowercase = true;
    options.strip_accents = false;
    CHECK(ids_of(small(options), "É") == Ids{8});
    CHECK(ids_of(small(options), "好好") == Ids{3, 3});
    options.split_chinese = false;
    CHECK(ids_of(small(options), "好好") == Ids{0});
  }

  TEST_CASE("ill-formed bytes are dropped characters, each with its place") {
    const std::vector<WordPiece::Token> want = {{3, 0, 1}, {3, 2, 3}};
    CHECK(small().encode("好\xFF好") == want);
    CHECK(small().encode("\xE5\xA5").empty());
  }

  TEST_CASE("a vocabulary has its special tokens, with any end of line") {
    CHECK(of_lines("[SEP]\r\n[CLS]\r\n[UNK]").cls() == 1);
    const Result<WordPiece> without = WordPiece::from_lines("[CLS]\n[UNK]\n");
    REQUIRE(without.has_error());
    CHECK((without.error().code == Errc::bad_file));
    CHECK(without.error().detail.find("[SEP]") != std::string::npos);
    CHECK(WordPiece::from_lines("").has_error());
    WordPieceOptions options;
    options.unknown = "<unk>";
    CHECK(WordPiece::from_lines("[CLS]\n[SEP]\n[UNK]\n", options).has_error());
    CHECK(WordPiece::make({{"[CLS]", 0}, {"[SEP]", 1}, {"[UNK]", -4}}).has_error());
    CHECK(small().max_id() == 10);
  }
}

}  // namespace
}  // namespace tts
