#include "tests/streaming/fake_synthesizer.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <numbers>
#include <utility>

#include "src/core/utf8.h"

namespace tts {

using namespace std::chrono_literals;

/// Guarded by the fake's mutex, except `sink`, which only the fake's thread uses.
struct FakeSynthesizer::State {
  std::shared_ptr<UtteranceSink> sink;
  std::deque<TextSegment> segments;
  std::int64_t at = 0;  ///< samples of the front segment made so far
  std::int64_t made = 0;
  std::int64_t consumed = 0;
  bool ended = false;
  bool cancelled = false;
  bool over = false;  ///< the final call was made
};

class FakeSynthesizer::Handle final : public Utterance {
 public:
  Handle(FakeSynthesizer& owner, std::shared_ptr<State> state) : owner_(owner), state_(std::move(state)) {}
  ~Handle() override { cancel(); }

  Result<void> speak(TextSegment segment) override {
    const std::lock_guard lock(owner_.mutex_);
    if (state_->segments.size() >= static_cast<std::size_t>(owner_.limits_.max_queued_segments)) {
      return Error{Errc::overloaded, "segment queue full"};
    }
    state_->segments.push_back(std::move(segment));
    owner_.poke();
    return {};
  }
  void end() override {
    set([](State& state) { state.ended = true; });
  }
  void cancel() override {
    set([](State& state) { state.cancelled = true; });
  }
  void consumed(std::int64_t samples) override {
    set([samples](State& state) { state.consumed = std::max(state.consumed, samples); });
  }

 private:
  template <class Function>
  void set(Function function) {
    const std::lock_guard lock(owner_.mutex_);
    function(*state_);
    owner_.poke();
  }

  FakeSynthesizer& owner_;
  std::shared_ptr<State> state_;
};

FakeSynthesizer::FakeSynthesizer(SynthesizerLimits limits, bool marks)
    : limits_(limits), marks_(marks), thread_([this](const std::stop_token& stop) { run(stop); }) {}

FakeSynthesizer::~FakeSynthesizer() = default;

std::vector<VoiceInfo> FakeSynthesizer::voices() const {
  const std::lock_guard lock(mutex_);
  std::vector<VoiceInfo> out{VoiceInfo{"starter", "Starter", {"en"}, kRateHz}};
  out.insert(out.end(), added_.begin(), added_.end());
  return out;
}

Result<NewVoice> FakeSynthesizer::add_voice(const VoiceRequest& request, const VoiceProgress&) {
  if (request.text.find("[slow]") != std::string::npos) std::this_thread::sleep_for(300ms);
  const std::lock_guard lock(mutex_);
  last_request_ = request;
  if (request.model != "m") return Error{Errc::unknown_voice, "model: \"" + request.model + "\" is not there"};
  const std::string_view begin(reinterpret_cast<const char*>(request.reference.bytes.data()),
                               std::min<std::size_t>(4, request.reference.bytes.size()));
  if (begin != "RIFF") return Error{Errc::bad_file, "audio: not a sound file"};
  NewVoice made{{request.id, request.name, {"en"}, kRateHz}, false, {"a note"}};
  made.existed = std::any_of(added_.begin(), added_.end(), [&](const VoiceInfo& v) { return v.id == request.id; });
  if (!made.existed) added_.push_back(made.info);
  return made;
}

Result<void> FakeSynthesizer::remove_voice(const std::string& id) {
  const std::lock_guard lock(mutex_);
  if (std::erase_if(added_, [&](const VoiceInfo& v) { return v.id == id; }) == 0) {
    return Error{Errc::unknown_voice, "no voice \"" + id + "\""};
  }
  return {};
}

VoiceRequest FakeSynthesizer::last_request() const {
  const std::lock_guard lock(mutex_);
  return last_request_;
}

SynthesizerStats FakeSynthesizer::stats() const {
  const std::lock_guard lock(mutex_);
  SynthesizerStats stats = stats_;
  stats.live_utterances = static_cast<int>(live_.size());
  return stats;
}

Result<std::unique_ptr<Utterance>> FakeSynthesizer::open(const UtteranceOptions& options,
                                                         std::shared_ptr<UtteranceSink> sink) {
  const std::vector<VoiceInfo> known = voices();
  const bool is_known =
      std::any_of(known.begin(), known.end(), [&](const VoiceInfo& v) { return v.id == options.voice; });
  if (!is_known) return Error{Errc::unknown_voice, "voice: got '" + options.voice + "'"};
  if (options.lang != "auto" && options.lang != "en") {
    return Error{Errc::unsupported_format, "lang: got '" + options.lang + "', want en"};
  }
  const std::lock_guard lock(mutex_);
  if (live_.size() >= static_cast<std::size_t>(limits_.max_utterances)) {
    return Error{Errc::overloaded, "all slots are taken", retry_after_ms_};
  }
  auto state = std::make_shared<State>();
  state->sink = std::move(sink);
  live_.push_back(state);
  ++stats_.utterances_total;
  return std::unique_ptr<Utterance>(std::make_unique<Handle>(*this, std::move(state)));
}

bool FakeSynthesizer::wait_for_live(int n, std::chrono::milliseconds limit) const {
  const auto until = std::chrono::steady_clock::now() + limit;
  while (stats().live_utterances != n) {
    if (std::chrono::steady_clock::now() >= until) return false;
    std::this_thread::sleep_for(2ms);
  }
  return true;
}

std::int64_t FakeSynthesizer::worst_ahead() const {
  const std::lock_guard lock(mutex_);
  std::int64_t worst = 0;
  for (const auto& state : live_) worst = std::max(worst, state->made - state->consumed);
  return worst;
}

void FakeSynthesizer::run(const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    std::vector<std::shared_ptr<State>> turn;
    {
      const std::lock_guard lock(mutex_);
      turn = live_;
    }
    bool worked = false;
    for (const auto& state : turn) worked = advance(*state) || worked;
    std::unique_lock lock(mutex_);
    std::erase_if(live_, [](const auto& state) { return state->over; });
    if (!worked) changed_.wait_for(lock, stop, 20ms, [this] { return std::exchange(poked_, false); });
  }
}

