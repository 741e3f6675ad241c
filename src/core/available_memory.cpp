#include "src/core/available_memory.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <sstream>
#include <string>
#include <string_view>
#include <system_error>

namespace tts {
namespace {

namespace fs = std::filesystem;

std::optional<std::uint64_t> to_number(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end != text.data() ? std::optional(value) : std::nullopt;
}

/// The number a file holds; nothing for "max" and where there is none.
std::optional<std::uint64_t> number_in(const fs::path& file) {
  std::ifstream in(file);
  std::string word;
  in >> word;
  return to_number(word);
}

/// The number after `key` in a file of lines "key number ..".
std::optional<std::uint64_t> number_after(const fs::path& file, std::string_view key) {
  std::ifstream in(file);
  std::string line;
  while (std::getline(in, line)) {
    std::istringstream words(line);
    std::string name, value;
    words >> name >> value;
    if (name == key) return to_number(value);
  }
  return std::nullopt;
}

/// The names under which the two versions keep the same figures.
struct Names {
  const char* limit;
  const char* used;
  const char* cached;  ///< in memory.stat
};
constexpr Names kVersion1{"memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"};
constexpr Names kVersion2{"memory.max", "memory.current", "inactive_file"};

void take_lesser(std::optional<std::uint64_t>& least, std::optional<std::uint64_t> value) {
  if (value) least = least ? std::min(*least, *value) : *value;
}

/// What the group `path` of the hierarchy at `mount` and those above it have left. Inside a container the path may be
/// the host's: its end is not there then, and what is mounted is the container's own.
void take_left_of_groups(std::optional<std::uint64_t>& least, const fs::path& mount, fs::path path,
                         const Names& names) {
  for (;; path = path.parent_path()) {
    const fs::path folder = mount / path.relative_path();
    const auto limit = number_in(folder / names.limit);
    const auto used = number_in(folder / names.used);
    if (limit && used) {
      const std::uint64_t cached = number_after(folder / "memory.stat", names.cached).value_or(0);
      const std::uint64_t held = *used - std::min(cached, *used);
      take_lesser(least, *limit - std::min(held, *limit));
    }
    if (path.relative_path().empty()) return;
  }
}

}  // namespace

std::optional<std::uint64_t> available_memory(const fs::path& root) {
  std::optional<std::uint64_t> least;
  if (const auto kilobytes = number_after(root / "proc/meminfo", "MemAvailable:")) least = *kilobytes * 1024;
  const fs::path mounts = root / "sys/fs/cgroup";
  std::ifstream groups(root / "proc/self/cgroup");  // "4:memory:/path" of version 1, "0::/path" of version 2
  for (std::string line; std::getline(groups, line);) {
    const std::size_t first = line.find(':');
    const std::size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    std::string controllers(1, ',');
    controllers.append(line, first + 1, second - first - 1) += ',';
    const fs::path path = line.substr(second + 1);
    if (controllers.find(",memory,") != std::string::npos) {
      take_left_of_groups(least, mounts / "memory", path, kVersion1);
    } else if (line.starts_with("0::")) {
      take_left_of_groups(least, mounts, path, kVersion2);
    }
  }
  return least;
}

}  // namespace tts
