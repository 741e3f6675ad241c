#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "src/core/result.h"

namespace tts {

/// Reads the zip archives that torch writes: entries stored as they are, zip64 where needed. Our own reader rather than
/// a library's, because entries then stay where they are (a checkpoint of a gigabyte is never copied), because upstream
/// writes its version mark over the first two bytes, which libraries refuse, and because nothing is ever inflated, so
/// that no archive can grow.
///
/// Believes nothing of the file: every offset and length is checked, entries may not overlap, local headers must agree
/// with the central directory. Compressed, encrypted and split archives are refused. Errors are Errc::bad_file and name
/// file and entry.
class ZipArchive {
 public:
  static constexpr std::size_t kMaxEntries = 65536;

  struct Entry {
    std::string name;
    std::span<const std::byte> data;
    std::uint32_t crc32 = 0;  ///< what the archive says it is
  };

  /// `bytes` must outlive the result. `marked`: the first two bytes are not those of the format and not looked at.
  [[nodiscard]] static Result<ZipArchive> parse(std::span<const std::byte> bytes, std::string_view label, bool marked);

  /// Sorted by name.
  [[nodiscard]] const std::vector<Entry>& entries() const noexcept { return entries_; }
  /// nullptr when there is none.
  [[nodiscard]] const Entry* find(std::string_view name) const;

 private:
  std::vector<Entry> entries_;
};

/// Whether the bytes of an entry are those that were written.
[[nodiscard]] bool is_intact(const ZipArchive::Entry& entry);

/// CRC-32 as zip uses it (ISO-HDLC, reflected polynomial 0xEDB88320).
[[nodiscard]] std::uint32_t crc32(std::span<const std::byte> bytes) noexcept;

}  // namespace tts
