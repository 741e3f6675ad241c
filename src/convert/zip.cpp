#include "src/convert/zip.h"

#include <algorithm>
#include <array>
#include <optional>

#include "src/core/log.h"
#include "src/core/utf8.h"

namespace tts {
namespace {

// APPNOTE.TXT 6.3.9, sections 4.3.7 (local header), 4.3.12 (central directory), 4.3.14 to 4.3.16 (its end).
constexpr std::uint32_t kLocal = 0x04034B50;
constexpr std::uint32_t kCentral = 0x02014B50;
constexpr std::uint32_t kEnd = 0x06054B50;
constexpr std::uint32_t kEnd64 = 0x06064B50;
constexpr std::uint32_t kLocator64 = 0x07064B50;
constexpr std::size_t kLocalSize = 30;
constexpr std::size_t kCentralSize = 46;
constexpr std::size_t kEndSize = 22;
constexpr std::size_t kEnd64Size = 56;
constexpr std::size_t kLocator64Size = 20;
constexpr std::size_t kMaxComment = 0xFFFF;
constexpr std::size_t kMaxName = 1024;

std::string shown(std::string_view name) {
  return log_value(name.substr(0, utf8::floor_boundary(name, 120)));
}

/// Little-endian numbers of a range that has been checked to be there.
template <class T>
T number(std::span<const std::byte> bytes, std::size_t at) {
  T value = 0;
  for (std::size_t i = 0; i < sizeof(T); ++i) {
    value = static_cast<T>(value | static_cast<T>(std::to_integer<T>(bytes[at + i]) << (8 * i)));
  }
  return value;
}
std::uint16_t u16(std::span<const std::byte> bytes, std::size_t at) {
  return number<std::uint16_t>(bytes, at);
}
std::uint32_t u32(std::span<const std::byte> bytes, std::size_t at) {
  return number<std::uint32_t>(bytes, at);
}
std::uint64_t u64(std::span<const std::byte> bytes, std::size_t at) {
  return number<std::uint64_t>(bytes, at);
}

/// Whether [begin, begin + size) lies in `whole` bytes.
bool fits(std::uint64_t begin, std::uint64_t size, std::uint64_t whole) {
  return begin <= whole && size <= whole - begin;
}

struct Directory {
  std::uint64_t n_entries = 0;
  std::uint64_t size = 0;
  std::uint64_t offset = 0;
};

class Reader {
 public:
  Reader(std::span<const std::byte> bytes, std::string_view label, bool marked)
      : bytes_(bytes), label_(label), marked_(marked) {}

  Result<std::vector<ZipArchive::Entry>> read() {
    auto directory = find_directory();
    if (!directory) return directory.error();
    std::vector<ZipArchive::Entry> entries;
    std::uint64_t at = directory->offset;
    const std::uint64_t end = directory->offset + directory->size;
    for (std::uint64_t i = 0; i < directory->n_entries; ++i) {
      auto entry = read_entry(at, end);
      if (!entry) return entry.error();
      if (entry->name.ends_with('/')) continue;  // a folder
      entries.push_back(std::move(*entry));
    }
    if (at != end) return bad("central directory: got more bytes than its entries take");
    if (auto done = check_overlap(entries, directory->offset); !done) return done.error();
    std::ranges::sort(entries, {}, &ZipArchive::Entry::name);
    const auto twice = std::ranges::adjacent_find(entries, {}, &ZipArchive::Entry::name);
    if (twice != entries.end()) return bad("entry " + shown(twice->name) + " twice");
    return entries;
  }

 private:
  Error bad(std::string_view what) const { return {Errc::bad_file, label_ + ": " + std::string(what)}; }

