#include "src/engine/file_stamp.h"

#include <string>

#include <sys/stat.h>

namespace tts {

std::uint64_t stamp_of(std::span<const std::filesystem::path> files) {
  std::uint64_t hash = 14695981039346656037U;  // FNV-1a
  const auto add = [&](std::uint64_t value) {
    for (int i = 0; i < 8; ++i) hash = (hash ^ ((value >> (8 * i)) & 0xFFU)) * 1099511628211U;
  };
  for (const std::filesystem::path& file : files) {
    for (const char c : file.native()) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211U;
    struct stat found {};
    if (::stat(file.c_str(), &found) != 0) {
      add(0);
      continue;
    }
    for (const auto value :
         {static_cast<std::uint64_t>(found.st_ino), static_cast<std::uint64_t>(found.st_size),
          static_cast<std::uint64_t>(found.st_mtim.tv_sec), static_cast<std::uint64_t>(found.st_mtim.tv_nsec)}) {
      add(value);
    }
  }
  return hash;
}

}  // namespace tts
