#include "src/engine/voice_library.h"

#include <atomic>
#include <chrono>
#include <map>
#include <mutex>
#include <stdexcept>
#include <thread>

#include "src/engine/engine.h"
#include "tests/doctest.h"
#include "tests/engine/listener.h"

namespace tts {
namespace {

using namespace tts::testing;
using namespace std::chrono_literals;

constexpr int kRate = 1000;

/// Forty samples a token, five tokens a phoneme, each a millisecond.
class SlowStream final : public SegmentStream {
 public:
  explicit SlowStream(std::size_t phonemes) : total_(phonemes * 5) {}
  void prefill() override {}
  const void* batch() const override { return nullptr; }
  void step(std::span<SegmentStream* const> streams) override {
    std::this_thread::sleep_for(1ms);
    for (SegmentStream* stream : streams) static_cast<SlowStream*>(stream)->tokens_.push_back(0);
  }
  bool finished() const override { return tokens_.size() == total_; }
  const std::string& failure() const override { return failure_; }
  std::span<const std::int32_t> tokens() const override { return tokens_; }
  std::vector<float> render(std::span<const std::int32_t> tokens, bool) override {
    return std::vector<float>(tokens.size() * 40, 0.25F);
  }

 private:
  const std::size_t total_;
  std::vector<std::int32_t> tokens_;
  const std::string failure_;
};

class SmallVoice final : public Voice {
 public:
  SmallVoice(std::string id, std::atomic<int>& alive) : info_{std::move(id), "", {"en"}, kRate}, alive_(alive) {
    ++alive_;
  }
  ~SmallVoice() override { --alive_; }
  const VoiceInfo& info() const override { return info_; }
  const std::string& word_separator() const override { return separator_; }
  std::unique_ptr<SegmentStream> begin(const SegmentRequest& request) const override {
    return std::make_unique<SlowStream>(request.phonemes.size());
  }
  int lookahead_tokens() const override { return 0; }
  double tokens_per_second() const override { return 25; }

 private:
  const VoiceInfo info_;
  const std::string separator_;
  std::atomic<int>& alive_;
};

/// What the test and the source share.
struct Shelf {
  std::mutex mutex;
  std::vector<VoiceCard> cards;
  std::map<std::string, int> loads;
  bool changed = false;
  std::chrono::milliseconds load_time{0};
  std::string broken;  ///< the id that cannot be loaded
  std::atomic<int> alive{0};
  std::uint64_t reader_bytes = 0;  ///< 0: there is none
  int reader_loads = 0;

  void put(const std::string& id, const std::string& model, std::uint64_t bytes, std::uint64_t version = 1,
           bool is_chinese = false) {
    const std::lock_guard lock(mutex);
    std::erase_if(cards, [&](const VoiceCard& card) { return card.info.id == id; });
    VoiceCard card;
    card.info = {id, "", {"en"}, kRate};
    card.place = id;
    card.model = model;
    card.model_bytes = bytes;
    card.voice_bytes = 1;
    card.version = version;
    card.is_chinese = is_chinese;
    card.bert_dim = 2;
    cards.push_back(card);
    changed = true;
  }
  void take(const std::string& id) {
    const std::lock_guard lock(mutex);
    std::erase_if(cards, [&](const VoiceCard& card) { return card.info.id == id; });
    changed = true;
  }
  int loads_of(const std::string& id) {
    const std::lock_guard lock(mutex);
    return loads[id];
  }
};

/// Says 7 for every value.
class SevenReader final : public TextReader {
 public:
  explicit SevenReader(std::uint64_t bytes) : bytes_(bytes) {}
  Result<std::vector<float>> rows(const Phonemized& spoken, std::int64_t dim) const override {
    if (dim != 2) return Error{Errc::bad_file, "another width"};
    return std::vector<float>(spoken.phonemes.size() * 2, 7.0F);
  }
  std::uint64_t bytes() const override { return bytes_; }

