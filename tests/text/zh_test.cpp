#include <ctime>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "src/text/code_points.h"
#include "src/text/frontend.h"
#include "src/text/phonemes.h"
#include "src/text/polyphones.h"
#include "src/text/zh_data.h"
#include "src/text/zh_normalize.h"
#include "src/text/zh_pinyin.h"
#include "src/text/zh_segment.h"
#include "tests/text/data_dir.h"
#include "tests/text/spoken.h"

namespace {

using tts::test::symbols;

const tts::ZhData& data() {
  static const tts::ZhData instance = tts::ZhData::open(std::filesystem::path(tts::test::kData) / "zh.bin").value();
  return instance;
}

const tts::TextFrontend& frontend() {
  static const tts::TextFrontend instance(tts::test::kData);
  return instance;
}

tts::Phonemized speak(const std::string& text, bool reference = false) {
  tts::FrontendOptions options;
  options.lang = "zh";
  options.reference = reference;
  return frontend().phonemize(text, options);
}

std::string said(const std::string& text) {
  return symbols(speak(text).phonemes);
}

std::string normal(const std::string& text, bool reference = false) {
  return tts::to_utf8(tts::normalize_chinese(data(), tts::to_code_points(text), reference).text);
}

std::string words(const std::string& text) {
  const std::u32string points = tts::to_code_points(text);
  std::string out;
  for (const tts::ZhWord& word : tts::tag_words(data(), points)) {
    out += (out.empty() ? "" : " ") + tts::to_utf8(points.substr(word.begin, word.end - word.begin)) + "/" +
           std::string(word.tag);
  }
  return out;
}

std::string pinyin(const std::string& text) {
  std::string out;
  for (const tts::ZhReading& reading : tts::phrase_readings(data(), tts::to_code_points(text))) {
    out += (out.empty() ? "" : " ") +
           (reading.spoken() ? data().syllable(reading).name + std::to_string(reading.tone) : std::string("-"));
  }
  return out;
}

// A model that says one thing of one character.
struct OneOpinion : tts::PolyphoneModel {
  char32_t character;
  std::string reading;
  OneOpinion(char32_t c, std::string r) : character(c), reading(std::move(r)) {}
  [[nodiscard]] std::vector<std::string> readings(std::u32string_view sentence) const override {
    std::vector<std::string> out(sentence.size());
    for (std::size_t i = 0; i < sentence.size(); ++i) {
      if (sentence[i] == character) out[i] = reading;
    }
    return out;
  }
};

// What holds for any input; in the reference's way only that it ends well.
void check_any(const std::string& text, const std::string& lang) {
  CAPTURE(text);
  CAPTURE(lang);
  tts::FrontendOptions options;
  options.lang = lang;
  const tts::Phonemized spoken = frontend().phonemize(text, options);
  tts::test::check_spoken(spoken, tts::to_code_points(text).size());
  bool good = true;
  std::size_t at = 0;
  for (const tts::BertSpan& span : spoken.bert) {
    good =
        good && span.phoneme_begin >= at && tts::to_code_points(span.text).size() == span.phonemes_per_character.size();
    at = span.phoneme_begin;
    for (const std::uint8_t n : span.phonemes_per_character) at += n;
    good = good && at <= spoken.phonemes.size();
  }
  options.reference = true;
  for (const std::int32_t id : frontend().phonemize(text, options).phonemes) good = good && id >= 0;
  CHECK(good);
}

}  // namespace

