#include "src/app/run.h"

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <iterator>
#include <utility>
#include <variant>

#include "src/app/bench.h"
#include "src/app/cli.h"
#include "src/app/convert.h"
#include "src/app/models.h"
#include "src/app/pretrained_set.h"
#include "src/app/say.h"
#include "src/app/serve.h"
#include "src/core/log.h"
#include "src/core/mapped_file.h"
#include "streaming/protocol.h"

namespace tts {
namespace {

template <class... Functions>
struct Overloaded : Functions... {
  using Functions::operator()...;
};

std::string formatted(const char* format, double a, double b = 0, double c = 0) {
  char line[160];
  std::snprintf(line, sizeof line, format, a, b, c);
  return line;
}

Result<Config> load_config(const Invocation& invocation, const Surroundings& surroundings) {
  Config config = surroundings.data ? make_config(*surroundings.data) : Config{};
  // Commands for a terminal say little unless asked.
  if (!std::holds_alternative<ServeCommand>(invocation.command)) config.log.level = "warn";
  if (invocation.config_file) {
    if (auto done = apply_file(config, *invocation.config_file); !done) return done.error();
  }
  if (auto done = apply_environment(config, surroundings.get_env); !done) return done.error();
  if (auto done = apply_flags(config, invocation.settings); !done) return done.error();
  if (auto done = validate(config); !done) return done.error();
  if (config.engine.models_dir.empty()) config.engine.models_dir = default_models_dir(surroundings.get_env);
  // What one command needs of the weights, and no more.
  if (const auto* command = std::get_if<SayCommand>(&invocation.command)) config.engine.preload = command->voice;
  if (const auto* command = std::get_if<BenchCommand>(&invocation.command)) config.engine.preload = command->voice;
  const bool speaks = std::holds_alternative<ServeCommand>(invocation.command) ||
                      std::holds_alternative<SayCommand>(invocation.command) ||
                      std::holds_alternative<BenchCommand>(invocation.command);
  if (!speaks) config.engine.preload = "none";
  return config;
}

Result<void> run_serve(const Config& config, Surroundings& surroundings) {
  const Logger log = get_logger("app");
  std::string settings;
  for (const auto& [key, value] : describe(config)) {
    const bool is_secret = key == "server.upload_token" && !value.empty();
    settings += " " + key + "=" + (is_secret ? "(set)" : log_value(value));
  }
  log->info("starting version={}{}", SONORANT_VERSION, settings);
  block_stop_signals();
  const auto synthesizer = surroundings.make_synthesizer(config);
  const std::string& preload = config.engine.preload;
  const auto voices = synthesizer->voices();
  const bool is_known = preload == "all" || preload == "none" ||
                        std::any_of(voices.begin(), voices.end(), [&](const auto& v) { return v.id == preload; });
  if (!is_known) {
    return Error{Errc::bad_file, "engine.preload: got \"" + preload + "\", want all, none or the id of a voice"};
  }
  return serve(config, *synthesizer, surroundings.out);
}

Result<void> run_say(const SayCommand& command, const Config& config, Surroundings& surroundings) {
  std::string text = command.text;
  if (text == "-") text.assign(std::istreambuf_iterator<char>(surroundings.in), {});
  const auto synthesizer = surroundings.make_synthesizer(config);
  std::function<void(double)> progress;
  if (surroundings.show_progress) {
    progress = [&](double audio_s) { surroundings.err << formatted("\r%.1f s of audio", audio_s) << std::flush; };
  }
  auto said = say(*synthesizer, command, text, progress);
  if (surroundings.show_progress) surroundings.err << "\r\033[K" << std::flush;
  if (!said) return said.error();
  std::ostream& report = command.out == "-" ? surroundings.err : surroundings.out;
  if (said->spoken.samples == 0) {
    report << command.out.string() << ": nothing to speak in this text\n";
  } else {
    report << command.out.string()
           << formatted(": %.2f s, first audio after %.0f ms, RTF %.3f\n", said->audio_s(), said->spoken.first_audio_ms,
                        said->spoken.metrics.rtf);
  }
  report.flush();
  return {};
}

std::string line_of(const VoiceInfo& voice) {
  std::string langs;
  for (const std::string& lang : voice.langs) langs += (langs.empty() ? "" : ", ") + lang;
  return voice.id + "  " + voice.name + "  (" + langs + "; " + std::to_string(voice.rate_hz) + " Hz)\n";
}

Result<void> run_voices(const VoicesCommand& command, const Config& config, Surroundings& surroundings) {
  const auto synthesizer = surroundings.make_synthesizer(config);
  const std::vector<VoiceInfo> voices = synthesizer->voices();
  if (command.json) {
    surroundings.out << to_json(std::span(voices)) << std::endl;
    return {};
  }
  for (const VoiceInfo& voice : voices) surroundings.out << line_of(voice);
  surroundings.out.flush();
  return {};
}

Result<Recording> read_file(const std::filesystem::path& path) {
  const auto file = MappedFile::open(path);
  if (!file) return file.error();
  const std::span<const std::byte> bytes = (*file)->bytes();
  const auto* begin = reinterpret_cast<const std::uint8_t*>(bytes.data());
  return Recording{path.string(), {begin, begin + bytes.size()}};
}

Result<void> run_add_voice(const AddVoiceCommand& command, const Config& config, Surroundings& surroundings) {
  VoiceRequest request;
  request.model = command.model;
  request.id = command.id;
  request.name = command.name;
  request.lang = command.lang;
  request.text = command.text;
  auto reference = read_file(command.reference);
  if (!reference) return reference.error();
  request.reference = std::move(*reference);
  for (const std::filesystem::path& path : command.more) {
    auto recording = read_file(path);
    if (!recording) return recording.error();
    request.more.push_back(std::move(*recording));
  }
  const auto synthesizer = surroundings.make_synthesizer(config);
  VoiceProgress progress;
  if (surroundings.show_progress) {
    progress = [&](std::string_view what) { surroundings.err << "\r\033[K" << what << std::flush; };
  }
  const auto made = synthesizer->add_voice(request, progress);
  if (surroundings.show_progress) surroundings.err << "\r\033[K" << std::flush;
  if (!made) return made.error();
  surroundings.out << line_of(made->info);
  if (made->existed) surroundings.out << "it was made of the same before\n";
  for (const std::string& note : made->notes) surroundings.out << "note: " << note << "\n";
  surroundings.out.flush();
  return {};
}

Result<void> run_remove_voice(const RemoveVoiceCommand& command, const Config& config, Surroundings& surroundings) {
  const auto synthesizer = surroundings.make_synthesizer(config);
  if (auto done = synthesizer->remove_voice(command.id); !done) return done;
  surroundings.out << command.id << ": removed\n" << std::flush;
  return {};
}

// Ctrl-C ends a measurement, a second one the process.
std::atomic<bool> g_stop_bench{false};

void stop_bench(int signal) {
  g_stop_bench = true;
  std::signal(signal, SIG_DFL);
}

BenchNews news_on(Surroundings& surroundings) {
  BenchNews news;
  const std::string begin = surroundings.show_progress ? "\r\033[K" : "";
  if (surroundings.show_progress) {
    news.now = [&err = surroundings.err, begin](const std::string& line) { err << begin << line << std::flush; };
  }
  news.line = [&err = surroundings.err, begin](const std::string& line) { err << begin << line << std::endl; };
  return news;
}

// A server that runs already: only its streams can be measured.
Result<void> measure_there(BenchReport& report, const BenchCommand& command, Surroundings& surroundings) {
  const auto port = static_cast<std::uint16_t>(command.attach);
  const auto voices = voices_there(port);
  if (!voices) return voices.error();
  describe(report, command);
  const auto observer = observe_there(port, command.attach_pid);
  return bench_streams(report, *voices, *observer, port, command, news_on(surroundings), g_stop_bench);
}

Result<void> measure_here(BenchReport& report, const BenchCommand& command, const Config& config,
                          Surroundings& surroundings) {
  report.threads = config.engine.threads;
  report.max_utterances = config.engine.max_utterances;
  if (command.stages) {  // before there is an engine: a stage is alone on the machine
    const BenchNews news = news_on(surroundings);
    const auto progress = [&](std::string_view what) {
      if (news.now) news.now(std::string(what));
    };
    for (StageFigures& each :
         surroundings.measure_stages(config, command, bench_text(command), progress, g_stop_bench)) {
      report.stages_alone.push_back({each.stage, each.at, each.unit, quantiles(std::move(each.values))});
    }
    progress("");
    const bool is_all = command.runs == 0 && command.streams.empty() && !command.search;
    if (is_all || g_stop_bench) {
      describe(report, command);
      read_memory(report);
      report.interrupted = g_stop_bench;
      return {};
    }
  }
  const auto synthesizer = surroundings.make_synthesizer(config);
  if (auto done = bench(report, *synthesizer, command, g_stop_bench); !done) return done;
  const bool has_streams = command.search || !command.streams.empty();
  const bool has_socket = command.socket && command.runs > 0;
  if ((!has_socket && !has_streams) || g_stop_bench) return {};
  ServerConfig server_config = to_server_config(config);
  server_config.host = "127.0.0.1";
  server_config.port = 0;
  if (has_streams) {  // what is refused is to be refused by the engine
    server_config.limits.max_sessions = kMaxBenchStreams;
    server_config.max_connections = kMaxBenchStreams;
  }
  Server server(server_config, *synthesizer);
  auto port = server.start();
  if (!port) return port.error();
  if (has_socket) {
    if (auto done = bench_socket(report, server_config.host, *port, command); !done) return done;
  }
  if (has_streams) {
    const auto observer = observe_here(*synthesizer);
    auto done =
        bench_streams(report, synthesizer->voices(), *observer, *port, command, news_on(surroundings), g_stop_bench);
    if (!done) return done;
  }
  server.drain_and_stop(std::chrono::seconds(1));
  return {};
}

Result<void> run_bench(const BenchCommand& command, const Config& config, Surroundings& surroundings) {
  g_stop_bench = false;
  const auto on_interrupt = std::signal(SIGINT, stop_bench);
  const auto on_terminate = std::signal(SIGTERM, stop_bench);
  BenchReport report;
  report.machine.libraries = surroundings.libraries;
  const auto done = command.attach > 0 ? measure_there(report, command, surroundings)
                                       : measure_here(report, command, config, surroundings);
  std::signal(SIGINT, on_interrupt);
  std::signal(SIGTERM, on_terminate);
  if (!done) return done;
  surroundings.out << (command.json ? to_json(report) : to_text(report)) << std::flush;
  return {};
}

Result<void> run_fetch_models(const FetchModelsCommand& command, Surroundings& surroundings) {
  const std::filesystem::path dir = command.dir.empty() ? default_models_dir(surroundings.get_env) : command.dir;
  if (dir.empty()) return Error{Errc::unsupported_format, "no home folder to keep models in: give --dir"};
  std::vector<Form> forms;
  for (const std::string& version : command.versions) {
    const auto form = find_form(version);
    if (!form) {
      return Error{Errc::unsupported_format,
                   "--version: got " + version + ", wanted v1, v2, v2Pro, v2ProPlus, v3 or v4"};
    }
    forms.push_back(*form);
  }
  FetchOptions options;
  options.user_agent = std::string("sonorant/") + SONORANT_VERSION;
  return fetch_models(command, dir, pretrained_for(forms), options, surroundings.out,
                      surroundings.show_progress ? &surroundings.err : nullptr);
}

Result<void> run_invocation(const Invocation& invocation, Surroundings& surroundings) {
  // These two need no voices, and so none of the folders a configuration names.
  if (const auto* command = std::get_if<ConvertCommand>(&invocation.command)) {
    const auto models = command->models_dir.empty() ? default_models_dir(surroundings.get_env) : command->models_dir;
    return run_convert(*command, models, surroundings.out, surroundings.show_progress ? &surroundings.err : nullptr);
  }
  if (const auto* command = std::get_if<FetchModelsCommand>(&invocation.command)) {
    return run_fetch_models(*command, surroundings);
  }
  auto config = load_config(invocation, surroundings);
  if (!config) return config.error();
  if (auto done = set_log_level(config->log.level); !done) return done;
  return std::visit(
      Overloaded{
          [&](const ServeCommand&) { return run_serve(*config, surroundings); },
          [&](const SayCommand& command) { return run_say(command, *config, surroundings); },
          [&](const VoicesCommand& command) { return run_voices(command, *config, surroundings); },
          [&](const AddVoiceCommand& command) { return run_add_voice(command, *config, surroundings); },
          [&](const RemoveVoiceCommand& command) { return run_remove_voice(command, *config, surroundings); },
          [&](const BenchCommand& command) { return run_bench(command, *config, surroundings); },
          [](const auto&) { return Result<void>(); },  // handled above
      },
      invocation.command);
}

int fail(std::ostream& err, std::string message) {
  for (char& c : message) {
    if (c == '\n') c = ' ';
  }
  err << "sonorant: " << message << std::endl;
  return 1;
}

}  // namespace

int run(std::span<const std::string> args, Surroundings& surroundings) {
  const auto parsed = parse_command_line(args);
  if (const auto* exit = std::get_if<Exit>(&parsed)) {
    (exit->code == 0 ? surroundings.out : surroundings.err) << exit->text << std::flush;
    return exit->code;
  }
  try {
    auto done = run_invocation(std::get<Invocation>(parsed), surroundings);
    return done ? 0 : fail(surroundings.err, done.error().detail);
  } catch (const std::exception& error) {
    return fail(surroundings.err, error.what());
  }
}

}  // namespace tts
