#include "src/text/en_g2p.h"

#include <algorithm>
#include <initializer_list>
#include <optional>
#include <string>

#include "src/text/homographs.h"
#include "src/text/phonemes.h"

namespace tts {
namespace {

using std::string;
using std::string_view;
using Phonemes = std::vector<std::int32_t>;

std::int32_t id(string_view symbol) {
  return phoneme_id(symbol).value();
}

Phonemes parse(string_view symbols) {
  Phonemes ids;
  while (!symbols.empty()) {
    const std::size_t end = std::min(symbols.find(' '), symbols.size());
    ids.push_back(id(symbols.substr(0, end)));
    symbols.remove_prefix(std::min(end + 1, symbols.size()));
  }
  return ids;
}

bool one_of(string_view word, std::initializer_list<string_view> list) {
  return std::find(list.begin(), list.end(), word) != list.end();
}

void append(Phonemes& to, string_view symbols) {
  for (const std::int32_t phoneme : parse(symbols)) to.push_back(phoneme);
}

// The plural, possessive or third person: by the last sound.
void append_s(Phonemes& to) {
  if (to.empty()) return;
  const string_view last = phoneme_symbol(to.back());
  if (one_of(last, {"S", "Z", "SH", "ZH", "CH", "JH"})) {
    append(to, "AH0 Z");
  } else {
    append(to, one_of(last, {"P", "T", "K", "F", "TH", "HH"}) ? "S" : "Z");
  }
}

void append_ed(Phonemes& to) {
  if (to.empty()) return;
  const string_view last = phoneme_symbol(to.back());
  if (last == "T" || last == "D") {
    append(to, "AH0 D");
  } else {
    append(to, one_of(last, {"P", "K", "F", "TH", "S", "SH", "CH", "HH"}) ? "T" : "D");
  }
}

// A vowel symbol ends in its stress digit.
bool is_vowel(std::int32_t phoneme) {
  const char last = phoneme_symbol(phoneme).back();
  return last >= '0' && last <= '2';
}

// The second part of a compound keeps its vowels but yields the stress.
void weaken(Phonemes& phonemes) {
  for (std::int32_t& phoneme : phonemes) {
    string symbol(phoneme_symbol(phoneme));
    if (symbol.back() != '1') continue;
    symbol.back() = '2';
    phoneme = id(symbol);
  }
}

bool has_vowel_letter(string_view text) {
  return text.find_first_of("aeiouy") != string_view::npos;
}

}  // namespace

Result<EnglishG2p> EnglishG2p::open(const std::filesystem::path& data_dir) {
  auto lexicon = Lexicon::open(data_dir / "cmudict.bin");
  if (!lexicon) return lexicon.error();
  auto network = G2pNetwork::open(data_dir / "g2p.safetensors");
  if (!network) return network.error();
  return EnglishG2p(std::move(*lexicon), std::move(*network));
}

Phonemes EnglishG2p::spell(string_view letters) const {
  Phonemes result;
  for (std::size_t i = 0; i < letters.size(); ++i) {
    const char c = letters[i];
    if (c == 's' && i > 0 && i + 1 == letters.size()) {
      append_s(result);
      continue;
    }
    const char low = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
    if (low == 'a') {
      append(result, "EY1");  // the dictionary has the article
    } else if (const auto name = lexicon_.find(string_view(&low, 1))) {
      result.insert(result.end(), name->begin(), name->end());
    }
  }
  return result;
}

Phonemes EnglishG2p::phonemes(std::span<const SpokenToken> tokens, std::size_t i) const {
  const SpokenToken& token = tokens[i];
  if (token.kind == SpokenToken::Kind::mark) return {id(token.text)};
  if (token.kind == SpokenToken::Kind::letters) return spell(token.text);
  string low = token.text;
  for (char& c : low) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  if (low == "a") {
    // The article, unless it stands alone ("A."), or a capital inside a sentence names the letter: "plan A",
    // "A is for", "Robert A Frazier"; but "to Die and A Sweet Death".
    const bool last = i + 1 >= tokens.size() || tokens[i + 1].kind == SpokenToken::Kind::mark;
    const bool first = i == 0 || tokens[i - 1].kind == SpokenToken::Kind::mark;
    const auto capital = [&](std::size_t k) { return tokens[k].text[0] >= 'A' && tokens[k].text[0] <= 'Z'; };
    bool letter = first && last;
    if (token.text == "A" && !letter) {
      letter =
          last || (first ? one_of(tokens[i + 1].text, {"is", "and", "or", "was"}) : capital(i - 1) || !capital(i + 1));
    }
    return parse(letter ? "EY1" : "AH0");
  }
  if (const string_view chosen = choose_homograph(tokens, i, low); !chosen.empty()) return parse(chosen);
  return word(low);
}

Phonemes EnglishG2p::word(string_view low) const {
  if (auto found = lexicon_.find(low)) return *std::move(found);
  // Words longer than any name are text without spaces: no searching in them.
  if (low.size() <= 40) {
    if (Phonemes derived = derive(low); !derived.empty()) return derived;
    if (Phonemes parts = compound(low); !parts.empty()) return parts;
  }
  string letters;
  for (const char c : low) {
    if (c != '\'') letters += c;
  }
  if (letters.size() != low.size()) {
    if (auto found = lexicon_.find(letters)) return *std::move(found);
  }
  if (!has_vowel_letter(letters) && letters.size() <= 6) return spell(letters);
  Phonemes guessed = network_.phonemes(letters);
  return guessed.empty() ? spell(letters) : guessed;
}

Phonemes EnglishG2p::derive(string_view low) const {
  const auto ends = [&](string_view suffix) { return low.size() >= suffix.size() + 2 && low.ends_with(suffix); };
  const auto without = [&](std::size_t n) { return low.substr(0, low.size() - n); };
  if (ends("'s") || (low.ends_with("s'") && low.size() > 3)) {
    Phonemes base = word(low.ends_with("'s") ? without(2) : without(1));
    if (low.ends_with("'s")) append_s(base);
    return base;
  }
  for (const auto& [ending, sounds] : std::initializer_list<std::pair<string_view, string_view>>{
           {"n't", "AH0 N T"}, {"'ll", "AH0 L"}, {"'ve", "AH0 V"}, {"'re", "ER0"}, {"'d", "D"}, {"'m", "M"}}) {
    if (!ends(ending)) continue;
    Phonemes base = word(without(ending.size()));
    if (ending == "'d") {
      append_ed(base);
    } else {
      append(base, sounds);
    }
    return base;
  }
  // Stem spelled as it is, with a dropped e, with y for i, with a doubled consonant undone.
  const auto stem = [&](std::size_t cut) -> std::optional<Phonemes> {
    const string_view bare = without(cut);
    if (bare.size() < 3) return std::nullopt;
    if (auto found = lexicon_.find(bare)) return found;
    if (auto found = lexicon_.find(string(bare) + "e")) return found;
    if (bare.back() == 'i') {
      if (auto found = lexicon_.find(string(bare.substr(0, bare.size() - 1)) + "y")) return found;
    }
    if (bare.size() > 3 && bare.back() == bare[bare.size() - 2] &&
        string_view("aeiou").find(bare.back()) == string_view::npos) {
      if (auto found = lexicon_.find(bare.substr(0, bare.size() - 1))) return found;
    }
    return std::nullopt;
  };
  if (ends("s") && !ends("ss")) {
    const auto plain = lexicon_.find(without(1));
    if (plain && low.size() > 3) {
      Phonemes base = *plain;
      append_s(base);
      return base;
    }
    if (ends("es")) {
      if (auto base = ends("ies") ? lexicon_.find(string(without(3)) + "y") : lexicon_.find(without(2))) {
        append_s(*base);
        return *base;
      }
    }
  }
  if (ends("ed")) {
    if (auto base = stem(2)) {
      append_ed(*base);
      return *base;
    }
  }
  struct Ending {
    string_view letters, sounds;
  };
  static constexpr Ending kEndings[] = {
      {"ingly", "IH0 NG L IY0"}, {"ings", "IH0 NG Z"},     {"ing", "IH0 NG"},      {"ness", "N AH0 S"},
      {"less", "L AH0 S"},       {"fully", "F AH0 L IY0"}, {"ful", "F AH0 L"},     {"ment", "M AH0 N T"},
      {"ments", "M AH0 N T S"},  {"able", "AH0 B AH0 L"},  {"ers", "ER0 Z"},       {"er", "ER0"},
      {"est", "AH0 S T"},        {"ly", "L IY0"},          {"ish", "IH0 SH"},      {"like", "L AY2 K"},
      {"ship", "SH IH2 P"},      {"wise", "W AY2 Z"},      {"ism", "IH2 Z AH0 M"}, {"y", "IY0"}};
  for (const Ending& ending : kEndings) {
    if (!ends(ending.letters)) continue;
    auto base = stem(ending.letters.size());
    if (!base || base->empty()) continue;
    // "simply": the stem's own l.
    append(*base, ending.sounds);
    return *base;
  }
  static constexpr Ending kBeginnings[] = {{"un", "AH0 N"},
                                           {"re", "R IY0"},
                                           {"non", "N AA2 N"},
                                           {"pre", "P R IY0"},
                                           {"anti", "AE2 N T IY0"},
                                           {"over", "OW2 V ER0"},
                                           {"under", "AH2 N D ER0"},
                                           {"super", "S UW2 P ER0"},
                                           {"multi", "M AH2 L T IY0"},
                                           {"micro", "M AY2 K R OW0"},
                                           {"inter", "IH2 N T ER0"},
                                           {"dis", "D IH0 S"},
                                           {"mis", "M IH0 S"},
                                           {"auto", "AO2 T OW0"},
                                           {"mini", "M IH2 N IY0"},
                                           {"cyber", "S AY2 B ER0"},
                                           {"nano", "N AE2 N OW0"},
                                           {"mega", "M EH2 G AH0"},
                                           {"hyper", "HH AY2 P ER0"},
                                           {"ultra", "AH2 L T R AH0"}};
  for (const Ending& beginning : kBeginnings) {
    if (!low.starts_with(beginning.letters)) continue;
    const string_view rest = low.substr(beginning.letters.size());
    if (rest.size() < 4) continue;
    if (const auto base = lexicon_.find(rest)) {
      Phonemes result = parse(beginning.sounds);
      result.insert(result.end(), base->begin(), base->end());
      return result;
    }
  }
  return {};
}

Phonemes EnglishG2p::compound(string_view low) const {
  if (low.size() < 7 || low.find('\'') != string_view::npos) return {};
  // The most even split of those whose halves are words; short halves only from a list of common ones.
  const auto part_ok = [](string_view part) {
    return part.size() >= 4 ||
           one_of(part,
                  {"air", "bot", "car", "cat", "dog", "eye", "net", "pod", "sun", "web", "app", "out", "off", "top",
                   "box", "man", "men", "day", "way", "sea", "ice", "hot", "red", "low", "big", "gun", "map", "pen",
                   "bed", "bus", "ear", "egg", "key", "log", "bug", "fix", "set", "run", "pay", "buy", "add"});
  };
  std::size_t best = 0;
  std::size_t best_gap = low.size();
  for (std::size_t cut = 3; cut + 3 <= low.size(); ++cut) {
    const string_view left = low.substr(0, cut);
    const string_view right = low.substr(cut);
    if (!part_ok(left) || !part_ok(right) || !has_vowel_letter(left) || !has_vowel_letter(right)) continue;
    const std::size_t gap = cut * 2 > low.size() ? cut * 2 - low.size() : low.size() - cut * 2;
    if (gap < best_gap && lexicon_.contains(left) && lexicon_.contains(right)) {
      best = cut;
      best_gap = gap;
    }
  }
  if (best == 0) return {};
  Phonemes result = *lexicon_.find(low.substr(0, best));
  Phonemes right = *lexicon_.find(low.substr(best));
  if (std::any_of(result.begin(), result.end(), is_vowel)) weaken(right);
  result.insert(result.end(), right.begin(), right.end());
  return result;
}

}  // namespace tts
