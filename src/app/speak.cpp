#include "src/app/speak.h"

#include <chrono>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "streaming/text_feed.h"

namespace tts {
namespace {

using Clock = std::chrono::steady_clock;

double ms_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

// What the engine hands to the calling thread. Bounded by the engine's max_ahead.
class Inbox final : public UtteranceSink {
 public:
  struct Ending {
    std::optional<Error> error;
    UtteranceMetrics metrics;
  };

  void on_audio(AudioChunk chunk) override {
    const std::lock_guard lock(mutex_);
    chunks_.push_back(std::move(chunk.pcm));
    changed_.notify_one();
  }
  void on_flushed(std::string, std::int64_t) override {}
  void on_done(const UtteranceMetrics& metrics) override { finish({std::nullopt, metrics}); }
  void on_cancelled() override { finish({Error{Errc::cancelled, "cancelled"}, {}}); }
  void on_error(const Error& error) override { finish({error, {}}); }

  // The next samples; or the ending, when there are no more; or neither after a while.
  std::pair<std::optional<std::vector<float>>, std::optional<Ending>> wait(std::chrono::milliseconds most) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, most, [&] { return !chunks_.empty() || ending_; });
    if (!chunks_.empty()) {
      std::optional<std::vector<float>> chunk(std::move(chunks_.front()));
      chunks_.pop_front();
      return {std::move(chunk), std::nullopt};
    }
    return {std::nullopt, ending_};
  }

 private:
  void finish(Ending ending) {
    const std::lock_guard lock(mutex_);
    ending_ = std::move(ending);
    changed_.notify_one();
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::vector<float>> chunks_;
  std::optional<Ending> ending_;
};

}  // namespace

Result<VoiceInfo> find_voice(const Synthesizer& synthesizer, std::string_view id) {
  std::string known;
  for (const VoiceInfo& voice : synthesizer.voices()) {
    if (voice.id == id) return voice;
    known += (known.empty() ? "" : ", ") + voice.id;
  }
  return Error{Errc::unknown_voice, "voice: got \"" + std::string(id) + "\", there are: " + known};
}

Result<Spoken> speak(Synthesizer& synthesizer, const UtteranceOptions& options, std::string_view text,
                     const std::function<Result<void>(std::span<const float>)>& take) {
  TextFeed feed{FeedOptions{}};
  std::vector<TextSegment> segments = feed.push(text, Clock::now());
  for (TextSegment& segment : feed.end()) segments.push_back(std::move(segment));
  return speak(synthesizer, options, segments, take);
}

Result<Spoken> speak(Synthesizer& synthesizer, const UtteranceOptions& options, std::span<const TextSegment> segments,
                     const std::function<Result<void>(std::span<const float>)>& take) {
  const auto inbox = std::make_shared<Inbox>();
  auto utterance = synthesizer.open(options, inbox);
  if (!utterance) return utterance.error();

  Spoken spoken;
  const Clock::time_point start = Clock::now();
  std::size_t given = 0;
  bool ended = false;
  for (;;) {
    // The utterance's queue is bounded: what it refuses is offered again when it has spoken some.
    while (given < segments.size()) {
      auto accepted = (*utterance)->speak(segments[given]);
      if (!accepted && accepted.error().code == Errc::overloaded && given > 0) break;
      if (!accepted) return accepted.error();
      ++given;
    }
    if (given == segments.size() && !std::exchange(ended, true)) (*utterance)->end();

    auto [pcm, ending] = inbox->wait(std::chrono::milliseconds(50));
    if (pcm && !pcm->empty()) {
      if (spoken.samples == 0) spoken.first_audio_ms = ms_since(start);
      spoken.samples += static_cast<std::int64_t>(pcm->size());
      if (auto taken = take(*pcm); !taken) return taken.error();
      (*utterance)->consumed(spoken.samples);
    }
    if (!ending) continue;
    if (ending->error) return *ending->error;
    spoken.metrics = ending->metrics;
    spoken.total_ms = ms_since(start);
    return spoken;
  }
}

}  // namespace tts
