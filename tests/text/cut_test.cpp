#include "src/text/cut.h"

#include <ctime>
#include <string>
#include <vector>

#include "tests/doctest.h"

namespace {

using tts::CutMethod;
using Pieces = std::vector<std::string>;

Pieces cut(const std::string& text, CutMethod method, const std::string& lang = "zh") {
  return tts::cut_text(text, lang, method);
}

}  // namespace

TEST_SUITE("text/cut") {
  const std::string kText = "春天来了，花开了。你看见了吗？我看见了！真好看，我们走吧。明天再来";

  TEST_CASE("the six methods") {
    CHECK(cut(kText, CutMethod::none) == Pieces{kText + "。"});
    CHECK(cut(kText + "，带上相机，不见不散。", CutMethod::four_clauses) ==
          Pieces{"春天来了，花开了。你看见了吗？我看见了！", "真好看，我们走吧。明天再来，带上相机，不见不散。"});
    CHECK(cut(kText, CutMethod::four_clauses) == Pieces{kText + "。"});
    CHECK(cut(kText, CutMethod::fifty_letters) == Pieces{kText + "。"});
    CHECK(cut(kText, CutMethod::chinese_stops) ==
          Pieces{"春天来了，花开了。", "你看见了吗？我看见了！真好看，我们走吧明天再来。"});  // the last was too short
    CHECK(cut("It rained. We stayed at home. Version 2.5 is out", CutMethod::english_stops, "en") ==
          Pieces{"It rained.", " We stayed at home.", " Version 2.5 is out."});
    CHECK(cut("春天来到了，花都开了。你看见了吗？", CutMethod::all_marks) ==
          Pieces{"春天来到了，", "花都开了。", "你看见了吗？"});
  }

  TEST_CASE("a short start, a missing stop, nothing to say") {
    CHECK(cut("你好", CutMethod::none) == Pieces{"。你好。"});
    CHECK(cut("Hi", CutMethod::none, "en") == Pieces{".Hi."});
    CHECK(cut("", CutMethod::all_marks).empty());
    CHECK(cut("\n\n", CutMethod::all_marks).empty());
    CHECK(cut("？！……", CutMethod::none).empty());
    CHECK(cut("第一行文字\n第二行文字", CutMethod::none) == Pieces{"第一行文字。", "第二行文字。"});
  }

  TEST_CASE("long pieces are parted at marks") {
    std::string text;
    for (int i = 0; i < 60; ++i) text += "一二三四五六七八九，";
    const Pieces pieces = cut(text, CutMethod::none);
    CHECK(pieces.size() == 2);
    CHECK(pieces[0].size() == 510U * 3);
  }

  TEST_CASE("names") {
    CHECK(tts::parse_cut_method("cut0").value() == CutMethod::none);
    CHECK(tts::parse_cut_method("cut5").value() == CutMethod::all_marks);
    CHECK(tts::parse_cut_method("cut6").has_error());
    CHECK(tts::parse_cut_method("").has_error());
  }

  TEST_CASE("bytes of any kind, in linear time") {
    for (const char* piece : {"……", "，", "a", "\xff", "\n", "。\n", "1.", "——"}) {
      CAPTURE(piece);
      std::string text;
      while (text.size() < 100'000) text += piece;
      const std::clock_t start = std::clock();  // of the processor, so that other programs do not count
      for (int method = 0; method < 6; ++method) (void)cut(text, static_cast<CutMethod>(method));
      CHECK(static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC < 5.0);
    }
  }
}
