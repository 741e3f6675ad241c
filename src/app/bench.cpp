#include "src/app/bench.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <thread>
#include <utility>

#include "src/app/cpu_environment.h"
#include "src/app/speak.h"
#include "src/app/stream_client.h"
#include "src/core/json_string.h"

namespace tts {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kWarmUps = 2;
constexpr const char* kText =
    "The harbour lay still this morning, and the first boats came back before noon. Nobody had expected them so early.";

std::string number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.4g", value);
  return text;
}

std::string to_json(const Quantiles& q) {
  return "{\"p50\":" + number(q.p50) + ",\"p95\":" + number(q.p95) + ",\"min\":" + number(q.least) +
         ",\"max\":" + number(q.most) + "}";
}

std::string to_line(const std::string& name, const Quantiles& q) {
  char line[128];
  std::snprintf(line, sizeof line, "%-22s p50 %9.3f   p95 %9.3f   min %9.3f   max %9.3f\n", name.c_str(), q.p50, q.p95,
                q.least, q.most);
  return line;
}

std::string read_file(const char* path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::string machine_name() {
  const std::string cpu = cpu_name(read_file("/proc/cpuinfo"));
  return (cpu.empty() ? "unknown CPU" : cpu) + ", " + std::to_string(std::thread::hardware_concurrency()) + " threads";
}

// "VmRSS:   1234 kB" of /proc/self/status in MB.
double status_mb(const std::string& status, const char* key) {
  const std::size_t at = status.find(key);
  return at == std::string::npos ? 0 : std::strtod(status.c_str() + at + std::string(key).size(), nullptr) / 1024;
}

void read_memory(BenchReport& report) {
  const std::string status = read_file("/proc/self/status");
  report.rss_mb = status_mb(status, "VmRSS:");
  report.peak_rss_mb = status_mb(status, "VmHWM:");
}

double ms_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

std::string text_of(const BenchCommand& command) {
  return command.text.empty() ? kText : command.text;
}

}  // namespace

Quantiles quantiles(std::vector<double> values) {
  if (values.empty()) return {};
  std::sort(values.begin(), values.end());
  const auto rank = [&](double share) {
    const auto n = static_cast<std::size_t>(std::ceil(share * static_cast<double>(values.size())));
    return values[std::max<std::size_t>(n, 1) - 1];
  };
  return {rank(0.5), rank(0.95), values.front(), values.back()};
}

Result<BenchReport> bench(Synthesizer& synthesizer, const BenchCommand& command) {
  auto voice = find_voice(synthesizer, command.voice);
  if (!voice) return voice.error();
  BenchReport report;
  report.machine = machine_name();
  report.voice = command.voice;
  report.text = text_of(command);
  report.runs = command.runs;

  std::vector<Spoken> runs;
  for (int i = -kWarmUps; i < command.runs; ++i) {
    UtteranceOptions options;
    options.voice = command.voice;
    options.lang = command.lang;
    options.seed = static_cast<std::uint64_t>(i + kWarmUps + 1);
    auto spoken = speak(synthesizer, options, report.text, [](std::span<const float>) { return Result<void>(); });
    if (!spoken) return spoken.error();
    if (spoken->samples == 0) return Error{Errc::bad_message, "bench: the text gave no audio"};
    if (i >= 0) runs.push_back(*spoken);
  }
  const auto over_runs = [&](auto value) {
    std::vector<double> values;
    for (const Spoken& run : runs) values.push_back(value(run));
    return quantiles(std::move(values));
  };
  report.first_audio_ms = over_runs([](const Spoken& run) { return run.first_audio_ms; });
  report.rtf = over_runs([](const Spoken& run) { return run.metrics.rtf; });
  report.audio_ms =
      over_runs([&](const Spoken& run) { return 1000.0 * static_cast<double>(run.samples) / voice->rate_hz; });
  report.stages = {
      {"queue_ms", over_runs([](const Spoken& run) { return run.metrics.queue_ms; })},
      {"text_ms", over_runs([](const Spoken& run) { return run.metrics.text_ms; })},
      {"prefill_ms", over_runs([](const Spoken& run) { return run.metrics.prefill_ms; })},
      {"first_token_ms", over_runs([](const Spoken& run) { return run.metrics.first_token_ms; })},
      {"first_audio_ms", over_runs([](const Spoken& run) { return run.metrics.first_audio_ms; })},
      {"busy_ms", over_runs([](const Spoken& run) { return run.metrics.busy_ms; })},
      {"total_ms", over_runs([](const Spoken& run) { return run.total_ms; })},
  };
  read_memory(report);
  return report;
}

