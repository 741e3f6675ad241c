#include "src/text/homographs.h"

#include <algorithm>
#include <initializer_list>
#include <iterator>
#include <string>

namespace tts {
namespace {

using std::string;
using std::string_view;

bool one_of(string_view word, std::initializer_list<string_view> list) {
  return std::find(list.begin(), list.end(), word) != list.end();
}

// What the place of a word says about its part of speech.
enum class Part { unknown, verb, noun };

// Two readings: the verb, and everything else (noun or adjective). `otherwise` is said when the place tells nothing.
struct VerbNoun {
  string_view word, verb, noun;
  Part otherwise;
};

constexpr VerbNoun kVerbNoun[] = {
    {"abuse", "AH0 B Y UW1 Z", "AH0 B Y UW1 S", Part::noun},
    {"abuses", "AH0 B Y UW1 Z IH0 Z", "AH0 B Y UW1 S IH0 Z", Part::noun},
    {"address", "AH0 D R EH1 S", "AE1 D R EH2 S", Part::noun},
    {"advocate", "AE1 D V AH0 K EY2 T", "AE1 D V AH0 K AH0 T", Part::noun},
    {"aggregate", "AE1 G R AH0 G EY2 T", "AE1 G R AH0 G AH0 T", Part::noun},
    {"alternate", "AO1 L T ER0 N EY2 T", "AO1 L T ER0 N AH0 T", Part::noun},
    {"animate", "AE1 N AH0 M EY2 T", "AE1 N AH0 M AH0 T", Part::verb},
    {"appropriate", "AH0 P R OW1 P R IY0 EY2 T", "AH0 P R OW1 P R IY0 AH0 T", Part::noun},
    {"approximate", "AH0 P R AA1 K S AH0 M EY2 T", "AH0 P R AA1 K S AH0 M AH0 T", Part::noun},
    {"articulate", "AA0 R T IH1 K Y AH0 L EY2 T", "AA0 R T IH1 K Y AH0 L AH0 T", Part::noun},
    {"associate", "AH0 S OW1 S IY0 EY2 T", "AH0 S OW1 S IY0 AH0 T", Part::noun},
    {"attribute", "AH0 T R IH1 B Y UW2 T", "AE1 T R AH0 B Y UW2 T", Part::noun},
    {"combine", "K AH0 M B AY1 N", "K AA1 M B AY0 N", Part::verb},
    {"compact", "K AH0 M P AE1 K T", "K AA1 M P AE0 K T", Part::noun},
    {"compound", "K AH0 M P AW1 N D", "K AA1 M P AW0 N D", Part::noun},
    {"conduct", "K AH0 N D AH1 K T", "K AA1 N D AH0 K T", Part::noun},
    {"conflict", "K AH0 N F L IH1 K T", "K AA1 N F L IH0 K T", Part::noun},
    {"console", "K AH0 N S OW1 L", "K AA1 N S OW0 L", Part::noun},
    {"content", "K AH0 N T EH1 N T", "K AA1 N T EH0 N T", Part::noun},
    {"contest", "K AH0 N T EH1 S T", "K AA1 N T EH0 S T", Part::noun},
    {"contract", "K AH0 N T R AE1 K T", "K AA1 N T R AE2 K T", Part::noun},
    {"contrast", "K AH0 N T R AE1 S T", "K AA1 N T R AE0 S T", Part::noun},
    {"convert", "K AH0 N V ER1 T", "K AA1 N V ER0 T", Part::verb},
    {"convict", "K AH0 N V IH1 K T", "K AA1 N V IH0 K T", Part::noun},
    {"coordinate", "K OW0 AO1 R D AH0 N EY2 T", "K OW0 AO1 R D AH0 N AH0 T", Part::noun},
    {"decrease", "D IH0 K R IY1 S", "D IY1 K R IY2 S", Part::verb},
    {"defect", "D IH0 F EH1 K T", "D IY1 F EH0 K T", Part::noun},
    {"delegate", "D EH1 L AH0 G EY2 T", "D EH1 L AH0 G AH0 T", Part::noun},
    {"deliberate", "D IH0 L IH1 B ER0 EY2 T", "D IH0 L IH1 B ER0 AH0 T", Part::noun},
    {"desert", "D IH0 Z ER1 T", "D EH1 Z ER0 T", Part::noun},
    {"diffuse", "D IH0 F Y UW1 Z", "D IH0 F Y UW1 S", Part::noun},
    {"digest", "D AY0 JH EH1 S T", "D AY1 JH EH0 S T", Part::verb},
    {"discharge", "D IH0 S CH AA1 R JH", "D IH1 S CH AA2 R JH", Part::noun},
    {"discount", "D IH0 S K AW1 N T", "D IH1 S K AW0 N T", Part::noun},
    {"duplicate", "D UW1 P L AH0 K EY2 T", "D UW1 P L AH0 K AH0 T", Part::noun},
    {"elaborate", "IH0 L AE1 B ER0 EY2 T", "IH0 L AE1 B R AH0 T", Part::noun},
    {"escort", "EH0 S K AO1 R T", "EH1 S K AO0 R T", Part::noun},
    {"estimate", "EH1 S T AH0 M EY2 T", "EH1 S T AH0 M AH0 T", Part::noun},
    {"excuse", "IH0 K S K Y UW1 Z", "IH0 K S K Y UW1 S", Part::verb},
    {"excuses", "IH0 K S K Y UW1 Z IH0 Z", "IH0 K S K Y UW1 S IH0 Z", Part::noun},
    {"export", "EH0 K S P AO1 R T", "EH1 K S P AO0 R T", Part::noun},
    {"extract", "IH0 K S T R AE1 K T", "EH1 K S T R AE2 K T", Part::noun},
    {"graduate", "G R AE1 JH AH0 W EY2 T", "G R AE1 JH AH0 W AH0 T", Part::noun},
    {"house", "HH AW1 Z", "HH AW1 S", Part::noun},
    {"implant", "IH2 M P L AE1 N T", "IH1 M P L AE2 N T", Part::noun},
    {"import", "IH2 M P AO1 R T", "IH1 M P AO2 R T", Part::noun},
    {"increase", "IH2 N K R IY1 S", "IH1 N K R IY2 S", Part::noun},
    {"insult", "IH2 N S AH1 L T", "IH1 N S AH2 L T", Part::noun},
    {"intimate", "IH1 N T AH0 M EY2 T", "IH1 N T AH0 M AH0 T", Part::noun},
    {"live", "L IH1 V", "L AY1 V", Part::verb},
    {"misuse", "M IH0 S Y UW1 Z", "M IH0 S Y UW1 S", Part::noun},
    {"moderate", "M AA1 D ER0 EY2 T", "M AA1 D ER0 AH0 T", Part::noun},
    {"object", "AH0 B JH EH1 K T", "AA1 B JH EH0 K T", Part::noun},
    {"objects", "AH0 B JH EH1 K T S", "AA1 B JH EH0 K T S", Part::noun},
    {"perfect", "P ER0 F EH1 K T", "P ER1 F IH2 K T", Part::noun},
    {"permit", "P ER0 M IH1 T", "P ER1 M IH2 T", Part::verb},
    {"present", "P R IY0 Z EH1 N T", "P R EH1 Z AH0 N T", Part::noun},
    {"presents", "P R IY0 Z EH1 N T S", "P R EH1 Z AH0 N T S", Part::noun},
    {"produce", "P R AH0 D UW1 S", "P R OW1 D UW0 S", Part::verb},
    {"progress", "P R AH0 G R EH1 S", "P R AA1 G R EH2 S", Part::noun},
    {"project", "P R AH0 JH EH1 K T", "P R AA1 JH EH0 K T", Part::noun},
    {"projects", "P R AH0 JH EH1 K T S", "P R AA1 JH EH0 K T S", Part::noun},
    {"protest", "P R AH0 T EH1 S T", "P R OW1 T EH2 S T", Part::noun},
    {"rebel", "R IH0 B EH1 L", "R EH1 B AH0 L", Part::noun},
    {"record", "R AH0 K AO1 R D", "R EH1 K ER0 D", Part::noun},
    {"records", "R IH0 K AO1 R D Z", "R EH1 K ER0 D Z", Part::noun},
    {"refuse", "R AH0 F Y UW1 Z", "R EH1 F Y UW2 Z", Part::verb},
    {"reject", "R IH0 JH EH1 K T", "R IY1 JH EH0 K T", Part::verb},
    {"separate", "S EH1 P ER0 EY2 T", "S EH1 P ER0 IH0 T", Part::noun},
    {"subject", "S AH0 B JH EH1 K T", "S AH1 B JH IH0 K T", Part::noun},
    {"subjects", "S AH0 B JH EH1 K T S", "S AH1 B JH IH0 K T S", Part::noun},
    {"subordinate", "S AH0 B AO1 R D AH0 N EY2 T", "S AH0 B AO1 R D AH0 N AH0 T", Part::noun},
    {"survey", "S ER0 V EY1", "S ER1 V EY2", Part::noun},
    {"suspect", "S AH0 S P EH1 K T", "S AH1 S P EH2 K T", Part::verb},
    {"torment", "T AO0 R M EH1 N T", "T AO1 R M EH2 N T", Part::noun},
    {"transfer", "T R AE0 N S F ER1", "T R AE1 N S F ER0", Part::noun},
    {"transport", "T R AE0 N S P AO1 R T", "T R AE1 N S P AO0 R T", Part::noun},
    {"update", "AH0 P D EY1 T", "AH1 P D EY2 T", Part::noun},
    {"upgrade", "AH0 P G R EY1 D", "AH1 P G R EY2 D", Part::noun},
    {"upset", "AH0 P S EH1 T", "AH1 P S EH2 T", Part::verb},
    {"use", "Y UW1 Z", "Y UW1 S", Part::verb},
    {"uses", "Y UW1 Z IH0 Z", "Y UW1 S IH0 Z", Part::verb},
};

static_assert(std::is_sorted(std::begin(kVerbNoun), std::end(kVerbNoun),
                             [](const VerbNoun& a, const VerbNoun& b) { return a.word < b.word; }));

class Context {
 public:
  Context(std::span<const SpokenToken> tokens, std::size_t i) : tokens_(tokens), i_(i) {}