TEST_SUITE("text/zh") {
  TEST_CASE("the phonemes of GPT-SoVITS, sentence for sentence") {
    const auto golden = tts::test::rows("tests/text/data/zh_golden.tsv");
    CHECK(golden.size() >= 200);
    for (const auto& [sentence, phonemes] : golden) {
      CAPTURE(sentence);
      tts::FrontendOptions options;
      options.languages = {"zh"};
      options.reference = true;
      CHECK(symbols(frontend().phonemize(sentence, options).phonemes) == phonemes);
    }
  }

  TEST_CASE("words and tags: dictionary, unknown names, marks") {
    CHECK(words("今天我们去北京大学看朋友。") == "今天/t 我们/r 去/v 北京大学/nt 看/v 朋友/n 。/x");
    CHECK(words("他来到了网易杭研大厦") == "他/r 来到/v 了/ul 网易/n 杭/j 研/vn 大厦/n");
    CHECK(words("你,好!") == "你/r ,/x 好/a !/x");
    CHECK(words("").empty());
  }

  TEST_CASE("readings by phrase, else the first of the character") {
    CHECK(pinyin("银行行长") == "yin2 hang2 hang2 zhang3");
    CHECK(pinyin("音乐") == "yin1 yue4");
    CHECK(pinyin("快乐,绿") == "kuai4 le4 - lv4");
  }

  TEST_CASE("numbers, dates, times and units, by default and as the reference") {
    const auto both = [](const std::string& text, const std::string& ours, const std::string& reference) {
      CAPTURE(text);
      CHECK(normal(text) == ours);
      CHECK(normal(text, true) == reference);
    };
    const auto same = [&](const std::string& text, const std::string& wanted) { both(text, wanted, wanted); };
    same("2024年5月1日", "二零二四年五月一日");
    same("2024-05-01", "二零二四年五月一日");
    same("８：30", "八,三十");
    same("8:30", "八点半");
    same("08:05:09", "八点零五分零九秒");
    same("8:30-12:30", "八点半至十二点半");
    both("8:30-12:45", "八点半至十二点四十五分", "八点半至十二点半");
    same("-3°C", "零下三度");
    same("3/4", "四分之三");
    same("12.50%", "百分之十二点五零");
    same("13812345678", "幺三八幺二三四五六七八");
    same("100个", "一百个");
    same("2个", "两个");
    same("1004只", "一千零四只");
    same("100000000元", "一亿元");
    same("1+1=2", "一加一等于二");
    same("x²", "的二次方");
    same("1.2.3", "一点二点三");
    same("5kg~8kg", "五千克至八千克");
    same("α和β", "阿尔法和贝塔");
    same("①②", "一二");
    same("1234", "幺二三四");
    both("10-20岁", "十到二十岁", "十减二十岁");
    both("5%-10%", "百分之五到百分之十", "百分之五负百分之十");
    both("010-12345678", "零幺零,幺二三四五六七八", "零幺零减幺二三四五六七八");
    both("400-123-4567", "四零零,幺二三,四五六七", "四零零减幺二三减四五六七");
    both("2024-5-1", "二零二四年五月一日", "二零二四减五减一");
    both("-5.5", "负五点五", "负五零点五");
    both("5mm", "五毫米", "五米米");
    both("$5.50", "五点五零美元", ".五点五零");
    both("1,234元", "一千二百三十四元", "一,二百三十四元");
    both("36.5摄氏度", "三十六点五摄氏度", "三十六点五度");
    both("80km/h", "八十千米每小时", "八十千米每");
    both("2月2日", "二月二日", "两月两日");
    both("第2个", "第二个", "第两个");
    both("100000次", "十万次", "幺零零零零零次");
    both("一\n二", "一.二", "一二");
  }

  TEST_CASE("traditional characters") {
    CHECK(normal("這麼晚了") == "这么晚了");
    CHECK(normal("乾淨") == "干净");
    CHECK(normal("乾隆") == "乾隆");
    CHECK(normal("這麼晚了", true) == "这麽晚了");
  }

  TEST_CASE("tones: yi, bu, third, neutral, erhua") {
    CHECK(said("一定") == "y i2 d ing4 .");
    CHECK(said("一天") == "y i4 t ian1 .");
    CHECK(said("第一") == "d i4 y i1 .");
    CHECK(said("看一看") == "k an4 y i5 k an4 .");
    CHECK(said("不是") == "b u2 sh ir4 .");
    CHECK(said("看不懂") == "k an4 b u5 d ong3 .");
    CHECK(said("你好") == "n i2 h ao3 .");
    CHECK(said("老虎") == "l ao2 h u3 .");
    CHECK(said("我们的") == "w o3 m en5 d e5 .");
    CHECK(said("妈妈") == "m a1 m a5 .");
    CHECK(said("玩儿") == "w an2 EE er2 .");
    CHECK(said("女儿") == "n v3 EE er2 .");
  }

  TEST_CASE("a neutral word inside a word is where it stands") {
    CHECK(said("大自在天") == "d a4 z i04 z ai4 t ian1 .");
    CHECK(symbols(speak("大自在天", true).phonemes) == "d a4 z i04 z ai4 t ian5");
  }

  TEST_CASE("words point into the input; BERT gets its text") {
    const tts::Phonemized spoken = speak("我花了5元，OK？");
    CHECK(spoken.normalized == "我花了五元, OK?");
    REQUIRE(spoken.words.size() == 5);
    CHECK(spoken.words[3].text == "5元");
    CHECK(spoken.words[3].in_start == 3);
    CHECK(spoken.words[3].in_end == 5);
    CHECK(spoken.words[4].text == "OK");
    REQUIRE(spoken.bert.size() == 1);
    CHECK(spoken.bert[0].text == "我花了五元,");
    CHECK(spoken.bert[0].phoneme_begin == 0);
    CHECK(spoken.bert[0].phonemes_per_character == std::vector<std::uint8_t>{2, 2, 2, 2, 2, 1});
    const tts::Phonemized closed = speak("你好，");
    REQUIRE(closed.bert.size() == 1);
    CHECK(closed.bert[0].text == "你好.");
    CHECK(symbols(closed.phonemes) == "n i2 h ao3 .");
  }

  TEST_CASE("English inside Chinese") {
    CHECK(said("我用Python写程序。") == "w o3 y ong4 P AY1 TH AA0 N x ie3 ch eng2 x v4 .");
    CHECK(said("Hello，你好！") == "HH AH0 L OW1 , n i2 h ao3 !");
    CHECK(said("重5kg。") == "zh ong4 w u3 q ian1 k e4 .");
    tts::FrontendOptions only;
    only.languages = {"zh"};
    CHECK(symbols(frontend().phonemize("你好OK", only).phonemes) == "n i2 h ao3 .");
    only.languages = {"en"};
    CHECK(symbols(frontend().phonemize("你好OK", only).phonemes) == "OW1 K EY1 .");
    only.languages = {"tlh"};
    CHECK(frontend().phonemize("你好OK", only).phonemes.empty());
  }

  TEST_CASE("the reference's short texts and pauses") {
    CHECK(symbols(speak("好", true).phonemes) == ". h ao3");
    CHECK(symbols(speak("今天，￥好天气", true).phonemes) == "j in1 t ian1 SP2 h ao3 t ian1 q i4");
    CHECK(symbols(speak("今天^好天气", true).phonemes) == "j in1 t ian1 SP3 h ao3 t ian1 q i4");
  }

  TEST_CASE("a polyphone model chooses, known mistakes of it are corrected") {
    const auto with = [](char32_t c, const char* reading, const char* text) {
      tts::FrontendOptions options;
      options.lang = "zh";
      const tts::TextFrontend chosen(tts::test::kData, std::make_shared<const OneOpinion>(c, reading));
      return symbols(chosen.phonemize(text, options).phonemes);
    };
    CHECK(with(U'行', "hang2", "他行。") == "t a1 h ang2 .");
    CHECK(with(U'行', "nonsense", "他行。") == "t a1 x ing2 .");
    CHECK(with(U'行', "xing9", "他行。") == "t a1 x ing2 .");
    CHECK(with(U'泊', "bo2", "湖泊。") == "h u2 p o1 .");
  }

  TEST_CASE("any bytes in any language: no throw, spans in range, marks in place") {
    const std::uint32_t seed = std::random_device{}();
    CAPTURE(seed);
    std::mt19937 random(seed);
    static constexpr const char* kPieces[] = {
        "一", "不", "儿",     "个",  "第一", "你好", "老",   "看",       "的",    "銀行", "乾",
        "3",  "15", "2024年", "5月", "8:30", "-",    "~",    "%",        "/",     ".",    "，",
        "。", "！", "…",      "“",   "”",    "kg",   "km/",  "OK",       "It's ", " ",    "\n",
        "$",  "￥", "^",      "①",   "²",    "α",    "℃",    "°C",       "1/2",   "+",    "=",
        "嗯", "呣", "㐀",     "か",  "한",   "😀",    "\xff", "\xe4\xb8", "400",   "138",  "12345678",
        "１", "Ａ", "　",     "·",   "兙",   "覅",   "哟",   "(",        "》",    ",",    "1,000"};
    for (int round = 0; round < 1500; ++round) {
      std::string text;
      for (std::size_t i = random() % 20; i > 0; --i) {
        if (round % 3 == 0) {
          tts::utf8::append(text, static_cast<char32_t>(0x4E00 + random() % 0x5200));
        } else {
          text += kPieces[random() % std::size(kPieces)];
        }
      }
      check_any(text, round % 2 == 0 ? "zh" : "auto");
    }
  }

  TEST_CASE("the cost of long text is linear") {
    for (const char* piece : {"一", "不", "儿", "的", "1",  "1.", "1-", "1/",   "-",    "年", "1年", "，", "龘",
                              "兙", "老", "1,", "a",  "1:", "~",  "+1", "你好", "OK我", "86", "0",   "²",  "葡萄"}) {
      CAPTURE(piece);
      // Seconds of the processor, so that other programs do not count.
      const auto cost = [&](std::size_t bytes) {
        std::string text;
        while (text.size() < bytes) text += piece;
        const std::clock_t start = std::clock();
        (void)speak(text);
        (void)speak(text, true);
        return static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
      };
      CHECK(cost(20000) < 8.0 * cost(5000) + 0.5);  // 4 times as much if linear, 16 if quadratic
    }
  }

  TEST_CASE("damaged data is refused by name, wherever it is cut or changed") {
    std::ifstream in(std::filesystem::path(tts::test::kData) / "zh.bin", std::ios::binary);
    const std::string whole((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
    REQUIRE(whole.size() > 1'000'000);
    const auto folder = std::filesystem::temp_directory_path() / ("zh_data_" + std::to_string(std::random_device{}()));
    std::filesystem::create_directory(folder);
    const auto opens = [&](const std::string& bytes) {
      const auto file = folder / "zh.bin";
      std::ofstream(file, std::ios::binary) << bytes;
      const auto opened = tts::ZhData::open(file);
      if (!opened) CHECK(opened.error().detail.find("zh.bin: ") != std::string::npos);
      return opened.has_value();
    };
    CHECK_FALSE(opens(""));
    CHECK_FALSE(opens("TTSZH002"));
    CHECK_FALSE(opens(whole + "x"));
    for (const std::size_t part : {8U, 12U, 100U, 42'000U, 60'000U, 500'000U, 1'900'000U, 2'600'000U}) {
      CAPTURE(part);
      CHECK_FALSE(opens(whole.substr(0, part)));
    }
    std::mt19937 random(7);
    for (int round = 0; round < 8; ++round) {  // must not crash; some changes are other valid data
      std::string bytes = whole;
      for (int k = 0; k < 3; ++k) bytes[8 + random() % (bytes.size() - 8)] = static_cast<char>(random());
      (void)opens(bytes);
    }
    std::filesystem::remove_all(folder);
  }
}
