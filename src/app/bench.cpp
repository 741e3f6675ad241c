#include "src/app/bench.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <span>
#include <thread>
#include <utility>

#include <sys/utsname.h>

#include "src/app/cpu_environment.h"
#include "src/app/speak.h"
#include "src/app/stream_client.h"
#include "src/core/json_string.h"
#include "src/core/small_file.h"

namespace tts {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kWarmUps = 2;
constexpr const char* kText =
    "The harbour lay still this morning, and the first boats came back before noon. Nobody had expected them so early.";

std::string to_json(const Quantiles& q) {
  JsonObject figures;
  figures.real("p50", q.p50).real("p95", q.p95).real("p99", q.p99).real("min", q.least).real("max", q.most);
  return figures.integer("n", q.count).done();
}

std::string json_list(const std::vector<std::string>& items) {
  std::string out(1, '[');
  for (const std::string& item : items) {
    if (out.size() > 1) out += ',';
    out += item;
  }
  out += ']';
  return out;
}

template <class... Values>
std::string formatted(const char* format, Values... values) {
  char line[256];
  std::snprintf(line, sizeof line, format, values...);
  return line;
}

std::string to_line(const std::string& name, const Quantiles& q) {
  return formatted("%-22s p50 %9.3f   p95 %9.3f   min %9.3f   max %9.3f\n", name.c_str(), q.p50, q.p95, q.least,
                   q.most);
}

// Of a library that is in memory, what its file is called after links are followed: "libopus.so.0.8.0".
std::string file_of_library(const std::string& maps, const std::string& name) {
  const std::size_t at = maps.find("/" + name);
  if (at == std::string::npos) return {};
  return maps.substr(at + 1, maps.find_first_of(" \n", at) - at - 1);
}

// What the caller has said of libraries is kept; the others are told by their files.
Machine describe_machine(Machine machine) {
  const std::string cpu = read_small_file("/proc/cpuinfo");
  machine.cpu = cpu_name(cpu);
  if (machine.cpu.empty()) machine.cpu = "unknown CPU";
  machine.threads = static_cast<int>(std::thread::hardware_concurrency());
  const std::size_t flags_at = cpu.find("\nflags");
  const std::string flags = flags_at == std::string::npos
                                ? std::string()
                                : cpu.substr(flags_at + 1, cpu.find('\n', flags_at + 1) - flags_at - 1) + " ";
  for (const char* feature :
       {"avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_tile", "amx_bf16", "amx_int8"}) {
    if (flags.find(std::string(" ") + feature + " ") != std::string::npos) machine.features.emplace_back(feature);
  }
  const std::string memory = read_small_file("/proc/meminfo");
  if (const std::size_t at = memory.find("MemTotal:"); at != std::string::npos) {
    machine.memory_mb = std::strtod(memory.c_str() + at + 9, nullptr) / 1024;
  }
  utsname system{};
  if (::uname(&system) == 0) machine.system = std::string(system.sysname) + " " + system.release;
  const std::string maps = read_small_file("/proc/self/maps");
  for (const char* name : {"libtorch_cpu", "libdnnl", "libopenblas", "libmkl_core", "libopus"}) {
    if (const std::string file = file_of_library(maps, name); !file.empty()) machine.libraries.emplace_back(name, file);
  }
  return machine;
}

std::string name_of(const Machine& machine) {
  return machine.cpu + ", " + std::to_string(machine.threads) + " threads";
}

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  ::gmtime_r(&now, &utc);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc);
  return text;
}

double ms_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

}  // namespace

void read_memory(BenchReport& report) {
  const MemoryUse memory = memory_use();
  report.rss_mb = memory.rss_mb;
  report.peak_rss_mb = memory.peak_rss_mb;
}

std::string bench_text(const BenchCommand& command) {
  return command.text.empty() ? kText : command.text;
}

void describe(BenchReport& report, const BenchCommand& command) {
  report.machine = describe_machine(std::move(report.machine));
  report.started = utc_now();
  report.commit = command.commit;
  report.voice = command.voice;
  report.text = bench_text(command);
}

