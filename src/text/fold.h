#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tts {

/// Signs outside ASCII that the normaliser reads. Folded text is ASCII plus these bytes.
namespace sign {
enum : char {
  kEnDash = '\x81',
  kEmDash = '\x82',
  kMinus = '\x83',
  kEllipsis = '\x84',
  kDegree = '\x85',
  kEuro = '\x86',
  kPound = '\x87',
  kYen = '\x88',
  kRupee = '\x89',
  kCent = '\x8A',
  kWon = '\x8B',
  kBitcoin = '\x8C',
  kTimes = '\x90',
  kDivide = '\x91',
  kPlusMinus = '\x92',
  kAbout = '\x93',
  kAtMost = '\x94',
  kAtLeast = '\x95',
  kNotEqual = '\x96',
  kArrow = '\x97',
  kRoot = '\x98',
  kInfinity = '\x99',
  kMicro = '\x9A',
  kSection = '\x9B',
  kCopyright = '\x9C',
  kSquared = '\x9D',
  kCubed = '\x9E',
};
}  // namespace sign

/// Input text reduced to one byte per character, with the way back.
struct Folded {
  std::string text;  ///< ASCII, '\n', and the bytes of tts::sign
  std::vector<std::uint32_t> start,
      end;                             ///< per byte of `text`: the code points [start, end) of the input it stands for
  std::string input;                   ///< the input as valid UTF-8
  std::vector<std::uint32_t> byte_at;  ///< byte offset in `input` of each code point, and of the end

  /// The input's code points [from, to) as UTF-8.
  [[nodiscard]] std::string_view slice(std::size_t from, std::size_t to) const;
};

/// Latin letters lose their diacritics, compatibility forms (full-width, ligatures, styled letters) become plain, smart
/// quotes and dashes become ASCII or tts::sign bytes, Greek letters become their names, digits of all scripts become
/// ASCII. Ill-formed UTF-8 counts as one code point per maximal subpart. Other scripts, emoji and controls become
/// spaces. `start` never decreases. Never throws on any input; linear in its length.
[[nodiscard]] Folded fold(std::string_view text);

}  // namespace tts
