#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "src/engine/synthesizer.h"
#include "streaming/metrics.h"
#include "streaming/packetizer.h"
#include "streaming/protocol.h"
#include "streaming/text_feed.h"

namespace tts {

enum class ContextState {
  open,    ///< takes text
  ending,  ///< no more text; audio still comes
  done,
  cancelled,
  failed,
};

enum class ContextEvent {
  end,     ///< the client has no more text
  finish,  ///< the last audio is out
  cancel,
  fail,
};

/// The only transitions there are: nullopt when `event` cannot happen in `state`. done, cancelled and failed are final.
[[nodiscard]] std::optional<ContextState> next_state(ContextState state, ContextEvent event) noexcept;

/// What an error message says of when to try again: of overloaded and rate_limited, a second where the error knows no
/// better; of no other.
[[nodiscard]] std::optional<std::chrono::milliseconds> retry_after(const Error& error) noexcept;

/// Where the client's loudspeaker is, if it plays from the first frame on and waits when it runs dry.
class PlaybackClock {
 public:
  using Clock = std::chrono::steady_clock;

  /// A frame goes out; up to now `sent_ms` of audio were sent. If playback had run dry, the lag counts from then, or
  /// from `owed_since` when that is later: silence because nobody asked for speech is no lag.
  void on_send(Clock::time_point now, double sent_ms, Clock::time_point owed_since);
  /// How much of `sent_ms` has been played.
  [[nodiscard]] double played_ms(Clock::time_point now, double sent_ms) const;
  /// When playback will have come to `position_ms`; nullopt before the first frame.
  [[nodiscard]] std::optional<Clock::time_point> time_of(double position_ms) const;
  [[nodiscard]] double worst_lag_ms() const noexcept { return worst_lag_ms_; }

 private:
  std::optional<Clock::time_point> start_;  ///< of position 0, later by each wait so far
  double worst_lag_ms_ = 0;
};

/// Mailbox between the engine's threads, which fill it one at a time, and a session, which empties it. Thread-safe.
///
/// Bounded by the synthesizer's own back-pressure (SynthesizerLimits::max_ahead); should that fail, the mailbox drops
/// all it holds and takes Errc::internal instead.
class ContextSink final : public UtteranceSink {
 public:
  struct Flushed {
    std::string flush_id;
    std::int64_t at_sample = 0;
  };
  struct Cancelled {};
  using Event = std::variant<AudioChunk, Flushed, UtteranceMetrics, Cancelled, Error>;

  /// `wake` is called when something arrives in an empty mailbox, on the thread that brings it and under the mailbox's
  /// lock: it must only post. `metrics` is not touched after close().
  ContextSink(std::function<void()> wake, int voice_rate_hz, ServerMetrics& metrics);

  void on_audio(AudioChunk chunk) override;
  void on_flushed(std::string flush_id, std::int64_t at_sample) override;
  void on_done(const UtteranceMetrics& metrics) override;
  void on_cancelled() override;
  void on_error(const Error& error) override;

  [[nodiscard]] std::optional<Event> pop();
  /// Samples that ever came in.
  [[nodiscard]] std::int64_t received_samples() const;
  /// Empties the mailbox for good; `wake` is not running when this returns and is never called again.
  void close();

 private:
  void put(Event event);
  void add_queued(std::int64_t samples);

  mutable std::mutex mutex_;
  std::function<void()> wake_;  ///< empty once closed
  std::deque<Event> events_;
  std::int64_t queued_samples_ = 0;
  std::int64_t received_samples_ = 0;
  int voice_rate_hz_;
  ServerMetrics& metrics_;
};

/// One utterance stream of a client: text in on one side, messages and audio frames out on the other. Knows no sockets
/// and no timers; time is a parameter. One thread at a time (the session's strand); the synthesizer reaches it through
/// its ContextSink alone. Destroying it cancels.
class Context {
 public:
  using Clock = std::chrono::steady_clock;

  /// One frame for the socket.
  struct Outgoing {
    bool binary = false;
    std::string data;
    bool final = false;              ///< nothing of the context follows; its state is final
    std::optional<Errc> error;       ///< `data` is an error message
    std::int64_t voice_samples = 0;  ///< Packet::voice_samples
    double audio_ms = 0;             ///< of this frame
    bool seam = false;
  };

