#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>

#include "src/core/result.h"

namespace tts {

/// A file in memory, read-only: pages come in when they are first read. Do not change the file while it is open.
class MappedFile {
 public:
  /// Errc::bad_file naming the file and the system's reason; only regular files, which may be empty.
  [[nodiscard]] static Result<std::shared_ptr<const MappedFile>> open(const std::filesystem::path& file);

  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  [[nodiscard]] std::span<const std::byte> bytes() const noexcept {
    return {static_cast<const std::byte*>(address_), size_};
  }

 private:
  MappedFile(void* address, std::size_t size) : address_(address), size_(size) {}
  void* address_;  ///< nullptr when the file is empty
  std::size_t size_;
};

}  // namespace tts
