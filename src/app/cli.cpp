#include "src/app/cli.h"

#include <algorithm>
#include <charconv>
#include <system_error>

#include <CLI/CLI.hpp>

namespace tts {
namespace {

constexpr const char* kExamples = R"(
examples:
  sonorant serve --port 8080
  sonorant serve --host 0.0.0.0 --config sonorant.toml
  sonorant say --out hello.wav "Hello, this is Sonorant."
  fortune | sonorant say --out fortune.opus -
  sonorant voices --json
  sonorant voices add --model anna --ref anna.wav --text "What she says in it." --lang en
  sonorant bench --json --runs 50 --socket
  sonorant bench --runs 0 --streams 1,4,16
  sonorant convert anna-e15.ckpt anna_e8_s200.pth --out voices/anna
  sonorant models fetch --version v2Pro --dry-run

Every setting has a key as server.port: in the config file it is `port` under [server], in the environment
SONORANT_SERVER_PORT. Flags win over the environment, which wins over the file.)";

constexpr const char* kConvertHelp = R"(
What each FILE holds is seen from its tensors; nothing in a file is executed. A LoRA of v3 or v4 wants its base, and a
voice of v3 or v4 its vocoder: name these files too, or get them with `sonorant models fetch`. HuBERT, BERT, ERes2NetV2
and the vocoders can be converted by themselves. Nothing is left behind when a file is refused.

examples:
  sonorant convert anna-e15.ckpt anna_e8_s200.pth --out voices/anna
  sonorant convert s1v3.ckpt anna_e2_s66_l32.pth s2Gv4.pth vocoder.pth --out voices/anna --name "Anna"
  sonorant convert pytorch_model.bin --out hubert.safetensors)";

constexpr const char* kAddHelp = R"(
The model is a folder among the voices that `sonorant convert` made, or one of the starter form with a tokenizer. The
recording is 3 to 10 s of one person who speaks, as WAV, FLAC or MP3; --text is word for word what is said in it. Without
a text the voice has the sound of the recording, but less of its manner; v3 and v4 do not go without. Further recordings
of the same person (--aux) are averaged with it (not by v3, v4 and the starter form). HuBERT and the other networks
that published forms need come from `sonorant models fetch`. The same recording,
text and model give the same voice, which is then not made a second time. A server sees the new voice by itself.

examples:
  sonorant voices add --model anna --ref anna.wav --text "What she says in it." --lang en --id anna-calm
  sonorant voices add --voices voices --model anna --ref a.wav --text "..." --aux b.wav --aux c.wav
  sonorant voices remove anna-calm)";

constexpr const char* kBenchHelp = R"(
Listeners are clients on sockets of this machine, on one thread, whose CPU time is told apart. Each hears reply after
reply of three sentences; their text arrives in bursts of words, and they play in real time: a packet that comes after
the last one was played is an underrun. A number of listeners holds when none is refused, the first packet's p95 is
within 300 ms, and 99 % of the listeners had no underrun of more than 100 ms. What the engine admits at once is
engine.max_utterances. Ctrl-C ends it with what was measured.

examples:
  sonorant bench
  sonorant bench --json --runs 50 --socket > bench.json
  sonorant bench --runs 0 --streams 1,4,8,16 --seconds 30 --json > streams.json
  sonorant bench --runs 0 --stages
  sonorant bench --runs 0 --search)";

constexpr const char* kFetchHelp = R"(
An interrupted download goes on where it stopped. Every file is checked before it takes its place. A mirror is an
address like https://HOST, or https://HOST/PATH/ when the files lie elsewhere on it. A proxy is taken from the
environment (https_proxy).

examples:
  sonorant models fetch --dry-run
  sonorant models fetch --version v2Pro --version v4)";

// A flag that sets a key of Config.
void add_setting(CLI::App* command, Invocation& invocation, const char* flag, const char* key, const char* help,
                 const char* type) {
  command
      ->add_option_function<std::string>(
          flag, [&invocation, key](const std::string& value) { invocation.settings.emplace_back(key, value); }, help)
      ->type_name(type);
}

void add_common(CLI::App* command, Invocation& invocation) {
  command->add_option("--config", invocation.config_file, "TOML file with settings")->type_name("FILE");
  add_setting(command, invocation, "--voices", "engine.voices_dir", "folder with one subfolder per voice", "DIR");
  add_setting(command, invocation, "--log-level", "log.level", "trace, debug, info, warn, error or off", "LEVEL");
  add_setting(command, invocation, "--threads", "engine.threads", "threads of linear algebra (1)", "N");
}

std::string one_line(std::string text) {
  std::replace(text.begin(), text.end(), '\n', ' ');
  while (!text.empty() && text.back() == ' ') text.pop_back();
  return text;
}

}  // namespace

