#include "src/text/wordpiece.h"

#include <unicode/uchar.h>
#include <unicode/unorm2.h>
#include <unicode/ustring.h>
#include <unicode/utf16.h>
#include <unicode/utf8.h>
#include <algorithm>
#include <array>
#include <span>
#include <utility>

#include "src/core/utf8.h"

namespace tts {
namespace {

/// A character of the normalised text and the code point it came from.
struct Character {
  char32_t code = 0;
  std::uint32_t from = 0;
};

constexpr std::size_t kMaxExpansion = 32;  // UTF-16 units of one code point, decomposed or in lower case

bool is_space(char32_t c) {
  return c == U'\t' || c == U'\n' || c == U'\r' || u_isUWhiteSpace(static_cast<UChar32>(c)) != 0;
}

/// General category as a mask, in Unicode 8: what the published tokeniser goes by, and what its vocabulary was made
/// with.
std::uint32_t category(char32_t c) {
  constexpr int kUnicode = 8;
  UVersionInfo age{};
  u_charAge(static_cast<UChar32>(c), age);
  return age[0] > kUnicode ? U_GC_CN_MASK : U_GET_GC_MASK(static_cast<UChar32>(c));
}

/// Controls, formats and private use, but for the three controls that are spaces.
bool is_dropped(char32_t c) {
  if (c == 0 || c == 0xFFFD) return true;
  if (c == U'\t' || c == U'\n' || c == U'\r') return false;
  return (category(c) & (U_GC_CC_MASK | U_GC_CF_MASK | U_GC_CO_MASK | U_GC_CS_MASK)) != 0;
}

bool is_punctuation(char32_t c) {
  if (c < 0x80)
    return (c > 0x20 && c < 0x30) || (c > 0x39 && c < 0x41) || (c > 0x5A && c < 0x61) || (c > 0x7A && c < 0x7F);
  return (category(c) & U_GC_P_MASK) != 0;
}

bool is_chinese(char32_t c) {
  constexpr std::array<std::pair<char32_t, char32_t>, 8> kBlocks = {{{0x4E00, 0x9FFF},
                                                                     {0x3400, 0x4DBF},
                                                                     {0x20000, 0x2A6DF},
                                                                     {0x2A700, 0x2B73F},
                                                                     {0x2B740, 0x2B81F},
                                                                     {0x2B920, 0x2CEAF},
                                                                     {0xF900, 0xFAFF},
                                                                     {0x2F800, 0x2FA1F}}};
  return std::any_of(kBlocks.begin(), kBlocks.end(), [c](const auto& b) { return c >= b.first && c <= b.second; });
}

/// Calls `take` with each code point of n UTF-16 units.
template <class Take>
void each_code_point(const UChar* units, std::int32_t n, Take&& take) {
  for (std::int32_t at = 0; at < n;) {
    UChar32 code = 0;
    U16_NEXT(units, at, n, code);
    take(static_cast<char32_t>(code));
  }
}

/// Appends `c` in lower case, by its own full mapping, not by what stands beside it.
void append_lower(std::vector<Character>& out, Character c) {
  if (c.code < 0x80) {
    out.push_back({c.code >= U'A' && c.code <= U'Z' ? c.code + 0x20 : c.code, c.from});
    return;
  }
  std::array<UChar, 2> source{};
  std::int32_t n_source = 0;
  U16_APPEND_UNSAFE(source.data(), n_source, static_cast<UChar32>(c.code));
  std::array<UChar, kMaxExpansion> lower{};
  UErrorCode status = U_ZERO_ERROR;
  const std::int32_t n = u_strToLower(lower.data(), kMaxExpansion, source.data(), n_source, "", &status);
  if (U_FAILURE(status) != 0 || n > static_cast<std::int32_t>(kMaxExpansion)) {
    out.push_back(c);
    return;
  }
  each_code_point(lower.data(), n, [&](char32_t code) { out.push_back({code, c.from}); });
}

/// Appends `c` decomposed, without non-spacing marks.
void append_bare(std::vector<Character>& out, Character c) {
  if (c.code < 0x80) {
    out.push_back(c);
    return;
  }
  const auto keep = [&](char32_t code) {
    if ((category(code) & U_GC_MN_MASK) == 0) out.push_back({code, c.from});
  };
  std::array<UChar, kMaxExpansion> parts{};
  UErrorCode status = U_ZERO_ERROR;
  const UNormalizer2* nfd = unorm2_getNFDInstance(&status);
  const std::int32_t n = U_SUCCESS(status) != 0
                             ? unorm2_getDecomposition(nfd, static_cast<UChar32>(c.code), parts.data(),
                                                       static_cast<std::int32_t>(parts.size()), &status)
                             : -1;
  if (n < 0 || U_FAILURE(status) != 0) {
    keep(c.code);
  } else {
    each_code_point(parts.data(), n, keep);
  }
}

/// The normalised text; a space parts words.
std::vector<Character> normalise(std::string_view text, const WordPieceOptions& options) {
  std::vector<Character> out;
  out.reserve(text.size());
  std::vector<Character> bare;
  const auto n = static_cast<std::int32_t>(text.size());
  std::int32_t at = 0;
  for (std::uint32_t from = 0; at < n; ++from) {
    UChar32 code = 0;
    U8_NEXT(text.data(), at, n, code);  // below 0 on ill-formed bytes
    Character c{code < 0 ? char32_t{0xFFFD} : static_cast<char32_t>(code), from};
    if (options.clean) {
      if (is_dropped(c.code)) continue;
      if (is_space(c.code)) c.code = U' ';
    }
    const bool alone = options.split_chinese && is_chinese(c.code);
    if (alone) out.push_back({U' ', from});
    bare.clear();
    if (options.strip_accents) {
      append_bare(bare, c);
    } else {
      bare.push_back(c);
    }
    for (const Character b : bare) {
      if (options.lowercase) {
        append_lower(out, b);
      } else {
        out.push_back(b);
      }
    }
    if (alone) out.push_back({U' ', from});
  }
  return out;
}

}  // namespace

WordPiece::WordPiece(Vocabulary vocabulary, WordPieceOptions options) noexcept
    : vocabulary_(std::move(vocabulary)), options_(std::move(options)) {}

Result<WordPiece> WordPiece::make(Vocabulary vocabulary, WordPieceOptions options) {
  WordPiece made(std::move(vocabulary), std::move(options));
  const std::array<std::pair<std::string_view, std::int32_t*>, 3> special = {
      {{"[CLS]", &made.cls_}, {"[SEP]", &made.sep_}, {made.options_.unknown, &made.unknown_}}};
  for (const auto& [name, id] : special) {
    const auto found = made.vocabulary_.find(name);
    if (found == made.vocabulary_.end()) {
      return Error{Errc::bad_file, "vocabulary of " + std::to_string(made.vocabulary_.size()) + " tokens: got no " +
                                       std::string(name) + ", wanted one"};
    }
    *id = found->second;
  }
  for (const auto& [token, id] : made.vocabulary_) {
    if (id < 0) return Error{Errc::bad_file, "vocabulary: token \"" + token + "\" has the id " + std::to_string(id)};
    made.max_id_ = std::max(made.max_id_, id);
  }
  return made;
}

Result<WordPiece> WordPiece::from_lines(std::string_view lines, WordPieceOptions options) {
  Vocabulary vocabulary;
  std::int32_t id = 0;
  while (!lines.empty()) {
    const std::size_t end = std::min(lines.find('\n'), lines.size());
    std::string_view token = lines.substr(0, end);
    if (token.ends_with('\r')) token.remove_suffix(1);
    vocabulary.insert_or_assign(std::string(token), id++);
    lines.remove_prefix(std::min(end + 1, lines.size()));
  }
  return make(std::move(vocabulary), std::move(options));
}

std::vector<WordPiece::Token> WordPiece::encode(std::string_view text) const {
  const std::vector<Character> characters = normalise(text, options_);
  std::vector<Token> tokens;
  std::string bytes;                  // of the word, as UTF-8
  std::vector<std::size_t> boundary;  // bytes before each of its characters, and all
  std::string key;

  const auto add_word = [&](std::span<const Character> word) {
    if (word.empty()) return;
    const auto make_token = [&](std::int32_t id, std::size_t first, std::size_t last) {
      tokens.push_back({id, word[first].from, word[last].from + 1});
    };
    if (word.size() > options_.max_word) return make_token(unknown_, 0, word.size() - 1);
    bytes.clear();
    boundary.assign(1, 0);
    for (const Character c : word) {
      utf8::append(bytes, c.code);
      boundary.push_back(bytes.size());
    }
    const std::size_t n_before = tokens.size();
    for (std::size_t start = 0; start < word.size();) {
      std::size_t end = word.size();
      for (; end > start; --end) {
        key.assign(start > 0 ? options_.continuation : std::string());
        key.append(bytes, boundary[start], boundary[end] - boundary[start]);
        const auto found = vocabulary_.find(std::string_view(key));
        if (found == vocabulary_.end()) continue;
        make_token(found->second, start, end - 1);
        break;
      }
      if (end == start) {
        tokens.resize(n_before);
        return make_token(unknown_, 0, word.size() - 1);
      }
      start = end;
    }
  };

  const std::span<const Character> all(characters);
  std::size_t first = 0;
  for (std::size_t i = 0; i < all.size(); ++i) {
    const char32_t c = all[i].code;
    const bool space = is_space(c);
    if (!space && !is_punctuation(c)) continue;
    add_word(all.subspan(first, i - first));
    if (!space) add_word(all.subspan(i, 1));
    first = i + 1;
  }
  add_word(all.subspan(first));
  return tokens;
}

}  // namespace tts
