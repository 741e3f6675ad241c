#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "src/app/cli.h"
#include "src/core/result.h"
#include "src/engine/synthesizer.h"

namespace tts {

struct Quantiles {
  double p50 = 0;
  double p95 = 0;
  double least = 0;
  double most = 0;
};

/// Nearest rank; all 0 for no values.
[[nodiscard]] Quantiles quantiles(std::vector<double> values);

struct BenchReport {
  std::string machine;  ///< CPU and its number of hardware threads
  std::string voice;
  std::string text;
  int runs = 0;
  Quantiles first_audio_ms;  ///< speak() -> first samples at the caller
  Quantiles rtf;             ///< inference-thread time per audio time
  Quantiles audio_ms;
  std::vector<std::pair<std::string, Quantiles>> stages;  ///< UtteranceMetrics, ms
  std::optional<Quantiles> socket_first_packet_ms;        ///< text and flush sent -> first binary frame received
  double rss_mb = 0;                                      ///< now
  double peak_rss_mb = 0;
};

/// Two warm-up runs, then command.runs utterances one after another, seeds 1, 2, ... Errors of the engine as they come.
[[nodiscard]] Result<BenchReport> bench(Synthesizer& synthesizer, const BenchCommand& command);

/// Fills socket_first_packet_ms from a client of the server at host:port: command.runs contexts one after another, each
/// with text and flush at once after `opened`, on one socket.
[[nodiscard]] Result<void> bench_socket(BenchReport& report, const std::string& host, int port,
                                        const BenchCommand& command);

[[nodiscard]] std::string to_json(const BenchReport& report);
[[nodiscard]] std::string to_text(const BenchReport& report);

}  // namespace tts
