#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "src/core/result.h"

namespace tts {

/// One reading of a character.
struct ZhReading {
  static constexpr std::uint16_t kNone = 0x1FFF;  ///< no reading: a mark, or a character that is not spoken
  std::uint16_t syllable = kNone;                 ///< index for ZhData::syllable
  std::uint8_t tone = 0;                          ///< 1..4, 5 neutral; 0 with kNone

  [[nodiscard]] bool spoken() const noexcept { return syllable != kNone; }
  friend bool operator==(const ZhReading&, const ZhReading&) = default;
};

/// Words with counts and tags, the parameters of two hidden Markov models for unknown words, readings of characters and
/// phrases, and the way from traditional to simplified characters: zh.bin, packed by scripts/train/zh_lexicon.py.
///
/// File (little-endian, varints of seven bits, low ones first): "TTSZH001", then sections, each a u32 of bytes and:
///   1. the characters of the front end, u16 each, most used first; everywhere else a character is its place here
///   2. u16 n, then per syllable three strings (u8 bytes, bytes): pinyin "zhong", symbol "zh", symbol without tone
///   "ong"
///   3. per character its first reading: u16 syllable * 8 + tone; 0xFFFF: none
///   4. u8 n, n tags; u32 sum of all counts; u32 n, n different counts (u32)
///   5. u32 nodes of a trie, varint children of its root, then nodes level by level: varint character minus that of the
///      sibling before; u8 tag (63: no word) + 64 if it has children + 128 if it has a phrase; word: varint number of
///      its count; varint children; phrase: u8 readings other than the characters' own + 32 if it is a phrase + 64 if
///      it corrects a polyphone model + 128 if with other readings, then (u8 place, u16 reading) of each; the last as
///      u8 n and n of the same
///   6. tagging model: 256 states (u8 of "BEMS", tag, f64 start), in this order; per state u16 n and n (u8 state, f64);
///      u32 n, n values (f64); per character varint n and n (u8 state, u16 value + 32768 if the state is one of the
///      character)
///   7. cutting model, states B M E S: 4 f64 start, 16 f64 transition; u32 n, n values; per character u8 mask of states
///      and a u16 value for each
///   8., 9. (u16 traditional, u16 simplified) by OpenCC; and where the reference differs
///   10. phrases: u8 n, n u16 traditional, n u16 simplified
///
/// Everything is read once and checked, so that lookups need no checks. Const after open; safe to read from any thread.
/// About 8 MB.
class ZhData {
 public:
  static constexpr char32_t kFirst = 0x4E00, kLast = 0x9FA5;
  static constexpr double kMinFloat = -3.14e100;  ///< the models' logarithm of zero

  struct Syllable {
    std::string name;                     ///< "zhong"; "ü" is "v"
    std::int32_t initial = 0;             ///< phoneme id
    std::array<std::int32_t, 5> final{};  ///< phoneme id per tone
  };
  /// A node of the trie; 0 is the root, and as a result "none".
  using Node = std::uint32_t;

  struct Emission {
    std::uint8_t state;
    bool listed;  ///< the state is one of those that the character may have
    double value;
  };
  struct Transition {
    std::uint8_t to;
    double value;
  };
  struct Tagging {
    std::array<char, 256> letter{};  ///< B E M S
    std::array<std::uint8_t, 256> tag{};
    std::array<double, 256> start{};
    std::array<std::vector<Transition>, 256> next;
  };
  struct Cutting {
    std::array<double, 4> start{};  ///< B M E S
    std::array<std::array<double, 4>, 4> next{};
  };

  /// Errc::bad_file naming the file and the fault.
  [[nodiscard]] static Result<ZhData> open(const std::filesystem::path& file);

  [[nodiscard]] static constexpr bool is_han(char32_t c) noexcept { return c >= kFirst && c <= kLast; }

  [[nodiscard]] Node child(Node node, char32_t c) const noexcept;
  [[nodiscard]] bool is_word(Node node) const noexcept { return tag_[node] != kNoWord; }
  [[nodiscard]] std::string_view tag(Node node) const noexcept;  ///< "x" for what is no word
  [[nodiscard]] double log_count(Node node) const noexcept { return log_counts_[count_[node]]; }
  [[nodiscard]] double log_total() const noexcept { return log_total_; }
  /// The node of all of `text`, 0 when there is none.
  [[nodiscard]] Node find(std::u32string_view text) const noexcept;

