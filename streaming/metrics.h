#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <span>
#include <string>

#include "src/core/gpu_figures.h"
#include "src/core/result.h"
#include "src/engine/synthesizer.h"

namespace tts {

/// Counts of durations in fixed buckets (Prometheus histogram). Thread-safe.
class DurationHistogram {
 public:
  /// Upper bounds in seconds; one more bucket takes the rest.
  static constexpr std::array<double, 12> kBounds{0.02, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0};

  void observe(std::chrono::duration<double> duration) noexcept;
  /// Appends the series of `name` in the text format.
  void write(std::string& out, const std::string& name) const;

 private:
  std::array<std::atomic<std::int64_t>, kBounds.size() + 1> counts_{};
  std::atomic<std::int64_t> total_us_{0};
};

/// What the server counts about itself; live_* are gauges, the others only grow. Thread-safe.
struct ServerMetrics {
  std::atomic<std::int64_t> live_connections{0};
  std::atomic<std::int64_t> live_sessions{0};
  std::atomic<std::int64_t> live_contexts{0};
  std::atomic<std::int64_t> live_pending_segments{0};  ///< waiting for room in the synthesizer
  std::atomic<std::int64_t> live_queued_audio_us{0};   ///< made, not yet encoded
  std::atomic<std::int64_t> sessions{0};
  std::atomic<std::int64_t> contexts{0};
  std::atomic<std::int64_t> contexts_done{0};
  std::atomic<std::int64_t> contexts_cancelled{0};
  std::atomic<std::int64_t> text_chars{0};
  std::atomic<std::int64_t> packets{0};
  std::atomic<std::int64_t> packet_bytes{0};
  std::atomic<std::int64_t> audio_sent_us{0};
  std::atomic<std::int64_t> http_requests{0};
  std::array<std::atomic<std::int64_t>, static_cast<std::size_t>(Errc::cancelled) + 1> errors{};
  DurationHistogram first_packet;  ///< first text handed to the synthesizer -> first packet on the socket

  void count_error(Errc code) noexcept { errors[static_cast<std::size_t>(code)].fetch_add(1); }
};

/// The body of GET /metrics.
[[nodiscard]] std::string to_prometheus(const ServerMetrics& metrics, const SynthesizerStats& stats, bool ready,
                                        std::span<const GpuFigures> gpus = {});

}  // namespace tts