bool FakeSynthesizer::advance(State& state) {
  std::unique_lock lock(mutex_);
  if (state.over) return false;
  if (state.cancelled) {
    state.over = true;
    lock.unlock();
    state.sink->on_cancelled();
    return true;
  }
  if (state.segments.empty()) {
    if (!state.ended) return false;
    state.over = true;
    UtteranceMetrics metrics;
    metrics.samples = state.made;
    metrics.tokens = state.made / kSamplesPerChar;
    metrics.rtf = 0.01;
    lock.unlock();
    state.sink->on_done(metrics);
    return true;
  }
  const std::int64_t max_ahead = limits_.max_ahead.count() * kRateHz / 1000;
  if (state.made - state.consumed >= max_ahead) return false;
  const TextSegment segment = state.segments.front();
  if (segment.text.find("[hang]") != std::string::npos) return false;
  if (segment.text.find("[fail]") != std::string::npos) {
    state.over = true;
    lock.unlock();
    state.sink->on_error(Error{Errc::internal, "the model failed, as asked"});
    return true;
  }
  const auto chars = static_cast<std::int64_t>(utf8::count_code_points(segment.text));
  const std::int64_t total = chars * kSamplesPerChar;
  const std::int64_t from = state.at;
  const std::int64_t to = std::min(total, from + kChunkSamples);
  const std::int64_t base = state.made - from;  // of the segment in the utterance
  state.at = to;
  state.made += to - from;
  stats_.samples_total += to - from;
  stats_.tokens_total += (to - from) / kSamplesPerChar;
  const bool segment_over = to == total;
  const std::int64_t end = state.made;
  if (segment_over) {
    state.segments.pop_front();
    state.at = 0;
  }
  lock.unlock();

  if (segment.text.find("[slow]") != std::string::npos) std::this_thread::sleep_for(20ms);
  AudioChunk chunk;
  chunk.seam = from == 0;
  for (std::int64_t i = from; i < to; ++i) {
    const std::size_t byte = utf8::byte_offset(segment.text, static_cast<std::size_t>(i / kSamplesPerChar));
    const double hz = 200 + 4.0 * (static_cast<unsigned char>(segment.text[byte]) & 0x7F);
    chunk.pcm.push_back(
        static_cast<float>(0.3 * std::sin(2 * std::numbers::pi * hz * static_cast<double>(i) / kRateHz)));
  }
  if (marks_ && from == 0) {
    std::size_t at = 0;
    std::size_t index = 0;
    while (at < segment.text.size()) {
      const std::size_t space = std::min(segment.text.find(' ', at), segment.text.size());
      const std::string word = segment.text.substr(at, space - at);
      const std::size_t length = utf8::count_code_points(word);
      if (length > 0) {
        chunk.marks.push_back(Mark{word, segment.in_start + index, segment.in_start + index + length,
                                   base + static_cast<std::int64_t>(index) * kSamplesPerChar,
                                   base + static_cast<std::int64_t>(index + length) * kSamplesPerChar});
      }
      index += length + 1;
      at = space + 1;
    }
  }
  if (!chunk.pcm.empty()) state.sink->on_audio(std::move(chunk));
  if (segment_over && segment.flush) state.sink->on_flushed(segment.flush_id, end);
  return true;
}

}  // namespace tts
