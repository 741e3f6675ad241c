#include "src/app/config.h"

#include <cstdint>
#include <map>
#include <string>

#include "tests/app/temporary_folder.h"
#include "tests/doctest.h"

TEST_SUITE("app/config") {
  using namespace tts;
  using namespace tts::testing;

  GetEnv environment(std::map<std::string, std::string> variables) {
    return [variables = std::move(variables)](const char* name) -> const char* {
      const auto found = variables.find(name);
      return found == variables.end() ? nullptr : found->second.c_str();
    };
  }

  void refuses(const Result<void>& result, const std::string& words) {
    REQUIRE(result.has_error());
    CHECK(result.error().code == Errc::bad_file);
    CAPTURE(result.error().detail);
    CHECK(result.error().detail.find(words) != std::string::npos);
    CHECK(result.error().detail.find('\n') == std::string::npos);
  }

  TEST_CASE("the file is weaker than the environment, which is weaker than flags") {
    Config config;
    REQUIRE(apply_toml(config, "[server]\nport = 1\nhost = \"a\"\nthreads = 3\n[engine]\nmax_ahead_ms = 5000\n", "f"));
    CHECK(config.server.port == 1);
    CHECK(config.engine.max_ahead == std::chrono::seconds(5));
    REQUIRE(apply_environment(config, environment({{"SONORANT_SERVER_PORT", "2"}, {"SONORANT_SERVER_HOST", "b"}})));
    CHECK(config.server.port == 2);
    CHECK(config.server.host == "b");
    REQUIRE(apply_flags(config, {{"server.port", "3"}}));
    CHECK(config.server.port == 3);
    CHECK(config.server.host == "b");
    CHECK(config.server.threads == 3);
    CHECK(config.engine.threads == 1);
  }

  TEST_CASE("every key can be set by file, environment and flag, and is described") {
    for (const auto& setting : describe(Config{})) {
      const std::string& key = setting.first;
      const std::string& value = setting.second;
      CAPTURE(key);
      const bool is_number = !value.empty() && value.find_first_not_of("0123456789") == std::string::npos;
      const std::string other = is_number ? (key == "engine.max_ahead_ms" ? "777" : "7") : "other";
      const std::size_t dot = key.find('.');
      std::string variable = "SONORANT_" + key;
      for (char& c : variable) c = c == '.' ? '_' : static_cast<char>(std::toupper(c));
      Config by_file;
      REQUIRE(apply_toml(
          by_file,
          "[" + key.substr(0, dot) + "]\n" + key.substr(dot + 1) + " = " + (is_number ? other : "\"" + other + "\""),
          "f"));
      Config by_environment;
      REQUIRE(apply_environment(by_environment, environment({{variable, other}})));
      Config by_flag;
      REQUIRE(apply_flags(by_flag, {{key, other}}));
      for (const Config& config : {by_file, by_environment, by_flag}) {
        for (const auto& [described, now] : describe(config)) {
          if (described == key) CHECK(now == other);
        }
      }
    }
  }

  TEST_CASE("an unknown key is an error that names it and its line") {
    Config config;
    refuses(apply_toml(config, "[server]\nport = 1\nprot = 2\n", "my.toml"), "my.toml:3: server.prot: unknown key");
    refuses(apply_toml(config, "port = 1\n", "f"), "port: unknown key");
    refuses(apply_toml(config, "[servers]\n", "f"), "servers: unknown key");
    refuses(apply_toml(config, "[server.port]\na = 1\n", "f"), "server.port");
    refuses(apply_toml(config, "server = 1\n", "f"), "server: want a table");
    refuses(apply_flags(config, {{"server.prot", "1"}}), "server.prot: unknown key");
  }

  TEST_CASE("wrong types, ranges and syntax are refused") {
    Config config;
    refuses(apply_toml(config, "[server]\nport = \"80\"\n", "f"), "server.port: want a whole number from 0 to 65535");
    refuses(apply_toml(config, "[server]\nport = 1.5\n", "f"), "server.port");
    refuses(apply_toml(config, "[server]\nport = 70000\n", "f"), "got 70000");
    refuses(apply_toml(config, "[server]\nport = -1\n", "f"), "got -1");
    refuses(apply_toml(config, "[server]\nhost = 5\n", "f"), "server.host: want a string");
    refuses(apply_toml(config, "[server\n", "f"), "f:1:");
    refuses(apply_toml(config, "[server]\nport = 1\nport = 2\n", "f"), "f:3:");
    for (const char* text : {"", "x", "80x", " 80", "1e3", "99999999999999999999"}) {
      CAPTURE(text);
      refuses(apply_environment(config, environment({{"SONORANT_SERVER_PORT", text}})), "SONORANT_SERVER_PORT: got");
    }
    CHECK(config.server.port == 8080);
  }

  TEST_CASE("a file is read from disk, a missing one is told") {
    const TemporaryFolder folder;
    Config config;
    REQUIRE(apply_file(config, folder.write("a.toml", "[log]\nlevel = \"debug\"\n")));
    CHECK(config.log.level == "debug");
    refuses(apply_file(config, folder.path() / "none.toml"), "none.toml: no such config file");
    refuses(apply_file(config, folder.write("bad.toml", "[log]\nlevle = \"debug\"\n")), "bad.toml:2: log.levle");
    refuses(apply_file(config, folder.path()), "no such config file");
  }

  /// Numbers, their least and their most, as the documents say.
  struct Range {
    const char* key;
    std::int64_t least, most;
  };
  constexpr Range kRanges[] = {
      {"server.port", 0, 65535},
      {"server.threads", 1, 64},
      {"server.grace_ms", 0, 600'000},
      {"server.max_sessions", 1, 100'000},
      {"server.max_text_chars", 1, 10'000'000},
      {"server.max_upload_mb", 1, 256},
      {"engine.fit_rounds", 0, 1000},
      {"engine.memory_mb", 0, 1'048'576},
      {"engine.threads", 1, 64},
      {"engine.t2s_window", 0, 4000},
      {"engine.flow_steps", 0, 128},
      {"engine.flow_prompt_frames", 0, 500},
      {"engine.max_utterances", 1, 4096},
      {"engine.max_queued_segments", 1, 65'536},
      {"engine.max_ahead_ms", 100, 3'600'000},
  };

  TEST_CASE("every number has its range, and says it wherever it is set") {
    for (const Range& range : kRanges) {
      const std::string key = range.key;
      CAPTURE(key);
      const std::string want =
          "want a whole number from " + std::to_string(range.least) + " to " + std::to_string(range.most);
      const std::size_t dot = key.find('.');
      const auto toml = [&](const std::string& value) {
        return "[" + key.substr(0, dot) + "]\n" + key.substr(dot + 1) + " = " + value + "\n";
      };
      Config config;
      for (const std::int64_t value : {range.least, range.most}) {
        CHECK(apply_toml(config, toml(std::to_string(value)), "f").has_value());
        CHECK(apply_flags(config, {{key, std::to_string(value)}}).has_value());
      }
      for (const std::int64_t value : {range.least - 1, range.most + 1}) {
        const std::string got = ": got " + std::to_string(value) + ", " + want;
        refuses(apply_toml(config, toml(std::to_string(value)), "f"), "f:2: " + key + got);
        refuses(apply_flags(config, {{key, std::to_string(value)}}), key + got);
      }
      refuses(apply_toml(config, toml("\"many\""), "f"), "f:2: " + key + ": " + want);
      refuses(apply_flags(config, {{key, "many"}}), key + ": got \"many\", " + want);
    }
    // No number is without one.
    for (const auto& [key, value] : describe(Config{})) {
      if (value.empty() || value.find_first_not_of("0123456789") != std::string::npos) continue;
      for (const char* far : {"-1", "2000000000"}) {
        Config config;
        refuses(apply_flags(config, {{key, far}}), key + ": got " + far + ", want a whole number from ");
      }
    }
  }

  TEST_CASE("validate wants folders that are there, words it knows and ranges") {
    const TemporaryFolder folder;
    const std::string file = folder.write("file", "").string();
    const std::string none = (folder.path() / "none").string();
    const Config good = make_config({folder.folder("voices"), folder.folder("text"), folder.path() / "no-web"});
    REQUIRE(validate(good));
    struct Case {
      const char* key;
      std::string value;
      std::string words;  ///< empty: taken
    };
    const Case cases[] = {
        {"engine.voices_dir", none, "engine.voices_dir: " + none + " is not a folder"},
        {"engine.voices_dir", file, "engine.voices_dir: " + file + " is not a folder"},
        {"engine.voices_dir", "", "engine.voices_dir: not set"},
        {"engine.text_data_dir", none, "engine.text_data_dir: " + none + " is not a folder"},
        {"engine.text_data_dir", "", "engine.text_data_dir: not set"},
        {"engine.models_dir", none, "engine.models_dir: " + none + " is not a folder"},
        {"engine.models_dir", file, "engine.models_dir: " + file + " is not a folder"},
        {"engine.models_dir", folder.folder("models").string(), ""},
        {"engine.models_dir", "", ""},
        {"engine.preload", "", "engine.preload: empty, want all, none or the id of a voice"},
        {"engine.preload", "anna", ""},
        {"engine.preload", "none", ""},
        {"engine.flow_solver", "rk4", "engine.flow_solver: got \"rk4\", wanted euler, midpoint or heun"},
        {"engine.flow_solver", "heun", ""},
        {"engine.flow_grid", "0,0.5", "engine.flow_grid: got a list of 2 times"},
        {"engine.flow_grid", "sway:-0.5", ""},
        {"engine.lighter_voices", "a", "engine.lighter_voices: got \"a\", want VOICE=LIGHTER_VOICE"},
        {"engine.lighter_voices", "a=b, =c", "engine.lighter_voices: got \"=c\""},
        {"engine.lighter_voices", "a=b,", "engine.lighter_voices: got \"\""},
        {"engine.lighter_voices", "a=b,a=c", "engine.lighter_voices: \"a\" is there twice"},
        {"engine.lighter_voices", " a = b , b=c ", ""},
        {"engine.reduce_below_percent", "71", "engine.reduce_below_percent: got 71, want at most"},
        {"engine.reduce_below_percent", "70", ""},
        {"engine.flow_guidance", "11", "engine.flow_guidance: got \"11\", want a number from 0 to 10"},
        {"engine.flow_guidance", "0.7", ""},
        {"engine.flow_temperature", "-0.1", "engine.flow_temperature: got \"-0.1\", want a number from 0 to 2"},
        {"engine.flow_temperature", "0.7", ""},
        {"engine.device", "gpu", "engine.device: got \"gpu\", want auto, cpu, cuda or cuda:N"},
        {"engine.device", "cuda:x", "engine.device: got \"cuda:x\", want auto, cpu, cuda or cuda:N"},
        {"engine.device", "cuda:1", ""},
        {"engine.t2s_precision", "fp8", "engine.t2s_precision: got \"fp8\", want auto, fp32, bf16, int8 or fp16"},
        {"engine.t2s_precision", "int8", ""},
        {"engine.acoustic_precision", "int8", "engine.acoustic_precision: got \"int8\", want auto, fp32 or bf16"},
        {"engine.acoustic_precision", "fp32", ""},
        {"engine.bert_precision", "half", "engine.bert_precision: got \"half\", want auto, fp32 or bf16"},
        {"server.host", "", "server.host: empty, want an address as 127.0.0.1"},
        {"server.web_dir", none, ""},
        {"server.voice_upload", "on", "server.voice_upload: got \"on\", want auto or off"},
        {"server.voice_upload", "", "server.voice_upload: got \"\", want auto or off"},
        {"server.voice_upload", "off", ""},
        {"engine.guard", "yes", "engine.guard: got \"yes\", want on or off"},
        {"engine.guard", "off", ""},
        {"server.upload_token", "two words", "server.upload_token: want printable ASCII without spaces"},
        {"server.upload_token", "caf\xC3\xA9", "server.upload_token: want printable ASCII"},
        {"server.upload_token", "line\n", "server.upload_token: want printable ASCII"},
        {"server.upload_token", "s3cret+/=~", ""},
        {"log.level", "loud", "log.level: got \"loud\", want trace, debug, info, warn, error or off"},
        {"log.level", "off", ""},
    };
    for (const Case& one : cases) {
      CAPTURE(one.key);
      CAPTURE(one.value);
      Config config = good;
      REQUIRE(apply_flags(config, {{one.key, one.value}}));
      const auto done = validate(config);
      if (one.words.empty()) {
        CHECK(done.has_value());
      } else {
        refuses(done, one.words);
      }
    }
    // The secret is in no message.
    Config secret = good;
    secret.server.upload_token = "my secret";
    CHECK(validate(secret).error().detail.find("my secret") == std::string::npos);
    Config config = good;
    config.engine.threads = 0;
    refuses(validate(config), "engine.threads: got 0");
  }
}
