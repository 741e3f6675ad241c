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

/// Phonemes whose BERT features come from a stretch of text; those of all other phonemes are zeros.
struct BertSpan {
  std::string text;                                  ///< what the tokenizer is given: normalised, UTF-8
  std::vector<std::uint8_t> phonemes_per_character;  ///< one number per code point of `text`
  std::size_t phoneme_begin = 0;                     ///< the first one's index in Phonemized::phonemes
};

struct Phonemized {
  std::vector<std::int32_t> phonemes;  ///< ids of the v2 inventory (text/phonemes.h); empty: nothing to speak
  std::vector<SpokenWord> words;
  std::vector<BertSpan> bert;
  std::string normalized;  ///< the text as it is spoken, for logs and tests
};

class PolyphoneModel;

struct FrontendOptions {
  /// The protocol's names: "auto"; "en", which speaks English only; "zh", Chinese with English words in it. "auto" and
  /// an unknown name go by the letters.
  std::string lang = "auto";
  /// What the voice speaks; empty: all languages there are. Letters of others are silent.
  std::vector<std::string> languages;
  /// The phonemes GPT-SoVITS v2 makes, with its defects: no mark is added or left out at the ends, short English gets a
  /// comma and short text a full stop in front, and see normalize_chinese and split_languages.
  bool reference = false;
  /// Symbol put between words ("SP" for the starter voice); empty: none, as upstream's English front end.
  std::string word_separator;
};

/// Text to phonemes. Const and thread-safe after load.
class TextFrontend {
 public:
  /// `data_dir` holds the dictionaries and networks of all languages. Throws std::runtime_error naming the file.
  /// `polyphones`, if any, chooses the readings of Chinese characters.
  explicit TextFrontend(const std::filesystem::path& data_dir,
                        std::shared_ptr<const PolyphoneModel> polyphones = nullptr);
  ~TextFrontend();
  TextFrontend(TextFrontend&&) noexcept;
  TextFrontend& operator=(TextFrontend&&) noexcept;

  /// Never throws on any input, invalid UTF-8 included. Unless options.reference, it begins with no mark and ends with
  /// a sentence mark when anything is spoken.
  [[nodiscard]] Phonemized phonemize(std::string_view text, const FrontendOptions& options) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tts