Result<void> bench_socket(BenchReport& report, const std::string& host, int port, const BenchCommand& command) {
  auto client = StreamClient::connect(host, port);
  if (!client) return client.error();
  std::vector<double> first_packet_ms;
  for (int i = -kWarmUps; i < command.runs; ++i) {
    const std::string ctx = "\"ctx\":" + std::to_string(i + kWarmUps + 1);
    const std::string seed = ",\"seed\":" + std::to_string(i + kWarmUps + 1);
    auto sent =
        client->send("{\"type\":\"open\"," + ctx + seed + ",\"voice\":" + json_string(command.voice) +
                     ",\"lang\":" + json_string(command.lang) + ",\"format\":{\"codec\":\"opus\",\"rate\":48000}}");
    if (!sent) return sent;
    Clock::time_point start;
    bool heard = false;
    for (bool done = false; !done;) {
      auto frame = client->receive();
      if (!frame) return frame.error();
      if (frame->binary) {
        if (!std::exchange(heard, true) && i >= 0) first_packet_ms.push_back(ms_since(start));
        continue;
      }
      const std::string type = json_field(frame->text(), "type");
      if (type == "error") return Error{Errc::internal, "server: " + frame->text()};
      if (type == "opened") {
        const std::string text = "{\"type\":\"text\"," + ctx + ",\"text\":" + json_string(report.text) + "}";
        start = Clock::now();
        for (const std::string& message :
             {text, "{\"type\":\"flush\"," + ctx + "}", "{\"type\":\"end\"," + ctx + "}"}) {
          if (sent = client->send(message); !sent) return sent;
        }
      }
      done = type == "done";
    }
    if (!heard) return Error{Errc::internal, "server: no audio before done"};
  }
  client->close();
  report.socket_first_packet_ms = quantiles(std::move(first_packet_ms));
  read_memory(report);
  return {};
}

std::string to_json(const BenchReport& report) {
  std::string stages;
  for (const auto& [name, value] : report.stages) {
    if (!stages.empty()) stages += ',';
    stages += json_string(name);
    stages += ':';
    stages += to_json(value);
  }
  std::string out = "{\"version\":" + json_string(SONORANT_VERSION) + ",\"machine\":" + json_string(report.machine) +
                    ",\"voice\":" + json_string(report.voice) + ",\"text\":" + json_string(report.text) +
                    ",\"runs\":" + std::to_string(report.runs) +
                    ",\"first_audio_ms\":" + to_json(report.first_audio_ms) + ",\"rtf\":" + to_json(report.rtf) +
                    ",\"audio_ms\":" + to_json(report.audio_ms) + ",\"stages\":{" + stages + "}";
  if (report.socket_first_packet_ms) {
    out += ",\"socket_first_packet_ms\":" + to_json(*report.socket_first_packet_ms);
  }
  return out + ",\"rss_mb\":" + number(report.rss_mb) + ",\"peak_rss_mb\":" + number(report.peak_rss_mb) + "}\n";
}

std::string to_text(const BenchReport& report) {
  std::string out = "machine  " + report.machine + "\nvoice    " + report.voice + "\ntext     " + report.text +
                    "\nruns     " + std::to_string(report.runs) + "\n\n";
  out += to_line("first audio, ms", report.first_audio_ms);
  if (report.socket_first_packet_ms) out += to_line("first packet, ms", *report.socket_first_packet_ms);
  out += to_line("RTF", report.rtf);
  out += to_line("audio, ms", report.audio_ms);
  for (const auto& [name, value] : report.stages) out += to_line("  " + name, value);
  char line[80];
  std::snprintf(line, sizeof line, "\nRSS %.0f MB, peak %.0f MB\n", report.rss_mb, report.peak_rss_mb);
  return out + line;
}

}  // namespace tts
