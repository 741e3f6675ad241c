#include "streaming/metrics.h"

#include <cstdio>
#include <fstream>

#include <unistd.h>

#include "src/core/json_string.h"

namespace tts {
namespace {

std::string decimal(double value) {
  char text[64];
  std::snprintf(text, sizeof text, "%.9g", value);
  return text;
}

void write_series(std::string& out, const char* name, const char* type, const char* help, const std::string& value) {
  out +=
      std::string("# HELP ") + name + ' ' + help + "\n# TYPE " + name + ' ' + type + '\n' + name + ' ' + value + '\n';
}

/// Resident memory of this process in bytes; 0 when the kernel does not say.
std::int64_t resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  std::int64_t pages = 0;
  std::int64_t resident = 0;
  statm >> pages >> resident;
  return statm ? resident * sysconf(_SC_PAGESIZE) : 0;
}

}  // namespace

void DurationHistogram::observe(std::chrono::duration<double> duration) noexcept {
  std::size_t bucket = 0;
  while (bucket < kBounds.size() && duration.count() > kBounds[bucket]) ++bucket;
  counts_[bucket].fetch_add(1, std::memory_order_relaxed);
  total_us_.fetch_add(std::chrono::duration_cast<std::chrono::microseconds>(duration).count(),
                      std::memory_order_relaxed);
}

void DurationHistogram::write(std::string& out, const std::string& name) const {
  std::int64_t total = 0;
  for (std::size_t i = 0; i <= kBounds.size(); ++i) {
    total += counts_[i].load(std::memory_order_relaxed);
    const std::string bound = i < kBounds.size() ? decimal(kBounds[i]) : "+Inf";
    out += name + "_bucket{le=\"" + bound + "\"} " + std::to_string(total) + '\n';
  }
  out += name + "_sum " + decimal(static_cast<double>(total_us_.load(std::memory_order_relaxed)) * 1e-6) + '\n';
  out += name + "_count " + std::to_string(total) + '\n';
}