  Result<Directory> find_directory() const {
    const Error cut_off = bad("not a complete zip archive: its end is missing (cut off, or not a checkpoint of torch)");
    if (bytes_.size() < kEndSize) return cut_off;
    const std::size_t last = bytes_.size() - kEndSize;
    const std::size_t first = last > kMaxComment ? last - kMaxComment : 0;
    std::optional<std::size_t> end;
    for (std::size_t at = last + 1; at-- > first;) {
      if (u32(bytes_, at) == kEnd && at + kEndSize + u16(bytes_, at + 20) == bytes_.size()) {
        end = at;
        break;
      }
    }
    if (!end) return cut_off;
    if (u16(bytes_, *end + 4) != 0 || u16(bytes_, *end + 6) != 0) return bad("a split zip archive is not read");
    Directory directory{u16(bytes_, *end + 10), u32(bytes_, *end + 12), u32(bytes_, *end + 16)};
    std::uint64_t stop = *end;
    if (*end >= kLocator64Size && u32(bytes_, *end - kLocator64Size) == kLocator64) {
      const std::uint64_t at = u64(bytes_, *end - kLocator64Size + 8);
      if (!fits(at, kEnd64Size, *end - kLocator64Size) || u32(bytes_, at) != kEnd64) {
        return bad("zip64 end of central directory: not where the archive says");
      }
      directory = {u64(bytes_, at + 32), u64(bytes_, at + 40), u64(bytes_, at + 48)};
      stop = at;
    }
    if (directory.n_entries > ZipArchive::kMaxEntries) {
      return bad("got " + std::to_string(directory.n_entries) + " entries, wanted at most " +
                 std::to_string(ZipArchive::kMaxEntries));
    }
    if (!fits(directory.offset, directory.size, stop)) return bad("central directory: outside the file");
    return directory;
  }

  /// The central directory's entry at `at`, which moves behind it.
  Result<ZipArchive::Entry> read_entry(std::uint64_t& at, std::uint64_t end) const {
    if (!fits(at, kCentralSize, end) || u32(bytes_, at) != kCentral) {
      return bad("central directory: no entry where one should be");
    }
    const std::uint16_t flags = u16(bytes_, at + 8);
    const std::uint16_t method = u16(bytes_, at + 10);
    std::uint64_t stored = u32(bytes_, at + 20);
    std::uint64_t size = u32(bytes_, at + 24);
    const std::size_t name_size = u16(bytes_, at + 28);
    const std::size_t extra_size = u16(bytes_, at + 30);
    const std::size_t comment_size = u16(bytes_, at + 32);
    std::uint64_t offset = u32(bytes_, at + 42);
    if (!fits(at + kCentralSize, name_size + extra_size + comment_size, end) || name_size > kMaxName) {
      return bad("central directory: an entry's name is longer than what is there");
    }
    ZipArchive::Entry entry;
    entry.name.assign(reinterpret_cast<const char*>(bytes_.data()) + at + kCentralSize, name_size);
    entry.crc32 = u32(bytes_, at + 16);
    const std::string where = "entry " + shown(entry.name) + ": ";
    // Zip64 extra field: of size, stored size and offset those that did not fit, in this order.
    const auto extra = bytes_.subspan(at + kCentralSize + name_size, extra_size);
    for (std::size_t i = 0; i + 4 <= extra.size();) {
      const std::size_t field_size = u16(extra, i + 2);
      if (!fits(i + 4, field_size, extra.size())) break;
      if (u16(extra, i) == 1) {
        std::size_t field = i + 4;
        for (std::uint64_t* value : {&size, &stored, &offset}) {
          if (*value != 0xFFFFFFFF) continue;
          if (!fits(field, 8, i + 4 + field_size)) return bad(where + "zip64 field too short");
          *value = u64(extra, field);
          field += 8;
        }
      }
      i += 4 + field_size;
    }
    at += kCentralSize + name_size + extra_size + comment_size;

    if ((flags & 1U) != 0) return bad(where + "encrypted entries are not read");
    if (method != 0 || stored != size) {
      return bad(where + "compressed (method " + std::to_string(method) +
                 "), wanted stored as torch writes it; unpack and save it again with torch");
    }
    if (!fits(offset, kLocalSize, bytes_.size())) return bad(where + "its header lies outside the file");
    const auto local = bytes_.subspan(offset);
    const std::uint32_t mask = marked_ && offset == 0 ? 0xFFFF0000U : 0xFFFFFFFFU;
    if (((u32(local, 0) ^ kLocal) & mask) != 0) return bad(where + "no header where the directory says");
    const std::size_t local_name = u16(local, 26);
    const std::size_t local_extra = u16(local, 28);
    if (local_name != name_size || !fits(kLocalSize, local_name + local_extra, local.size()) ||
        !std::equal(entry.name.begin(), entry.name.end(), reinterpret_cast<const char*>(local.data()) + kLocalSize)) {
      return bad(where + "its header names another file");
    }
    const std::uint64_t begin = kLocalSize + local_name + local_extra;
    if (!fits(begin, size, local.size())) return bad(where + "its " + std::to_string(size) + " bytes leave the file");
    entry.data = local.subspan(begin, size);
    return entry;
  }

