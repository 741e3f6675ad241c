#include "src/text/lexicon.h"

#include <cstring>
#include <fstream>
#include <iterator>

#include "src/text/phonemes.h"

namespace tts {
namespace {

constexpr std::string_view kMagic = "TTSLEX01";

std::uint32_t read_u32(const char* at) {
  std::uint32_t value = 0;
  for (int i = 3; i >= 0; --i) value = value << 8U | static_cast<unsigned char>(at[i]);
  return value;
}

}  // namespace

template <class Visit>
bool Lexicon::walk_block(std::size_t block, Visit visit) const {
  const auto* at = reinterpret_cast<const unsigned char*>(blob_.data()) + blocks_[block];
  const std::size_t first = block * block_size_;
  const std::size_t last = std::min(first + block_size_, n_entries_);
  std::string word;
  for (std::size_t i = first; i < last; ++i) {
    word.resize(at[0]);
    word.append(reinterpret_cast<const char*>(at + 2), at[1]);
    at += 2 + at[1];
    if (visit(word, std::string_view(reinterpret_cast<const char*>(at + 1), at[0]))) return true;
    at += 1 + at[0];
  }
  return false;
}

Result<Lexicon> Lexicon::open(const std::filesystem::path& file) {
  const auto bad = [&](const std::string& what) { return Error{Errc::bad_file, file.string() + ": " + what}; };
  std::ifstream in(file, std::ios::binary);
  if (!in) return bad("cannot be opened");
  const std::string bytes((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  std::size_t at = kMagic.size() + 16;
  if (bytes.size() < at || bytes.compare(0, kMagic.size(), kMagic) != 0) return bad("not a lexicon (want TTSLEX01)");
  const char* counts = bytes.data() + kMagic.size();
  const std::size_t n_phonemes = read_u32(counts);
  Lexicon lexicon;
  lexicon.n_entries_ = read_u32(counts + 4);
  lexicon.block_size_ = read_u32(counts + 8);
  const std::size_t blob_bytes = read_u32(counts + 12);
  if (n_phonemes > 256 || lexicon.block_size_ == 0) return bad("bad header");
  const std::size_t n_blocks = (lexicon.n_entries_ + lexicon.block_size_ - 1) / lexicon.block_size_;
  const std::size_t wanted = at + n_phonemes * 4 + n_blocks * 4 + blob_bytes;
  if (bytes.size() != wanted) {
    return bad("got " + std::to_string(bytes.size()) + " bytes, wanted " + std::to_string(wanted));
  }
  for (std::size_t i = 0; i < n_phonemes; ++i, at += 4) {
    const std::string symbol(bytes.data() + at, ::strnlen(bytes.data() + at, 4));
    const auto id = phoneme_id(symbol);
    if (!id) return bad("unknown phoneme \"" + symbol + "\"");
    lexicon.phonemes_.push_back(*id);
  }
  for (std::size_t i = 0; i < n_blocks; ++i, at += 4) lexicon.blocks_.push_back(read_u32(bytes.data() + at));
  lexicon.blob_ = bytes.substr(at);

  const auto* blob = reinterpret_cast<const unsigned char*>(lexicon.blob_.data());
  std::size_t next = 0;
  std::size_t letters = 0;
  for (std::size_t i = 0; i < lexicon.n_entries_; ++i) {
    const bool block_start = i % lexicon.block_size_ == 0;
    if (block_start && lexicon.blocks_[i / lexicon.block_size_] != next) return bad("bad block offset");
    if (blob_bytes - next < 2) return bad("cut off");
    const std::size_t shared = blob[next];
    const std::size_t further = blob[next + 1];
    if (shared > (block_start ? 0 : letters)) return bad("bad entry " + std::to_string(i));
    letters = shared + further;
    next += 2 + further;
    if (next >= blob_bytes) return bad("cut off");
    const std::size_t n = blob[next++];
    if (blob_bytes - next < n) return bad("cut off");
    for (std::size_t k = 0; k < n; ++k) {
      if (blob[next + k] >= n_phonemes) return bad("bad phoneme in entry " + std::to_string(i));
    }
    next += n;
  }
  if (next != blob_bytes) return bad("bytes left over");
  return lexicon;
}

std::string_view Lexicon::lookup(std::string_view word) const {
  // The last block whose first word is <= word.
  std::size_t low = 0;
  std::size_t high = blocks_.size();
  while (low < high) {
    const std::size_t middle = (low + high) / 2;
    const auto* at = reinterpret_cast<const unsigned char*>(blob_.data()) + blocks_[middle];
    const std::string_view first(reinterpret_cast<const char*>(at + 2), at[1]);
    if (first <= word) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  std::string_view result;
  if (low == 0) return result;
  walk_block(low - 1, [&](const std::string& entry, std::string_view phonemes) {
    if (entry == word) result = phonemes;
    return entry >= word;
  });
  return result;
}

std::optional<std::vector<std::int32_t>> Lexicon::find(std::string_view word) const {
  const std::string_view bytes = lookup(word);
  if (bytes.data() == nullptr) return std::nullopt;
  std::vector<std::int32_t> ids;
  ids.reserve(bytes.size());
  for (const char byte : bytes) ids.push_back(phonemes_[static_cast<unsigned char>(byte)]);
  return ids;
}

bool Lexicon::contains(std::string_view word) const {
  return lookup(word).data() != nullptr;
}

}  // namespace tts
