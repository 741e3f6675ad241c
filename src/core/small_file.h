#pragma once

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

namespace tts {

/// All that a small file holds, as those of /proc, which tell no size; empty where there is none.
[[nodiscard]] inline std::string read_small_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace tts
