#include "src/text/phonemes.h"

#include <set>

#include "tests/doctest.h"

TEST_SUITE("text/phonemes") {
  TEST_CASE("the inventory has the published sizes and no symbol twice") {
    const auto symbols = tts::phoneme_symbols();
    CHECK(symbols.size() == 732);
    CHECK(std::set<std::string>(symbols.begin(), symbols.end()).size() == 732);
  }

  TEST_CASE("symbols stand where the published weights expect them") {
    // From the upstream table; the whole list is pinned by the checksum below.
    const std::pair<const char*, int> known[] = {{"!", 0},  {",", 1},    {"-", 2},   {".", 3},
                                                 {"?", 4},  {"AH0", 12}, {"SP", 77}, {"UNK", 86},
                                                 {"_", 95}, {"…", 321},  {"[", 322}, {"]", 323}};
    for (const auto& [symbol, id] : known) {
      CAPTURE(symbol);
      CHECK(tts::phoneme_id(symbol) == id);
      CHECK(tts::phoneme_symbol(id) == symbol);
    }
  }

  TEST_CASE("the whole list has not moved") {
    // FNV-1a over the symbols, each followed by a new line.
    std::uint64_t hash = 14695981039346656037U;
    for (const std::string& symbol : tts::phoneme_symbols()) {
      for (const char c : symbol + "\n") hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211U;
    }
    CHECK(hash == 16914364931191911606U);
  }

  TEST_CASE("every id leads to its symbol and back") {
    for (std::int32_t id = 0; id < tts::kPhonemesV2; ++id) CHECK(tts::phoneme_id(tts::phoneme_symbol(id)) == id);
    CHECK(tts::phoneme_symbol(-1) == "UNK");
    CHECK(tts::phoneme_symbol(732) == "UNK");
    CHECK_FALSE(tts::phoneme_id("UW").has_value());
    CHECK_FALSE(tts::phoneme_id("").has_value());
  }

  TEST_CASE("ids beyond a smaller inventory become UNK") {
    const std::vector<std::int32_t> ids = {0, 321, 322, 700, 86};
    CHECK(tts::within_inventory(ids, tts::kPhonemesV1) == std::vector<std::int32_t>{0, 321, 86, 86, 86});
    CHECK(tts::within_inventory(ids, tts::kPhonemesV2) == ids);
  }

  TEST_CASE("punctuation is the six marks") {
    int marks = 0;
    for (std::int32_t id = 0; id < tts::kPhonemesV2; ++id) marks += tts::is_punctuation(id) ? 1 : 0;
    CHECK(marks == 6);
    CHECK(tts::is_punctuation(*tts::phoneme_id("…")));
    CHECK_FALSE(tts::is_punctuation(*tts::phoneme_id("SP")));
  }
}
