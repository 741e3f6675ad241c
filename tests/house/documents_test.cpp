#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <regex>
#include <set>
#include <sstream>
#include <string>

#include "tests/doctest.h"

namespace fs = std::filesystem;

namespace {

std::string read(const fs::path& path) {
  std::ifstream in(path);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

/// The text under a "## title" heading, up to the next one.
std::string section(const std::string& document, const std::string& title) {
  const std::size_t begin = document.find("\n## " + title + "\n");
  if (begin == std::string::npos) return "";
  const std::size_t end = document.find("\n## ", begin + 1);
  return document.substr(begin, end == std::string::npos ? end : end - begin);
}

bool is_executable(const fs::path& path) {
  return fs::is_regular_file(path) && (fs::status(path).permissions() & fs::perms::owner_exec) != fs::perms::none;
}

}  // namespace

TEST_SUITE("house/documents") {
  TEST_CASE("the README's quick start names the two commands, and they are there") {
    const std::string quick_start = section(read("README.md"), "Quick start");
    REQUIRE(!quick_start.empty());
    for (const char* command : {"./scripts/serve", "./scripts/test"}) {
      CAPTURE(command);
      CHECK(quick_start.find(std::string("\n") + command) != std::string::npos);
      CHECK(is_executable(command));
    }
    CHECK(is_executable("scripts/setup"));
    REQUIRE(is_executable(".ci/run"));
    CHECK(read(".ci/run").find("./scripts/test") != std::string::npos);
  }

  TEST_CASE("every file and folder the README and ARCHITECTURE point to exists") {
    for (const char* document : {"README.md", "src/ARCHITECTURE.md"}) {
      const std::string text = read(document);
      REQUIRE(!text.empty());
      static const std::regex kPath(R"(`((?:\./)?(?:src|models|streaming|scripts|tests|web|cmake)/[A-Za-z0-9_./-]*)`)");
      int n_paths = 0;
      for (std::sregex_iterator it(text.begin(), text.end(), kPath); it != std::sregex_iterator(); ++it, ++n_paths) {
        const std::string path = (*it)[1];
        if (!fs::exists(path)) FAIL_CHECK(document << " names " << path << ", which does not exist");
      }
      CHECK(n_paths >= 5);
    }
  }

  TEST_CASE("every script explains itself") {
    for (const char* script : {"serve", "setup", "test", "healthcheck"}) {
      CAPTURE(script);
      const std::string command = std::string("./scripts/") + script + " --help </dev/null";
      const std::unique_ptr<FILE, int (*)(FILE*)> pipe(::popen(command.c_str(), "r"),
                                                       [](FILE* f) { return ::pclose(f); });
      REQUIRE(pipe != nullptr);
      std::array<char, 256> start{};
      CHECK(std::fread(start.data(), 1, 6, pipe.get()) == 6);
      CHECK(std::string(start.data()) == "usage:");
    }
  }

  TEST_CASE("each package is listed once, in a known group") {
    std::ifstream in("scripts/packages.txt");
    std::set<std::string> seen;
    std::string line;
    while (std::getline(in, line)) {
      if (line.empty() || line[0] == '#') continue;
      std::istringstream words(line);
      std::string group;
      std::string package;
      words >> group >> package;
      CAPTURE(line);
      CHECK((group == "build" || group == "run" || group == "test"));
      CHECK(seen.insert(package).second);
    }
    CHECK(seen.count("libopenblas0-openmp") == 1);
  }
}
