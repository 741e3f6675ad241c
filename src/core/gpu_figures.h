#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace tts {

/// What one GPU does now.
struct GpuFigures {
  int index = 0;
  std::string name;
  double utilization = 0;  ///< share of the last sample period in which a kernel ran, 0 .. 1
  std::uint64_t memory_used_bytes = 0;
  std::uint64_t memory_total_bytes = 0;
};

/// Asks the driver's management library (NVML), which is looked for at run time: a machine without one has no figures.
/// Thread-safe.
class GpuReader {
 public:
  /// Null when the library is not there, lacks a function or finds no driver.
  [[nodiscard]] static std::unique_ptr<GpuReader> open(const char* library = "libnvidia-ml.so.1");
  ~GpuReader();
  GpuReader(const GpuReader&) = delete;
  GpuReader& operator=(const GpuReader&) = delete;

  /// Of every GPU that answers.
  [[nodiscard]] std::vector<GpuFigures> read() const;

 private:
  struct Library;
  explicit GpuReader(std::unique_ptr<Library> library);
  std::unique_ptr<Library> library_;
};

}  // namespace tts
