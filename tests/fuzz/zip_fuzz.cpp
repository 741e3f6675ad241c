// Any bytes as a zip archive, with and without a version mark: refused or read, and what is read are views into the
// bytes that do not overlap.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>

#include "src/convert/zip.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  for (const bool marked : {false, true}) {
    const auto archive = tts::ZipArchive::parse(bytes, "fuzz", marked);
    if (!archive) {
      if (archive.error().detail.empty()) std::abort();
      continue;
    }
    std::size_t total = 0;
    for (const auto& entry : archive->entries()) {
      if (archive->find(entry.name) != &entry) std::abort();
      total += entry.data.size();
      (void)tts::is_intact(entry);  // reads every byte, which AddressSanitizer checks
    }
    if (total > size) std::abort();
  }
  return 0;
}