  /// Errors of Synthesizer::open, Errc::unknown_voice and Errc::unsupported_format. `wake` as in ContextSink.
  [[nodiscard]] static Result<std::unique_ptr<Context>> open(const OpenMessage& message, Synthesizer& synthesizer,
                                                             const ProtocolLimits& limits,
                                                             const FeedOptions& feed_defaults, ServerMetrics& metrics,
                                                             std::function<void()> wake, Clock::time_point now);
  ~Context();
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  [[nodiscard]] std::uint32_t id() const noexcept { return id_; }
  [[nodiscard]] ContextState state() const noexcept { return state_; }
  [[nodiscard]] OpenedMessage opened() const;

  // From the client. An error ends the context: the caller sends it and drops the context.

  /// Errc::text_too_long above ProtocolLimits::max_text_chars; Errc::bad_message after end().
  [[nodiscard]] Result<void> text(std::string_view bytes, Clock::time_point now);
  /// Errc::rate_limited above max_pending_flushes; Errc::bad_message after end().
  [[nodiscard]] Result<void> flush(MessageId id, Clock::time_point now);
  [[nodiscard]] Result<void> end(Clock::time_point now);
  void credit(std::chrono::milliseconds ahead, Clock::time_point now);
  /// Stops the utterance and says what was heard: up to `played_ms`, else up to where the playback clock is.
  /// spoken_text and remaining_text together are all text of the context.
  [[nodiscard]] CancelledMessage cancel(std::optional<double> played_ms, Clock::time_point now);

  // To the client.

  /// The next frame, encoding it if need be; nullopt when there is none now (wake or wake_at() tell when to ask again).
  [[nodiscard]] std::optional<Outgoing> next(Clock::time_point now);
  /// `frame` is on the socket: only now its audio counts as taken.
  void written(const Outgoing& frame, Clock::time_point now);
  /// Text whose delay is over goes to the synthesizer. Errc::timeout when the context has been idle too long.
  [[nodiscard]] Result<void> tick(Clock::time_point now);
  /// When next() or tick() should be called even if nothing arrives.
  [[nodiscard]] Clock::time_point wake_at(Clock::time_point now) const;

 private:
  struct Spoken {
    std::size_t in_start = 0;
    std::size_t in_end = 0;
    Clock::time_point since;  ///< given to the synthesizer
  };

  Context(const OpenMessage& message, const ProtocolLimits& limits, const FeedOptions& feed, ServerMetrics& metrics,
          Packetizer packetizer, int voice_rate_hz, Clock::time_point now);

  [[nodiscard]] Result<void> speak(std::vector<TextSegment> segments, Clock::time_point now);
  /// Hands pending segments on until the synthesizer is full.
  [[nodiscard]] Result<void> submit();
  void move_to(ContextEvent event);
  /// Cancels the utterance and lets go of all audio.
  void release();
  [[nodiscard]] bool may_send(Clock::time_point now) const;
  [[nodiscard]] std::optional<Outgoing> handle(ContextSink::Event event);
  [[nodiscard]] static Outgoing message(std::string json);
  [[nodiscard]] Outgoing fail(const Error& error);
  [[nodiscard]] std::vector<MarkItem> timeline() const;
  [[nodiscard]] std::size_t heard_until(double played_ms) const;

  std::uint32_t id_;
  ContextState state_ = ContextState::open;
  AudioFormat format_;
  bool marks_;
  ProtocolLimits limits_;
  ServerMetrics& metrics_;
  int voice_rate_hz_;
  TextFeed feed_;
  Packetizer packetizer_;
  PlaybackClock clock_;
  std::shared_ptr<ContextSink> sink_;
  std::unique_ptr<Utterance> utterance_;  ///< null once final

  std::deque<TextSegment> pending_;  ///< not yet taken by the synthesizer
  bool end_sent_ = false;
  std::deque<MessageId> flushes_;                       ///< not yet answered
  std::optional<Outgoing> after_audio_;                 ///< to send when the packetizer has no frame left
  std::vector<Spoken> spoken_;                          ///< segments with text, in order
  std::vector<std::int64_t> seams_;                     ///< voice samples at which segments began
  std::vector<MarkItem> heard_;                         ///< marks so far
  std::optional<UtteranceMetrics> done_;                ///< the synthesizer has finished
  Clock::time_point owed_since_{};                      ///< when the segment now beginning was asked for
  std::optional<std::chrono::milliseconds> max_ahead_;  ///< credit
  Clock::time_point last_active_;
  std::optional<Clock::time_point> first_text_;  ///< unset again once the first packet is out
  double sent_ms_ = 0;                           ///< audio in frames written
};

}  // namespace tts