std::variant<Invocation, Exit> parse_command_line(std::span<const std::string> args) {
  Invocation invocation;
  CLI::App app("Real-time text-to-speech: text in while it is written, speech out while it is made.", "sonorant");
  app.require_subcommand(1);
  app.set_version_flag("--version", std::string("sonorant ") + SONORANT_VERSION);
  app.footer(kExamples);

  CLI::App* serve = app.add_subcommand("serve", "run the server: WebSocket, HTTP and the demo page");
  add_common(serve, invocation);
  add_setting(serve, invocation, "--port", "server.port", "port (8080); 0: any free one, printed at start", "N");
  add_setting(serve, invocation, "--host", "server.host", "address to listen on (127.0.0.1); 0.0.0.0: all", "ADDRESS");
  add_setting(serve, invocation, "--web", "server.web_dir", "folder with the demo page", "DIR");
  add_setting(serve, invocation, "--memory", "engine.memory_mb", "MB of weights in memory at most; 0: no limit (0)",
              "N");

  SayCommand say;
  std::string out;
  CLI::App* say_app = app.add_subcommand("say", "speak a text into a file");
  add_common(say_app, invocation);
  say_app->add_option("--voice", say.voice, "id of the voice (starter)");
  say_app->add_option("--lang", say.lang, "language of the text: auto, en, ... (auto)");
  say_app->add_option("--speed", say.speed, "0.5 to 2 (1)")->check(CLI::Range(0.5, 2.0));
  say_app->add_option("--seed", say.seed, "the same seed gives the same samples (random)")
      ->check(CLI::Validator(
          [](const std::string& value) {
            std::uint64_t seed = 0;
            const char* end = value.data() + value.size();
            const auto [stop, error] = std::from_chars(value.data(), end, seed);
            return error == std::errc() && stop == end ? "" : "want a whole number from 0 to 2^64 - 1";
          },
          "UINT64"));
  say_app->add_option("--cut", say.cut, "pieces as GPT-SoVITS makes them, instead of sentences")
      ->check(CLI::IsMember({"cut0", "cut1", "cut2", "cut3", "cut4", "cut5"}));
  say_app->add_option("--out", out, "FILE.wav, FILE.opus or FILE.ogg; - for WAV on standard output")
      ->required()
      ->type_name("FILE");
  say_app->add_option("TEXT", say.text, "what to say; - reads standard input")->required();

  VoicesCommand voices;
  CLI::App* voices_app = app.add_subcommand("voices", "list the voices; add and remove your own");
  add_common(voices_app, invocation);
  voices_app->add_flag("--json", voices.json, "as the server's /v1/voices");
  voices_app->require_subcommand(0, 1);

  AddVoiceCommand add;
  CLI::App* add_app = voices_app->add_subcommand("add", "make a voice of a model and a recording of somebody");
  add_common(add_app, invocation);
  add_setting(add_app, invocation, "--models", "engine.models_dir",
              "folder of `sonorant models fetch` (~/.local/share/sonorant/models)", "DIR");
  add_app->add_option("--model", add.model, "the model: name of its folder")->required();
  add_app->add_option("--ref", add.reference, "recording of 3 to 10 s")->required()->type_name("FILE");
  add_app->add_option("--text", add.text, "what is said in it");
  add_app->add_option("--lang", add.lang, "language of the text: auto, zh, en, ... (auto)");
  add_app->add_option("--id", add.id, "id of the voice (of the model and the recording)");
  add_app->add_option("--name", add.name, "its name for people (the id)");
  add_app->add_option("--aux", add.more, "a further recording, may be given again")
      ->type_name("FILE")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  add_app->footer(kAddHelp);

  RemoveVoiceCommand remove;
  CLI::App* remove_app = voices_app->add_subcommand("remove", "remove a voice that was added");
  add_common(remove_app, invocation);
  remove_app->add_option("ID", remove.id, "id of the voice")->required();

  BenchCommand bench;
  CLI::App* bench_app =
      app.add_subcommand("bench", "measure first audio, real-time factor, stages, memory and live streams");
  add_common(bench_app, invocation);
  bench_app->add_flag("--json", bench.json, "one JSON object");
  bench_app->add_option("--runs", bench.runs, "utterances measured (20); 0: none")->check(CLI::Range(0, 100'000));
  bench_app->add_option("--text", bench.text, "what to say (a fixed text)");
  bench_app->add_option("--voice", bench.voice, "id of the voice (starter)");
  bench_app->add_option("--lang", bench.lang, "language of the text (en)");
  bench_app->add_flag("--socket", bench.socket, "also from a WebSocket client's text to its first audio packet");
  bench_app->add_flag("--stages", bench.stages, "also each stage alone: front end, prefill, decode steps, .. Opus");
  bench_app->add_option("--streams", bench.streams, "so many listeners at once, each number for itself")
      ->delimiter(',')
      ->check(CLI::Range(1, 10'000))
      ->type_name("N[,M...]");
  bench_app->add_flag("--search", bench.search, "find the largest number of listeners that all hear without gaps");
  bench_app->add_option("--seconds", bench.seconds, "how long each number is measured (20)")
      ->check(CLI::Range(0.1, 86'400.0));
  bench_app->add_option("--ramp", bench.ramp_seconds, "s in which the listeners come before that (2)")
      ->check(CLI::Range(0.0, 3'600.0));
  bench_app->add_option("--pause", bench.pause_ms, "ms between two replies (0)")->check(CLI::Range(0, 600'000));
  bench_app->add_option("--jitter", bench.jitter_ms, "ms a player buffers before it starts (0)")
      ->check(CLI::Range(0, 10'000));
  bench_app->add_option("--credit", bench.credit_ms, "ms the server may be ahead of a listener (0: any)")
      ->check(CLI::Range(0, 86'400'000));
  bench_app->add_option("--words", bench.words_per_second, "words of text that arrive in a second (20)")
      ->check(CLI::Range(1.0, 10'000.0));
  bench_app->add_option("--commit", bench.commit, "kept in the report: what was measured")->type_name("TEXT");
  CLI::Option* attach = bench_app->add_option("--attach", bench.attach, "port of a running server to measure instead")
                            ->check(CLI::Range(1, 65'535));
  bench_app->add_option("--pid", bench.attach_pid, "its process, to read CPU time and memory of")->needs(attach);
  bench_app->footer(kBenchHelp);

  ConvertCommand convert;
  CLI::App* convert_app = app.add_subcommand("convert", "turn checkpoints of GPT-SoVITS into a model folder");
  convert_app->add_option("FILES", convert.files, "a T2S (.ckpt) and an acoustic checkpoint (.pth), in any order")
      ->required()
      ->type_name("FILE");
  convert_app->add_option("--out", convert.out, "folder to make; of a single network: FILE.safetensors")
      ->required()
      ->type_name("PATH");
  convert_app->add_option("--version", convert.version, "v1, v2, v2Pro, v2ProPlus, v3 or v4 (what the files say)")
      ->type_name("VERSION");
  convert_app->add_option("--id", convert.id, "id of the voice (the folder's name)");
  convert_app->add_option("--name", convert.name, "its name for people (the id)");
  convert_app->add_option("--license", convert.license, "licence of the weights, kept in the manifest");
  convert_app->add_option("--models", convert.models_dir, "folder of `sonorant models fetch` (the usual place)")
      ->type_name("DIR");
  convert_app->add_flag("--replace", convert.replace, "replace what is at --out");
  convert_app->footer(kConvertHelp);

  FetchModelsCommand fetch;
  CLI::App* models_app = app.add_subcommand("models", "the official pretrained files of GPT-SoVITS");
  models_app->require_subcommand(1);
  CLI::App* fetch_app = models_app->add_subcommand("fetch", "download what is missing of them");
  fetch_app->add_option("--version", fetch.versions, "only what this version needs; may be given again (all)")
      ->type_name("VERSION");
  fetch_app->add_option("--dir", fetch.dir, "where to (~/.local/share/sonorant/models)")->type_name("DIR");
  fetch_app->add_option("--mirror", fetch.mirrors, "instead of the public home; further ones are tried after it")
      ->type_name("URL");
  fetch_app->add_flag("--dry-run", fetch.dry_run, "only tell what would be done");
  fetch_app->add_flag("--no-convert", fetch.keep_as_they_are, "leave HuBERT, BERT and the speaker network as they are");
  fetch_app->footer(kFetchHelp);

  const auto named = [&](CLI::App* command) { return command->get_name() == args.front(); };
  if (!args.empty() && !args.front().starts_with('-') && app.get_subcommands(named).empty()) {
    return Exit{1, "sonorant: unknown command \"" + one_line(args.front()) + "\" (see sonorant --help)\n"};
  }
  std::vector<std::string> reversed(args.rbegin(), args.rend());
  try {
    app.parse(reversed);
  } catch (const CLI::CallForHelp&) {
    const CLI::App* asked = &app;
    while (!asked->get_subcommands().empty()) asked = asked->get_subcommands().front();
    return Exit{0, asked->help()};
  } catch (const CLI::CallForVersion& version) {
    return Exit{0, std::string(version.what()) + "\n"};
  } catch (const CLI::ParseError& error) {
    return Exit{1, "sonorant: " + one_line(error.what()) + " (see sonorant --help)\n"};
  }

  if (serve->parsed()) invocation.command = ServeCommand{};
  if (say_app->parsed()) {
    say.out = out;
    invocation.command = std::move(say);
  }
  if (voices_app->parsed()) invocation.command = voices;
  if (add_app->parsed()) invocation.command = std::move(add);
  if (remove_app->parsed()) invocation.command = std::move(remove);
  if (bench_app->parsed()) invocation.command = std::move(bench);
  if (convert_app->parsed()) invocation.command = std::move(convert);
  if (fetch_app->parsed()) invocation.command = std::move(fetch);
  return invocation;
}

}  // namespace tts
