#include "src/text/language_split.h"

#include <string>
#include <string_view>
#include <vector>

#include "src/text/code_points.h"
#include "tests/doctest.h"

namespace {

std::string split(const std::string& text, std::string_view lang = "auto",
                  const std::vector<std::string_view>& languages = {"en", "zh"}, bool reference = false) {
  const std::u32string points = tts::to_code_points(text);
  std::string out;
  std::size_t at = 0;
  for (const tts::LanguageRun& run : tts::split_languages(points, lang, languages, reference)) {
    CHECK(run.begin == at);
    CHECK(run.end > run.begin);
    at = run.end;
    out += (out.empty() ? "" : "|") + std::string(run.lang) + ":" +
           tts::to_utf8(std::u32string_view(points).substr(run.begin, run.end - run.begin));
  }
  CHECK(at == points.size());
  return out;
}

}  // namespace

TEST_SUITE("text/language_split") {
  TEST_CASE("letters decide, punctuation goes with what is before it") {
    CHECK(split("我用Python写程序。") == "zh:我用|en:Python|zh:写程序。");
    CHECK(split("Hello，你好！How are you?") == "en:Hello，|zh:你好！|en:How are you?");
    CHECK(split("他说“I love you”，然后走了。") == "zh:他说“|en:I love you”，|zh:然后走了。");
    CHECK(split("It's a well-known fact.") == "en:It's a well-known fact.");
    CHECK(split("").empty());
    CHECK(split("😀") == "en:😀");
  }

  TEST_CASE("numbers go with their neighbours") {
    CHECK(split("在2024年OpenAI发布了GPT-4模型。") == "zh:在2024年|en:OpenAI|zh:发布了|en:GPT-4|zh:模型。");
    CHECK(split("我在用Windows 10系统。") == "zh:我在用|en:Windows 10|zh:系统。");
    CHECK(split("他用了3 days完成。") == "zh:他用了|en:3 days|zh:完成。");
    CHECK(split("价格是$100。") == "zh:价格是$100。");
    CHECK(split("42") == "en:42");
    CHECK(split("42", "zh") == "zh:42");
  }

  TEST_CASE("units in a Chinese sentence are Chinese, not in the reference") {
    CHECK(split("重5kg。") == "zh:重5kg。");
    CHECK(split("时速80km/h。") == "zh:时速80km/h。");
    CHECK(split("约20°C。") == "zh:约20°C。");
    CHECK(split("It weighs 5kg.") == "en:It weighs 5kg.");
    CHECK(split("他的体重是5kg。", "zh", {"en", "zh"}, true) == "zh:他的体重是5|en:kg。");
  }

  TEST_CASE("what the caller says") {
    CHECK(split("你好OK", "en") == "en:你好OK");
    CHECK(split("你好OK", "auto", {"zh"}) == "zh:你好OK");
    CHECK(split("かな漢字", "auto", {"en", "zh"}) == "zh:かな漢字");
    CHECK(split("かな漢字", "ja", {"en", "ja"}) == "ja:かな漢字");
    CHECK(split("한국어 text", "auto", {"en", "ko"}) == "ko:한국어 |en:text");
  }
}
