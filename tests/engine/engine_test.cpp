#include "src/engine/engine.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <limits>
#include <mutex>
#include <stdexcept>
#include <thread>

#include "tests/doctest.h"

namespace tts {
namespace {

using namespace std::chrono_literals;

constexpr int kRate = 1000;
constexpr int kSamplesPerToken = 40;
constexpr int kLookahead = 3;

/// Five tokens a phoneme; sample value = id of the phoneme being spoken. Phoneme 99 throws, 98 gives NaN.
class FakeStream final : public SegmentStream {
 public:
  FakeStream(SegmentRequest request, std::chrono::microseconds step) : request_(std::move(request)), step_(step) {}

  int decode(int count) override {
    int done = 0;
    for (; done < count && !finished(); ++done) {
      if (request_.phonemes[static_cast<std::size_t>(tokens_ / 5)] == 99) throw std::runtime_error("a broken phoneme");
      if (step_.count() > 0) std::this_thread::sleep_for(step_);
      ++tokens_;
    }
    return done;
  }
  bool finished() const override { return tokens_ == static_cast<int>(request_.phonemes.size()) * 5; }
  std::vector<float> render() override {
    const int until = finished() ? tokens_ : std::max(0, tokens_ - kLookahead);
    std::vector<float> out;
    for (; rendered_ < until; ++rendered_) {
      const int phoneme = request_.phonemes[static_cast<std::size_t>(rendered_ / 5)];
      const float value = phoneme == 98 ? std::numeric_limits<float>::quiet_NaN() : static_cast<float>(phoneme) / 100;
      out.insert(out.end(), kSamplesPerToken, value);
    }
    return out;
  }
  double prefill_ms() const override { return 0.5; }

 private:
  const SegmentRequest request_;
  const std::chrono::microseconds step_;
  int tokens_ = 0;
  int rendered_ = 0;
};

class FakeVoice final : public Voice {
 public:
  explicit FakeVoice(std::chrono::microseconds step = 0us) : step_(step) { info_ = {"fake", "Fake", {"en"}, kRate}; }
  const VoiceInfo& info() const override { return info_; }
  const std::string& word_separator() const override { return separator_; }
  std::unique_ptr<SegmentStream> begin(const SegmentRequest& request) const override {
    const std::lock_guard lock(mutex_);
    seeds_.push_back(request.seed);
    return std::make_unique<FakeStream>(request, step_);
  }
  int lookahead_tokens() const override { return kLookahead; }
  double tokens_per_second() const override { return 25; }
  std::vector<std::uint64_t> seeds() const {
    const std::lock_guard lock(mutex_);
    return seeds_;
  }

 private:
  VoiceInfo info_;
  std::string separator_ = "SP";
  const std::chrono::microseconds step_;
  mutable std::mutex mutex_;
  mutable std::vector<std::uint64_t> seeds_;
};

/// "ab" -> phonemes 1, 2; '!' -> 99 (throws when spoken), '~' -> 98 (NaN), '#' throws here; anything else is silent.
Phonemized fake_phonemize(std::string_view text, const FrontendOptions& options) {
  CHECK(options.word_separator == "SP");
  Phonemized out;
  for (const char c : text) {
    if (c >= 'a' && c <= 'z') out.phonemes.push_back(c - 'a' + 1);
    if (c == '!') out.phonemes.push_back(99);
    if (c == '~') out.phonemes.push_back(98);
    if (c == '#') throw std::runtime_error("unspeakable");
  }
  return out;
}

class Collector final : public UtteranceSink {
 public:
  void on_audio(AudioChunk chunk) override {
    const std::lock_guard lock(mutex_);
    CHECK(!over_);
    if (chunk.seam) ++seams;
    if (!chunk.pcm.empty()) chunk_sizes.push_back(chunk.pcm.size());
    pcm.insert(pcm.end(), chunk.pcm.begin(), chunk.pcm.end());
    marks.insert(marks.end(), chunk.marks.begin(), chunk.marks.end());
    changed_.notify_all();
  }
  void on_flushed(std::string id, std::int64_t at) override {
    const std::lock_guard lock(mutex_);
    flushed.emplace_back(std::move(id), at);
    changed_.notify_all();
  }
  void on_done(const UtteranceMetrics& m) override {
    finish([&] { done = true, metrics = m; });
  }
  void on_cancelled() override {
    finish([&] { cancelled = true; });
  }
  void on_error(const Error& e) override {
    finish([&] { error = e; });
  }

