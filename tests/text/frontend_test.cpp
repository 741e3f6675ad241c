#include "src/text/frontend.h"

#include <chrono>
#include <random>
#include <string>
#include <thread>

#include "src/core/utf8.h"
#include "src/text/phonemes.h"
#include "tests/text/data_dir.h"
#include "tests/text/spoken.h"

namespace {

using tts::test::symbols;

const tts::TextFrontend& frontend() {
  static const tts::TextFrontend instance(tts::test::kData);
  return instance;
}

std::string said(const std::string& text, const std::string& separator = "SP") {
  tts::FrontendOptions options;
  options.word_separator = separator;
  return symbols(frontend().phonemize(text, options).phonemes);
}

// What holds for any input at all.
void check_any(const std::string& text) {
  tts::FrontendOptions options;
  options.word_separator = "SP";
  const tts::Phonemized spoken = frontend().phonemize(text, options);
  tts::test::check_spoken(spoken, tts::utf8::count_code_points(tts::utf8::to_valid(text)), tts::phoneme_id("SP"));
}

}  // namespace

TEST_SUITE("text/frontend") {
  TEST_CASE("separators stand between words, not beside marks") {
    CHECK(said("Hello big world") == "HH AH0 L OW1 SP B IH1 G SP W ER1 L D .");
    CHECK(said("Yes, no!") == "Y EH1 S , N OW1 !");
    CHECK(said("One. Two?") == "W AH1 N . T UW1 ?");
    CHECK(said("Yes, no!", "") == "Y EH1 S , N OW1 !");
    CHECK(said("big world", "") == "B IH1 G W ER1 L D .");
    CHECK(said("big world", "no such symbol") == "B IH1 G W ER1 L D .");
    CHECK(said("Well…") == "W EH1 L …");
  }

  TEST_CASE("the five marks are all the punctuation there is") {
    const std::string text = said("a, b. c! d? e… f; g: h - i — j -- k (l) [m] \"n\" 'o' p/q_r");
    for (const std::string mark : {"-", ";", ":", "(", "'"})
      CHECK((" " + text + " ").find(" " + mark + " ") == std::string::npos);
  }

  TEST_CASE("nothing to say gives no phonemes") {
    tts::FrontendOptions english;
    english.languages = {"en"};
    for (const char* text : {"", " \n ", "?!…", "😀", "你好。", "\xff"}) {
      CAPTURE(text);
      const tts::Phonemized spoken = frontend().phonemize(text, english);
      CHECK(spoken.phonemes.empty());
      CHECK(spoken.words.empty());
      CHECK(spoken.normalized.empty());
    }
  }

  TEST_CASE("one letter is spoken") {
    for (char c = 'a'; c <= 'z'; ++c) CHECK_FALSE(said(std::string(1, c)).empty());
    CHECK(said("b") == "B IY1 .");
  }

  TEST_CASE("words point into the input and into the phonemes") {
    tts::FrontendOptions options;
    options.word_separator = "SP";
    const tts::Phonemized spoken = frontend().phonemize("Ça $5, naïve!", options);
    REQUIRE(spoken.words.size() == 4);
    CHECK(spoken.words[0].text == "Ça");
    CHECK(spoken.words[1].text == "$5");
    CHECK(spoken.words[2].text == "$5");
    CHECK(spoken.words[2].in_start == 3);
    CHECK(spoken.words[2].in_end == 5);
    CHECK(spoken.words[3].text == "naïve");
    CHECK(spoken.words[3].in_start == 7);
    CHECK(spoken.words[3].in_end == 12);
    const auto part = [&](std::size_t i) {
      const auto begin = spoken.phonemes.begin();
      return symbols({begin + static_cast<std::ptrdiff_t>(spoken.words[i].phoneme_begin),
                      begin + static_cast<std::ptrdiff_t>(spoken.words[i].phoneme_end)});
    };
    CHECK(part(1) == "F AY1 V");
    CHECK(part(2) == "D AA1 L ER0 Z");
    CHECK(part(3) == "N AY2 IY1 V");
    CHECK(spoken.normalized == "Ca five dollars, naive!");
  }

  TEST_CASE("any bytes and any code points: no throw, spans in range and in order") {
    const std::uint32_t seed = std::random_device{}();
    CAPTURE(seed);
    std::mt19937 random(seed);
    const std::string_view pool =
        "aAbBiIsSxXvVzZ0123456789 "
        ".,!?;:'\"()-/$%&@#*+=_<>~^[]{}|\\\n\xc3\xa9\xe2\x82\xac\xe2\x80\x93\xf0\x9f\x98\x80\xc2\xb0";
    for (int round = 0; round < 3000; ++round) {
      std::string text;
      const std::size_t size = random() % 60;
      for (std::size_t i = 0; i < size; ++i) {
        switch (round % 3) {
          case 0:
            text += static_cast<char>(random());
            break;
          case 1:
            text += pool[random() % pool.size()];
            break;
          default: {
            static constexpr const char* kPieces[] = {
                "Dr. ", "$",     "5",    ".5",    "-", "3:30", " pm",  "http://", "a.b@c.de", "XIV", "St. ", "March ",
                "2021", "/",     "e.g.", "1,000", "%", "km",   "'s",   "GPUs",    "😀",        "½",   "é",    " ",
                "the ", "read ", "...",  "\n",    "(", ")",    "#tag", "@me",     "U.S.",     "’",   "—",    "x"};
            text += kPieces[random() % std::size(kPieces)];
          }
        }
      }
      CAPTURE(text);
      check_any(text);
    }
  }

  TEST_CASE("the cost of long text is linear") {
    // Each of these once could be read again and again from every position.
    for (const std::string piece : {"a",  "1", ".",  "-",  "a.", "1-", "1.", "(",  "](", "@",    "a@", "/",
                                    "'a", "A", "$1", "1,", " ",  "\n", "é",  "A.", "I ", "THE ", "1:"}) {
      CAPTURE(piece);
      std::string text;
      while (text.size() < 50000) text += piece;
      const auto start = std::chrono::steady_clock::now();
      const std::string once = said(text);
      const auto one = std::chrono::steady_clock::now() - start;
      CHECK(one < std::chrono::seconds(8));
      check_any(text.substr(0, 5000));
    }
  }

  TEST_CASE("one front end serves many threads") {
    const std::string text = "Dr. Lee read 3.5 zxqvorgs on May 5, 2020.";
    const std::string wanted = said(text);
    std::vector<std::string> results(4);
    std::vector<std::thread> threads;
    for (std::string& result : results) {
      threads.emplace_back([&] {
        for (int i = 0; i < 50; ++i) result = said(text);
      });
    }
    for (std::thread& thread : threads) thread.join();
    for (const std::string& result : results) CHECK(result == wanted);
  }

  TEST_CASE("missing data is one clear exception at load") {
    CHECK_THROWS_WITH_AS(tts::TextFrontend("no/such/folder"), doctest::Contains("no/such/folder/cmudict.bin"),
                         std::runtime_error);
  }
}