  // The word `n` places before or after, lower case; empty beyond a mark or the text's end.
  [[nodiscard]] string before(std::size_t n = 1) const {
    for (std::size_t k = 1; k <= n; ++k) {
      if (k > i_ || tokens_[i_ - k].kind != SpokenToken::Kind::word) return {};
    }
    return lower(tokens_[i_ - n].text);
  }
  [[nodiscard]] string after(std::size_t n = 1) const {
    for (std::size_t k = 1; k <= n; ++k) {
      if (i_ + k >= tokens_.size() || tokens_[i_ + k].kind != SpokenToken::Kind::word) return {};
    }
    return lower(tokens_[i_ + n].text);
  }
  [[nodiscard]] bool starts_clause() const { return i_ == 0 || tokens_[i_ - 1].kind == SpokenToken::Kind::mark; }
  [[nodiscard]] bool ends_clause() const {
    return i_ + 1 >= tokens_.size() || tokens_[i_ + 1].kind == SpokenToken::Kind::mark;
  }

  // Any of the four words before is in the list.
  [[nodiscard]] bool earlier(std::initializer_list<string_view> list) const {
    for (std::size_t n = 1; n <= 4; ++n) {
      const string word = before(n);
      if (word.empty()) return false;
      if (one_of(word, list)) return true;
    }
    return false;
  }