  bool wait_over() {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, 20s, [&] { return over_; });
  }
  bool wait_samples(std::size_t count) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, 20s, [&] { return pcm.size() >= count; });
  }
  bool over() {
    const std::lock_guard lock(mutex_);
    return over_;
  }
  std::size_t samples() {
    const std::lock_guard lock(mutex_);
    return pcm.size();
  }

  std::vector<float> pcm;
  std::vector<std::size_t> chunk_sizes;
  std::vector<Mark> marks;
  std::vector<std::pair<std::string, std::int64_t>> flushed;
  int seams = 0;
  bool done = false, cancelled = false;
  std::optional<Error> error;
  UtteranceMetrics metrics;

 private:
  template <class F>
  void finish(F set) {
    const std::lock_guard lock(mutex_);
    CHECK(!over_);
    set();
    over_ = true;
    changed_.notify_all();
  }
  std::mutex mutex_;
  std::condition_variable changed_;
  bool over_ = false;
};

struct Fixture {
  explicit Fixture(EngineConfig config = {}, std::chrono::microseconds step = 0us)
      : voice(std::make_shared<FakeVoice>(step)), engine(make_engine(config, {voice}, fake_phonemize)) {}

  std::unique_ptr<Utterance> open(const std::shared_ptr<Collector>& sink) const {
    UtteranceOptions options;
    options.voice = "fake";
    options.seed = 7;
    return engine->open(options, sink).value();
  }

  std::shared_ptr<FakeVoice> voice;
  std::unique_ptr<Synthesizer> engine;
};

TextSegment segment(std::string text, std::size_t start = 0) {
  TextSegment s;
  s.in_start = start;
  s.in_end = start + text.size();
  s.text = std::move(text);
  return s;
}

std::vector<float> spoken(std::string_view letters) {
  std::vector<float> out;
  for (const char c : letters) out.insert(out.end(), 5 * kSamplesPerToken, static_cast<float>(c - 'a' + 1) / 100);
  return out;
}

}  // namespace

