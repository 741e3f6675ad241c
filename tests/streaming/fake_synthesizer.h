#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "src/engine/synthesizer.h"

namespace tts {

/// A synthesizer without models: each character of a segment is 50 ms of a sine whose pitch is the character's, with
/// one mark per word. Runs one thread over all utterances in turns, as the engine does, and keeps the interface's
/// promises: bounded segment queues, back-pressure, cancellation between chunks, nothing after the final call.
///
/// Texts with a meaning: "[slow]" makes every chunk of the segment take 20 ms, "[fail]" ends the utterance with
/// Errc::internal, "[hang]" makes no audio until the utterance ends otherwise.
class FakeSynthesizer final : public Synthesizer {
 public:
  static constexpr int kRateHz = 24'000;
  static constexpr std::int64_t kSamplesPerChar = kRateHz / 20;
  static constexpr std::int64_t kChunkSamples = kRateHz / 5;

  explicit FakeSynthesizer(SynthesizerLimits limits = {}, bool marks = true);
  ~FakeSynthesizer() override;

  [[nodiscard]] std::vector<VoiceInfo> voices() const override;
  [[nodiscard]] bool ready() const override { return ready_; }
  [[nodiscard]] SynthesizerStats stats() const override;
  [[nodiscard]] Result<std::unique_ptr<Utterance>> open(const UtteranceOptions& options,
                                                        std::shared_ptr<UtteranceSink> sink) override;

  /// Of the model "m" and a reference that begins with "RIFF"; a text with "[slow]" takes 300 ms.
  [[nodiscard]] Result<NewVoice> add_voice(const VoiceRequest& request, const VoiceProgress& progress) override;
  [[nodiscard]] Result<void> remove_voice(const std::string& id) override;
  /// The last request of add_voice.
  [[nodiscard]] VoiceRequest last_request() const;

  void set_ready(bool ready) { ready_ = ready; }
  /// What a refusal with Errc::overloaded says.
  void set_retry_after(int ms) { retry_after_ms_ = ms; }
  /// Waits until `n` utterances are live; false after `limit`.
  [[nodiscard]] bool wait_for_live(int n, std::chrono::milliseconds limit) const;
  /// Samples made for the utterance furthest ahead of its listener right now.
  [[nodiscard]] std::int64_t worst_ahead() const;

 private:
  struct State;
  class Handle;

  void run(const std::stop_token& stop);
  /// One turn for one utterance, on the fake's thread; false when there was nothing to do.
  bool advance(State& state);
  /// Something to do has come; with mutex_ held.
  void poke() {
    poked_ = true;
    changed_.notify_all();
  }

  const SynthesizerLimits limits_;
  const bool marks_;
  std::atomic<bool> ready_{true};
  std::atomic<int> retry_after_ms_{0};
  mutable std::mutex mutex_;
  std::condition_variable_any changed_;
  std::vector<std::shared_ptr<State>> live_;  ///< guarded by mutex_
  SynthesizerStats stats_;                    ///< guarded by mutex_
  std::vector<VoiceInfo> added_;              ///< guarded by mutex_
  VoiceRequest last_request_;                 ///< guarded by mutex_
  bool poked_ = false;                        ///< guarded by mutex_
  std::jthread thread_;                       ///< last: stops first
};

}  // namespace tts