  [[nodiscard]] Part part() const {
    string word = before();
    std::size_t n = 1;
    // "will quickly record", "did not permit", "to just use"
    while (n < 3 && (one_of(word, {"not", "never", "always", "often", "also", "just", "really", "still", "even", "only",
                                   "please", "usually", "sometimes", "rarely", "actually", "simply", "then"}) ||
                     (word.size() > 4 && word.ends_with("ly")))) {
      word = before(++n);
      if (word.empty()) return Part::verb;
    }
    if (word.ends_with("n't") || word.ends_with("'ll") || word.ends_with("'d")) return Part::verb;
    if (one_of(word, {"to",   "will",  "would",  "can",   "could", "should", "shall",  "may", "might", "must", "do",
                      "does", "did",   "cannot", "i",     "you",   "we",     "they",   "who", "let",   "lets", "let's",
                      "help", "helps", "gonna",  "wanna", "he",    "she",    "people", "us",  "them"})) {
      return Part::verb;
    }
    if (one_of(word,
               {"a",     "an",       "the",     "this",   "that",  "these", "those",  "my",      "your",   "his",
                "her",   "its",      "our",     "their",  "of",    "in",    "on",     "for",     "with",   "by",
                "no",    "some",     "any",     "each",   "every", "first", "second", "last",    "next",   "new",
                "old",   "world",    "at",      "from",   "into",  "about", "is",     "are",     "was",    "were",
                "be",    "been",     "very",    "more",   "most",  "too",   "so",     "as",      "such",   "what",
                "whose", "which",    "another", "one",    "many",  "much",  "under",  "without", "per",    "own",
                "same",  "other",    "all",     "good",   "great", "big",   "whose",  "than",    "school", "police",
                "track", "research", "it's",    "that's", "i'm",   "how",   "further"}) ||
        word.ends_with("'s")) {
      return Part::noun;
    }
    const string next = after();
    if (starts_clause() &&
        one_of(next, {"the",   "a",     "an", "my", "your", "his", "her",   "it",  "them",  "this", "that",
                      "these", "those", "us", "me", "him",  "our", "their", "all", "every", "each"})) {
      return Part::verb;
    }
    if (one_of(next, {"the", "a", "an", "my", "your", "it", "them", "him", "me", "us"})) return Part::verb;
    if (one_of(next, {"of", "is", "was", "are", "were", "has", "had"})) return Part::noun;
    return Part::unknown;
  }