  [[nodiscard]] const Syllable& syllable(ZhReading reading) const noexcept { return syllables_[reading.syllable]; }
  [[nodiscard]] std::size_t n_syllables() const noexcept { return syllables_.size(); }
  /// "zhong4"; none() for what is no syllable with a tone 1..5.
  [[nodiscard]] ZhReading parse_reading(std::string_view pinyin) const;
  [[nodiscard]] ZhReading reading(char32_t c) const noexcept;
  [[nodiscard]] bool is_phrase(Node node) const noexcept { return (phrase_flags_[node] & kPhrase) != 0; }
  [[nodiscard]] bool begins_phrase(Node node) const noexcept { return (phrase_flags_[node] & kBeginsPhrase) != 0; }
  [[nodiscard]] bool is_correction(Node node) const noexcept { return (phrase_flags_[node] & kCorrects) != 0; }
  /// Readings of the phrase, resp. correction, `text`, whose node is `node`.
  void phrase_readings(Node node, std::u32string_view text, std::span<ZhReading> out) const;
  void correction_readings(Node node, std::u32string_view text, std::span<ZhReading> out) const;

  [[nodiscard]] const Tagging& tagging() const noexcept { return tagging_; }
  [[nodiscard]] std::string_view tag_name(std::uint8_t tag) const noexcept { return tags_[tag]; }
  /// Emissions of the tagging model; empty for a character it does not know.
  [[nodiscard]] std::span<const Emission> emissions(char32_t c) const noexcept;
  [[nodiscard]] const Cutting& cutting() const noexcept { return cutting_; }
  /// B M E S of the cutting model.
  [[nodiscard]] const std::array<double, 4>& cut_emissions(char32_t c) const noexcept;

  /// Simplified form of a character, `c` itself when it has none. `reference`: by the reference's table.
  [[nodiscard]] char32_t simplified(char32_t c, bool reference) const noexcept;
  /// Length of the longest traditional phrase that `text` starts with, 0 for none; `out` gets its simplified form.
  [[nodiscard]] std::size_t simplified_phrase(std::u32string_view text, std::u32string_view& out) const;

 private:
  class Reader;
  static constexpr std::uint8_t kNoWord = 63;
  enum : std::uint8_t { kPhrase = 1, kBeginsPhrase = 2, kCorrects = 4 };

  ZhData() = default;
  [[nodiscard]] std::string read(Reader& file);  // empty, or the fault
  [[nodiscard]] std::string read_trie(Reader in);
  [[nodiscard]] std::string read_tagging(Reader in);
  [[nodiscard]] std::string read_cutting(Reader in);
  void apply(std::uint32_t at, std::span<ZhReading> out) const;

  struct Over {
    std::uint8_t place;
    ZhReading reading;
  };

  std::vector<char32_t> alphabet_;
  std::vector<std::uint16_t> rank_;  // by c - kFirst
  std::vector<Syllable> syllables_;
  std::unordered_map<std::string_view, std::uint16_t> syllable_index_;  // views of syllables_
  std::vector<ZhReading> readings_;                                     // by rank
  std::vector<std::string> tags_;
  std::vector<double> log_counts_;
  double log_total_ = 0;

  std::vector<std::uint16_t> label_;        // by node
  std::vector<std::uint32_t> first_child_;  // by node, and the end
  std::vector<std::uint8_t> tag_;
  std::vector<std::uint16_t> count_;
  std::vector<std::uint8_t> phrase_flags_;
  std::vector<Node> root_child_;                                          // by rank
  std::unordered_map<Node, std::pair<std::uint32_t, std::uint32_t>> at_;  // phrase, correction: into over_
  std::vector<Over> over_;                                                // lists, each ended by place 255

  Tagging tagging_;
  std::vector<std::uint32_t> emission_at_;  // by rank, and the end
  std::vector<Emission> emissions_;
  Cutting cutting_;
  std::vector<std::array<double, 4>> cut_emissions_;  // by rank, and one for all others

  std::unordered_map<char32_t, char32_t> simplified_, reference_;
  std::unordered_map<std::u32string, std::u32string> phrases_;
  std::size_t longest_phrase_ = 0;
  std::unordered_map<char32_t, std::size_t> phrase_length_;  // longest phrase by first character
};

}  // namespace tts
