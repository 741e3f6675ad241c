#include "src/app/cli.h"

#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "tests/doctest.h"

TEST_SUITE("app/cli") {
  using namespace tts;
  using Args = std::vector<std::string>;

  Invocation parsed(const Args& args) {
    auto result = parse_command_line(args);
    if (const auto* exit = std::get_if<Exit>(&result)) FAIL(exit->text);
    return std::get<Invocation>(result);
  }

  TEST_CASE("say takes its options in any order") {
    const Invocation invocation =
        parsed({"say", "--seed", "18446744073709551615", "Hello there.", "--out", "a.wav", "--speed", "1.5", "--cut",
                "cut5", "--lang", "en", "--voice", "v", "--voices", "dir"});
    const auto& say = std::get<SayCommand>(invocation.command);
    CHECK(say.text == "Hello there.");
    CHECK(say.out == "a.wav");
    CHECK(say.seed == 18446744073709551615ULL);
    CHECK(say.speed == 1.5F);
    CHECK(say.lang == "en");
    CHECK(say.cut == "cut5");
    CHECK(say.voice == "v");
    CHECK(invocation.settings == std::vector<std::pair<std::string, std::string>>{{"engine.voices_dir", "dir"}});
    CHECK(std::get<SayCommand>(parsed({"say", "--out", "-", "-"}).command).text == "-");
    CHECK(std::get<SayCommand>(parsed({"say", "--out", "a.wav", ""}).command).text.empty());
  }

  TEST_CASE("flags of serve are settings") {
    const Invocation invocation = parsed({"serve", "--port", "0", "--host=::1", "--config", "c.toml", "--web", "w",
                                          "--log-level", "debug", "--threads", "2"});
    CHECK(std::holds_alternative<ServeCommand>(invocation.command));
    CHECK(invocation.config_file == "c.toml");
    CHECK(std::map<std::string, std::string>(invocation.settings.begin(), invocation.settings.end()) ==
          std::map<std::string, std::string>{{"server.port", "0"},
                                             {"server.host", "::1"},
                                             {"server.web_dir", "w"},
                                             {"log.level", "debug"},
                                             {"engine.threads", "2"}});
  }

  TEST_CASE("voices and bench") {
    CHECK(std::get<VoicesCommand>(parsed({"voices", "--json"}).command).json);
    const auto bench = std::get<BenchCommand>(parsed({"bench", "--json", "--runs", "50", "--socket"}).command);
    CHECK(bench.json);
    CHECK(bench.socket);
    CHECK(bench.runs == 50);
    CHECK(bench.text.empty());
    CHECK(bench.streams.empty());
    const auto streams = std::get<BenchCommand>(
        parsed({"bench", "--runs", "0", "--streams", "1,4,16", "--search", "--seconds", "2.5"}).command);
    CHECK(streams.runs == 0);
    CHECK(streams.streams == std::vector{1, 4, 16});
    CHECK(streams.search);
    CHECK(streams.seconds == 2.5);
    CHECK(streams.attach == 0);
  }

  TEST_CASE("voices add and remove") {
    const Invocation invocation =
        parsed({"voices", "add", "--model", "m", "--ref", "a.wav", "--text", "Hi.", "--lang", "en", "--aux", "b.wav",
                "--aux", "c.wav", "--id", "ann", "--name", "Ann", "--models", "dir", "--voices", "v"});
    const auto& add = std::get<AddVoiceCommand>(invocation.command);
    CHECK(add.model == "m");
    CHECK(add.reference == "a.wav");
    CHECK(add.more == std::vector<std::filesystem::path>{"b.wav", "c.wav"});
    CHECK(add.text == "Hi.");
    CHECK(add.lang == "en");
    CHECK(add.id == "ann");
    CHECK(add.name == "Ann");
    CHECK(invocation.settings ==
          std::vector<std::pair<std::string, std::string>>{{"engine.voices_dir", "v"}, {"engine.models_dir", "dir"}});
    CHECK(std::get<AddVoiceCommand>(parsed({"voices", "add", "--model", "m", "--ref", "a"}).command).lang == "auto");
    CHECK(std::get<RemoveVoiceCommand>(parsed({"voices", "remove", "ann"}).command).id == "ann");
    CHECK(std::get<Exit>(parse_command_line(Args{"voices", "add", "--help"})).text.find("3 to 10 s") !=
          std::string::npos);
    for (const Args& args : {Args{"voices", "add"}, Args{"voices", "add", "--model", "m"}, Args{"voices", "remove"},
                             Args{"voices", "sing"}, Args{"voices", "add", "--model", "m", "--ref", "a", "b"}}) {
      CHECK(std::get<Exit>(parse_command_line(args)).code == 1);
    }
  }

  TEST_CASE("convert and models fetch") {
    const auto convert = std::get<ConvertCommand>(parsed({"convert", "a.ckpt", "b.pth", "--out", "voices/anna",
                                                          "--version", "v2Pro", "--name", "Anna", "--replace"})
                                                      .command);
    CHECK(convert.files == std::vector<std::filesystem::path>{"a.ckpt", "b.pth"});
    CHECK(convert.out == "voices/anna");
    CHECK(convert.version == "v2Pro");
    CHECK(convert.name == "Anna");
    CHECK(convert.replace);
    const auto fetch = std::get<FetchModelsCommand>(parsed({"models", "fetch", "--version", "v2", "--version", "v4",
                                                            "--mirror", "https://m", "--dir", "d", "--dry-run"})
                                                        .command);
    CHECK(fetch.versions == std::vector<std::string>{"v2", "v4"});
    CHECK(fetch.mirrors == std::vector<std::string>{"https://m"});
    CHECK(fetch.dir == "d");
    CHECK(fetch.dry_run);
    CHECK(std::get<FetchModelsCommand>(parsed({"models", "fetch"}).command).versions.empty());
    CHECK(std::get<Exit>(parse_command_line(Args{"models", "fetch", "--help"})).text.find("--mirror") !=
          std::string::npos);
    CHECK(std::get<Exit>(parse_command_line(Args{"convert", "--help"})).text.find("LoRA") != std::string::npos);
  }

  TEST_CASE("every command of the README is understood") {
    std::ifstream readme("README.md");
    const std::string program = "build/release/sonorant ";
    int commands = 0;
    for (std::string line; std::getline(readme, line);) {
      if (!line.starts_with(program)) continue;
      Args args(1);
      bool is_quoted = false;
      for (const char c : line.substr(program.size())) {
        if (c == '"') {
          is_quoted = !is_quoted;
        } else if (c == ' ' && !is_quoted) {
          args.emplace_back();
        } else {
          args.back() += c;
        }
      }
      CAPTURE(line);
      const auto result = parse_command_line(args);
      if (const auto* exit = std::get_if<Exit>(&result)) FAIL_CHECK(exit->text);
      ++commands;
    }
    CHECK(commands >= 8);
  }

  TEST_CASE("help and version leave with 0") {
    for (const Args& args : {Args{"--help"}, Args{"say", "--help"}, Args{"--version"}}) {
      const auto result = parse_command_line(args);
      REQUIRE(std::holds_alternative<Exit>(result));
      CHECK(std::get<Exit>(result).code == 0);
      CHECK_FALSE(std::get<Exit>(result).text.empty());
    }
    CHECK(std::get<Exit>(parse_command_line(Args{"--help"})).text.find("examples:") != std::string::npos);
  }

  TEST_CASE("what cannot be understood is one line and code 1") {
    for (const Args& args :
         {Args{}, Args{"sing"}, Args{"say"}, Args{"say", "hello"}, Args{"say", "--out", "a.wav"},
          Args{"serve", "--prot", "1"}, Args{"say", "--out", "a.wav", "--speed", "3", "x"},
          Args{"say", "--out", "a.wav", "--speed", "fast", "x"}, Args{"say", "--out", "a.wav", "--seed", "-1", "x"},
          Args{"say", "--out", "a.wav", "--seed", "18446744073709551616", "x"}, Args{"bench", "--runs", "-1"},
          Args{"bench", "--streams", "4,0"}, Args{"bench", "--pid", "1"}, Args{"serve", "extra"},
          Args{"convert", "a.pth"}, Args{"convert", "--out", "x"}, Args{"models"}, Args{"models", "list"},
          Args{"models", "fetch", "extra"}}) {
      const auto result = parse_command_line(args);
      CAPTURE(args.empty() ? "" : args.front());
      REQUIRE(std::holds_alternative<Exit>(result));
      const Exit exit = std::get<Exit>(result);
      CAPTURE(exit.text);
      CHECK(exit.code == 1);
      CHECK(exit.text.starts_with("sonorant: "));
      CHECK(exit.text.find('\n') == exit.text.size() - 1);
    }
  }
}
