#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string_view>
#include <vector>

#include "src/core/result.h"
#include "src/text/en_normalize.h"
#include "src/text/g2p_network.h"
#include "src/text/lexicon.h"

namespace tts {

/// English words to ARPAbet phonemes with stress digits, as ids of the v2 inventory. In this order: homographs by their
/// neighbours; the dictionary; regular derivations of dictionary words (possessive, plural, -ed, -ing, -er, -ly, ...);
/// compounds of two dictionary words; the network. Const after open; safe to read from any thread.
class EnglishG2p {
 public:
  /// `data_dir` holds cmudict.bin and g2p.safetensors. Errc::bad_file naming the file.
  [[nodiscard]] static Result<EnglishG2p> open(const std::filesystem::path& data_dir);

  /// Phonemes of token `i`; its neighbours choose among homographs. A mark gives its own symbol. Never empty for a
  /// token that normalize_english made, except a word without letters.
  [[nodiscard]] std::vector<std::int32_t> phonemes(std::span<const SpokenToken> tokens, std::size_t i) const;

  [[nodiscard]] const Lexicon& lexicon() const noexcept { return lexicon_; }
  [[nodiscard]] const G2pNetwork& network() const noexcept { return network_; }

 private:
  EnglishG2p(Lexicon lexicon, G2pNetwork network) : lexicon_(std::move(lexicon)), network_(std::move(network)) {}
  [[nodiscard]] std::vector<std::int32_t> spell(std::string_view letters) const;
  [[nodiscard]] std::vector<std::int32_t> word(std::string_view low) const;
  [[nodiscard]] std::vector<std::int32_t> derive(std::string_view low) const;    // empty: no derivation
  [[nodiscard]] std::vector<std::int32_t> compound(std::string_view low) const;  // empty: no compound

  Lexicon lexicon_;
  G2pNetwork network_;
};

}  // namespace tts