TEST_SUITE("engine") {
  TEST_CASE("segments are spoken in order, whole, with marks, flushes and figures") {
    const Fixture f;
    auto sink = std::make_shared<Collector>();
    auto utterance = f.open(sink);
    CHECK(utterance->speak(segment("abc", 0)).has_value());
    CHECK(utterance->speak(segment(" ... ", 3)).has_value());
    TextSegment last = segment("zy", 8);
    last.flush = true;
    last.flush_id = "f1";
    CHECK(utterance->speak(last).has_value());
    utterance->end();
    REQUIRE(sink->wait_over());
    CHECK(sink->done);
    CHECK(sink->pcm == spoken("abczy"));
    CHECK(sink->seams == 2);
    REQUIRE(sink->marks.size() == 2);
    CHECK(sink->marks[0].start_sample == 0);
    CHECK(sink->marks[0].end_sample == 600);
    CHECK(sink->marks[1].in_start == 8);
    CHECK(sink->marks[1].in_end == 10);
    CHECK(sink->marks[1].end_sample == 1000);
    REQUIRE(sink->flushed.size() == 1);
    CHECK(sink->flushed[0] == std::pair<std::string, std::int64_t>("f1", 1000));
    CHECK(sink->metrics.tokens == 25);
    CHECK(sink->metrics.samples == 1000);
    CHECK(sink->metrics.first_audio_ms > 0);
    CHECK(sink->metrics.first_token_ms <= sink->metrics.first_audio_ms);
  }

  TEST_CASE("a flush with nothing to say is answered at once, before and after speech") {
    const Fixture f;
    auto sink = std::make_shared<Collector>();
    auto utterance = f.open(sink);
    TextSegment nothing = segment("", 0);
    nothing.flush = true;
    nothing.flush_id = "before";
    CHECK(utterance->speak(nothing).has_value());
    CHECK(utterance->speak(segment("ab", 0)).has_value());
    nothing.flush_id = "after";
    CHECK(utterance->speak(nothing).has_value());
    utterance->end();
    REQUIRE(sink->wait_over());
    CHECK(sink->pcm == spoken("ab"));
    CHECK(sink->marks.size() == 1);
    using Flushed = std::vector<std::pair<std::string, std::int64_t>>;
    CHECK(sink->flushed == Flushed{{"before", 0}, {"after", 400}});
  }

  TEST_CASE("the first chunk is small and later ones grow up to the limit") {
    const Fixture f;
    auto sink = std::make_shared<Collector>();
    auto utterance = f.open(sink);
    CHECK(utterance->speak(segment("abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz")).has_value());
    utterance->end();
    REQUIRE(sink->wait_over());
    CHECK(sink->chunk_sizes.front() == ChunkPolicy{}.first_tokens * kSamplesPerToken);
    for (std::size_t i = 1; i + 1 < sink->chunk_sizes.size(); ++i) {
      CHECK(sink->chunk_sizes[i] >= sink->chunk_sizes[i - 1]);
      CHECK(sink->chunk_sizes[i] <= static_cast<std::size_t>(ChunkPolicy{}.max_tokens) * kSamplesPerToken);
    }
  }

  TEST_CASE("an utterance of nothing, or of nothing speakable, is done at once") {
    const Fixture f;
    for (const char* text : {"", "...", "?"}) {
      CAPTURE(text);
      auto sink = std::make_shared<Collector>();
      auto utterance = f.open(sink);
      CHECK(utterance->speak(segment(text)).has_value());
      utterance->end();
      REQUIRE(sink->wait_over());
      CHECK(sink->done);
      CHECK(sink->pcm.empty());
    }
  }

  TEST_CASE("cancel stops the utterance and no other") {
    const Fixture f({}, 300us);
    auto one = std::make_shared<Collector>(), two = std::make_shared<Collector>();
    auto a = f.open(one), b = f.open(two);
    CHECK(a->speak(segment(std::string(200, 'a'))).has_value());
    CHECK(b->speak(segment(std::string(20, 'b'))).has_value());
    b->end();
    REQUIRE(one->wait_samples(kSamplesPerToken));
    a->cancel();
    REQUIRE(one->wait_over());
    CHECK(one->cancelled);
    CHECK(one->pcm.size() < 200 * 5 * kSamplesPerToken);
    REQUIRE(two->wait_over());
    CHECK(two->done);
    CHECK(two->pcm == spoken(std::string(20, 'b')));
  }

  TEST_CASE("dropping the handle cancels") {
    const Fixture f({}, 300us);
    auto sink = std::make_shared<Collector>();
    {
      auto utterance = f.open(sink);
      CHECK(utterance->speak(segment(std::string(500, 'a'))).has_value());
    }
    REQUIRE(sink->wait_over());
    CHECK(sink->cancelled);
    CHECK(f.engine->stats().live_utterances == 0);
  }

  TEST_CASE("a failing utterance fails alone, whatever the stage") {
    const Fixture f;
    for (const char* bad : {"ab!", "~", "#"}) {
      CAPTURE(bad);
      auto broken = std::make_shared<Collector>(), good = std::make_shared<Collector>();
      auto a = f.open(broken), b = f.open(good);
      CHECK(a->speak(segment(bad)).has_value());
      CHECK(b->speak(segment("xyz")).has_value());
      a->end();
      b->end();
      REQUIRE(broken->wait_over());
      REQUIRE(broken->error.has_value());
      CHECK(broken->error->code == Errc::internal);
      REQUIRE(good->wait_over());
      CHECK(good->pcm == spoken("xyz"));
    }
  }

  TEST_CASE("generation pauses when it is too far ahead and goes on when the listener catches up") {
    EngineConfig config;
    config.limits.max_ahead = 1s;  // 1,000 samples
    const Fixture f(config);
    auto sink = std::make_shared<Collector>();
    auto utterance = f.open(sink);
    const std::string text(100, 'a');  // 20,000 samples
    CHECK(utterance->speak(segment(text)).has_value());
    utterance->end();
    REQUIRE(sink->wait_samples(1000));
    std::this_thread::sleep_for(50ms);
    const std::size_t paused = sink->samples();
    CHECK(paused <= 1000 + static_cast<std::size_t>(ChunkPolicy{}.max_tokens) * kSamplesPerToken);
    auto other = std::make_shared<Collector>();  // a paused one holds nobody up
    auto b = f.open(other);
    CHECK(b->speak(segment("b")).has_value());
    b->end();
    REQUIRE(other->wait_over());
    CHECK(sink->samples() == paused);
    std::size_t taken = 0;
    while (!sink->over() && taken < text.size() * 200 + 1) {
      taken = sink->samples();
      utterance->consumed(static_cast<std::int64_t>(taken));
      std::this_thread::sleep_for(1ms);
    }
    REQUIRE(sink->wait_over());
    CHECK(sink->pcm == spoken(text));
  }

  TEST_CASE("limits: unknown voice, language, too many utterances, too many segments") {
    EngineConfig config;
    config.limits.max_utterances = 2;
    config.limits.max_queued_segments = 3;
    const Fixture f(config, 1000us);
    UtteranceOptions options;
    CHECK(f.engine->open(options, std::make_shared<Collector>()).error().code == Errc::unknown_voice);
    options.voice = "fake";
    options.lang = "zh";
    CHECK(f.engine->open(options, std::make_shared<Collector>()).error().code == Errc::unsupported_format);
    auto a = f.open(std::make_shared<Collector>()), b = f.open(std::make_shared<Collector>());
    options.lang = "en";
    CHECK(f.engine->open(options, std::make_shared<Collector>()).error().code == Errc::overloaded);
    bool refused = false;
    for (int i = 0; i < 20 && !refused; ++i) {
      const auto result = a->speak(segment(std::string(50, 'a')));
      refused = !result && result.error().code == Errc::overloaded;
    }
    CHECK(refused);
  }

  TEST_CASE("many utterances from many threads all end, and nothing leaks") {
    EngineConfig config;
    config.limits.max_utterances = 16;
    const Fixture f(config);
    std::atomic<int> spoke{0};
    {
      std::vector<std::jthread> threads;
      for (int t = 0; t < 8; ++t) {
        threads.emplace_back([&, t] {
          for (int i = 0; i < 20; ++i) {
            auto sink = std::make_shared<Collector>();
            auto utterance = f.open(sink);
            const std::string text(static_cast<std::size_t>(1 + (t * 7 + i * 3) % 11), static_cast<char>('a' + t));
            (void)utterance->speak(segment(text));
            if (i % 5 == 4) utterance->cancel();
            utterance->end();
            if (!sink->wait_over()) continue;
            if (sink->cancelled || (sink->done && sink->pcm == spoken(text))) ++spoke;
          }
        });
      }
    }
    CHECK(spoke == 160);
    CHECK(f.engine->stats().live_utterances == 0);
    CHECK(f.engine->stats().utterances_total == 160);
  }

  TEST_CASE("each segment has its own seed, the same in every run") {
    std::vector<std::uint64_t> first;
    for (int run = 0; run < 2; ++run) {
      const Fixture f;
      auto sink = std::make_shared<Collector>();
      auto utterance = f.open(sink);
      for (int i = 0; i < 3; ++i) CHECK(utterance->speak(segment("a")).has_value());
      utterance->end();
      REQUIRE(sink->wait_over());
      const auto seeds = f.voice->seeds();
      REQUIRE(seeds.size() == 3);
      CHECK(seeds[0] != seeds[1]);
      if (run == 0) first = seeds;
      CHECK(seeds == first);
    }
  }
}

}  // namespace tts
