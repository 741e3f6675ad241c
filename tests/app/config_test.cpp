#include "src/app/config.h"

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

  TEST_CASE("validate wants folders, ranges and a known log level") {
    const TemporaryFolder folder;
    const Config good = make_config({folder.folder("voices"), folder.folder("text"), folder.path() / "no-web"});
    REQUIRE(validate(good));
    Config config = good;
    config.engine.voices_dir = folder.path() / "none";
    refuses(validate(config), "engine.voices_dir: " + (folder.path() / "none").string() + " is not a folder");
    config = good;
    config.engine.text_data_dir.clear();
    refuses(validate(config), "engine.text_data_dir: not set");
    config = good;
    config.log.level = "loud";
    refuses(validate(config), "log.level: got \"loud\"");
    config = good;
    config.server.host.clear();
    refuses(validate(config), "server.host");
    config = good;
    config.engine.threads = 0;
    refuses(validate(config), "engine.threads: got 0");
  }
}
