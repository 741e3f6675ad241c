#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "src/core/result.h"

namespace tts {

/// Read-only pronouncing dictionary: a word of a-z and apostrophes to ARPAbet phonemes as ids of the v2 inventory.
///
/// File (little-endian): "TTSLEX01"; u32 phonemes, entries, entries per block, blob bytes; 4 bytes per phoneme symbol,
/// zero-padded; u32 blob offset per block; blob. An entry is: u8 letters shared with the entry before (0 at the start
/// of a block), u8 further letters, these letters, u8 n, n phoneme numbers. Words are sorted by bytes. Const after
/// open; safe to read from any thread. Memory: the file's size.
class Lexicon {
 public:
  /// Errc::bad_file naming the file and the fault. Every entry is walked once, so that lookups need no checks.
  [[nodiscard]] static Result<Lexicon> open(const std::filesystem::path& file);

  /// Phoneme ids of a lower-case word; nullopt when it is not in the dictionary.
  [[nodiscard]] std::optional<std::vector<std::int32_t>> find(std::string_view word) const;
  [[nodiscard]] bool contains(std::string_view word) const;
  [[nodiscard]] std::size_t size() const noexcept { return n_entries_; }

 private:
  Lexicon() = default;
  // Calls visit(word, phoneme bytes) for the entries of a block until it returns true.
  template <class Visit>
  bool walk_block(std::size_t block, Visit visit) const;
  std::string_view lookup(std::string_view word) const;  // phoneme bytes; data() == nullptr: not there

  std::string blob_;
  std::vector<std::uint32_t> blocks_;
  std::vector<std::int32_t> phonemes_;
  std::size_t n_entries_ = 0;
  std::size_t block_size_ = 0;
};

}  // namespace tts
