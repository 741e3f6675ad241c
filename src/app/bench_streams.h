#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "src/core/result.h"
#include "src/engine/synthesizer.h"

namespace tts {

struct Quantiles {
  double p50 = 0;
  double p95 = 0;
  double p99 = 0;
  double least = 0;
  double most = 0;
  std::int64_t count = 0;
};

/// Nearest rank; all 0 for no values.
[[nodiscard]] Quantiles quantiles(std::vector<double> values);

/// A loudspeaker that plays packets as they come: it starts with the first one, or `jitter` later, and when it runs dry
/// it waits for the next packet and goes on from there. Time is what the caller says.
class Playback {
 public:
  using Time = std::chrono::steady_clock::time_point;
  using Duration = std::chrono::steady_clock::duration;

  explicit Playback(Duration jitter = {}) : jitter_(jitter) {}

  /// A packet that lasts `length` has come.
  void packet(Time now, Duration length);
  /// Nothing came until `now`, and something should have.
  void starve(Time now);

  [[nodiscard]] bool started() const noexcept { return dry_.has_value(); }
  /// When all that has come is played; only when started.
  [[nodiscard]] Time dry() const { return *dry_; }
  [[nodiscard]] Duration worst_underrun() const noexcept { return worst_; }
  /// Of all underruns together: how far it is behind one that never waits.
  [[nodiscard]] Duration lag() const noexcept { return lag_; }
  [[nodiscard]] int underruns() const noexcept { return underruns_; }

 private:
  Duration jitter_;
  Duration worst_{};
  Duration lag_{};
  int underruns_ = 0;
  std::optional<Time> dry_;
};

/// How a text comes out of a language model: a few words at a time.
struct Burst {
  std::string text;
  std::chrono::microseconds at{0};  ///< after the first one
  bool completes_first = false;     ///< the first sentence is complete with this one
};

/// Cuts a text into bursts of one to four words (a CJK character counts as one), at `words_per_second` with some
/// unevenness; the same seed gives the same bursts. Their texts joined are the text.
[[nodiscard]] std::vector<Burst> to_bursts(std::string_view text, double words_per_second, std::uint64_t seed);

/// One load: `streams` listeners at once, each on a socket of its own, each hearing reply after reply.
struct LoadOptions {
  int streams = 1;
  std::string voice = "starter";
  std::string lang = "en";
  std::vector<std::string> replies;                 ///< what is said, in turn; not empty
  std::chrono::milliseconds ramp{2'000};            ///< the streams start spread over so much
  std::chrono::milliseconds window{20'000};         ///< after the ramp: what rates are measured over
  std::chrono::milliseconds pause{0};               ///< between the last sound of a reply and the next reply's text
  std::chrono::milliseconds jitter{0};              ///< of the player, see Playback
  std::optional<std::chrono::milliseconds> credit;  ///< sent with each context; unset: the server may run ahead
  double words_per_second = 20;                     ///< of the text
  std::uint64_t seed = 1;
};

/// What was measured at one load. "Reply" is one context: one open, its text, its audio.
struct LoadReport {
  int streams = 0;
  double seconds = 0;  ///< of the window, less when it was interrupted
  int replies = 0;     ///< contexts that were opened or refused
  int replies_done = 0;
  int refused = 0;                      ///< with `overloaded`, sockets that got no session included
  std::map<std::string, int> errors;    ///< other error codes, and "connect" and "closed" of sockets
  Quantiles retry_after_ms;             ///< what refusals said
  Quantiles first_packet_ms;            ///< first sentence complete at the client -> its first packet
  Quantiles first_packet_from_word_ms;  ///< first word sent -> first packet; holds the time the text itself took
  int first_packets_owed = 0;   ///< still waited for at the end for 300 ms or more; in the two above with their age
  int streams_heard = 0;        ///< streams that got any audio
  double share_streams_ok = 0;  ///< of `streams`: heard, and no underrun longer than kMaxUnderrun
  double share_replies_ok = 0;  ///< of the replies that made a sound
  Quantiles worst_underrun_ms;  ///< one value per stream heard
  double worst_lag_ms = 0;      ///< longest of all underruns of one reply together
  std::int64_t underruns = 0;   ///< of any length
  std::int64_t packets = 0;
  double heard_seconds = 0;      ///< of audio that reached the clients, in all
  double tokens_per_second = 0;  ///< of wall time
  double tokens_per_busy_second = 0;
  double audio_per_second = 0;    ///< seconds of speech made in a second of wall time
  double rtf = 0;                 ///< inference-thread time per time of speech made
  double cpu_rtf = 0;             ///< CPU time of the whole server per time of speech made
  double server_cpu_seconds = 0;  ///< of this process without the clients' thread
  double client_cpu_seconds = 0;  ///< of the clients' thread
  Quantiles client_late_ms;       ///< how late the clients' timers were: what the machine adds to the figures above
  double rss_mb = 0;
  double peak_rss_mb = 0;  ///< since the load began, where the system lets it be reset
  bool interrupted = false;
};

inline constexpr std::chrono::milliseconds kMaxUnderrun{100};
inline constexpr double kMinShareOk = 0.99;
inline constexpr double kMaxFirstPacketMs = 300;  ///< p95

/// Nothing was refused or failed, the first packet's p95 is within kMaxFirstPacketMs, and at least kMinShareOk of the
/// streams had no underrun longer than kMaxUnderrun.
[[nodiscard]] bool holds(const LoadReport& report);

/// The largest n in [1, most] for which `probe` says true, 0 for none: doubles from `from`, then halves the interval.
/// `probe` is taken to be true up to some n and false above; an empty answer ends the search with what is known.
[[nodiscard]] int find_largest(int from, int most, const std::function<std::optional<bool>(int n)>& probe);

struct MemoryUse {
  double rss_mb = 0;
  double peak_rss_mb = 0;
};

/// What a server has used up to one moment.
struct Observed {
  SynthesizerStats stats;
  double cpu_seconds = 0;  ///< without the thread that asks; 0: not known
  MemoryUse memory;
};

/// Looks at the server that is measured. Called on the clients' thread when a load begins and ends.
class Observer {
 public:
  virtual ~Observer() = default;
  [[nodiscard]] virtual Observed look() = 0;
  /// The peak of memory counts from now on, where the system can do that.
  virtual void forget_peak() = 0;
};

/// A server in this process.
[[nodiscard]] std::unique_ptr<Observer> observe_here(const Synthesizer& synthesizer);
/// One in another process, over its /metrics; CPU time and peak of memory where its process id is given, not 0.
[[nodiscard]] std::unique_ptr<Observer> observe_there(std::uint16_t port, int pid);
/// The voices of the server at 127.0.0.1:port, over /v1/voices.
[[nodiscard]] Result<std::vector<VoiceInfo>> voices_there(std::uint16_t port);

/// Runs the clients of one load against the server at 127.0.0.1:port on the calling thread. `rate_hz` is the voice's.
/// `progress`, if any, hears the state about once a second. `stop` ends it early, with what was measured.
/// Errc::internal when not one client could connect.
[[nodiscard]] Result<LoadReport> run_load(std::uint16_t port, const LoadOptions& options, Observer& observer,
                                          int rate_hz, const std::function<void(const LoadReport&)>& progress,
                                          const std::atomic<bool>& stop);

/// Replies of three plain English sentences.
[[nodiscard]] std::vector<std::string> bench_replies();

/// Of the process with this id; "self": this one.
[[nodiscard]] MemoryUse memory_use(const std::string& pid = "self");

}  // namespace tts
