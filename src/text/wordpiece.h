#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "src/core/result.h"

namespace tts {

struct WordPieceOptions {
  bool clean = true;          ///< controls are dropped, every white space is a space
  bool split_chinese = true;  ///< a CJK ideograph is a word of its own
  bool lowercase = true;
  bool strip_accents = true;  ///< non-spacing marks are dropped after canonical decomposition
  std::string unknown = "[UNK]";
  std::string continuation = "##";  ///< before a piece that does not begin its word
  std::size_t max_word = 100;       ///< characters; a longer word is unknown
};

/// BERT's tokeniser (Devlin et al. 2018): the text is normalised, cut at white space and around punctuation, and each
/// word becomes the longest pieces of the vocabulary from its beginning on, or the unknown token as a whole. Equal to
/// the published tokeniser but for special tokens written in the text ("[CLS]"), which are ordinary characters here.
/// Const after construction.
class WordPiece {
 public:
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const noexcept { return std::hash<std::string_view>{}(text); }
  };
  using Vocabulary = std::unordered_map<std::string, std::int32_t, Hash, std::equal_to<>>;

  struct Token {
    std::int32_t id = 0;
    std::uint32_t begin = 0;  ///< code points [begin, end) of the text
    std::uint32_t end = 0;
    bool operator==(const Token&) const = default;
  };

  /// Errc::bad_file when the vocabulary lacks [CLS], [SEP] or the unknown token, or has a negative id.
  [[nodiscard]] static Result<WordPiece> make(Vocabulary vocabulary, WordPieceOptions options = {});
  /// The text of a vocab.txt: a token a line, its id the number of the line from 0.
  [[nodiscard]] static Result<WordPiece> from_lines(std::string_view lines, WordPieceOptions options = {});

  /// Tokens of UTF-8 text, without [CLS] and [SEP]. Ill-formed bytes count as one dropped character each. Linear in the
  /// text for a bounded max_word. Never throws on any input.
  [[nodiscard]] std::vector<Token> encode(std::string_view text) const;

  [[nodiscard]] std::int32_t cls() const noexcept { return cls_; }
  [[nodiscard]] std::int32_t sep() const noexcept { return sep_; }
  [[nodiscard]] std::int32_t unknown() const noexcept { return unknown_; }
  [[nodiscard]] std::int32_t max_id() const noexcept { return max_id_; }

 private:
  WordPiece(Vocabulary vocabulary, WordPieceOptions options) noexcept;

  Vocabulary vocabulary_;
  WordPieceOptions options_;
  std::int32_t cls_ = 0;
  std::int32_t sep_ = 0;
  std::int32_t unknown_ = 0;
  std::int32_t max_id_ = 0;
};

}  // namespace tts