  /// Each byte of the file belongs to one entry at most, and to none of the directory.
  Result<void> check_overlap(const std::vector<ZipArchive::Entry>& entries, std::uint64_t directory) const {
    std::vector<const ZipArchive::Entry*> order;
    for (const auto& entry : entries) order.push_back(&entry);
    const auto begin_of = [&](const ZipArchive::Entry* entry) {
      return static_cast<std::uint64_t>(entry->data.data() - bytes_.data());
    };
    std::ranges::sort(order, {}, begin_of);
    std::uint64_t end = 0;
    for (const ZipArchive::Entry* entry : order) {
      if (begin_of(entry) < end || begin_of(entry) + entry->data.size() > directory) {
        return bad("entry " + shown(entry->name) + ": its bytes belong to another part of the archive too");
      }
      end = begin_of(entry) + entry->data.size();
    }
    return {};
  }

  std::span<const std::byte> bytes_;
  std::string label_;
  bool marked_;
};

using CrcTables = std::array<std::array<std::uint32_t, 256>, 8>;

/// Slicing by eight (Kounavis & Berry 2005): eight bytes a step.
constexpr CrcTables make_crc_tables() {
  CrcTables tables{};
  for (std::uint32_t i = 0; i < 256; ++i) {
    std::uint32_t value = i;
    for (int bit = 0; bit < 8; ++bit) value = (value & 1U) != 0 ? (value >> 1U) ^ 0xEDB88320U : value >> 1U;
    tables[0][i] = value;
  }
  for (std::size_t k = 1; k < 8; ++k) {
    for (std::size_t i = 0; i < 256; ++i) {
      tables[k][i] = (tables[k - 1][i] >> 8U) ^ tables[0][tables[k - 1][i] & 0xFFU];
    }
  }
  return tables;
}
constexpr CrcTables kCrc = make_crc_tables();

}  // namespace

Result<ZipArchive> ZipArchive::parse(std::span<const std::byte> bytes, std::string_view label, bool marked) {
  auto entries = Reader(bytes, label, marked).read();
  if (!entries) return entries.error();
  ZipArchive archive;
  archive.entries_ = std::move(*entries);
  return archive;
}

const ZipArchive::Entry* ZipArchive::find(std::string_view name) const {
  const auto found = std::ranges::lower_bound(entries_, name, {}, &Entry::name);
  return found != entries_.end() && found->name == name ? &*found : nullptr;
}

bool is_intact(const ZipArchive::Entry& entry) {
  return crc32(entry.data) == entry.crc32;
}

std::uint32_t crc32(std::span<const std::byte> bytes) noexcept {
  std::uint32_t crc = 0xFFFFFFFFU;
  std::size_t at = 0;
  for (; at + 8 <= bytes.size(); at += 8) {
    const std::uint32_t low = u32(bytes, at) ^ crc;
    const std::uint32_t high = u32(bytes, at + 4);
    crc = kCrc[7][low & 0xFFU] ^ kCrc[6][(low >> 8U) & 0xFFU] ^ kCrc[5][(low >> 16U) & 0xFFU] ^ kCrc[4][low >> 24U] ^
          kCrc[3][high & 0xFFU] ^ kCrc[2][(high >> 8U) & 0xFFU] ^ kCrc[1][(high >> 16U) & 0xFFU] ^ kCrc[0][high >> 24U];
  }
  for (; at < bytes.size(); ++at) {
    crc = (crc >> 8U) ^ kCrc[0][(crc ^ std::to_integer<std::uint32_t>(bytes[at])) & 0xFFU];
  }
  return ~crc;
}

}  // namespace tts
