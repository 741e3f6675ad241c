#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "src/app/bench_streams.h"
#include "src/app/cli.h"
#include "src/core/result.h"
#include "src/engine/synthesizer.h"

namespace tts {

/// What was measured on.
struct Machine {
  std::string cpu;                    ///< model
  int threads = 0;                    ///< of the hardware
  std::vector<std::string> features;  ///< of the CPU, those that matter to the networks
  double memory_mb = 0;
  std::string system;                                          ///< of the kernel
  std::vector<std::pair<std::string, std::string>> libraries;  ///< name and version
};

/// A stage that was measured alone.
struct StageReport {
  std::string stage;
  int at = 0;  ///< positions of a prefill, rows of a decode step; 0: of neither
  std::string unit;
  Quantiles spread;
};

struct BenchReport {
  Machine machine;
  std::string started;  ///< UTC, ISO 8601
  std::string commit;   ///< as the caller said; may be empty
  int threads = 1;      ///< engine.threads
  int max_utterances = 0;
  std::string voice;
  std::string text;
  int runs = 0;
  Quantiles first_audio_ms;  ///< speak() -> first samples at the caller
  Quantiles rtf;             ///< inference-thread time per audio time
  Quantiles audio_ms;
  std::vector<std::pair<std::string, Quantiles>> stages;  ///< UtteranceMetrics, ms
  std::vector<StageReport> stages_alone;
  std::optional<Quantiles> socket_first_packet_ms;  ///< text and flush sent -> first binary frame received
  double rss_mb = 0;                                ///< after the runs
  double peak_rss_mb = 0;
  LoadOptions load;               ///< of all loads, but for the number of streams
  std::vector<LoadReport> loads;  ///< in order of streams
  std::optional<int> largest;     ///< streams that hold, where it was searched for
  bool interrupted = false;
};

/// Beyond what a search looks.
inline constexpr int kMaxBenchStreams = 20'000;

/// Where word of a measurement in progress goes.
struct BenchNews {
  std::function<void(const std::string&)> now;   ///< how it stands, about every second; may be empty
  std::function<void(const std::string&)> line;  ///< what is finished; may be empty
};

/// What is said: the command's text, or a fixed one.
[[nodiscard]] std::string bench_text(const BenchCommand& command);

/// Fills rss_mb and peak_rss_mb.
void read_memory(BenchReport& report);

/// What a report says of itself: machine, time, and what the command says of it.
void describe(BenchReport& report, const BenchCommand& command);

/// Fills `report`: two warm-up runs, then command.runs utterances one after another, seeds 1, 2, ... Errors of the
/// engine as they come. `stop` ends it after the utterance that is being spoken.
[[nodiscard]] Result<void> bench(BenchReport& report, Synthesizer& synthesizer, const BenchCommand& command,
                                 const std::atomic<bool>& stop);

/// Fills socket_first_packet_ms from a client of the server at host:port: command.runs contexts one after another, each
/// with text and flush at once after `opened`, on one socket.
[[nodiscard]] Result<void> bench_socket(BenchReport& report, const std::string& host, int port,
                                        const BenchCommand& command);

/// Fills `load`, `loads` and `largest` with what command.streams and command.search ask for, from listeners of the
/// server at 127.0.0.1:port, see run_load(); `voices` are that server's.
[[nodiscard]] Result<void> bench_streams(BenchReport& report, const std::vector<VoiceInfo>& voices, Observer& observer,
                                         std::uint16_t port, const BenchCommand& command, const BenchNews& news,
                                         const std::atomic<bool>& stop);

[[nodiscard]] std::string to_json(const BenchReport& report);
[[nodiscard]] std::string to_text(const BenchReport& report);

}  // namespace tts
