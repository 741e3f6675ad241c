#include "streaming/context.h"

#include <string>
#include <vector>

#include "tests/doctest.h"
#include "tests/streaming/test_client.h"

namespace tts {
namespace {

using namespace std::chrono_literals;

/// A synthesizer whose audio the test brings itself, on its own thread.
class Scripted final : public Synthesizer {
 public:
  struct Calls {
    std::vector<TextSegment> spoken;
    bool ended = false;
    bool gone = false;  ///< the handle was destroyed
    std::int64_t consumed = 0;
    std::size_t room = 1000;  ///< segments taken before `overloaded`
  };

  std::vector<VoiceInfo> voices() const override { return {VoiceInfo{"starter", "Starter", {"en"}, 24'000}}; }
  bool ready() const override { return true; }
  SynthesizerStats stats() const override { return {}; }
  Result<std::unique_ptr<Utterance>> open(const UtteranceOptions&, std::shared_ptr<UtteranceSink> given) override {
    sink = std::move(given);
    return std::unique_ptr<Utterance>(std::make_unique<Handle>(calls));
  }

  void audio(double ms, bool seam, std::vector<Mark> marks = {}) {
    sink->on_audio(AudioChunk{std::vector<float>(static_cast<std::size_t>(ms * 24), 0.1F), seam, std::move(marks)});
  }

  std::shared_ptr<Calls> calls = std::make_shared<Calls>();
  std::shared_ptr<UtteranceSink> sink;

 private:
  class Handle final : public Utterance {
   public:
    explicit Handle(std::shared_ptr<Calls> calls) : calls_(std::move(calls)) {}
    ~Handle() override { calls_->gone = true; }
    Result<void> speak(TextSegment segment) override {
      if (calls_->spoken.size() >= calls_->room) return Error{Errc::overloaded, "full"};
      calls_->spoken.push_back(std::move(segment));
      return {};
    }
    void end() override { calls_->ended = true; }
    void cancel() override {}
    void consumed(std::int64_t samples) override { calls_->consumed = samples; }

   private:
    std::shared_ptr<Calls> calls_;
  };
};

struct Fixture {
  explicit Fixture(bool marks = false, Codec codec = Codec::pcm_s16le) {
    OpenMessage message;
    message.ctx = 9;
    message.marks = marks;
    message.format.codec = codec;
    message.format.rate_hz = 24'000;
    auto opened = Context::open(
        message, synthesizer, limits, {}, metrics, [this] { ++wakes; }, now);
    REQUIRE(opened);
    context = std::move(*opened);
  }

  /// Sends everything there is now; gives the messages, counting frames.
  std::vector<std::string> drain() {
    std::vector<std::string> out;
    while (auto frame = context->next(now)) {
      context->written(*frame, now);
      if (frame->binary)
        ++frames;
      else
        out.push_back(frame->data);
    }
    return out;
  }

  Scripted synthesizer;
  ProtocolLimits limits;
  ServerMetrics metrics;
  Context::Clock::time_point now{1h};
  std::unique_ptr<Context> context;
  int wakes = 0;
  int frames = 0;
};

}  // namespace

TEST_SUITE("streaming/context") {
  TEST_CASE("the states have these transitions and no others") {
    using S = ContextState;
    using E = ContextEvent;
    for (const S state : {S::open, S::ending, S::done, S::cancelled, S::failed}) {
      for (const E event : {E::end, E::finish, E::cancel, E::fail}) {
        std::optional<S> want;
        if (state == S::open && event == E::end) want = S::ending;
        if (state == S::ending && event == E::finish) want = S::done;
        if ((state == S::open || state == S::ending) && event == E::cancel) want = S::cancelled;
        if ((state == S::open || state == S::ending) && event == E::fail) want = S::failed;
        CHECK((next_state(state, event) == want));
      }
    }
  }

  TEST_CASE("playback lag counts waiting for audio that was owed, nothing else") {
    PlaybackClock clock;
    const PlaybackClock::Clock::time_point start{1h};
    const auto never = PlaybackClock::Clock::time_point::min();
    CHECK_FALSE(clock.time_of(0));
    clock.on_send(start, 0, never);
    CHECK(*clock.time_of(100) == start + 100ms);
    CHECK(clock.played_ms(start + 30ms, 100) == 30);
    CHECK(clock.played_ms(start + 300ms, 100) == 100);
    clock.on_send(start + 90ms, 100, never);
    CHECK(clock.worst_lag_ms() == 0);
    clock.on_send(start + 230ms, 200, never);  // dry since 200
    CHECK(clock.worst_lag_ms() == doctest::Approx(30));
    CHECK(*clock.time_of(200) == start + 230ms);
    clock.on_send(start + 1000ms, 300, start + 995ms);  // dry since 330, but asked for at 995 only
    CHECK(clock.worst_lag_ms() == doctest::Approx(30));
    clock.on_send(start + 1200ms, 400, start + 1100ms);  // dry since 1100
    CHECK(clock.worst_lag_ms() == doctest::Approx(100));
  }

  TEST_CASE("the sink wakes once per stretch and never after close") {
    int wakes = 0;
    ServerMetrics metrics;
    ContextSink sink([&wakes] { ++wakes; }, 1000, metrics);
    sink.on_audio(AudioChunk{std::vector<float>(500), true, {}});
    sink.on_audio(AudioChunk{std::vector<float>(500), false, {}});
    CHECK(wakes == 1);
    CHECK(metrics.live_queued_audio_us == 1'000'000);
    CHECK(sink.pop());
    CHECK(sink.pop());
    CHECK_FALSE(sink.pop());
    CHECK(metrics.live_queued_audio_us == 0);
    sink.on_cancelled();
    CHECK(wakes == 2);
    sink.close();
    CHECK_FALSE(sink.pop());
    sink.on_audio(AudioChunk{std::vector<float>(500), true, {}});
    CHECK_FALSE(sink.pop());
    CHECK(wakes == 2);
    CHECK(sink.received_samples() == 1000);
  }

  TEST_CASE("a synthesizer that ignores back-pressure is stopped at the mailbox") {
    ServerMetrics metrics;
    ContextSink sink([] {}, 1000, metrics);
    for (int i = 0; i < 200; ++i) sink.on_audio(AudioChunk{std::vector<float>(1000), false, {}});
    bool failed = false;
    std::size_t held = 0;
    while (const auto event = sink.pop()) {
      failed = failed || std::holds_alternative<Error>(*event);
      if (!failed) ++held;
    }
    CHECK(failed);
    CHECK(held <= 120);
    CHECK(metrics.live_queued_audio_us == 0);
  }

  TEST_CASE("text, flush, end, done") {
    Fixture f;
    REQUIRE(f.context->text("This is one sentence. This is", f.now));
    REQUIRE(f.synthesizer.calls->spoken.size() == 1);
    REQUIRE(f.context->flush(std::int64_t{5}, f.now));
    REQUIRE(f.synthesizer.calls->spoken.size() == 2);
    CHECK(f.synthesizer.calls->spoken[1].flush);
    f.synthesizer.audio(100, true);
    f.synthesizer.audio(105, true);
    CHECK(f.drain().empty());
    CHECK(f.frames == 10);  // 205 ms: the last 5 ms wait for more, or for the flush
    f.synthesizer.sink->on_flushed(f.synthesizer.calls->spoken[1].flush_id, 205 * 24);
    CHECK(f.drain() == std::vector<std::string>{R"({"type":"flushed","ctx":9,"id":5,"t_ms":205})"});
    CHECK(f.frames == 11);
    CHECK(f.synthesizer.calls->consumed == 205 * 24);
    REQUIRE(f.context->end(f.now));
    CHECK(f.synthesizer.calls->ended);
    CHECK_FALSE(f.context->text("x", f.now));
    CHECK_FALSE(f.context->flush({}, f.now));
    f.synthesizer.sink->on_done({});
    const auto last = f.drain();
    REQUIRE(last.size() == 1);
    CHECK(json_at(last[0], "/type") == "done");
    CHECK(json_at(last[0], "/audio_ms") == "205");  // the padding after it is silence
    CHECK(f.frames == 12);                          // and one more, which carries the last flag
    CHECK(f.context->state() == ContextState::done);
    CHECK(f.synthesizer.calls->gone);
    CHECK_FALSE(f.context->next(f.now));
  }

  TEST_CASE("audio counts as consumed when it is written, not when it is made") {
    Fixture f;
    f.synthesizer.audio(200, true);
    auto frame = f.context->next(f.now);
    REQUIRE(frame);
    CHECK(f.synthesizer.calls->consumed == 0);
    f.context->written(*frame, f.now);
    CHECK(f.synthesizer.calls->consumed == 480);
  }

  TEST_CASE("segments wait when the synthesizer is full and go on in order") {
    Fixture f;
    f.synthesizer.calls->room = 1;
    REQUIRE(f.context->text("This is the first. This is the second. This is the third. ", f.now));
    REQUIRE(f.context->end(f.now));
    CHECK(f.synthesizer.calls->spoken.size() == 1);
    CHECK(f.metrics.live_pending_segments == 2);
    CHECK_FALSE(f.synthesizer.calls->ended);
    f.synthesizer.calls->room = 1000;
    f.synthesizer.audio(20, true);
    f.drain();
    REQUIRE(f.synthesizer.calls->spoken.size() == 3);
    CHECK(f.synthesizer.calls->spoken[2].text == "This is the third.");
    CHECK(f.synthesizer.calls->ended);
    CHECK(f.metrics.live_pending_segments == 0);
  }

  TEST_CASE("marks are sent only when asked for, in ms of the context, never going back") {
    Fixture f(true);
    f.synthesizer.audio(100, true, {Mark{"One", 0, 3, 0, 1200}, Mark{"two", 4, 7, 1000, 2400}});
    const auto messages = f.drain();
    REQUIRE(messages.size() == 1);
    CHECK(messages[0] ==
          R"({"type":"marks","ctx":9,"items":[{"text":"One","in_start":0,"in_end":3,"t0_ms":0,"t1_ms":50},)"
          R"({"text":"two","in_start":4,"in_end":7,"t0_ms":41.667,"t1_ms":100}]})");
    Fixture quiet;
    quiet.synthesizer.audio(100, true, {Mark{"One", 0, 3, 0, 1200}});
    CHECK(quiet.drain().empty());
  }

  TEST_CASE("cancel splits the text where it was heard") {
    struct Row {
      bool marks;
      std::optional<double> played_ms;
      double want_played_ms;
      const char* spoken;
    };
    const std::string text = "One two, three four. Five six seven eight.";
    const Row rows[] = {
        {true, 0, 0, ""},
        {true, 100, 100, "One"},
        {true, 199, 199, "One two,"},
        {true, 250, 250, "One two,"},
        {true, 400, 400, "One two, three four."},
        {true, 5000, 1000, "One two, three four. Five six seven eight."},
        {true, std::nullopt, 300, "One two, three"},
        // Without marks: 400 ms for the first segment by its seam, the second in proportion.
        {false, 0, 0, ""},
        {false, 100, 100, "One"},
        {false, 250, 250, "One two,"},
        {false, 400, 400, "One two, three four."},
        {false, std::nullopt, 300, "One two, three"},
    };
    for (const Row& row : rows) {
      CAPTURE(row.marks);
      CAPTURE(row.want_played_ms);
      Fixture f;
      REQUIRE(f.context->text(text, f.now));
      REQUIRE(f.context->flush({}, f.now));
      std::vector<Mark> first;
      std::vector<Mark> second;
      if (row.marks) {
        const auto at = [](double ms) { return static_cast<std::int64_t>(ms * 24); };
        first = {Mark{"One", 0, 3, 0, at(100)}, Mark{"two", 4, 7, at(100), at(200)},
                 Mark{"three", 9, 14, at(200), at(300)}, Mark{"four", 15, 19, at(300), at(400)}};
        second = {Mark{"Five six seven eight", 21, 41, at(400), at(1000)}};
      }
      f.synthesizer.audio(400, true, first);
      f.synthesizer.audio(600, true, second);
      f.drain();
      const CancelledMessage cancelled = f.context->cancel(row.played_ms, f.now + 300ms);
      CHECK(cancelled.generated_ms == doctest::Approx(1000));
      CHECK(cancelled.played_ms == doctest::Approx(row.want_played_ms));
      CHECK(cancelled.spoken_text == row.spoken);
      CHECK(cancelled.spoken_text + cancelled.remaining_text == text);
      CHECK(f.context->state() == ContextState::cancelled);
      CHECK(f.synthesizer.calls->gone);
      f.synthesizer.audio(100, true);  // too late
      CHECK_FALSE(f.context->next(f.now));
    }
  }

  TEST_CASE("cancel splits a segment that has no mark yet") {
    Fixture f;
    REQUIRE(f.context->text("One two, three four. Five six seven eight.", f.now));
    REQUIRE(f.context->flush({}, f.now));
    f.synthesizer.audio(400, true);
    f.synthesizer.audio(0, false, {Mark{"One two, three four.", 0, 20, 0, 400 * 24}});  // comes after its audio
    f.synthesizer.audio(600, true);
    f.drain();
    CHECK(f.context->cancel(700, f.now).spoken_text == "One two, three four. Five six");
  }

  TEST_CASE("credit holds frames back and says when to ask again") {
    Fixture f;
    f.context->credit(50ms, f.now);
    f.synthesizer.audio(200, true);
    f.drain();
    CHECK(f.frames == 3);  // 0, 20 and 40 ms: with the next one 60 ms would be ahead before it
    CHECK(f.context->wake_at(f.now) == f.now + 10ms);
    f.now += 10ms;
    f.drain();
    CHECK(f.frames == 4);
    f.context->credit(1000ms, f.now);
    f.drain();
    CHECK(f.frames == 10);
  }

  TEST_CASE("errors of the synthesizer end the context") {
    Fixture f;
    f.synthesizer.audio(40, true);
    f.synthesizer.sink->on_error(Error{Errc::overloaded, "no room"});
    const auto messages = f.drain();
    CHECK(f.frames == 2);  // what was made before is still sent
    REQUIRE(messages.size() == 1);
    CHECK(messages[0] == R"({"type":"error","ctx":9,"code":"overloaded","message":"no room","retry_after_ms":1000})");
    CHECK(f.context->state() == ContextState::failed);

    Fixture early;
    early.synthesizer.sink->on_done({});
    CHECK(json_at(early.drain().at(0), "/code") == "internal");
    Fixture stray;
    stray.synthesizer.sink->on_flushed("x", 0);
    CHECK(json_at(stray.drain().at(0), "/code") == "internal");
    Fixture cancelled;
    cancelled.synthesizer.sink->on_cancelled();
    CHECK(json_at(cancelled.drain().at(0), "/code") == "internal");
  }

  TEST_CASE("idle contexts time out; stalled text is spoken") {
    Fixture f;
    CHECK(f.context->wake_at(f.now) == f.now + f.limits.context_timeout);
    REQUIRE(f.context->text("well now let us", f.now));
    CHECK(f.context->wake_at(f.now) == f.now + 3s);
    CHECK(f.context->tick(f.now + 2999ms));
    CHECK(f.synthesizer.calls->spoken.empty());
    CHECK(f.context->tick(f.now + 3s));
    REQUIRE(f.synthesizer.calls->spoken.size() == 1);
    CHECK(f.synthesizer.calls->spoken[0].text == "well now let");
    const auto late = f.context->tick(f.now + f.limits.context_timeout);
    REQUIRE_FALSE(late);
    CHECK(late.error().code == Errc::timeout);
  }

  TEST_CASE("limits of text and flushes") {
    Fixture f;
    for (int i = 0; i < f.limits.max_pending_flushes; ++i) REQUIRE(f.context->flush(std::int64_t{i}, f.now));
    const auto flush = f.context->flush({}, f.now);
    REQUIRE_FALSE(flush);
    CHECK(flush.error().code == Errc::rate_limited);
    const auto text = f.context->text(std::string(f.limits.max_text_chars + 1, 'a'), f.now);
    REQUIRE_FALSE(text);
    CHECK(text.error().code == Errc::text_too_long);
  }
}

}  // namespace tts
