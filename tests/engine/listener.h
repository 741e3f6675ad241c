#pragma once

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "src/engine/synthesizer.h"

namespace tts::testing {

/// Collects an utterance and waits for its end.
class Listener final : public UtteranceSink {
 public:
  using Clock = std::chrono::steady_clock;

  void on_audio(AudioChunk chunk) override {
    const std::lock_guard lock(mutex_);
    const auto now = Clock::now();
    if (last_) worst_gap_ = std::max(worst_gap_, now - *last_);
    last_ = now;
    pcm_.insert(pcm_.end(), chunk.pcm.begin(), chunk.pcm.end());
    changed_.notify_all();
  }
  void on_flushed(std::string, std::int64_t) override {}
  void on_done(const UtteranceMetrics&) override { end("done"); }
  void on_cancelled() override { end("cancelled"); }
  void on_error(const Error& error) override { end(std::string(to_string(error.code)) + ": " + error.detail); }

  /// "done", "cancelled", "code: detail", or "" after a minute.
  std::string wait() {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, std::chrono::minutes(1), [&] { return !how_.empty(); });
    return how_;
  }
  bool wait_for_sound() {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::minutes(1), [&] { return !pcm_.empty(); });
  }
  bool is_over() {
    const std::lock_guard lock(mutex_);
    return !how_.empty();
  }
  std::vector<float> pcm() {
    const std::lock_guard lock(mutex_);
    return pcm_;
  }
  /// The longest time between two chunks.
  std::chrono::milliseconds worst_gap() {
    const std::lock_guard lock(mutex_);
    return std::chrono::duration_cast<std::chrono::milliseconds>(worst_gap_);
  }

 private:
  void end(std::string how) {
    const std::lock_guard lock(mutex_);
    how_ = std::move(how);
    changed_.notify_all();
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::string how_;
  std::vector<float> pcm_;
  std::optional<Clock::time_point> last_;
  Clock::duration worst_gap_{0};
};

/// An utterance and who hears it.
struct Speech {
  std::shared_ptr<Listener> listener = std::make_shared<Listener>();
  std::unique_ptr<Utterance> utterance;  ///< null: refused
  std::string refusal;                   ///< "code: detail"

  /// How it ended.
  [[nodiscard]] std::string wait() const { return utterance ? listener->wait() : refusal; }
};

/// Says one text.
inline Speech say(Synthesizer& engine, const std::string& voice, const std::string& text) {
  Speech out;
  UtteranceOptions options;
  options.voice = voice;
  options.seed = 3;
  auto opened = engine.open(options, out.listener);
  if (opened) {
    out.utterance = std::move(*opened);
    TextSegment segment;
    segment.text = text;
    if (auto taken = out.utterance->speak(segment); !taken) out.listener->on_error(taken.error());
    out.utterance->end();
  } else {
    out.refusal = std::string(to_string(opened.error().code)) + ": " + opened.error().detail;
  }
  return out;
}

}  // namespace tts::testing
