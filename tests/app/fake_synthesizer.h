#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "src/engine/synthesizer.h"
#include "tests/audio/signals.h"

namespace tts::testing {

/// 100 ms of a tone per segment, from a thread of its own per utterance; voice "starter", English, 24 kHz. A segment
/// that holds the word "fail" ends its utterance with Errc::internal. At most `queue` segments wait.
class FakeSynthesizer final : public Synthesizer {
 public:
  explicit FakeSynthesizer(std::size_t queue = 4) : queue_(queue) {}

  [[nodiscard]] std::vector<VoiceInfo> voices() const override { return {{"starter", "Starter", {"en"}, 24000}}; }
  [[nodiscard]] bool ready() const override { return true; }
  [[nodiscard]] SynthesizerStats stats() const override { return {}; }
  [[nodiscard]] Result<NewVoice> add_voice(const VoiceRequest& request, const VoiceProgress& progress) override {
    if (request.model != "m") return Error{Errc::unknown_voice, "model: " + request.model};
    if (progress) progress("HuBERT");
    return NewVoice{{request.id, request.name, {"zh", "en"}, 32000},
                    !request.more.empty(),
                    {std::to_string(request.reference.bytes.size()) + " bytes"}};
  }
  [[nodiscard]] Result<void> remove_voice(const std::string& id) override {
    if (id != "ann") return Error{Errc::unknown_voice, "no voice \"" + id + "\""};
    return {};
  }
  [[nodiscard]] Result<std::unique_ptr<Utterance>> open(const UtteranceOptions& options,
                                                        std::shared_ptr<UtteranceSink> sink) override {
    if (options.voice != "starter") return Error{Errc::unknown_voice, "voice: " + options.voice};
    if (options.lang != "auto" && options.lang != "en") return Error{Errc::unsupported_format, "lang: " + options.lang};
    return std::make_unique<Speech>(queue_, std::move(sink));
  }

 private:
  class Speech final : public Utterance {
   public:
    Speech(std::size_t queue, std::shared_ptr<UtteranceSink> sink)
        : queue_(queue), sink_(std::move(sink)), thread_([this](std::stop_token stop) { work(stop); }) {}
    Result<void> speak(TextSegment segment) override {
      const std::lock_guard lock(mutex_);
      if (segments_.size() >= queue_) return Error{Errc::overloaded, "queue full"};
      segments_.push_back(std::move(segment));
      changed_.notify_one();
      return {};
    }
    void end() override {
      const std::lock_guard lock(mutex_);
      ended_ = true;
      changed_.notify_one();
    }
    void cancel() override { thread_.request_stop(); }
    void consumed(std::int64_t) override {}

   private:
    void work(std::stop_token stop) {
      UtteranceMetrics metrics;
      metrics.rtf = 0.25;
      for (;;) {
        TextSegment segment;
        {
          std::unique_lock lock(mutex_);
          changed_.wait(lock, stop, [&] { return !segments_.empty() || ended_; });
          if (stop.stop_requested()) return sink_->on_cancelled();
          if (segments_.empty()) return sink_->on_done(metrics);
          segment = std::move(segments_.front());
          segments_.pop_front();
        }
        if (segment.text.find("fail") != std::string::npos) return sink_->on_error({Errc::internal, "told to fail"});
        if (!segment.text.empty()) {
          sink_->on_audio({sine(440, 2400, 24000, 0.3F), true, {}});
          metrics.samples += 2400;
        }
        if (segment.flush) sink_->on_flushed(segment.flush_id, metrics.samples);
      }
    }

    std::size_t queue_;
    std::shared_ptr<UtteranceSink> sink_;
    std::mutex mutex_;
    std::condition_variable_any changed_;
    std::deque<TextSegment> segments_;
    bool ended_ = false;
    std::jthread thread_;
  };

  std::size_t queue_;
};

}  // namespace tts::testing
