#include "models/decode_guard.h"

#include <cstdint>
#include <string>
#include <vector>

#include "src/text/phonemes.h"
#include "tests/doctest.h"

namespace tts {
namespace {

std::vector<std::int32_t> ids(const std::vector<std::string>& symbols) {
  std::vector<std::int32_t> result;
  for (const std::string& symbol : symbols) result.push_back(phoneme_id(symbol).value());
  return result;
}

/// Ten words of four sounds that differ from their neighbours, with separators, and a full stop: 50 phonemes.
std::vector<std::int32_t> ten_words() {
  const std::vector<std::string> consonants{"B", "D", "F", "G", "K", "L", "M", "N", "P", "R", "S"};
  const std::vector<std::string> vowels{"AA1", "AE1", "AH1", "AO1", "AW1", "AY1", "EH1", "ER1", "EY1", "IY1"};
  std::vector<std::string> symbols;
  for (std::size_t word = 0; word < 10; ++word) {
    symbols.insert(symbols.end(), {consonants[word], vowels[word], consonants[word + 1], vowels[(word + 3) % 10]});
    symbols.emplace_back(word == 9 ? "." : "SP");
  }
  return ids(symbols);
}

/// Speaks into a guard: one call, one token, with attention on one phoneme of the text.
class Speaker {
 public:
  explicit Speaker(GuardText text, bool watched = true)
      : columns_(text.prompt_phonemes.size() + text.phonemes.size()),
        first_(text.prompt_phonemes.size()),
        watched_(watched),
        guard(std::move(text)) {}

  Fault say(std::int64_t place, std::int32_t token, float weight = 0.8F, float eos = 0) {
    std::vector<float> attention(columns_, (1 - weight) / static_cast<float>(columns_));
    attention[static_cast<std::size_t>(place + static_cast<std::int64_t>(first_))] = weight;
    const Fault fault =
        guard.see({token, eos, watched_ ? std::span<const float>(attention) : std::span<const float>()});
    if (fault && !first) first = fault;
    return fault;
  }
  /// Reads phonemes [from, to), two different tokens each.
  void read(std::int64_t from, std::int64_t to) {
    for (std::int64_t i = from; i < to; ++i) {
      say(i, static_cast<std::int32_t>((i * 37) % 500));
      say(i, static_cast<std::int32_t>((i * 53 + 11) % 500));
    }
  }

 private:
  std::size_t columns_;
  std::size_t first_;
  bool watched_;