 private:
  const std::uint64_t bytes_;
};

class FakeSource final : public VoiceSource {
 public:
  explicit FakeSource(Shelf& shelf) : shelf_(shelf) {}
  bool changed() override {
    const std::lock_guard lock(shelf_.mutex);
    return shelf_.changed;
  }
  std::vector<VoiceCard> scan(bool) override {
    const std::lock_guard lock(shelf_.mutex);
    shelf_.changed = false;
    return shelf_.cards;
  }
  std::shared_ptr<const Voice> load(const VoiceCard& card) override {
    std::chrono::milliseconds time{0};
    {
      const std::lock_guard lock(shelf_.mutex);
      ++shelf_.loads[card.info.id];
      time = shelf_.load_time;
      if (card.info.id == shelf_.broken) throw std::runtime_error("t2s.safetensors: cut off");
    }
    std::this_thread::sleep_for(time);
    return std::make_shared<SmallVoice>(card.info.id, shelf_.alive);
  }
  Result<std::uint64_t> reader_bytes() const override {
    const std::lock_guard lock(shelf_.mutex);
    if (shelf_.reader_bytes == 0) return Error{Errc::bad_file, "bert.safetensors: missing"};
    return shelf_.reader_bytes;
  }
  Result<std::shared_ptr<const TextReader>> load_reader() override {
    const std::lock_guard lock(shelf_.mutex);
    ++shelf_.reader_loads;
    return std::make_shared<const SevenReader>(shelf_.reader_bytes);
  }
  Result<NewVoice> add(const VoiceRequest& request, const VoiceProgress&) override {
    shelf_.put(request.id, request.model, 10);
    return NewVoice{{request.id, "", {"en"}, kRate}, false, {}};
  }
  Result<void> remove(const std::string& id) override {
    shelf_.take(id);
    return {};
  }

