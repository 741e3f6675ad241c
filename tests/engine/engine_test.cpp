#include "src/engine/engine.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <limits>
#include <mutex>
#include <random>
#include <stdexcept>
#include <thread>

#include "tests/doctest.h"

namespace tts {
namespace {

using namespace std::chrono_literals;

constexpr int kRate = 1000;
constexpr int kSamplesPerToken = 40;
constexpr int kLookahead = 3;

/// How many rows each step had and each call that renders, and how many segments are being decoded.
struct Steps {
  std::mutex mutex;
  std::vector<std::size_t> rows;
  std::vector<std::size_t> chunks;
  std::atomic<int> calls{0};  // that render, now
  int most_calls = 0;         // and at once
  std::atomic<int> in_use{0};
  std::atomic<int> prefills{0};
};

/// Five tokens a phoneme; sample value = id of the phoneme being spoken. Phoneme 99 breaks this stream, 97 the whole
/// step, 98 gives NaN, 96 cannot be rendered, 95 has no memory on its device; each token of 94 wants another prefill,
/// and the second one of 93 breaks it.
class FakeStream final : public SegmentStream {
 public:
  FakeStream(SegmentRequest request, std::chrono::microseconds step, Steps& steps)
      : request_(std::move(request)), step_(step), steps_(steps) {
    ++steps_.in_use;
  }
  ~FakeStream() override { leave(); }

  void prefill() override {
    if (needs_prefill_ && tokens_.back() == 93) throw std::runtime_error("a broken prefill");
    needs_prefill_ = false;
    ++steps_.prefills;
  }
  bool needs_prefill() const override { return needs_prefill_; }
  const void* batch() const override { return &steps_; }
  void step(std::span<SegmentStream* const> streams) override {
    if (step_.count() > 0) std::this_thread::sleep_for(step_);
    for (SegmentStream* stream : streams) {
      CHECK(!stream->needs_prefill());  // it would hold up the others
      if (static_cast<FakeStream*>(stream)->next() == 97) throw std::runtime_error("a broken step");
    }
    for (SegmentStream* stream : streams) static_cast<FakeStream*>(stream)->draw();
    const std::lock_guard lock(steps_.mutex);
    steps_.rows.push_back(streams.size());
  }
  bool finished() const override { return !failure_.empty() || tokens_.size() == request_.phonemes.size() * 5; }
  const std::string& failure() const override { return failure_; }
  std::span<const std::int32_t> tokens() const override { return tokens_; }

  std::vector<float> render(std::span<const std::int32_t> tokens, bool last) override {
    if (std::find(tokens.begin(), tokens.end(), 96) != tokens.end()) throw std::runtime_error("a broken chunk");
    given_.insert(given_.end(), tokens.begin(), tokens.end());
    const std::size_t until = last ? given_.size() : given_.size() - std::min<std::size_t>(given_.size(), kLookahead);
    std::vector<float> out;
    for (; rendered_ < until; ++rendered_) {
      const int phoneme = given_[rendered_];
      const float value = phoneme == 98 ? std::numeric_limits<float>::quiet_NaN() : static_cast<float>(phoneme) / 100;
      out.insert(out.end(), kSamplesPerToken, value);
    }
    return out;
  }

  RenderGroup render_group(std::int64_t n_tokens, bool) const override { return {&steps_, n_tokens > 4 ? 1 : 0}; }
  void render_together(std::span<Job> jobs) override {
    {
      const std::lock_guard lock(steps_.mutex);
      steps_.chunks.push_back(jobs.size());
      steps_.most_calls = std::max(steps_.most_calls, ++steps_.calls);
    }
    if (step_.count() > 0) std::this_thread::sleep_for(step_);
    SegmentStream::render_together(jobs);
    --steps_.calls;
    for (Job& job : jobs) {
      if (std::find(job.tokens.begin(), job.tokens.end(), 95) != job.tokens.end()) job.fail(Errc::overloaded, "full");
    }
  }

 private:
  std::int32_t next() const { return request_.phonemes[tokens_.size() / 5]; }
  void draw() {
    if (next() == 99) {
      failure_ = "a broken phoneme";
    } else {
      tokens_.push_back(next());
      needs_prefill_ = tokens_.back() == 94 || tokens_.back() == 93;
    }
    if (finished()) leave();
  }
  void leave() {
    if (!std::exchange(left_, true)) --steps_.in_use;
  }