 public:
  DecodeGuard guard;
  Fault first;
};

TEST_SUITE("models/decode_guard") {
  TEST_CASE("speech that reads its text raises no alarm and may end at its end") {
    for (const bool watched : {true, false}) {
      CAPTURE(watched);
      Speaker speaker({ten_words(), {}, {}}, watched);
      CHECK_FALSE(speaker.guard.may_end());
      speaker.read(0, 50);
      CHECK(speaker.first.verdict == Verdict::ok);
      CHECK(speaker.guard.may_end());
      CHECK(speaker.guard.certain() == 100);
      CHECK(speaker.guard.score(100) == doctest::Approx(1.0));
    }
  }

  TEST_CASE("words passed over are a skip since the jump, and held back until it is certain") {
    Speaker speaker({ten_words(), {}, {}});
    speaker.read(0, 12);
    CHECK(speaker.say(25, 400).verdict == Verdict::ok);
    CHECK(speaker.guard.certain() == 24);
    CHECK(speaker.say(25, 401).verdict == Verdict::ok);
    CHECK(speaker.say(26, 402).verdict == Verdict::ok);
    const Fault fault = speaker.say(26, 403);
    CHECK(fault.verdict == Verdict::skip);
    CHECK(fault.onset == 24);
    CHECK(speaker.guard.place(28) == 26);
    CHECK(speaker.guard.score(28) < 0.5);  // 22 of 40 sounds passed, 10 of them skipped
  }

  TEST_CASE("attention that strays for a moment is nothing") {
    Speaker speaker({ten_words(), {}, {}});
    speaker.read(0, 12);
    speaker.say(40, 400);
    speaker.say(3, 401);
    speaker.say(33, 402);
    speaker.read(12, 50);
    CHECK(speaker.first.verdict == Verdict::ok);
    CHECK(speaker.guard.certain() == speaker.guard.size());
  }

  TEST_CASE("swallowed sounds are not a skip") {
    Speaker speaker({ten_words(), {}, {}});
    speaker.read(0, 12);
    speaker.read(16, 50);  // three sounds left out
    CHECK(speaker.first.verdict == Verdict::ok);
  }

  TEST_CASE("a part of the text that is read again is a loop") {
    Speaker speaker({ten_words(), {}, {}});
    speaker.read(0, 30);
    for (std::int32_t i = 0; i < 4; ++i) speaker.say(10 + i / 2, 400 + i);
    CHECK(speaker.first.verdict == Verdict::loop);
    CHECK(speaker.first.onset == 60);
    CHECK_FALSE(speaker.first.complete);
  }

  TEST_CASE("what is read again after the end can be cut without loss") {
    Speaker speaker({ten_words(), {}, {}});
    speaker.read(0, 50);
    for (std::int32_t i = 0; i < 4; ++i) speaker.say(10 + i / 2, 400 + i);
    CHECK(speaker.first.verdict == Verdict::loop);
    CHECK(speaker.first.onset == 100);
    CHECK(speaker.first.complete);
  }

  TEST_CASE("tokens in circles are a loop since their first return") {
    for (const std::int32_t period : {3, 7, 20}) {
      CAPTURE(period);
      Speaker speaker({ten_words(), {}, {}}, false);
      speaker.read(0, 10);
      for (std::int32_t i = 0; i < 80 && !speaker.first; ++i) speaker.say(0, 300 + i % period);
      CHECK(speaker.first.verdict == Verdict::loop);
      CHECK(speaker.first.onset == static_cast<std::size_t>(20 + period));
    }
  }

  TEST_CASE("a text that says the same over and over may sound so") {
    std::vector<std::string> symbols;
    for (int i = 0; i < 8; ++i) symbols.insert(symbols.end(), {"N", "OW1", "SP"});
    symbols.back() = ".";
    Speaker speaker({ids(symbols), {}, {}}, false);
    for (std::int32_t i = 0; i < 8 * 7; ++i) speaker.say(0, 300 + i % 7);
    CHECK(speaker.first.verdict == Verdict::ok);
    for (std::int32_t i = 0; i < 8 * 7; ++i) speaker.say(0, 300 + i % 7);
    CHECK(speaker.first.verdict == Verdict::loop);
  }

  TEST_CASE("a pause is neither loop nor stall, a second of standing still is") {
    for (const bool watched : {true, false}) {
      CAPTURE(watched);
      Speaker speaker({ten_words(), {}, {}}, watched);
      speaker.read(0, 10);
      for (int i = 0; i < 20; ++i) speaker.say(9, 300 + i % 2);
      CHECK(speaker.first.verdict == Verdict::ok);
      for (int i = 0; i < 20; ++i) speaker.say(9, 300 + i % 2);
      CHECK(speaker.first.verdict == Verdict::stall);
      CHECK(speaker.first.onset > 20);
      CHECK_FALSE(speaker.first.complete);
    }
  }

  TEST_CASE("speech that does not stop after its text is complete") {
    Speaker speaker({ten_words(), {}, {}});
    speaker.read(0, 50);
    for (std::int32_t i = 0; i < 40 && !speaker.first; ++i) speaker.say(49, 7 * i);
    CHECK(speaker.first.verdict == Verdict::stall);
    CHECK(speaker.first.complete);
    CHECK(speaker.first.onset >= 100);
    CHECK(speaker.first.onset < 115);
  }

  TEST_CASE("attention that points nowhere is lost") {
    Speaker speaker({ten_words(), {}, {}});
    speaker.read(0, 20);
    for (std::int32_t i = 0; i < 30 && !speaker.first; ++i) speaker.say(20 + i % 3, 7 * i, 0.1F);
    CHECK(speaker.first.verdict == Verdict::lost);
    CHECK(speaker.first.onset >= 36);
    CHECK(speaker.first.onset <= 42);
  }

  TEST_CASE("an end that is wanted again and again before the text's is reported") {
    Speaker speaker({ten_words(), {}, {}});
    speaker.read(0, 20);
    CHECK_FALSE(speaker.guard.may_end());
    for (std::int32_t i = 0; i < 8; ++i) speaker.say(20 + i / 3, 7 * i, 0.8F, 0.9F);
    CHECK(speaker.first.verdict == Verdict::early_end);
    CHECK(speaker.first.onset == 40);
    speaker.guard.believe_ends();
    CHECK(speaker.guard.may_end());
  }

  TEST_CASE("attention on the reference is a leak") {
    Speaker speaker({ten_words(), ids({"HH", "AH0", "L", "OW1", "DH", "EH1", "R"}), {}});
    for (std::int32_t i = 0; i < 5 && !speaker.first; ++i) speaker.say(-3 + i / 2, 7 * i);
    CHECK(speaker.first.verdict == Verdict::leak);
    CHECK(speaker.first.onset == 0);
  }

  TEST_CASE("a copy of the reference's last tokens is a leak, unless the text says the same words") {
    std::vector<std::int32_t> prompt;
    for (std::int32_t i = 0; i < 60; ++i) prompt.push_back((i * 91) % 512);
    const std::vector<std::int32_t> other = ids({"HH", "AH0", "L", "OW1", "DH", "EH1", "R"});
    for (const bool same_words : {false, true}) {
      CAPTURE(same_words);
      Speaker speaker({ten_words(), same_words ? ten_words() : other, prompt}, false);
      for (std::size_t i = 45; i < 60; ++i) {
        speaker.say(0, i % 4 == 3 ? 511 : prompt[i]);  // not quite the same
        speaker.say(0, i % 4 == 3 ? 511 : prompt[i]);
      }
      CHECK((speaker.first.verdict == Verdict::leak) == !same_words);
    }
    Speaker speaker({ten_words(), other, prompt}, false);
    speaker.read(0, 50);
    CHECK(speaker.first.verdict == Verdict::ok);
  }

  TEST_CASE("local alignment counts what two sequences share in order") {
    CHECK(local_alignment(std::vector<std::int32_t>{1, 2, 3, 4}, std::vector<std::int32_t>{9, 1, 2, 3, 4, 9}) == 8);
    CHECK(local_alignment(std::vector<std::int32_t>{1, 2, 7, 4}, std::vector<std::int32_t>{1, 2, 3, 4}) == 5);
    CHECK(local_alignment(std::vector<std::int32_t>{1, 2, 4}, std::vector<std::int32_t>{1, 2, 3, 4}) == 5);
    CHECK(local_alignment(std::vector<std::int32_t>{1, 2}, std::vector<std::int32_t>{3, 4}) == 0);
    CHECK(local_alignment({}, std::vector<std::int32_t>{3, 4}) == 0);
  }

  TEST_CASE("after a rewind the guard is as if the forgotten tokens had never been") {
    Speaker straight({ten_words(), {}, {}});
    Speaker detour({ten_words(), {}, {}});
    straight.read(0, 20);
    detour.read(0, 20);
    for (std::int32_t i = 0; i < 8; ++i) detour.say(40 + i / 2, 400 + i, 0.2F);
    CHECK(detour.first.verdict == Verdict::skip);
    detour.guard.rewind(36);
    straight.guard.rewind(36);
    CHECK(detour.guard.size() == 36);
    detour.first = {};
    for (Speaker* speaker : {&straight, &detour}) {
      speaker->read(18, 25);
      for (std::int32_t i = 0; i < 4; ++i) speaker->say(45 + i / 2, 400 + i);
    }
    CHECK(straight.first.verdict == Verdict::skip);
    CHECK(detour.first.verdict == straight.first.verdict);
    CHECK(detour.first.onset == straight.first.onset);
    CHECK(detour.guard.score(50) == straight.guard.score(50));
  }
}

}  // namespace
}  // namespace tts
