#include "src/text/phonemes.h"

#include <algorithm>
#include <array>
#include <set>
#include <stdexcept>
#include <unordered_map>

namespace tts {
namespace {

constexpr std::string_view kPunctuation[] = {"!", "?", "…", ",", ".", "-"};
constexpr std::string_view kPauses = "SP SP2 SP3 UNK _";
constexpr std::string_view kMandarinInitials = "AA EE OO b c ch d f g h j k l m n p q r s sh t w x y z zh";
constexpr std::string_view kMandarinFinals =
    "E En a ai an ang ao e ei en eng er i i0 ia ian iang iao ie in ing iong ir iu o ong ou u ua uai uan uang ui un uo "
    "v "
    "van ve vn";
constexpr std::string_view kJapanese =
    "I N U a b by ch cl d dy e f g gy h hy i j k ky m my n ny o p py r ry s sh t ts u v w y z";
constexpr std::string_view kArpaVowels = "AA AE AH AO AW AY EH ER EY IH IY OW OY UH UW";
constexpr std::string_view kArpaConsonants = "B CH D DH F G HH JH K L M N NG P R S SH T TH V W Y Z ZH";
constexpr std::string_view kArpaWithoutStress = "ER IH";
constexpr std::string_view kKorean =
    "ㄱ ㄴ ㄷ ㄹ ㅁ ㅂ ㅅ ㅇ ㅈ ㅊ ㅋ ㅌ ㅍ ㅎ ㄲ ㄸ ㅃ ㅆ ㅉ ㅏ ㅓ ㅗ ㅜ ㅡ ㅣ ㅐ ㅔ 空 停";
// Initials have no tone; these finals have six, those of the second list also stand alone as an initial or syllable.
constexpr std::string_view kCantoneseInitials = "b c d f gw h j kw l ng s w z";
constexpr std::string_view kCantoneseToned =
    "aai aak aam aan aang aap aat aau am an ang ap at ei ek eng eoi eon eot i ik im in ing ip it iu oe oek oeng ong ot "
    "u "
    "ui un ung ut yu yun yut";
constexpr std::string_view kCantoneseBoth = "a aa ai ak au e g k m n o oi ok on ou p t uk";

template <class Use>
void each(std::string_view list, Use use) {
  while (!list.empty()) {
    const std::size_t end = std::min(list.find(' '), list.size());
    use(std::string(list.substr(0, end)));
    list.remove_prefix(std::min(end + 1, list.size()));
  }
}

// std::set<std::string> sorts by bytes, which for UTF-8 is the order of code points.
using Sorted = std::set<std::string>;

Sorted first_block() {
  Sorted set;
  const auto add = [&](std::string symbol) { set.insert(std::move(symbol)); };
  for (const std::string_view mark : kPunctuation) add(std::string(mark));
  each(kPauses, add);
  each(kMandarinInitials, add);
  each(kMandarinFinals, [&](const std::string& final) {
    for (const char tone : {'1', '2', '3', '4', '5'}) add(final + tone);
  });
  each(kJapanese, add);
  each(kArpaVowels, [&](const std::string& vowel) {
    for (const char stress : {'0', '1', '2'}) add(vowel + stress);
  });
  each(kArpaConsonants, add);
  each(kArpaWithoutStress, add);
  return set;
}

Sorted korean_block() {
  Sorted set;
  each(kKorean, [&](std::string symbol) { set.insert(std::move(symbol)); });
  return set;
}

Sorted cantonese_block() {
  Sorted set;
  const auto plain = [&](const std::string& part) { set.insert("Y" + part); };
  const auto toned = [&](const std::string& part) {
    for (const char tone : {'1', '2', '3', '4', '5', '6'}) set.insert("Y" + part + tone);
  };
  each(kCantoneseInitials, plain);
  each(kCantoneseBoth, plain);
  each(kCantoneseBoth, toned);
  each(kCantoneseToned, toned);
  return set;
}

struct Table {
  std::vector<std::string> symbols;
  std::unordered_map<std::string_view, std::int32_t> ids;

  Table() {
    const auto append = [this](const Sorted& block) { symbols.insert(symbols.end(), block.begin(), block.end()); };
    append(first_block());
    const std::size_t first = symbols.size();
    symbols.insert(symbols.end(), {"[", "]"});
    append(korean_block());
    append(cantonese_block());
    if (first != kPhonemesV1 || symbols.size() != kPhonemesV2) throw std::logic_error("phoneme inventory: wrong size");
    for (std::size_t i = 0; i < symbols.size(); ++i) ids.emplace(symbols[i], static_cast<std::int32_t>(i));
  }
};

const Table& table() {
  static const Table instance;
  return instance;
}

}  // namespace

std::span<const std::string> phoneme_symbols() {
  return table().symbols;
}

std::optional<std::int32_t> phoneme_id(std::string_view symbol) {
  const auto& ids = table().ids;
  const auto found = ids.find(symbol);
  if (found == ids.end()) return std::nullopt;
  return found->second;
}

std::string_view phoneme_symbol(std::int32_t id) {
  const auto& symbols = table().symbols;
  if (id < 0 || static_cast<std::size_t>(id) >= symbols.size()) return "UNK";
  return symbols[static_cast<std::size_t>(id)];
}

std::vector<std::int32_t> within_inventory(std::vector<std::int32_t> ids, std::int64_t limit) {
  static const std::int32_t unknown = *phoneme_id("UNK");
  std::replace_if(
      ids.begin(), ids.end(), [limit](std::int32_t id) { return id >= limit; }, unknown);
  return ids;
}

bool is_punctuation(std::int32_t id) {
  const std::string_view symbol = phoneme_symbol(id);
  return std::find(std::begin(kPunctuation), std::end(kPunctuation), symbol) != std::end(kPunctuation);
}

}  // namespace tts