std::string to_prometheus(const ServerMetrics& metrics, const SynthesizerStats& stats, bool ready,
                          std::span<const GpuFigures> gpus) {
  std::string out;
  const auto gauge = [&out](const char* name, const char* help, std::int64_t value) {
    write_series(out, name, "gauge", help, std::to_string(value));
  };
  const auto counter = [&out](const char* name, const char* help, std::int64_t value) {
    write_series(out, name, "counter", help, std::to_string(value));
  };
  const auto seconds = [](std::int64_t us) { return decimal(static_cast<double>(us) * 1e-6); };
  gauge("sonorant_ready", "1 when voices are warm and the server is not draining.", ready ? 1 : 0);
  gauge("sonorant_connections", "TCP connections.", metrics.live_connections);
  gauge("sonorant_sessions", "WebSocket sessions.", metrics.live_sessions);
  gauge("sonorant_contexts", "Open contexts.", metrics.live_contexts);
  gauge("sonorant_voices_in_memory", "Voices whose weights are in memory.", stats.voices_in_memory);
  gauge("sonorant_weight_bytes", "Weights in memory, shared ones once.", stats.weight_bytes);
  gauge("sonorant_reader_bytes", "Of these those of the network that reads Chinese.", stats.reader_bytes);
  counter("sonorant_voices_dropped_total", "Voices let go for want of room.", stats.voices_dropped);
  counter("sonorant_texts_unread_total", "Chinese texts spoken without that network, missing or without room.",
          stats.texts_unread);
  gauge("sonorant_slots", "Segments whose tokens can be drawn at once, of the models in memory.", stats.slots);
  gauge("sonorant_slots_taken", "Of these, taken.", stats.slots_taken);
  gauge("sonorant_slot_bytes", "Keys and values of all slots when they are full.", stats.slot_bytes);
  gauge("sonorant_quality_steps", "Steps that quality has taken down, because the machine is nearly full.",
        stats.quality_steps);
  gauge("sonorant_utterances", "Utterances live in the synthesizer.", stats.live_utterances);
  gauge("sonorant_utterances_waiting", "Of these, waiting for the machine to have room.", stats.waiting_utterances);
  write_series(out, "sonorant_load", "gauge", "Share of the processors that running utterances take.",
               decimal(stats.load));
  gauge("sonorant_pending_segments", "Text segments waiting for room in the synthesizer.",
        metrics.live_pending_segments);
  write_series(out, "sonorant_queued_audio_seconds", "gauge", "Audio made and not yet encoded.",
               seconds(metrics.live_queued_audio_us));
  gauge("sonorant_resident_memory_bytes", "Resident memory of the process.", resident_bytes());
  counter("sonorant_sessions_total", "WebSocket sessions accepted.", metrics.sessions);
  counter("sonorant_contexts_total", "Contexts opened.", metrics.contexts);
  counter("sonorant_contexts_done_total", "Contexts that ended with done.", metrics.contexts_done);
  counter("sonorant_contexts_cancelled_total", "Contexts that ended with cancelled.", metrics.contexts_cancelled);
  counter("sonorant_utterances_total", "Utterances started in the synthesizer.", stats.utterances_total);
  counter("sonorant_utterances_refused_total", "Utterances refused because the machine was full.", stats.refused_total);
  counter("sonorant_segments_reduced_total", "Segments spoken in fewer flow steps, because it was nearly full.",
          stats.reduced_segments_total);
  counter("sonorant_utterances_lighter_total", "Utterances spoken by a lighter voice than was asked for.",
          stats.lighter_utterances_total);
  counter("sonorant_decode_steps_total", "Decode steps, each for several utterances.", stats.decode_steps_total);
  counter("sonorant_tokens_total", "Semantic tokens made.", stats.tokens_total);
  counter("sonorant_guard_faults_total", "Loops, skipped words, early ends and the like in the tokens.",
          stats.guard.faults);
  counter("sonorant_guard_retries_total", "Times tokens were drawn again because of them, unheard.",
          stats.guard.retries);
  counter("sonorant_guard_resumes_total", "Times the rest of a text was begun anew.", stats.guard.resumes);
  counter("sonorant_guard_cuts_total", "Ends put where the model had set none.", stats.guard.cuts);
  counter("sonorant_samples_total", "Audio samples made, at the voices' rates.", stats.samples_total);
  write_series(out, "sonorant_busy_seconds_total", "counter", "Time the engine's threads worked.",
               decimal(stats.busy_seconds_total));
  counter("sonorant_text_chars_total", "Code points of text received.", metrics.text_chars);
  counter("sonorant_packets_total", "Audio frames sent.", metrics.packets);
  counter("sonorant_packet_bytes_total", "Bytes of audio frames sent, headers included.", metrics.packet_bytes);
  write_series(out, "sonorant_audio_seconds_total", "counter", "Audio sent.", seconds(metrics.audio_sent_us));
  counter("sonorant_http_requests_total", "HTTP requests answered, upgrades included.", metrics.http_requests);
  const auto of_gpus = [&](const char* name, const char* help, auto value) {
    if (gpus.empty()) return;
    out += std::string("# HELP ") + name + ' ' + help + "\n# TYPE " + name + " gauge\n";
    for (const GpuFigures& gpu : gpus) {
      out += std::string(name) + "{gpu=\"" + std::to_string(gpu.index) + "\",name=" + json_string(gpu.name) + "} " +
             decimal(value(gpu)) + '\n';
    }
  };
  of_gpus("sonorant_gpu_utilization", "Share of time in which the GPU worked.",
          [](const GpuFigures& gpu) { return gpu.utilization; });
  of_gpus("sonorant_gpu_memory_used_bytes", "GPU memory in use, by all processes.",
          [](const GpuFigures& gpu) { return static_cast<double>(gpu.memory_used_bytes); });
  of_gpus("sonorant_gpu_memory_bytes", "GPU memory.",
          [](const GpuFigures& gpu) { return static_cast<double>(gpu.memory_total_bytes); });
  out += "# HELP sonorant_errors_total Errors sent to clients.\n# TYPE sonorant_errors_total counter\n";
  for (std::size_t i = 0; i < metrics.errors.size(); ++i) {
    out += std::string("sonorant_errors_total{code=\"") + to_string(static_cast<Errc>(i)) + "\"} " +
           std::to_string(metrics.errors[i].load()) + '\n';
  }
  out +=
      "# HELP sonorant_first_packet_seconds First text given to the synthesizer until the first audio frame is sent.\n"
      "# TYPE sonorant_first_packet_seconds histogram\n";
  metrics.first_packet.write(out, "sonorant_first_packet_seconds");
  return out;
}

}  // namespace tts