  const SegmentRequest request_;
  const std::chrono::microseconds step_;
  Steps& steps_;
  std::vector<std::int32_t> tokens_;
  std::string failure_;
  std::vector<std::int32_t> given_;
  std::size_t rendered_ = 0;
  bool needs_prefill_ = false;
  bool left_ = false;
};

class FakeVoice final : public Voice {
 public:
  explicit FakeVoice(std::chrono::microseconds step = 0us, int slots = 1000, int together = 1, std::string id = "fake")
      : step_(step), slots_(slots), together_(together) {
    info_ = {std::move(id), "Fake", {"en"}, kRate};
  }
  const VoiceInfo& info() const override { return info_; }
  const std::string& word_separator() const override { return separator_; }
  std::unique_ptr<SegmentStream> begin(const SegmentRequest& request) const override {
    if (steps_.in_use >= slots_) return nullptr;
    const std::lock_guard lock(mutex_);
    seeds_.push_back(request.seed);
    if (request.flow_steps > 0) flow_steps_ = request.flow_steps;
    return std::make_unique<FakeStream>(request, step_, steps_);
  }
  int lookahead_tokens() const override { return kLookahead; }
  double tokens_per_second() const override { return 25; }
  int flow_steps() const override { return 8; }
  int render_batch() const override { return together_; }
  int render_calls() const override { return together_ > 1 ? 2 : 1000; }
  int slots_in_use() const { return steps_.in_use; }
  int prefills() const { return steps_.prefills; }
  int asked_flow_steps() const { return flow_steps_; }
  /// Rows of the largest step so far.
  std::size_t most_rows() const {
    const std::lock_guard lock(steps_.mutex);
    return steps_.rows.empty() ? 0 : *std::max_element(steps_.rows.begin(), steps_.rows.end());
  }
  /// Chunks of the largest call that rendered several so far.
  std::size_t most_chunks() const {
    const std::lock_guard lock(steps_.mutex);
    return steps_.chunks.empty() ? 0 : *std::max_element(steps_.chunks.begin(), steps_.chunks.end());
  }
  /// Of these calls, how many at once.
  int most_calls() const {
    const std::lock_guard lock(steps_.mutex);
    return steps_.most_calls;
  }
  std::vector<std::uint64_t> seeds() const {
    const std::lock_guard lock(mutex_);
    return seeds_;
  }