 private:
  static string lower(string_view text) {
    string result(text);
    for (char& c : result) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
    return result;
  }
  std::span<const SpokenToken> tokens_;
  std::size_t i_;
};

string_view special(const Context& at, std::string_view word, std::string_view written) {
  const string before = at.before();
  const string after = at.after();
  if (word == "read") {
    // Past after have/has/had/was/were/been or a past time; the base form after to, modals and in the present.
    if (one_of(before, {"have", "has",     "had",    "was",   "were",    "been",   "be",    "being", "is",
                        "are",  "i've",    "you've", "we've", "they've", "having", "well",  "he",    "she",
                        "it",   "already", "i'd",    "never", "ever",    "just",   "widely"}) &&
        !at.earlier({"to", "will", "can", "could", "would", "should", "must", "may", "might", "did", "didn't", "don't",
                     "does", "let"})) {
      return "R EH1 D";
    }
    if (at.earlier({"yesterday", "ago", "last", "once", "had", "have", "has"}) && before != "to") return "R EH1 D";
    for (std::size_t n = 1; n <= 4; ++n) {
      if (one_of(at.after(n), {"yesterday", "ago"}) ||
          (at.after(n) == "last" && one_of(at.after(n + 1), {"night", "week", "year", "month"}))) {
        return "R EH1 D";
      }
    }
    return "R IY1 D";
  }
  if (word == "lead" || word == "leads") {
    const bool many = word == "leads";
    if (!many && (one_of(after, {"pipe", "pipes", "poisoning", "paint", "acid", "bullet", "bullets", "pencil", "shot",
                                 "free", "weight", "weights", "ore"}) ||
                  one_of(before, {"of", "contains", "containing", "heavy", "molten", "like", "tetraethyl"}) ||
                  (after == "and" &&
                   one_of(at.after(2), {"zinc", "copper", "tin", "mercury", "silver", "gold", "steel", "cadmium"})))) {
      return "L EH1 D";
    }
    return many ? "L IY1 D Z" : "L IY1 D";
  }
  if (word == "wind") {
    if (one_of(before, {"to", "will", "would", "can", "could", "i", "you", "we", "they", "don't", "must"}) &&
        (one_of(after, {"up", "down", "it", "the", "around", "through", "back", "this", "your", "his", "her", "my"}) ||
         before == "to")) {
      return "W AY1 N D";
    }
    if (after == "up" && at.starts_clause()) return "W AY1 N D";
    return "W IH1 N D";
  }
  if (word == "tear" || word == "tears") {
    const bool many = word == "tears";
    if (at.part() == Part::verb || one_of(after, {"down", "up", "apart", "off", "it", "them", "through", "along"}) ||
        (one_of(before, {"wear", "and"}) && at.before(2) == "wear")) {
      return many ? "T EH1 R Z" : "T EH1 R";
    }
    return many ? "T IH1 R Z" : "T IH1 R";
  }
  if (word == "bow" || word == "bows") {
    const bool many = word == "bows";
    const bool weapon = one_of(after, {"tie", "ties", "string", "and", "hunting"}) ||
                        one_of(before, {"cross", "long", "violin", "hair", "pink", "red", "blue", "ribbon"}) ||
                        (one_of(before, {"and", "his", "her", "a"}) &&
                         at.earlier({"arrow", "arrows", "archer", "violin", "cello", "ribbon"}));
    if (weapon) return many ? "B OW1 Z" : "B OW1";
    return many ? "B AW1 Z" : "B AW1";
  }
  if (word == "close") {
    const bool near =
        one_of(after, {"to", "by", "friend", "friends", "enough", "call", "relationship", "relative", "relatives", "up",
                       "range", "contact", "attention", "together", "behind", "family", "race", "encounter"}) ||
        one_of(before, {"so",   "very",   "too",    "as",     "was",  "were", "is",        "are",    "be",   "been",
                        "how",  "a",      "pretty", "really", "get",  "got",  "getting",   "come",   "came", "coming",
                        "stay", "stayed", "keep",   "that's", "it's", "grew", "extremely", "fairly", "quite"});
    const bool shut =
        one_of(before, {"to", "will", "would", "can", "could", "please", "don't", "must", "should", "i", "you", "we",
                        "they"}) ||
        one_of(after, {"the", "your", "this", "that", "it", "all", "my", "his", "her", "down", "them", "at", "on"});
    if (near && !(shut && one_of(before, {"to", "will", "would", "can", "could", "please", "don't", "must", "should"})))
      return "K L OW1 S";
    if (shut || (at.starts_clause() && !at.ends_clause()) || one_of(before, {"the"})) return "K L OW1 Z";
    return at.ends_clause() && at.starts_clause() ? "K L OW1 Z" : "K L OW1 S";
  }
  if (word == "lives") {
    if (at.part() == Part::noun ||
        one_of(before, {"saved", "save", "saving", "lost", "people's", "human", "daily", "real", "million", "both",
                        "two", "three", "nine", "thousand", "hundred", "millions"})) {
      return "L AY1 V Z";
    }
    return one_of(after, {"in", "at", "with", "on", "here", "there", "alone", "near", "next", "across", "down", "up",
                          "by", "among"}) ||
                   one_of(before, {"he", "she", "it", "who", "that", "still", "also", "now"})
               ? "L IH1 V Z"
               : "L AY1 V Z";
  }
  if (word == "minute") {
    if (one_of(before, {"very", "so", "most", "in"}) &&
        one_of(after, {"detail", "details", "amount", "amounts", "quantities", "differences", "particles"})) {
      return "M AY0 N UW1 T";
    }
    return "M IH1 N AH0 T";
  }
  if (word == "wound") {
    if (one_of(after, {"up", "down", "around", "through", "back", "its", "tightly"}) ||
        one_of(before, {"tightly", "clock"}))
      return "W AW1 N D";
    return "W UW1 N D";
  }
  if (word == "bass") {
    return one_of(after, {"fishing", "boat", "fish", "lake"}) ||
                   one_of(before, {"sea", "striped", "largemouth", "smallmouth", "caught", "catch"})
               ? "B AE1 S"
               : "B EY1 S";
  }
  if (word == "dove") {
    return one_of(after, {"into", "in", "down", "under", "off", "for", "deep", "headfirst"}) ||
                   one_of(before, {"he", "she", "they", "we", "i"})
               ? "D OW1 V"
               : "D AH1 V";
  }
  if (word == "polish") return written.front() == 'P' && !at.starts_clause() ? "P OW1 L IH0 SH" : "P AA1 L IH0 SH";
  if (word == "resume") {
    return at.part() == Part::noun && !one_of(before, {"is", "are", "was", "were"}) ? "R EH1 Z AH0 M EY2"
                                                                                    : "R IH0 Z UW1 M";
  }
  if (word == "sow") return at.part() == Part::noun ? "S AW1" : "S OW1";
  if (word == "live") {
    if (one_of(after, {"music", "stream",  "streaming",  "broadcast", "show",        "shows", "concert",
                       "event", "events",  "audience",   "coverage",  "performance", "chat",  "video",
                       "audio", "updates", "demo",       "animals",   "ammunition",  "wire",  "recording",
                       "bait",  "tv",      "television", "feed",      "captions",    "band",  "from"}) ||
        one_of(before, {"going",        "go",        "goes",     "went",      "is",    "are",     "was",
                        "were",         "we're",     "it's",     "be",        "a",     "the",     "broadcast",
                        "broadcasting", "streaming", "streamed", "performed", "watch", "watching"})) {
      return "L AY1 V";
    }
    return "L IH1 V";
  }
  if (word == "used")
    return after == "to" && !one_of(before, {"is", "are", "was", "were", "be", "been", "being"}) ? "Y UW1 S T"
                                                                                                 : "Y UW1 Z D";
  return {};
}

}  // namespace

string_view choose_homograph(std::span<const SpokenToken> tokens, std::size_t i, string_view low) {
  const Context at(tokens, i);
  if (const string_view chosen = special(at, low, tokens[i].text); !chosen.empty()) return chosen;
  const auto* found = std::lower_bound(std::begin(kVerbNoun), std::end(kVerbNoun), low,
                                       [](const VerbNoun& entry, string_view word) { return entry.word < word; });
  if (found == std::end(kVerbNoun) || found->word != low) return {};
  if (low == "content" && one_of(at.before(), {"be", "is", "are", "was", "were", "very", "quite"}) &&
      at.after() != "of")
    return found->verb;
  if (low == "estimate" || low == "graduate") {
    if (at.part() == Part::unknown && one_of(at.after(), {"that", "from"})) return found->verb;
  }
  const Part part = at.part();
  const Part chosen = part == Part::unknown ? found->otherwise : part;
  return chosen == Part::verb ? found->verb : found->noun;
}

}  // namespace tts
