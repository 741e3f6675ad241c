#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "src/core/result.h"

namespace tts {

/// Grapheme-to-phoneme network for words outside the dictionary, trained by scripts/train/g2p.py.
///
/// A letter emits a chunk of zero to two phonemes. A bidirectional GRU (Cho et al. 2014; gate order r, z, n as PyTorch)
/// reads the letters; a second GRU runs over its output and the embedding of the chunk before, and a linear layer
/// scores the chunks; the best is taken at each letter. Plain loops in f32 over weights stored as f16: exact and
/// reentrant.
class G2pNetwork {
 public:
  /// Errc::bad_file naming the file and the missing or misshapen tensor.
  [[nodiscard]] static Result<G2pNetwork> open(const std::filesystem::path& file);

  /// Phoneme ids of `word`, of which only the letters a-z count; longer words than max_letters() are read in pieces,
  /// and of runs that cannot be words only the first four pieces. Empty for no letters. About 0.4 million
  /// multiplications a letter.
  [[nodiscard]] std::vector<std::int32_t> phonemes(std::string_view word) const;

  [[nodiscard]] std::size_t max_letters() const noexcept { return max_letters_; }

 private:
  struct Gru {
    std::size_t inputs = 0, size = 0;
    std::vector<float> w_ih, w_hh, b_ih, b_hh;  // [3 * size, inputs], [3 * size, size], [3 * size]
    void step(const float* input, std::vector<float>& state) const;
  };

  G2pNetwork() = default;
  void piece(std::string_view letters, std::vector<std::int32_t>& out) const;

  std::vector<std::vector<std::int32_t>> chunks_;
  std::size_t dim_ = 0;
  std::size_t max_letters_ = 24;
  std::vector<float> letter_, chunk_;  // [26, dim], [chunks + 1, dim]
  Gru forward_, backward_, decoder_;
  std::vector<float> out_w_, out_b_;  // [chunks, decoder size], [chunks]
};

}  // namespace tts
