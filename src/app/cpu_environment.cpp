#include "src/app/cpu_environment.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>

#include <malloc.h>
#include <unistd.h>

namespace tts {
namespace {

constexpr const char* kMarker = "SONORANT_STARTED_AGAIN";

// The value of a "key : value" line of /proc/cpuinfo; empty when there is none.
std::string_view field(std::string_view cpuinfo, std::string_view key) {
  for (std::size_t at = 0; at < cpuinfo.size();) {
    const std::size_t end = std::min(cpuinfo.find('\n', at), cpuinfo.size());
    const std::string_view line = cpuinfo.substr(at, end - at);
    const std::size_t colon = line.find(':');
    if (line.starts_with(key) && colon != std::string_view::npos &&
        line.substr(key.size(), colon - key.size()).find_first_not_of(" \t") == std::string_view::npos) {
      const std::size_t begin = line.find_first_not_of(" \t", colon + 1);
      return begin == std::string_view::npos ? std::string_view() : line.substr(begin);
    }
    at = end + 1;
  }
  return {};
}

bool has_flag(std::string_view flags, std::string_view flag) {
  for (std::size_t at = 0; at < flags.size();) {
    const std::size_t end = std::min(flags.find(' ', at), flags.size());
    if (flags.substr(at, end - at) == flag) return true;
    at = end + 1;
  }
  return false;
}

std::string read_cpuinfo() {
  std::ifstream file("/proc/cpuinfo");
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

std::vector<std::pair<std::string, std::string>> missing_environment(std::string_view cpuinfo, const GetEnv& get_env) {
  std::vector<std::pair<std::string, std::string>> missing;
  if (get_env("OMP_WAIT_POLICY") == nullptr) missing.emplace_back("OMP_WAIT_POLICY", "passive");
  const std::string_view flags = field(cpuinfo, "flags");
  const bool avx512 = has_flag(flags, "avx512f") && has_flag(flags, "avx512dq") && has_flag(flags, "avx512vl");
  // OpenBLAS chooses rightly by itself on Intel's.
  if (avx512 && field(cpuinfo, "vendor_id") != "GenuineIntel" && get_env("OPENBLAS_CORETYPE") == nullptr) {
    missing.emplace_back("OPENBLAS_CORETYPE", "SkylakeX");
  }
  return missing;
}

void prepare_cpu_environment(char** argv) {
  if (std::getenv(kMarker) != nullptr) {
    ::unsetenv(kMarker);
  } else {
    const auto missing = missing_environment(read_cpuinfo(), [](const char* name) { return std::getenv(name); });
    if (!missing.empty()) {
      for (const auto& [name, value] : missing) ::setenv(name.c_str(), value.c_str(), 0);
      ::setenv(kMarker, "1", 1);
      ::execv("/proc/self/exe", argv);
      ::unsetenv(kMarker);  // not possible here (no /proc): slower, but right
    }
  }
  if (std::getenv("MALLOC_MMAP_THRESHOLD_") == nullptr) ::mallopt(M_MMAP_THRESHOLD, 1'000'000'000);
  if (std::getenv("MALLOC_TRIM_THRESHOLD_") == nullptr) ::mallopt(M_TRIM_THRESHOLD, 2'000'000'000);
  if (std::getenv("MALLOC_TOP_PAD_") == nullptr) ::mallopt(M_TOP_PAD, 64'000'000);
}

std::string cpu_name(std::string_view cpuinfo) {
  return std::string(field(cpuinfo, "model name"));
}

}  // namespace tts