 private:
  VoiceInfo info_;
  std::string separator_ = "SP";
  const std::chrono::microseconds step_;
  const int slots_;
  const int together_;
  mutable std::atomic<int> flow_steps_{0};
  mutable Steps steps_;
  mutable std::mutex mutex_;
  mutable std::vector<std::uint64_t> seeds_;
};

/// "ab" -> phonemes 1, 2; '!' -> 99 (breaks its stream), '%' -> 97 (breaks the step), '~' -> 98 (NaN), '^' -> 96
/// (cannot be rendered), '$' -> 95 (no memory), '&' -> 94 (read again), '`' -> 93 (cannot be), '#' throws here;
/// anything else is silent.
Phonemized fake_phonemize(std::string_view text, const FrontendOptions& options) {
  CHECK(options.word_separator == "SP");
  Phonemized out;
  for (const char c : text) {
    if (c >= 'a' && c <= 'z') out.phonemes.push_back(c - 'a' + 1);
    if (c == '!') out.phonemes.push_back(99);
    if (c == '%') out.phonemes.push_back(97);
    if (c == '~') out.phonemes.push_back(98);
    if (c == '^') out.phonemes.push_back(96);
    if (c == '$') out.phonemes.push_back(95);
    if (c == '&') out.phonemes.push_back(94);
    if (c == '`') out.phonemes.push_back(93);
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
  explicit Fixture(EngineConfig config = {}, std::chrono::microseconds step = 0us, int slots = 1000, int together = 1)
      : voice(std::make_shared<FakeVoice>(step, slots, together)),
        engine(make_engine(config, {voice}, fake_phonemize)) {}

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
    for (const std::size_t size : sink->chunk_sizes) {
      CHECK(size <= static_cast<std::size_t>(ChunkPolicy{}.max_tokens + kLookahead) * kSamplesPerToken);
    }
    CHECK(*std::max_element(sink->chunk_sizes.begin(), sink->chunk_sizes.end()) > 4 * sink->chunk_sizes.front());
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
    for (const char* bad : {"ab!", "ab%", "~", "^", "#", "a`b"}) {
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

  TEST_CASE("the tokens of utterances that speak at once are drawn together") {
    const Fixture f({}, 2000us);
    std::vector<std::shared_ptr<Collector>> sinks;
    std::vector<std::unique_ptr<Utterance>> utterances;
    for (int i = 0; i < 6; ++i) {
      sinks.push_back(std::make_shared<Collector>());
      utterances.push_back(f.open(sinks.back()));
      CHECK(utterances.back()->speak(segment(std::string(12, static_cast<char>('a' + i)))).has_value());
      utterances.back()->end();
    }
    for (int i = 0; i < 6; ++i) {
      REQUIRE(sinks[static_cast<std::size_t>(i)]->wait_over());
      CHECK(sinks[static_cast<std::size_t>(i)]->pcm == spoken(std::string(12, static_cast<char>('a' + i))));
    }
    CHECK(f.voice->most_rows() >= 3);
    CHECK(f.engine->stats().decode_steps_total < 6 * 60);
  }

  TEST_CASE("when the machine is full an utterance waits, and is refused when that takes too long") {
    EngineConfig config;
    config.admission.max_load = 1e-9;  // one at a time
    config.admission.max_wait = 150ms;
    config.limits.max_ahead = 200ms;
    const Fixture f(config);
    auto one = std::make_shared<Collector>(), two = std::make_shared<Collector>(),
         three = std::make_shared<Collector>();
    auto a = f.open(one);
    CHECK(a->speak(segment(std::string(40, 'a'))).has_value());  // stops when it is far ahead, and stays there
    REQUIRE(one->wait_samples(1));
    auto b = f.open(two);
    CHECK(b->speak(segment("b")).has_value());
    REQUIRE(two->wait_over());
    REQUIRE(two->error.has_value());
    CHECK(two->error->code == Errc::overloaded);
    CHECK(two->error->retry_after_ms >= 200);
    CHECK(f.engine->stats().refused_total == 1);
    auto c = f.open(three);
    CHECK(c->speak(segment("c")).has_value());
    c->end();
    a->cancel();  // makes room
    REQUIRE(three->wait_over());
    CHECK(three->done);
    CHECK(three->pcm == spoken("c"));
  }

  TEST_CASE("one who was silent for long waits anew, and is not behind for it") {
    EngineConfig config;
    config.admission.max_load = 1e-9;  // one at a time
    config.admission.max_wait = 10s;
    config.admission.keep_place = 50ms;
    config.limits.max_ahead = 200ms;
    const Fixture f(config);
    auto one = std::make_shared<Collector>(), two = std::make_shared<Collector>();
    auto a = f.open(one);
    CHECK(a->speak(segment("a")).has_value());
    REQUIRE(one->wait_samples(spoken("a").size()));
    auto b = f.open(two);  // gets the place that the first keeps a little longer, and stays far ahead
    CHECK(b->speak(segment(std::string(40, 'b'))).has_value());
    REQUIRE(two->wait_samples(1));
    CHECK(a->speak(segment("c")).has_value());
    CHECK(f.engine->stats().waiting_utterances == 1);
    CHECK(!one->over());
    b->cancel();
    a->end();
    REQUIRE(one->wait_over());
    CHECK(one->done);
    CHECK(one->pcm == spoken("ac"));
  }

  TEST_CASE("a burst of two hundred leaves those that speak untouched, and each of the others is answered") {
    EngineConfig config;
    config.limits.max_utterances = 40;
    const Fixture f(config, 100us);
    auto speaking = std::make_shared<Collector>();
    auto first = f.open(speaking);
    CHECK(first->speak(segment(std::string(30, 'z'))).has_value());
    first->end();
    std::vector<std::shared_ptr<Collector>> sinks;
    std::vector<std::unique_ptr<Utterance>> utterances;
    int refused = 0;
    for (int i = 0; i < 200; ++i) {
      UtteranceOptions options;
      options.voice = "fake";
      auto sink = std::make_shared<Collector>();
      auto opened = f.engine->open(options, sink);
      if (!opened) {
        CHECK(opened.error().code == Errc::overloaded);
        CHECK(opened.error().retry_after_ms > 0);
        ++refused;
        continue;
      }
      CHECK((*opened)->speak(segment("ab")).has_value());
      (*opened)->end();
      sinks.push_back(std::move(sink));
      utterances.push_back(std::move(*opened));
    }
    CHECK(refused > 0);
    for (const auto& sink : sinks) {
      REQUIRE(sink->wait_over());
      CHECK((sink->done ? sink->pcm == spoken("ab") : sink->error && sink->error->code == Errc::overloaded));
    }
    REQUIRE(speaking->wait_over());
    CHECK(speaking->pcm == spoken(std::string(30, 'z')));
    CHECK(f.engine->stats().live_utterances == 0);
  }

  TEST_CASE("under load segments take fewer flow steps, and the utterance says so") {
    EngineConfig config;
    config.admission.reduced_flow_steps = 2;
    config.admission.reduce_above = config.admission.reduce_below = 0.0;  // always
    config.admission.reduce_hold = 0ms;
    const Fixture f(config);
    auto sink = std::make_shared<Collector>();
    auto utterance = f.open(sink);
    CHECK(utterance->speak(segment("ab")).has_value());
    CHECK(utterance->speak(segment("cd")).has_value());
    utterance->end();
    REQUIRE(sink->wait_over());
    CHECK(sink->metrics.reduced_segments == 2);
    CHECK(sink->metrics.flow_steps == 2);
    CHECK(f.voice->asked_flow_steps() == 2);
    CHECK(f.engine->stats().quality_steps == 1);
    CHECK(f.engine->stats().reduced_segments_total == 2);
  }

  TEST_CASE("fewer flow steps are never more than the voice has") {
    EngineConfig config;
    config.admission.reduced_flow_steps = 9;
    config.admission.reduce_above = config.admission.reduce_below = 0.0;
    config.admission.reduce_hold = 0ms;
    const Fixture f(config);
    auto sink = std::make_shared<Collector>();
    auto utterance = f.open(sink);
    CHECK(utterance->speak(segment("ab")).has_value());
    utterance->end();
    REQUIRE(sink->wait_over());
    CHECK(sink->metrics.reduced_segments == 0);
    CHECK(sink->metrics.flow_steps == 8);
    CHECK(f.voice->asked_flow_steps() == 0);
  }

  TEST_CASE(
      "under load new utterances are spoken by the lighter voice, running ones go on, and at rest all is as before") {
    EngineConfig config;
    config.admission.lighter_voices = {{"fake", "light"}};
    config.admission.reduce_above = config.admission.reduce_below = 1e-9;  // somebody speaks
    config.admission.reduce_hold = 0ms;
    config.limits.max_ahead = 200ms;
    const auto heavy = std::make_shared<FakeVoice>();
    const auto light = std::make_shared<FakeVoice>(0us, 1000, 1, "light");
    const auto engine = make_engine(config, {heavy, light}, fake_phonemize);
    UtteranceOptions options;
    options.voice = "fake";
    auto one = std::make_shared<Collector>(), two = std::make_shared<Collector>(),
         three = std::make_shared<Collector>();
    auto a = engine->open(options, one).value();
    CHECK(a->speak(segment(std::string(40, 'a'))).has_value());  // stops when it is far ahead, and stays there
    REQUIRE(one->wait_samples(1));
    auto b = engine->open(options, two).value();
    CHECK(b->speak(segment("b")).has_value());
    b->end();
    REQUIRE(two->wait_over());
    CHECK(two->pcm == spoken("b"));
    CHECK(two->metrics.voice == "light");
    CHECK(light->seeds().size() == 1);
    CHECK(engine->stats().quality_steps == 1);
    CHECK(engine->stats().lighter_utterances_total == 1);
    CHECK(a->speak(segment("z")).has_value());  // its second segment, while the load is what it is
    a->consumed(100'000);
    a->end();
    REQUIRE(one->wait_over());
    CHECK(one->metrics.voice == "fake");
    CHECK(heavy->seeds().size() == 2);
    auto c = engine->open(options, three).value();
    CHECK(c->speak(segment("c")).has_value());
    c->end();
    REQUIRE(three->wait_over());
    CHECK(three->metrics.voice == "fake");
  }

  TEST_CASE("lighter voices that cannot be are told at once") {
    EngineConfig config;
    config.admission.lighter_voices = {{"fake", "none"}};
    CHECK_THROWS_WITH(make_engine(config, {std::make_shared<FakeVoice>()}, fake_phonemize),
                      "engine.lighter_voices: fake=none: there is no voice none");
  }

  TEST_CASE("a stream that has to be read again is, between the steps of the others") {
    const Fixture f({}, 200us);
    std::vector<std::shared_ptr<Collector>> sinks;
    std::vector<std::unique_ptr<Utterance>> utterances;
    for (int i = 0; i < 6; ++i) {
      sinks.push_back(std::make_shared<Collector>());
      utterances.push_back(f.open(sinks.back()));
      CHECK(utterances.back()->speak(segment(std::string(static_cast<std::size_t>(i), 'a') + "&b&")).has_value());
      utterances.back()->end();
    }
    for (int i = 0; i < 6; ++i) {
      const auto& sink = sinks[static_cast<std::size_t>(i)];
      REQUIRE(sink->wait_over());
      CHECK(sink->done);
      CHECK(sink->metrics.samples == (i + 3) * 5 * kSamplesPerToken);
    }
    CHECK(f.voice->prefills() == 6 * (1 + 5 + 4));  // the last token ends the speech: nothing is read after it
  }

  TEST_CASE("few slots, many utterances: all are spoken, also while some listeners stand still") {
    EngineConfig config;
    config.networks.slots = 2;
    config.limits.max_ahead = 400ms;
    const Fixture f(config, 0us, 2);
    std::vector<std::shared_ptr<Collector>> sinks;
    std::vector<std::unique_ptr<Utterance>> utterances;
    for (int i = 0; i < 3; ++i) {  // these are never consumed: they stop when they are far enough ahead
      sinks.push_back(std::make_shared<Collector>());
      utterances.push_back(f.open(sinks.back()));
      CHECK(utterances.back()->speak(segment(std::string(20, 'a'))).has_value());
    }
    for (int i = 0; i < 10; ++i) {
      auto sink = std::make_shared<Collector>();
      auto utterance = f.open(sink);
      CHECK(utterance->speak(segment("b")).has_value());
      utterance->end();
      REQUIRE(sink->wait_over());
      CHECK(sink->pcm == spoken("b"));
    }
  }

  TEST_CASE("chunks of several utterances are rendered in one call, and sound as they do alone") {
    EngineConfig config;
    config.audio_threads = 5;
    config.limits.max_utterances = 32;
    config.admission.max_load = 1e6;
    const Fixture f(config, 300us, 1000, 8);
    const char* texts[] = {"abcdefgh", "ab~cd", "klmnopqrst", "xy^", "stuvwabc", "ab$"};
    std::vector<std::shared_ptr<Collector>> sinks;
    std::vector<std::unique_ptr<Utterance>> utterances;
    for (int i = 0; i < 24; ++i) {
      sinks.push_back(std::make_shared<Collector>());
      utterances.push_back(f.open(sinks.back()));
      CHECK(utterances.back()->speak(segment(texts[i % 6])).has_value());
      utterances.back()->end();
    }
    for (std::size_t i = 0; i < sinks.size(); ++i) {
      CAPTURE(i);
      REQUIRE(sinks[i]->wait_over());
      if (i % 2 == 0) {
        CHECK(sinks[i]->done);
        CHECK(sinks[i]->pcm == spoken(texts[i % 6]));
      } else {
        REQUIRE(sinks[i]->error.has_value());
        CHECK(sinks[i]->error->code == (i % 6 == 5 ? Errc::overloaded : Errc::internal));
        for (const float x : sinks[i]->pcm) CHECK(std::isfinite(x));
      }
    }
    CHECK(f.voice->most_chunks() > 1);
    CHECK(f.voice->most_chunks() <= 8);
    CHECK(f.voice->most_calls() <= 2);
  }

  TEST_CASE("random cancels, failures and lost listeners leak neither slots nor utterances") {
    for (const int together : {1, 5}) {
      CAPTURE(together);
      EngineConfig config;
      config.limits.max_utterances = 24;
      config.admission.max_wait = 30s;
      const Fixture f(config, 0us, 3, together);
      std::mt19937 random(11);
      std::vector<std::pair<std::shared_ptr<Collector>, std::unique_ptr<Utterance>>> open;
      std::vector<std::shared_ptr<Collector>> all;
      for (int i = 0; i < 600; ++i) {
        const auto roll = random() % 10;
        if (roll < 5 || open.empty()) {
          UtteranceOptions options;
          options.voice = "fake";
          auto sink = std::make_shared<Collector>();
          auto opened = f.engine->open(options, sink);
          if (!opened) {
            if (!open.empty()) open.erase(open.begin());  // a lost listener
            continue;
          }
          const char* texts[] = {"abc", "a!", "%", "xyzzy", "...", "~", "#", "hello", "^", "b$", "a&b&c", "x`"};
          for (int n = static_cast<int>(random() % 3); n >= 0; --n) {
            (void)(*opened)->speak(segment(texts[random() % std::size(texts)]));
          }
          all.push_back(sink);
          open.emplace_back(std::move(sink), std::move(*opened));
        } else if (roll < 7) {
          open[random() % open.size()].second->cancel();
        } else if (roll < 9) {
          open[random() % open.size()].second->end();
        } else {
          open.erase(open.begin() + static_cast<std::ptrdiff_t>(random() % open.size()));
        }
      }
      open.clear();
      for (const auto& sink : all) REQUIRE(sink->wait_over());
      CHECK(f.engine->stats().live_utterances == 0);
      CHECK(f.engine->stats().load == 0);
      CHECK(f.voice->slots_in_use() == 0);
    }
  }
}

}  // namespace tts