Result<void> bench(BenchReport& report, Synthesizer& synthesizer, const BenchCommand& command,
                   const std::atomic<bool>& stop) {
  auto voice = find_voice(synthesizer, command.voice);
  if (!voice) return voice.error();
  describe(report, command);

  std::vector<Spoken> runs;
  for (int i = -kWarmUps; i < command.runs && !stop; ++i) {
    UtteranceOptions options;
    options.voice = command.voice;
    options.lang = command.lang;
    options.seed = static_cast<std::uint64_t>(i + kWarmUps + 1);
    auto spoken = speak(synthesizer, options, report.text, [](std::span<const float>) { return Result<void>(); });
    if (!spoken) return spoken.error();
    if (spoken->samples == 0) return Error{Errc::bad_message, "bench: the text gave no audio"};
    if (i >= 0) runs.push_back(*spoken);
  }
  report.runs = static_cast<int>(runs.size());
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
  report.interrupted = stop;
  read_memory(report);
  return {};
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

namespace {

constexpr const char* kLoadHeader =
    "streams  first packet, ms       underrun   worst    worst  refused  tokens  RTF    CPU   clients'  RSS   holds\n"
    "         p50    p95    p99      <= 100 ms  underrun lag    %        /s             /s    CPU /s    MB\n";

std::string to_row(const LoadReport& load) {
  const double seconds = std::max(load.seconds, 1e-9);
  return formatted(
      "%7d  %-6.0f %-6.0f %-8.0f %5.1f %%    %-8.0f %-6.0f %-7.1f  %-6.0f  %-5.3f  %-4.2f  %-8.2f  %-5.0f %s%s\n",
      load.streams, load.first_packet_ms.p50, load.first_packet_ms.p95, load.first_packet_ms.p99,
      100 * load.share_streams_ok, load.worst_underrun_ms.most, load.worst_lag_ms,
      load.replies > 0 ? 100.0 * load.refused / load.replies : 0.0, load.tokens_per_second, load.rtf,
      load.server_cpu_seconds / seconds, load.client_cpu_seconds / seconds, load.rss_mb, holds(load) ? "yes" : "no",
      load.interrupted ? " (interrupted)" : "");
}

std::string to_json(const LoadReport& load) {
  JsonObject errors;
  for (const auto& [code, count] : load.errors) errors.integer(code, count);
  return JsonObject()
      .integer("streams", load.streams)
      .flag("holds", holds(load))
      .flag("interrupted", load.interrupted)
      .real("seconds", load.seconds)
      .integer("replies", load.replies)
      .integer("replies_done", load.replies_done)
      .integer("refused", load.refused)
      .real("refused_share", load.replies > 0 ? static_cast<double>(load.refused) / load.replies : 0)
      .raw("errors", errors.done())
      .raw("retry_after_ms", to_json(load.retry_after_ms))
      .raw("first_packet_ms", to_json(load.first_packet_ms))
      .raw("first_packet_from_word_ms", to_json(load.first_packet_from_word_ms))
      .integer("first_packets_owed", load.first_packets_owed)
      .integer("streams_heard", load.streams_heard)
      .real("share_streams_ok", load.share_streams_ok)
      .real("share_replies_ok", load.share_replies_ok)
      .raw("worst_underrun_ms", to_json(load.worst_underrun_ms))
      .real("worst_lag_ms", load.worst_lag_ms)
      .integer("underruns", load.underruns)
      .integer("packets", load.packets)
      .real("heard_seconds", load.heard_seconds)
      .real("tokens_per_second", load.tokens_per_second)
      .real("tokens_per_busy_second", load.tokens_per_busy_second)
      .real("audio_per_second", load.audio_per_second)
      .real("rtf", load.rtf)
      .real("cpu_rtf", load.cpu_rtf)
      .real("server_cpu_seconds", load.server_cpu_seconds)
      .real("client_cpu_seconds", load.client_cpu_seconds)
      .raw("client_late_ms", to_json(load.client_late_ms))
      .real("rss_mb", load.rss_mb)
      .real("peak_rss_mb", load.peak_rss_mb)
      .done();
}

std::string to_json(const Machine& machine) {
  std::vector<std::string> features;
  for (const std::string& feature : machine.features) features.push_back(json_string(feature));
  JsonObject libraries;
  for (const auto& [name, version] : machine.libraries) libraries.text(name, version);
  return JsonObject()
      .text("cpu", machine.cpu)
      .integer("threads", machine.threads)
      .raw("features", json_list(features))
      .real("memory_mb", machine.memory_mb)
      .text("system", machine.system)
      .raw("libraries", libraries.done())
      .done();
}

std::string streams_to_json(const BenchReport& report) {
  const LoadOptions& load = report.load;
  std::vector<std::string> loads;
  for (const LoadReport& each : report.loads) loads.push_back(to_json(each));
  JsonObject hold;
  hold.integer("max_underrun_ms", kMaxUnderrun.count())
      .real("min_share_streams_ok", kMinShareOk)
      .real("max_first_packet_p95_ms", kMaxFirstPacketMs);
  return JsonObject()
      .integer("ramp_ms", load.ramp.count())
      .integer("window_ms", load.window.count())
      .integer("pause_ms", load.pause.count())
      .integer("jitter_ms", load.jitter.count())
      .raw("credit_ms", load.credit ? std::to_string(load.credit->count()) : "null")
      .real("words_per_second", load.words_per_second)
      .raw("hold", hold.done())
      .raw("loads", json_list(loads))
      .raw("largest", report.largest ? std::to_string(*report.largest) : "null")
      .done();
}

}  // namespace

Result<void> bench_streams(BenchReport& report, const std::vector<VoiceInfo>& voices, Observer& observer,
                           std::uint16_t port, const BenchCommand& command, const BenchNews& news,
                           const std::atomic<bool>& stop) {
  const auto voice =
      std::find_if(voices.begin(), voices.end(), [&](const VoiceInfo& each) { return each.id == command.voice; });
  if (voice == voices.end()) return Error{Errc::unknown_voice, "voice: the server has no \"" + command.voice + "\""};
  using std::chrono::milliseconds;
  const auto of_seconds = [](double seconds) { return milliseconds(std::llround(1000 * seconds)); };
  LoadOptions& load = report.load;
  load.voice = command.voice;
  load.lang = command.lang;
  load.replies = command.text.empty() ? bench_replies() : std::vector{command.text};
  load.ramp = of_seconds(command.ramp_seconds);
  load.window = of_seconds(command.seconds);
  load.pause = milliseconds(command.pause_ms);
  load.jitter = milliseconds(command.jitter_ms);
  if (command.credit_ms > 0) load.credit = milliseconds(command.credit_ms);
  load.words_per_second = command.words_per_second;

  std::optional<Error> failure;
  const auto probe = [&](int streams) -> std::optional<bool> {
    if (stop) return std::nullopt;
    load.streams = streams;
    std::function<void(const LoadReport&)> progress;
    if (news.now) {
      progress = [&](const LoadReport& so_far) {
        news.now(formatted(
            "%d streams, %.0f of %.0f s: first packet p50 %.0f p95 %.0f ms, worst underrun %.0f ms, "
            "refused %d",
            so_far.streams, so_far.seconds, std::chrono::duration<double>(load.ramp + load.window).count(),
            so_far.first_packet_ms.p50, so_far.first_packet_ms.p95, so_far.worst_underrun_ms.most, so_far.refused));
      };
    }
    auto measured = run_load(port, load, observer, voice->rate_hz, progress, stop);
    if (!measured) {
      failure = measured.error();
      return std::nullopt;
    }
    report.interrupted = report.interrupted || measured->interrupted;
    const bool held = holds(*measured);
    if (news.line) {
      news.line(formatted("%d streams: first packet p50 %.0f p95 %.0f ms, worst underrun %.0f ms, refused %d, %s",
                          streams, measured->first_packet_ms.p50, measured->first_packet_ms.p95,
                          measured->worst_underrun_ms.most, measured->refused, held ? "holds" : "does not hold"));
    }
    const auto at = std::upper_bound(report.loads.begin(), report.loads.end(), streams,
                                     [](int n, const LoadReport& each) { return n < each.streams; });
    const bool partial = measured->interrupted;
    report.loads.insert(at, std::move(*measured));
    return partial ? std::nullopt : std::optional(held);
  };

  for (const int streams : command.streams) {
    if (!probe(streams)) break;
  }
  if (command.search && !stop && !failure) {
    int from = 1;
    for (const LoadReport& each : report.loads) {
      if (holds(each)) from = each.streams;
    }
    report.largest = find_largest(from, kMaxBenchStreams, [&](int streams) {
      for (const LoadReport& each : report.loads) {
        if (each.streams == streams && !each.interrupted) return std::optional(holds(each));
      }
      return probe(streams);
    });
  }
  if (failure) return *failure;
  return {};
}

std::string to_json(const BenchReport& report) {
  JsonObject json;
  json.text("schema", "sonorant.bench/1")
      .text("version", SONORANT_VERSION)
      .text("commit", report.commit)
      .text("started", report.started)
      .text("machine", name_of(report.machine))
      .raw("host", to_json(report.machine))
      .integer("threads", report.threads)
      .integer("max_utterances", report.max_utterances)
      .text("voice", report.voice)
      .text("text", report.text)
      .flag("interrupted", report.interrupted)
      .integer("runs", report.runs);
  if (report.runs > 0) {
    JsonObject stages;
    for (const auto& [name, value] : report.stages) stages.raw(name, to_json(value));
    json.raw("first_audio_ms", to_json(report.first_audio_ms))
        .raw("rtf", to_json(report.rtf))
        .raw("audio_ms", to_json(report.audio_ms))
        .raw("stages", stages.done());
  }
  if (!report.stages_alone.empty()) {
    std::vector<std::string> stages;
    for (const StageReport& each : report.stages_alone) {
      JsonObject stage;
      stage.text("stage", each.stage);
      if (each.at > 0) stage.integer("at", each.at);
      stages.push_back(stage.text("unit", each.unit).raw("spread", to_json(each.spread)).done());
    }
    json.raw("stages_alone", json_list(stages));
  }
  if (report.socket_first_packet_ms) json.raw("socket_first_packet_ms", to_json(*report.socket_first_packet_ms));
  if (!report.loads.empty()) json.raw("streams", streams_to_json(report));
  return json.real("rss_mb", report.rss_mb).real("peak_rss_mb", report.peak_rss_mb).done() + "\n";
}

std::string to_text(const BenchReport& report) {
  std::string out = "machine  " + name_of(report.machine) + "\nvoice    " + report.voice + "\n";
  if (report.runs > 0) {
    out += "text     " + report.text + "\nruns     " + std::to_string(report.runs) + "\n\n";
    out += to_line("first audio, ms", report.first_audio_ms);
    if (report.socket_first_packet_ms) out += to_line("first packet, ms", *report.socket_first_packet_ms);
    out += to_line("RTF", report.rtf);
    out += to_line("audio, ms", report.audio_ms);
    for (const auto& [name, value] : report.stages) out += to_line("  " + name, value);
    out += formatted("\nRSS %.0f MB, peak %.0f MB\n", report.rss_mb, report.peak_rss_mb);
  }
  if (!report.stages_alone.empty()) {
    out += "\nstages alone\n";
    for (const StageReport& each : report.stages_alone) {
      const std::string at = each.at > 0 ? " " + std::to_string(each.at) : "";
      out += to_line("  " + each.stage + at + ", " + each.unit, each.spread);
    }
  }
  if (!report.loads.empty()) {
    out += "\n";
    out += kLoadHeader;
    for (const LoadReport& load : report.loads) out += to_row(load);
  }
  if (report.largest) out += "\nlargest number of streams that holds: " + std::to_string(*report.largest) + "\n";
  if (report.interrupted) out += "\ninterrupted\n";
  return out;
}

}  // namespace tts