 private:
  Shelf& shelf_;
};

std::vector<std::string> ids(const VoiceLibrary& library) {
  std::vector<std::string> out;
  for (const VoiceInfo& info : library.voices()) out.push_back(info.id);
  return out;
}

/// A text of so many letters.
Speech speak(Synthesizer& engine, const std::string& voice, std::size_t letters) {
  return say(engine, voice, std::string(letters, 'a'));
}

Phonemized letters(std::string_view text, const FrontendOptions&) {
  Phonemized out;
  out.phonemes.assign(text.size(), 1);
  return out;
}

std::unique_ptr<Synthesizer> engine_over(Shelf& shelf, std::uint64_t budget) {
  EngineConfig config;
  config.limits.max_ahead = std::chrono::hours(1);
  return make_engine(config, std::make_shared<VoiceLibrary>(std::make_unique<FakeSource>(shelf), budget), letters);
}

}  // namespace

TEST_SUITE("engine/voice_library") {
  TEST_CASE("a voice is loaded once, and again when it became another") {
    Shelf shelf;
    shelf.put("a", "m", 100);
    VoiceLibrary library(std::make_unique<FakeSource>(shelf), 0);
    const auto card = library.find("a");
    REQUIRE(card);
    CHECK(!library.find("b"));
    CHECK(!library.in_memory(*card));
    const auto voice = library.load(*card).value();
    CHECK(library.load(*card).value() == voice);
    CHECK(library.in_memory(*card) == voice);
    shelf.put("a", "m", 100, 2);
    CHECK(library.in_memory(*card) == voice);
    library.refresh();
    CHECK(!library.in_memory(*card));
    CHECK(library.find("a")->version == 2);
    CHECK(library.figures().bytes == 101);  // the old one still lives here
    CHECK(library.load(*library.find("a")).value() != voice);
    CHECK(shelf.loads_of("a") == 2);
  }

  TEST_CASE("the least lately used ones make room, and a shared model counts once") {
    Shelf shelf;
    shelf.put("a1", "a", 100);
    shelf.put("a2", "a", 100);
    shelf.put("b", "b", 100);
    shelf.put("c", "c", 100);
    VoiceLibrary library(std::make_unique<FakeSource>(shelf), 210);
    const auto load = [&](const char* id) { return library.load(*library.find(id)); };
    const auto is_in = [&](const char* id) { return library.in_memory(*library.find(id)) != nullptr; };
    CHECK(load("a1").has_value());
    CHECK(load("a2").has_value());
    CHECK(library.fits(*library.find("b")));
    CHECK(load("b").has_value());
    CHECK(library.figures().bytes == 203);
    CHECK(library.figures().voices_in_memory == 3);
    CHECK(!library.fits(*library.find("c")));
    CHECK(is_in("a1"));
    CHECK(is_in("a2"));  // b was used before these now
    CHECK(load("c").has_value());
    CHECK(!is_in("b"));
    CHECK(is_in("a1"));
    CHECK(library.figures().bytes == 203);
    CHECK(library.figures().dropped == 1);
    CHECK(shelf.alive == 3);
    // Both voices of a model go for another model.
    CHECK(is_in("c"));
    CHECK(load("b").has_value());
    CHECK(!is_in("a1"));
    CHECK(!is_in("a2"));
    CHECK(shelf.alive == 2);
  }

  TEST_CASE("what is being spoken with stays; a voice too many is refused, one alone is not") {
    Shelf shelf;
    shelf.put("a", "a", 100);
    shelf.put("b", "b", 100);
    shelf.put("huge", "huge", 1000);
    VoiceLibrary library(std::make_unique<FakeSource>(shelf), 150);
    std::shared_ptr<const Voice> spoken = library.load(*library.find("a")).value();
    const auto refused = library.load(*library.find("b"));
    REQUIRE(refused.has_error());
    CHECK(refused.error().code == Errc::overloaded);
    CHECK(refused.error().detail.find("voice \"b\" needs") != std::string::npos);
    CHECK(library.in_memory(*library.find("a")) == spoken);
    CHECK(shelf.loads_of("b") == 0);
    spoken.reset();
    CHECK(library.load(*library.find("b")).has_value());
    CHECK(!library.in_memory(*library.find("a")));
    CHECK(library.load(*library.find("huge")).has_value());
    CHECK(library.figures().bytes == 1001);
    CHECK(library.load(*library.find("a")).has_value());
    CHECK(shelf.alive == 1);
  }

  TEST_CASE("a voice taken away lives as long as it is spoken with, and counts") {
    Shelf shelf;
    shelf.put("a", "a", 100);
    shelf.put("b", "b", 100);
    VoiceLibrary library(std::make_unique<FakeSource>(shelf), 150);
    auto spoken = library.load(*library.find("a")).value();
    CHECK(library.remove("a").has_value());
    CHECK(ids(library) == std::vector<std::string>{"b"});
    CHECK(shelf.alive == 1);
    CHECK(library.load(*library.find("b")).error().code == Errc::overloaded);
    spoken.reset();
    CHECK(shelf.alive == 0);
    CHECK(library.load(*library.find("b")).has_value());
    VoiceRequest request;
    request.id = "c";
    CHECK(library.add(request, {}).has_value());
    CHECK(ids(library) == std::vector<std::string>{"b", "c"});
  }

  TEST_CASE("the text reader is loaded when a text wants it, counts, and goes as voices do") {
    Shelf shelf;
    for (const char* id : {"a", "b"}) shelf.put(id, id, 99);
    shelf.reader_bytes = 50;
    VoiceLibrary library(std::make_unique<FakeSource>(shelf), 200);
    const auto load = [&](const char* id) { return library.load(*library.find(id)).has_value(); };
    Phonemized text;
    text.phonemes = {1, 2, 3};
    CHECK(load("a"));
    CHECK(shelf.reader_loads == 0);
    CHECK(library.text_rows(text, 2) == std::vector<float>(6, 7.0F));
    CHECK(library.text_rows(text, 2).size() == 6);
    CHECK(shelf.reader_loads == 1);
    CHECK(library.figures().bytes == 150);
    CHECK(library.figures().reader_bytes == 50);
    CHECK(load("a"));
    CHECK(load("b"));  // the reader is the one not used for the longest time
    CHECK(library.figures().bytes == 200);
    CHECK(library.figures().reader_bytes == 0);
    CHECK(library.figures().dropped == 0);
    CHECK(library.text_rows(text, 2).size() == 6);  // for which a goes
    CHECK(shelf.reader_loads == 2);
    CHECK(!library.in_memory(*library.find("a")));
    CHECK(library.figures().bytes == 150);
    CHECK(library.figures().texts_unread == 0);
    CHECK(library.text_rows(text, 3).empty());
    CHECK(library.figures().texts_unread == 1);
  }

  TEST_CASE("a text goes unread where the reader has no room beside what is spoken with, or is not there") {
    Shelf shelf;
    shelf.put("a", "a", 100);
    VoiceLibrary library(std::make_unique<FakeSource>(shelf), 120);
    auto spoken = library.load(*library.find("a")).value();
    Phonemized text;
    text.phonemes = {1};
    CHECK(library.text_rows(text, 2).empty());
    shelf.reader_bytes = 50;
    CHECK(library.text_rows(text, 2).empty());
    CHECK(shelf.reader_loads == 0);
    CHECK(library.figures().texts_unread == 2);
    CHECK(library.in_memory(*library.find("a")) == spoken);
    CHECK(library.figures().bytes == 101);
    spoken.reset();
    CHECK(library.text_rows(text, 2).size() == 2);
    CHECK(library.figures().bytes == 50);
  }

  TEST_CASE("a Chinese voice brings the text reader, and does not fit without it") {
    Shelf shelf;
    shelf.put("a", "a", 99);
    shelf.put("b", "b", 99, 1, true);
    shelf.reader_bytes = 50;
    VoiceLibrary library(std::make_unique<FakeSource>(shelf), 240);
    CHECK(library.load(*library.find("a")).has_value());
    CHECK(shelf.reader_loads == 0);
    CHECK(!library.fits(*library.find("b")));
    CHECK(library.load(*library.find("b")).has_value());
    CHECK(shelf.reader_loads == 1);
    CHECK(library.figures().bytes == 150);
    CHECK(!library.in_memory(*library.find("a")));
  }

  TEST_CASE("a voice that cannot be loaded is an error each time and takes no room") {
    Shelf shelf;
    shelf.put("a", "a", 100);
    shelf.broken = "a";
    VoiceLibrary library(std::make_unique<FakeSource>(shelf), 150);
    for (int i = 0; i < 2; ++i) {
      const auto failed = library.load(*library.find("a"));
      REQUIRE(failed.has_error());
      CHECK(failed.error().code == Errc::internal);
      CHECK(failed.error().detail == "voice \"a\" could not be loaded");
    }
    CHECK(library.figures().bytes == 0);
  }
}

TEST_SUITE("engine/voices_while_serving") {
  TEST_CASE("an utterance waits for its voice while another goes on speaking") {
    Shelf shelf;
    shelf.put("a", "a", 100);
    shelf.put("b", "b", 100);
    const auto engine = engine_over(shelf, 0);
    const Speech first = speak(*engine, "a", 400);  // two seconds and more
    REQUIRE(first.listener->wait_for_sound());
    {
      const std::lock_guard lock(shelf.mutex);
      shelf.load_time = 1000ms;
    }
    const auto start = std::chrono::steady_clock::now();
    const Speech second = speak(*engine, "b", 2);
    CHECK(std::chrono::steady_clock::now() - start < 500ms);  // open() does not wait
    CHECK(second.wait() == "done");
    CHECK(std::chrono::steady_clock::now() - start >= 1000ms);
    CHECK(!first.listener->is_over());
    CHECK(first.wait() == "done");
    CHECK(first.listener->worst_gap() < 1000ms);
    CHECK(shelf.loads_of("b") == 1);
  }

  TEST_CASE("a lighter voice that is not in memory is brought, and speaks from then on") {
    Shelf shelf;
    shelf.put("a", "a", 100);
    shelf.put("b", "b", 10);
    EngineConfig config;
    config.admission.lighter_voices = {{"a", "b"}};
    config.admission.reduce_above = config.admission.reduce_below = 1e-9;  // somebody speaks
    config.admission.reduce_hold = 0ms;
    auto library = std::make_shared<VoiceLibrary>(std::make_unique<FakeSource>(shelf), 0);
    const auto engine = make_engine(config, library, letters);
    const Speech first = speak(*engine, "a", 400);
    REQUIRE(first.listener->wait_for_sound());
    CHECK(speak(*engine, "a", 1).wait() == "done");
    CHECK(engine->stats().lighter_utterances_total == 0);  // nobody waits for a load
    for (int i = 0; i < 500 && engine->stats().voices_in_memory < 2; ++i) std::this_thread::sleep_for(10ms);
    CHECK(shelf.loads_of("b") == 1);
    CHECK(speak(*engine, "a", 1).wait() == "done");
    CHECK(engine->stats().lighter_utterances_total == 1);
    CHECK(!first.listener->is_over());
    shelf.take("b");  // no more there: the voice that was asked for
    library->refresh();
    CHECK(speak(*engine, "a", 1).wait() == "done");
    CHECK(engine->stats().lighter_utterances_total == 1);
    first.utterance->cancel();
    CHECK(first.wait() == "cancelled");
  }

  TEST_CASE("voices are dropped under the budget while another one speaks on") {
    Shelf shelf;
    for (const char* id : {"a", "b", "c"}) shelf.put(id, id, 100);
    const auto engine = engine_over(shelf, 210);
    const Speech first = speak(*engine, "a", 200);
    REQUIRE(first.listener->wait_for_sound());
    for (const char* id : {"b", "c", "b", "c"}) {
      const Speech other = speak(*engine, id, 1);
      const std::string how = other.wait();
      // What the utterance before used is let go a moment after its end.
      if (how != "done") CHECK(how.starts_with("overloaded: "));
    }
    CHECK(!first.listener->is_over());
    CHECK(engine->stats().weight_bytes <= 210);
    CHECK(first.wait() == "done");
    CHECK(shelf.loads_of("a") == 1);
    CHECK(engine->stats().voices_dropped > 0);
  }

  TEST_CASE("a voice that is broken, or for which there is no room, fails its utterance and no other") {
    Shelf shelf;
    for (const char* id : {"a", "b", "c"}) shelf.put(id, id, 100);
    shelf.broken = "b";
    const auto engine = engine_over(shelf, 110);
    const Speech broken = speak(*engine, "b", 1);
    CHECK(broken.wait() == "internal: voice \"b\" could not be loaded");
    const Speech first = speak(*engine, "a", 100);
    REQUIRE(first.listener->wait_for_sound());
    const Speech second = speak(*engine, "c", 1);
    CHECK(second.wait().starts_with("overloaded: voice \"c\" needs"));
    CHECK(first.wait() == "done");
  }

  TEST_CASE("cancelled, or given up with its engine, while its voice is loaded") {
    Shelf shelf;
    shelf.put("a", "a", 100);
    shelf.load_time = 200ms;
    {
      const auto engine = engine_over(shelf, 0);
      const Speech cancelled = speak(*engine, "a", 1);
      cancelled.utterance->cancel();
      CHECK(cancelled.wait() == "cancelled");
      const Speech late = speak(*engine, "a", 1);
      CHECK(late.wait() == "done");
      shelf.put("b", "b", 100);
      for (int i = 0; i < 200 && engine->voices().size() < 2; ++i) std::this_thread::sleep_for(20ms);
      const Speech given_up = speak(*engine, "b", 1);
    }
    CHECK(shelf.alive == 0);
  }

  TEST_CASE("many voices, many threads, little room") {
    Shelf shelf;
    for (int i = 0; i < 6; ++i)
      shelf.put(std::string("v").append(std::to_string(i)), std::string("m").append(std::to_string(i / 2)), 100);
    const auto engine = engine_over(shelf, 210);
    std::atomic<int> done{0}, refused{0};
    {
      std::vector<std::jthread> threads;
      for (int t = 0; t < 4; ++t) {
        threads.emplace_back([&, t] {
          for (int i = 0; i < 12; ++i) {
            const Speech one = say(*engine, std::string("v").append(std::to_string((i * 5 + t) % 6)), "a");
            (one.wait() == "done" ? done : refused)++;
          }
        });
      }
    }
    CHECK(done + refused == 48);
    CHECK(done > 0);
    CHECK(engine->stats().weight_bytes <= 210);
  }
}

}  // namespace tts
