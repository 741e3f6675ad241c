#include "streaming/text_feed.h"

#include <random>
#include <string>
#include <vector>

#include "src/core/utf8.h"
#include "tests/doctest.h"

namespace tts {
namespace {

using namespace std::chrono_literals;

const TextFeed::Clock::time_point kStart{};

void append(std::vector<TextSegment>& all, std::vector<TextSegment> more) {
  for (TextSegment& segment : more) all.push_back(std::move(segment));
}

/// All segments of `text`, pushed in pieces of the given lengths (bytes); the last length repeats.
std::vector<TextSegment> segments_of(std::string_view text, const std::vector<std::size_t>& lengths = {1 << 20},
                                     const FeedOptions& options = {}) {
  TextFeed feed(options);
  std::vector<TextSegment> all;
  for (std::size_t i = 0; !text.empty(); ++i) {
    const std::size_t n = std::min(text.size(), lengths[std::min(i, lengths.size() - 1)]);
    append(all, feed.push(text.substr(0, n), kStart));
    text.remove_prefix(n);
  }
  append(all, feed.end());
  return all;
}

std::vector<std::string> texts(const std::vector<TextSegment>& segments) {
  std::vector<std::string> out;
  for (const TextSegment& segment : segments) out.push_back(segment.text);
  return out;
}

std::string joined(const std::vector<TextSegment>& segments) {
  std::string out;
  for (const TextSegment& segment : segments) out += "[" + segment.text + "]";
  return out;
}

/// Segments before end() is called: what a live stream would have spoken.
std::string spoken_early(std::string_view text, const FeedOptions& options = {}) {
  TextFeed feed(options);
  return joined(feed.push(text, kStart));
}

FeedOptions without_early_clauses() {
  FeedOptions options;
  options.min_first_chars = 1000;
  return options;
}

}  // namespace

TEST_SUITE("streaming/text_feed") {
  TEST_CASE("sentences are cut at their ends and nowhere else") {
    struct Row {
      const char* text;
      const char* want;
    };
    const Row rows[] = {
        {"The first sentence is here. The second one follows. ",
         "[The first sentence is here.][The second one follows.]"},
        {"Is that really so? It is indeed! Very well then.", "[Is that really so?][It is indeed!][Very well then.]"},
        {"Please call Dr. Smith and Mrs. Jones today. They are waiting.",
         "[Please call Dr. Smith and Mrs. Jones today.][They are waiting.]"},
        {"It costs 3.5 dollars or 1,000.25 yen. That is cheap.",
         "[It costs 3.5 dollars or 1,000.25 yen.][That is cheap.]"},
        {"J. R. R. Tolkien wrote it. C. S. Lewis read it.", "[J. R. R. Tolkien wrote it.][C. S. Lewis read it.]"},
        {"See https://example.com/a.b?c=d or www.sonorant.dev today. Then come back here.",
         "[See https://example.com/a.b?c=d or www.sonorant.dev today.][Then come back here.]"},
        {"We meet at 5 p.m. on Friday. We leave at 6 p.m. Then we eat.",
         "[We meet at 5 p.m. on Friday.][We leave at 6 p.m.][Then we eat.]"},
        {"Bring cups, plates, etc. and come along. We need forks, knives, etc. Nothing else is needed.",
         "[Bring cups, plates, etc. and come along.][We need forks, knives, etc.][Nothing else is needed.]"},
        {"The U.S. Army is big, e.g. very big. It is so.", "[The U.S. Army is big, e.g. very big.][It is so.]"},
        {"See No. 5 on the list. I really said no. It was a mistake.",
         "[See No. 5 on the list.][I really said no.][It was a mistake.]"},
        {"\"Are you coming?\" he asked. \"I am not coming.\" She left the room.",
         "[\"Are you coming?\" he asked.][\"I am not coming.\"][She left the room.]"},
        {"Well... maybe it is so. Just wait for it... Now it is there!",
         "[Well... maybe it is so.][Just wait for it...][Now it is there!]"},
        {"What on earth?!! I have no idea!!! None.", "[What on earth?!!][I have no idea!!!][None.]"},
        {"1. Take the eggs out. 2. Beat them well.", "[1. Take the eggs out.][2. Beat them well.]"},
        {"A heading without an end\n\nThen the text begins here.",
         "[A heading without an end][Then the text begins here.]"},
        {"Things to buy today:\n- fresh eggs and milk\n- a loaf of bread\n",
         "[Things to buy today:][- fresh eggs and milk][- a loaf of bread]"},
        {"A line that is broken\nby hand goes on. Then the end comes.",
         "[A line that is broken\nby hand goes on.][Then the end comes.]"},
        {"今天天气很好。我们去公园吧！你想去吗？", "[今天天气很好。][我们去公园吧！][你想去吗？]"},
        {"他说：“我不去。”然后就走了。", "[他说：“我不去。”][然后就走了。]"},
    };
    for (const Row& row : rows) {
      CAPTURE(row.text);
      CHECK(joined(segments_of(row.text, {1 << 20}, without_early_clauses())) == row.want);
    }
  }

  TEST_CASE("a word or two join the next sentence") {
    CHECK(joined(segments_of("Yes. I would like that very much. Good.")) ==
          "[Yes. I would like that very much.][Good.]");
    CHECK(joined(segments_of("Hello! How are you doing today?")) == "[Hello! How are you doing today?]");
    CHECK(joined(segments_of("Congratulations! You won.")) == "[Congratulations! You won.]");
    CHECK(joined(segments_of("好。我们走吧，时间不早了。")) == "[好。我们走吧，时间不早了。]");
  }

  TEST_CASE("a plain sentence is spoken as soon as white space follows it") {
    CHECK(spoken_early("The weather is fine today. ") == "[The weather is fine today.]");
    CHECK(spoken_early("The weather is fine today.") == "");  // "today.com"
    CHECK(spoken_early("He lives with Dr. ") == "");
    CHECK(spoken_early("今天天气很好。我") == "[今天天气很好。]");
  }

  TEST_CASE("the first segment may end at a clause mark, later ones do not") {
    const std::string text =
        "When the rain had stopped at last, we went out into the garden. When the sun had set at last, we went in "
        "again.";
    CHECK(joined(segments_of(text)) ==
          "[When the rain had stopped at last,][we went out into the garden.]"
          "[When the sun had set at last, we went in again.]");
    TextFeed feed{FeedOptions{}};
    std::vector<TextSegment> all = feed.push("This is one sentence, it is. ", kStart);
    append(all, feed.flush("a"));
    append(all, feed.push("When the rain had stopped at last, we went out.", kStart));
    CHECK(texts(all) ==
          std::vector<std::string>{"This is one sentence, it is.", "", "When the rain had stopped at last,"});
  }

  TEST_CASE("long sentences are cut at clause marks, then between words, then anywhere") {
    FeedOptions options = without_early_clauses();
    options.max_chars = 40;
    CHECK(joined(segments_of("one two three four five six, seven eight nine ten eleven twelve thirteen.", {1000},
                             options)) ==
          "[one two three four five six,][seven eight nine ten eleven twelve thirteen.]");
    CHECK(joined(segments_of("one two three four five six seven eight nine ten eleven twelve thirteen.", {1000},
                             options)) ==
          "[one two three four five six seven eight nine ten][eleven twelve thirteen.]");
    const auto letters = segments_of(std::string(100, 'a'), {1000}, options);
    REQUIRE(letters.size() == 3);
    CHECK(letters[0].text.size() == 40);
    CHECK(letters[2].in_end == 100);
    // A family emoji is five code points held together by joiners, never cut.
    std::string families;
    for (int i = 0; i < 60; ++i) families += "\U0001F468\u200D\U0001F469\u200D\U0001F467";
    for (const TextSegment& segment : segments_of(families, {1000}, options)) {
      CHECK_FALSE(segment.text.starts_with("\u200D"));
    }
  }

  TEST_CASE("marks and spaces without words stay bounded") {
    for (const std::string& unit :
         {std::string("!"), std::string(" "), std::string("\n"), std::string(". "), std::string("—")}) {
      std::string text;
      for (int i = 0; i < 20'000; ++i) text += unit;
      for (const TextSegment& segment : segments_of(text, {7})) CHECK(segment.text.size() <= 4096);
    }
  }

  TEST_CASE("flush speaks everything, and is answered even when there is nothing") {
    TextFeed feed{FeedOptions{}};
    CHECK(feed.push("Hello th", kStart).empty());
    auto flushed = feed.flush("7");
    REQUIRE(flushed.size() == 1);
    CHECK(flushed[0].text == "Hello th");
    CHECK(flushed[0].flush);
    CHECK(flushed[0].flush_id == "7");
    flushed = feed.flush("8");
    REQUIRE(flushed.size() == 1);
    CHECK(flushed[0].text.empty());
    CHECK(flushed[0].flush);
    CHECK(flushed[0].in_start == 8);
    CHECK(feed.end().empty());
  }

  TEST_CASE("a stall releases whole words after the delay") {
    FeedOptions options;
    options.max_delay = 200ms;
    TextFeed feed(options);
    CHECK_FALSE(feed.deadline());
    CHECK(feed.push("we are wai", kStart).empty());
    REQUIRE(feed.deadline());
    CHECK(*feed.deadline() == kStart + 200ms);
    CHECK(feed.poll(kStart + 199ms).empty());
    CHECK(texts(feed.poll(kStart + 200ms)) == std::vector<std::string>{"we are"});
    CHECK_FALSE(feed.deadline());  // "wai" waits for the rest of the word
    CHECK(feed.push("ting here. ", kStart + 300ms).empty() == false);
    CHECK(feed.push("Goodbye.", kStart + 400ms).empty());
    CHECK(texts(feed.poll(kStart + 600ms)) == std::vector<std::string>{"Goodbye."});

    options.max_delay.reset();
    TextFeed patient(options);
    CHECK(patient.push("we are waiting ", kStart).empty());
    CHECK_FALSE(patient.deadline());
    CHECK(patient.poll(kStart + 1h).empty());
  }

  TEST_CASE("halves of characters in two pushes become one; halves alone become U+FFFD") {
    TextFeed feed{FeedOptions{}};
    CHECK(feed.push("\xF0\x9F", kStart).empty());
    CHECK(feed.size() == 0);
    CHECK(feed.push("\x98\x80 ", kStart).empty());
    CHECK(feed.text() == "\U0001F600 ");
    CHECK(feed.push("\xED\xA0\xBD", kStart).empty());  // \ud83d
    CHECK(feed.push("\xED\xB8\x80", kStart).empty());  // \ude00
    CHECK(feed.text() == "\U0001F600 \U0001F600");
    CHECK(feed.push("\xED\xB8\x80 \xED\xA0\xBD x \xC3", kStart).empty());
    const auto last = feed.end();
    CHECK(feed.text() == "\U0001F600 \U0001F600\uFFFD \uFFFD x \uFFFD");
    REQUIRE(last.size() == 1);
    CHECK(last[0].in_end == feed.size());
  }

  TEST_CASE("offsets are code points into all text and never overlap") {
    const std::string text =
        "Grüße an alle hier. 今天天气很好。 Emoji \U0001F600 are counted once. The end is near now.";
    std::u32string points;
    std::size_t last = 0;
    for (const TextSegment& segment : segments_of(text, {1})) {
      CAPTURE(segment.text);
      CHECK(segment.in_start >= last);
      last = segment.in_end;
      const std::size_t from = utf8::byte_offset(text, segment.in_start);
      const std::size_t to = utf8::byte_offset(text, segment.in_end);
      CHECK(text.substr(from, to - from) == segment.text);
    }
    CHECK(last == utf8::count_code_points(text));
  }

  TEST_CASE("any chunking of the text gives the same segments") {
    const std::vector<std::string> pieces{"The quick brown fox jumps over the lazy dog. ",
                                          "Dr. Who met Mr. T. at 5 p.m. ",
                                          "Yes. ",
                                          "No! ",
                                          "\n\n",
                                          "\n",
                                          "It costs $3.50, i.e. nothing; ",
                                          "visit example.com/x.y?z=1. ",
                                          "\"Quoted?\" he said. ",
                                          "今天天气很好。",
                                          "你好，",
                                          "Grüße — ",
                                          "\U0001F600\u200D\U0001F600 ",
                                          "... ",
                                          "well ",
                                          "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                                          "U.S. ",
                                          "1. First. ",
                                          "- item\n",
                                          "e\u0301 ",
                                          "(in brackets.) ",
                                          "\xFF",
                                          "\xE4\xBD",
                                          "\xED\xA0\xBD",
                                          "\xED\xB8\x80",
                                          "Jan. 5, 1999. ",
                                          "a, b: c; ",
                                          "I. ",
                                          "etc. "};
    const unsigned seed = 20240607;
    INFO("seed ", seed);
    std::mt19937 random(seed);
    for (int round = 0; round < 300; ++round) {
      CAPTURE(round);
      std::string text;
      const std::size_t n = 1 + random() % 40;
      for (std::size_t i = 0; i < n; ++i) text += pieces[random() % pieces.size()];
      FeedOptions options;
      options.max_chars = 20 + static_cast<int>(random() % 200);
      options.min_chars = static_cast<int>(random() % 20);
      const auto whole = segments_of(text, {1 << 20}, options);
      std::vector<std::size_t> lengths;
      for (int i = 0; i < 200; ++i) lengths.push_back(1 + random() % 9);
      for (const auto& cut : {std::vector<std::size_t>{1}, std::vector<std::size_t>{3}, lengths}) {
        const auto other = segments_of(text, cut, options);
        REQUIRE(joined(other) == joined(whole));
        for (std::size_t i = 0; i < whole.size(); ++i) {
          CHECK(other[i].in_start == whole[i].in_start);
          CHECK(other[i].in_end == whole[i].in_end);
        }
      }
      // Nothing but white space is lost.
      TextFeed feed(options);
      auto all = feed.push(text, kStart);
      append(all, feed.end());
      std::string rest = feed.text();
      for (auto segment = all.rbegin(); segment != all.rend(); ++segment) {
        const std::size_t from = utf8::byte_offset(rest, segment->in_start);
        const std::size_t to = utf8::byte_offset(rest, segment->in_end);
        CHECK(rest.substr(from, to - from) == segment->text);
        rest.erase(from, to - from);
      }
      CHECK(rest.find_first_not_of(" \n") == std::string::npos);
    }
  }
}

}  // namespace tts
