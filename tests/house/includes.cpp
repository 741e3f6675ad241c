#include "tests/house/includes.h"

#include <algorithm>
#include <array>
#include <regex>
#include <sstream>

namespace tts::house {
namespace {

struct Module {
  std::string_view folder;
  std::string_view target;
  std::vector<std::string_view> may_use;  ///< folders, or single files
};

/// src/app > streaming > src/engine > models > src/text, src/audio > src/core; src/app > src/convert > src/core
const std::vector<Module>& modules() {
  static const std::vector<Module> kModules = {
      {"src/core/", "core", {}},
      {"src/text/", "text", {"src/core/"}},
      {"src/audio/", "audio", {"src/core/"}},
      {"models/", "models", {"src/core/", "src/text/", "src/audio/"}},
      {"src/engine/", "engine", {"src/core/", "src/text/", "src/audio/", "models/"}},
      {"streaming/", "streaming", {"src/core/", "src/audio/", "src/engine/synthesizer.h"}},
      {"src/convert/", "convert", {"src/core/"}},
      {"src/app/",
       "app",
       {"src/core/", "src/text/", "src/audio/", "src/convert/", "models/", "src/engine/", "streaming/"}},
  };
  return kModules;
}

const Module* module_of(std::string_view path) {
  for (const Module& module : modules()) {
    if (path.starts_with(module.folder)) return &module;
  }
  return nullptr;
}

bool starts_with_any(std::string_view text, std::initializer_list<std::string_view> prefixes) {
  return std::ranges::any_of(prefixes, [&](std::string_view prefix) { return text.starts_with(prefix); });
}

/// Why `path` must not include the outside header, or "".
std::string outside_fault(std::string_view path, std::string_view header) {
  const bool is_source = path.ends_with(".cpp");
  if (starts_with_any(header, {"ATen/", "torch/", "c10/"}) &&
      !(path.starts_with("models/") || (path.starts_with("src/engine/") && is_source))) {
    return "tensors stay in models/ and src/engine/*.cpp";
  }
  if (starts_with_any(header, {"boost/asio", "boost/beast"}) && !starts_with_any(path, {"streaming/", "src/app/"})) {
    return "sockets stay in streaming/ and src/app/";
  }
  if (header.starts_with("simdjson") && !is_source) return "JSON is parsed in .cpp files only";
  if (starts_with_any(header, {"opus", "ogg/", "soxr", "sndfile"}) && !path.starts_with("src/audio/")) {
    return "codecs and resampling stay in src/audio/";
  }
  if (header.starts_with("openssl/") && !path.starts_with("src/core/")) return "checksums stay in src/core/";
  if (header.starts_with("curl/") && !path.starts_with("src/app/")) return "downloads stay in src/app/";
  if (header.starts_with("unicode/") && !path.starts_with("src/text/")) return "ICU stays in src/text/";
  if (starts_with_any(header, {"CLI/", "toml++/"}) && !path.starts_with("src/app/")) {
    return "command line and configuration files stay in src/app/";
  }
  return "";
}

}  // namespace

std::vector<std::string> include_faults(std::string_view path, std::string_view content) {
  static const std::regex kInclude(R"re(^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"])re");
  std::vector<std::string> faults;
  const Module* self = module_of(path);
  std::istringstream lines{std::string(content)};
  std::string line;
  for (int number = 1; std::getline(lines, line); ++number) {
    std::smatch match;
    if (!std::regex_search(line, match, kInclude)) continue;
    const std::string header = match[2];
    const auto fault = [&](const std::string& why) {
      faults.push_back(std::string(path) + ":" + std::to_string(number) + ": includes " + header + ": " + why);
    };
    const Module* other = module_of(header);
    if (other == nullptr) {
      if (match[1] == "\"") {
        fault("our headers are named from the project folder, others in <>");
      } else if (const std::string why = outside_fault(path, header); !why.empty()) {
        fault(why);
      }
      continue;
    }
    if (self == nullptr || self == other) continue;
    const bool allowed =
        std::ranges::any_of(self->may_use, [&](std::string_view allowed) { return header.starts_with(allowed); });
    if (!allowed) fault(std::string(self->folder) + " must not know it");
  }
  return faults;
}

std::vector<std::string> link_faults(std::string_view path, std::string_view content) {
  static const std::regex kTarget(R"(\btts::([a-z_]+))");
  std::vector<std::string> faults;
  const Module* self = module_of(path);
  if (self == nullptr) return faults;
  const std::string text(content);
  for (std::sregex_iterator it(text.begin(), text.end(), kTarget); it != std::sregex_iterator(); ++it) {
    const std::string target = (*it)[1];
    const auto other = std::ranges::find_if(modules(), [&](const Module& m) { return m.target == target; });
    if (other == modules().end() || &*other == self) continue;
    const bool allowed =
        std::ranges::any_of(self->may_use, [&](std::string_view folder) { return folder == other->folder; });
    if (!allowed) faults.push_back(std::string(path) + ": links tts::" + target + ", which is not in its row");
  }
  return faults;
}

}  // namespace tts::house
