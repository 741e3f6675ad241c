#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "src/core/result.h"

namespace tts {

/// One spoken word: where it stands in the input and in the phonemes.
struct SpokenWord {
  std::string text;          ///< as written in the input
  std::size_t in_start = 0;  ///< code points into the input
  std::size_t in_end = 0;
  std::size_t phoneme_begin = 0;  ///< indices into Phonemized::phonemes
  std::size_t phoneme_end = 0;
};

struct Phonemized {
  std::vector<std::int32_t> phonemes;  ///< ids of the v2 inventory (text/phonemes.h); empty: nothing to speak
  std::vector<SpokenWord> words;
  std::string normalized;  ///< the text as it is spoken, for logs and tests
};

struct FrontendOptions {
  std::string lang = "auto";  ///< "en"; "auto" chooses
  /// Symbol put between words ("SP" for the starter voice); empty: none, as upstream's English front end.
  std::string word_separator;
};

/// Text to phonemes. Const and thread-safe after load.
class TextFrontend {
 public:
  /// `data_dir` holds cmudict and the grapheme-to-phoneme network. Throws std::runtime_error naming the file.
  explicit TextFrontend(const std::filesystem::path& data_dir);
  ~TextFrontend();
  TextFrontend(TextFrontend&&) noexcept;
  TextFrontend& operator=(TextFrontend&&) noexcept;

  /// Never throws on any input, invalid UTF-8 included. Ends with a sentence mark when anything is spoken.
  [[nodiscard]] Phonemized phonemize(std::string_view text, const FrontendOptions& options) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tts
