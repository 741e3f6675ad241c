#include "src/text/en_numbers.h"

#include <string>

#include "tests/doctest.h"

namespace english = tts::english;

TEST_SUITE("text/en_numbers") {
  TEST_CASE("cardinals of all sizes") {
    CHECK(english::cardinal("0") == "zero");
    CHECK(english::cardinal("000") == "zero");
    CHECK(english::cardinal("13") == "thirteen");
    CHECK(english::cardinal("40") == "forty");
    CHECK(english::cardinal("110") == "one hundred ten");
    CHECK(english::cardinal("1000001") == "one million one");
    CHECK(english::cardinal("1000000000000000000") == "one quintillion");
    CHECK(english::cardinal("1234567890123456789012") == english::one_by_one("1234567890123456789012"));
  }

  TEST_CASE("ordinals change the last word only") {
    CHECK(english::ordinal("1") == "first");
    CHECK(english::ordinal("12") == "twelfth");
    CHECK(english::ordinal("30") == "thirtieth");
    CHECK(english::ordinal("105") == "one hundred fifth");
    CHECK(english::ordinal("1000") == "one thousandth");
  }

  TEST_CASE("years") {
    CHECK(english::year("1700") == "seventeen hundred");
    CHECK(english::year("1701") == "seventeen oh one");
    CHECK(english::year("2000") == "two thousand");
    CHECK(english::year("2009") == "two thousand nine");
    CHECK(english::year("2010") == "twenty ten");
    CHECK(english::year("476") == "four hundred seventy six");
  }

  TEST_CASE("Roman numerals in standard form only") {
    int good = 0;
    for (const char* text : {"I", "IV", "IX", "XIV", "XL", "XC", "CD", "MCMXCIV"})
      good += english::roman(text) > 0 ? 1 : 0;
    CHECK(good == 8);
    CHECK(english::roman("MCMXCIV") == 1994);
    for (const char* text : {"", "IIII", "VV", "IC", "XM", "Iv", "HELLO", "IVI"}) CHECK(english::roman(text) == 0);
  }
}
