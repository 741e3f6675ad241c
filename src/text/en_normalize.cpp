#include "src/text/en_normalize.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <initializer_list>
#include <optional>

#include "src/text/en_numbers.h"

namespace tts {
namespace {

using english::cardinal;
using english::one_by_one;
using english::ordinal;
using std::string;
using std::string_view;
using Kind = SpokenToken::Kind;

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
bool is_upper(char c) {
  return c >= 'A' && c <= 'Z';
}
bool is_lower(char c) {
  return c >= 'a' && c <= 'z';
}
bool is_letter(char c) {
  return is_upper(c) || is_lower(c);
}
bool is_alnum(char c) {
  return is_letter(c) || is_digit(c);
}
bool is_space(char c) {
  return c == ' ' || c == '\n';
}
bool is_dash(char c) {
  return c == '-' || c == sign::kEnDash || c == sign::kEmDash || c == sign::kMinus;
}

string lower(string_view text) {
  string result(text);
  for (char& c : result) c = is_upper(c) ? static_cast<char>(c + 32) : c;
  return result;
}

string upper(string_view text) {
  string result(text);
  for (char& c : result) c = is_lower(c) ? static_cast<char>(c - 32) : c;
  return result;
}

bool all_upper(string_view text) {
  return std::all_of(text.begin(), text.end(), is_upper);
}

bool has_vowel(string_view word) {
  return word.find_first_of("aeiouyAEIOUY") != string_view::npos;
}

bool one_of(string_view word, std::initializer_list<string_view> list) {
  return std::find(list.begin(), list.end(), word) != list.end();
}

int to_int(string_view digits) {
  int n = 0;
  for (const char c : digits.substr(0, 9)) n = n * 10 + (c - '0');
  return n;
}

// --- Tables -----------------------------------------------------------------------------------------------------

constexpr std::array<string_view, 12> kMonths = {"january", "february", "march",     "april",   "may",      "june",
                                                 "july",    "august",   "september", "october", "november", "december"};

// 1..12 for a month's name in capitals as written ("March", "Mar", "Sept"), 0 otherwise. `brief` tells an abbreviation.
int month_of(string_view word, bool* brief = nullptr) {
  if (word.size() < 3 || !is_upper(word.front())) return 0;
  const string low = lower(word);
  if (brief != nullptr) *brief = false;
  for (std::size_t i = 0; i < kMonths.size(); ++i) {
    if (low == kMonths[i]) return static_cast<int>(i) + 1;
    if (low == kMonths[i].substr(0, 3) || (i == 8 && low == "sept")) {
      if (brief != nullptr) *brief = true;
      return static_cast<int>(i) + 1;
    }
  }
  return 0;
}

string_view weekday_of(string_view word) {
  struct Day {
    string_view brief, full;
  };
  static constexpr Day kDays[] = {
      {"Mon", "monday"},    {"Tue", "tuesday"},    {"Tues", "tuesday"}, {"Wed", "wednesday"}, {"Thu", "thursday"},
      {"Thur", "thursday"}, {"Thurs", "thursday"}, {"Fri", "friday"},   {"Sat", "saturday"},  {"Sun", "sunday"}};
  for (const Day& day : kDays) {
    if (word == day.brief) return day.full;
  }
  return {};
}

bool is_weekday(string_view word) {
  return one_of(lower(word), {"monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"});
}

struct Unit {
  string_view sign, one, many;
  bool apart;  // also read after a space: "5 km", but not "5 s"
};

// Case counts: "MB" and "Mb", "m" and "M".
constexpr Unit kUnits[] = {
    {"km", "kilometer", "kilometers", true},
    {"m", "meter", "meters", true},
    {"cm", "centimeter", "centimeters", true},
    {"mm", "millimeter", "millimeters", true},
    {"\x9Am", "micrometer", "micrometers", true},
    {"nm", "nanometer", "nanometers", true},
    {"mi", "mile", "miles", true},
    {"ft", "foot", "feet", true},
    {"in", "inch", "inches", false},
    {"yd", "yard", "yards", true},
    {"yds", "yard", "yards", true},
    {"kg", "kilogram", "kilograms", true},
    {"kgs", "kilogram", "kilograms", true},
    {"g", "gram", "grams", true},
    {"mg", "milligram", "milligrams", true},
    {"\x9Ag", "microgram", "micrograms", true},
    {"lb", "pound", "pounds", true},
    {"lbs", "pound", "pounds", true},
    {"oz", "ounce", "ounces", true},
    {"L", "liter", "liters", true},
    {"l", "liter", "liters", false},
    {"ml", "milliliter", "milliliters", true},
    {"mL", "milliliter", "milliliters", true},
    {"tbsp", "tablespoon", "tablespoons", true},
    {"tsp", "teaspoon", "teaspoons", true},
    {"mph", "mile per hour", "miles per hour", true},
    {"kph", "kilometer per hour", "kilometers per hour", true},
    {"kmh", "kilometer per hour", "kilometers per hour", true},
    {"s", "second", "seconds", false},
    {"sec", "second", "seconds", true},
    {"secs", "second", "seconds", true},
    {"ms", "millisecond", "milliseconds", true},
    {"\x9As", "microsecond", "microseconds", true},
    {"ns", "nanosecond", "nanoseconds", true},
    {"min", "minute", "minutes", true},
    {"mins", "minute", "minutes", true},
    {"h", "hour", "hours", false},
    {"hr", "hour", "hours", true},
    {"hrs", "hour", "hours", true},
    {"yr", "year", "years", true},
    {"yrs", "year", "years", true},
    {"Hz", "hertz", "hertz", true},
    {"kHz", "kilohertz", "kilohertz", true},
    {"MHz", "megahertz", "megahertz", true},
    {"GHz", "gigahertz", "gigahertz", true},
    {"KB", "kilobyte", "kilobytes", true},
    {"kB", "kilobyte", "kilobytes", true},
    {"MB", "megabyte", "megabytes", true},
    {"GB", "gigabyte", "gigabytes", true},
    {"TB", "terabyte", "terabytes", true},
    {"PB", "petabyte", "petabytes", true},
    {"KiB", "kilobyte", "kilobytes", true},
    {"MiB", "megabyte", "megabytes", true},
    {"GiB", "gigabyte", "gigabytes", true},
    {"Kbps", "kilobit per second", "kilobits per second", true},
    {"kbps", "kilobit per second", "kilobits per second", true},
    {"Mbps", "megabit per second", "megabits per second", true},
    {"Gbps", "gigabit per second", "gigabits per second", true},
    {"W", "watt", "watts", true},
    {"kW", "kilowatt", "kilowatts", true},
    {"MW", "megawatt", "megawatts", true},
    {"GW", "gigawatt", "gigawatts", true},
    {"Wh", "watt hour", "watt hours", true},
    {"kWh", "kilowatt hour", "kilowatt hours", true},
    {"V", "volt", "volts", true},
    {"mV", "millivolt", "millivolts", true},
    {"A", "amp", "amps", false},
    {"mA", "milliamp", "milliamps", true},
    {"mAh", "milliamp hour", "milliamp hours", true},
    {"ohm", "ohm", "ohms", true},
    {"dB", "decibel", "decibels", true},
    {"px", "pixel", "pixels", true},
    {"MP", "megapixel", "megapixels", true},
    {"rpm", "R P M", "R P M", true},
    {"RPM", "R P M", "R P M", true},
    {"fps", "frame per second", "frames per second", true},
    {"FPS", "frame per second", "frames per second", true},
    {"dpi", "dot per inch", "dots per inch", true},
    {"bpm", "beat per minute", "beats per minute", true},
    {"BPM", "beat per minute", "beats per minute", true},
    {"cal", "calorie", "calories", true},
    {"kcal", "kilocalorie", "kilocalories", true},
    {"J", "joule", "joules", false},
    {"kJ", "kilojoule", "kilojoules", true},
    {"N", "newton", "newtons", false},
    {"Pa", "pascal", "pascals", true},
    {"hPa", "hectopascal", "hectopascals", true},
    {"kPa", "kilopascal", "kilopascals", true},
    {"psi", "pound per square inch", "pounds per square inch", true},
    {"ha", "hectare", "hectares", true},
    {"sq ft", "square foot", "square feet", true},
    {"sq m", "square meter", "square meters", true},
    {"sq km", "square kilometer", "square kilometers", true},
    {"sq mi", "square mile", "square miles", true},
    {"m2", "square meter", "square meters", true},
    {"km2", "square kilometer", "square kilometers", true},
    {"cm2", "square centimeter", "square centimeters", true},
    {"m3", "cubic meter", "cubic meters", true},
    {"\x85", "degree", "degrees", true},
    {"\x85"
     "C",
     "degree celsius", "degrees celsius", true},
    {"\x85"
     "F",
     "degree fahrenheit", "degrees fahrenheit", true},
    {"%", "percent", "percent", true},
};

const Unit* find_unit(string_view text) {
  for (const Unit& unit : kUnits) {
    if (unit.sign == text) return &unit;
  }
  return nullptr;
}

// What may stand behind "per" after a slash: "$5/mo", "3 km/s".
string_view per_word(string_view text) {
  struct Per {
    string_view sign, word;
  };
  static constexpr Per kPer[] = {
      {"h", "hour"},        {"hr", "hour"},       {"hour", "hour"},     {"s", "second"},      {"sec", "second"},
      {"second", "second"}, {"min", "minute"},    {"minute", "minute"}, {"d", "day"},         {"day", "day"},
      {"wk", "week"},       {"week", "week"},     {"mo", "month"},      {"month", "month"},   {"yr", "year"},
      {"year", "year"},     {"person", "person"}, {"user", "user"},     {"night", "night"},   {"kg", "kilogram"},
      {"lb", "pound"},      {"km", "kilometer"},  {"mile", "mile"},     {"mi", "mile"},       {"GB", "gigabyte"},
      {"m", "meter"},       {"L", "liter"},       {"l", "liter"},       {"unit", "unit"},     {"item", "item"},
      {"piece", "piece"},   {"head", "head"},     {"page", "page"},     {"word", "word"},     {"game", "game"},
      {"ml", "milliliter"}, {"dl", "deciliter"},  {"g", "gram"},        {"gallon", "gallon"}, {"gal", "gallon"},
      {"seat", "seat"},
  };
  for (const Per& per : kPer) {
    if (per.sign == text) return per.word;
  }
  return {};
}

struct Currency {
  char sign;
  string_view one, many, cent, cents;
};

constexpr Currency kCurrencies[] = {
    {'$', "dollar", "dollars", "cent", "cents"},         {sign::kEuro, "euro", "euros", "cent", "cents"},
    {sign::kPound, "pound", "pounds", "penny", "pence"}, {sign::kYen, "yen", "yen", "", ""},
    {sign::kRupee, "rupee", "rupees", "", ""},           {sign::kWon, "won", "won", "", ""},
    {sign::kBitcoin, "bitcoin", "bitcoin", "", ""},
};

const Currency* find_currency(char c) {
  for (const Currency& currency : kCurrencies) {
    if (currency.sign == c) return &currency;
  }
  return nullptr;
}

enum class Need { none, capital, digit };  // what must follow for the abbreviation to be read as one
enum class End { never, may };             // whether its dot may also end the sentence

struct Abbreviation {
  string_view text;  // as written before the dot; looked up exactly, then in lower case
  string_view words;
  Need need = Need::none;
  End end = End::never;
  bool dot = true;  // without the dot it is something else
};

constexpr Abbreviation kAbbreviations[] = {
    {"Mr", "mister", Need::none, End::never, false},
    {"Mrs", "missus", Need::none, End::never, false},
    {"Ms", "ms", Need::none, End::never, false},
    {"Messrs", "messers"},
    {"Prof", "professor"},
    {"Gen", "general", Need::capital},
    {"Col", "colonel", Need::capital},
    {"Maj", "major", Need::capital},
    {"Capt", "captain"},
    {"Cmdr", "commander"},
    {"Lt", "lieutenant"},
    {"Sgt", "sergeant"},
    {"Cpl", "corporal"},
    {"Pvt", "private"},
    {"Adm", "admiral", Need::capital},
    {"Rev", "reverend"},
    {"Hon", "honorable", Need::capital},
    {"Gov", "governor"},
    {"Sen", "senator"},
    {"Rep", "representative", Need::capital},
    {"Pres", "president", Need::capital},
    {"Supt", "superintendent"},
    {"Fr", "father", Need::capital},
    {"Mt", "mount", Need::capital},
    {"Ft", "fort", Need::capital},
    {"Jr", "junior", Need::none, End::may},
    {"Sr", "senior", Need::none, End::may},
    {"Esq", "esquire", Need::none, End::may},
    {"Ave", "avenue", Need::none, End::may},
    {"Blvd", "boulevard", Need::none, End::may},
    {"Rd", "road", Need::none, End::may},
    {"Hwy", "highway"},
    {"Pkwy", "parkway", Need::none, End::may},
    {"Apt", "apartment", Need::digit},
    {"Ste", "suite", Need::digit},
    {"Inc", "incorporated", Need::none, End::may},
    {"Corp", "corporation", Need::none, End::may},
    {"Co", "company", Need::none, End::may},
    {"Ltd", "limited", Need::none, End::may},
    {"Bros", "brothers", Need::none, End::may},
    {"Dept", "department"},
    {"Assn", "association"},
    {"Univ", "university"},
    {"Govt", "government"},
    {"Intl", "international"},
    {"vs", "versus", Need::none, End::never, false},
    {"etc", "et cetera", Need::none, End::may, false},
    {"viz", "namely"},
    {"cf", "compare"},
    {"ca", "circa", Need::digit},
    {"approx", "approximately"},
    {"est", "established", Need::digit},
    {"misc", "miscellaneous"},
    {"tel", "telephone"},
    {"ext", "extension", Need::digit},
    {"incl", "including"},
    {"max", "maximum", Need::digit},
    {"min", "minimum", Need::digit},
    {"avg", "average"},
    {"temp", "temperature", Need::digit},
    {"No", "number", Need::digit},
    {"Nos", "numbers", Need::digit},
    {"Fig", "figure", Need::digit},
    {"Figs", "figures", Need::digit},
    {"Vol", "volume", Need::digit},
    {"Ch", "chapter", Need::digit},
    {"Sec", "section", Need::digit},
    {"Art", "article", Need::digit},
    {"Eq", "equation", Need::digit},
    {"p", "page", Need::digit},
    {"pp", "pages", Need::digit},
    {"b/c", "because", Need::none, End::never, false},
};

// Capitals that are in the dictionary as another word, and are read letter by letter all the same.
bool spelled_capitals(string_view word) {
  return one_of(
      word, {"US",  "IT",  "AI",  "OS",  "AR",  "ID",  "UN", "ER", "LA", "AC", "WHO", "MIT", "HR",  "PR",  "AM", "PM",
             "EST", "PST", "MST", "CST", "EDT", "PDT", "UI", "IE", "EU", "PA", "AD",  "BC",  "ETA", "LED", "SOS"});
}

// Two capitals that are an ordinary word even so.
bool short_word(string_view word) {
  return one_of(word,
                {"OK", "NO", "SO", "IF", "IN", "IS", "ME", "MY", "OF", "ON", "TO", "UP", "WE", "HE", "BE", "BY", "DO",
                 "GO", "AT", "AS", "AN", "AH", "OH", "HI", "OR", "HA", "HM", "UH", "UM", "YO", "MR", "MS", "DR"});
}

// Words that, capitalised after a dot, begin a sentence rather than a name.
bool starts_sentence(string_view word) {
  return one_of(
      word,
      {"The",  "A",    "An",   "It",    "He",  "She", "They",    "We",  "This", "That",  "These",  "Those",  "There",
       "Then", "But",  "And",  "So",    "In",  "On",  "If",      "You", "I",    "My",    "Our",    "Their",  "His",
       "Her",  "When", "What", "Where", "Why", "How", "However", "As",  "At",   "For",   "From",   "Its",    "It's",
       "Is",   "Are",  "Was",  "Do",    "Did", "No",  "Yes",     "Not", "Now",  "After", "Before", "Please", "Let"});
}

bool regnal_name(string_view word) {
  return one_of(word,
                {"Louis",      "Henry",    "Charles",  "George",      "Edward",    "Elizabeth", "William",  "James",
                 "Richard",    "John",     "Paul",     "Pius",        "Benedict",  "Francis",   "Philip",   "Alexander",
                 "Catherine",  "Napoleon", "Nicholas", "Peter",       "Frederick", "Ferdinand", "Gregory",  "Leo",
                 "Innocent",   "Clement",  "Urban",    "Otto",        "Ivan",      "Ramses",    "Ramesses", "Ptolemy",
                 "Mary",       "Felipe",   "Leopold",  "Wilhelm",     "Carlos",    "Christian", "Gustav",   "Rudolf",
                 "Maximilian", "Boniface", "Julius",   "Sixtus",      "Haile",     "Cleopatra", "Darius",   "Xerxes",
                 "Umberto",    "Victor",   "Emmanuel", "Amenhotep",   "Thutmose",  "Adrian",    "Stephen",  "Robert",
                 "Malcolm",    "Alfonso",  "Baldwin",  "Constantine", "Justinian", "Theodosius"});
}

bool counter_word(string_view word) {
  return one_of(lower(word), {"chapter", "part",  "act",      "scene",    "volume",   "book",     "section", "article",
                              "phase",   "type",  "class",    "level",    "title",    "appendix", "war",     "episode",
                              "season",  "stage", "grade",    "bowl",     "mark",     "version",  "canto",   "table",
                              "figure",  "tier",  "division", "group",    "schedule", "annex",    "unit",    "lesson",
                              "round",   "game",  "step",     "category", "factor"});
}

// --- Scanner ----------------------------------------------------------------------------------------------------

struct Number {
  std::size_t end = 0;   // behind the number
  string digits;         // integer part without separators; may be empty (".5")
  string decimals;       // after the point
  bool grouped = false;  // had thousands separators
  [[nodiscard]] bool whole() const { return decimals.empty(); }
  [[nodiscard]] bool is_one() const { return whole() && to_int(digits) == 1 && digits.size() < 9; }
};

class Scanner {
 public:
  Scanner(const Folded& folded, const Lexicon& lexicon) : folded_(folded), s_(folded.text), lexicon_(lexicon) {
    find_shouting();
  }

  std::vector<SpokenToken> run() {
    while (at_ < s_.size()) step();
    finish();
    return std::move(out_);
  }

 private:
  // -- Reading. Everything beyond the end reads as '\0'.
  [[nodiscard]] char ch(std::size_t i) const { return i < s_.size() ? s_[i] : '\0'; }
  [[nodiscard]] string_view sub(std::size_t from, std::size_t to) const {
    from = std::min(from, s_.size());
    return string_view(s_).substr(from, std::max(to, from) - from);
  }
  // Runs are followed for at most this far when looking ahead, so that the whole scan stays linear.
  static constexpr std::size_t kLook = 64;
  template <class Test>
  [[nodiscard]] std::size_t run_end(std::size_t i, Test test, std::size_t most = kLook) const {
    const std::size_t stop = std::min(s_.size(), i + most);
    while (i < stop && test(s_[i])) ++i;
    return i;
  }
  [[nodiscard]] std::size_t skip_spaces(std::size_t i) const { return run_end(i, is_space); }
  [[nodiscard]] std::size_t one_space(std::size_t i) const { return ch(i) == ' ' ? i + 1 : i; }
  [[nodiscard]] string_view letters_at(std::size_t i) const { return sub(i, run_end(i, is_letter)); }
  [[nodiscard]] string_view digits_at(std::size_t i) const { return sub(i, run_end(i, is_digit)); }
  [[nodiscard]] bool boundary(std::size_t i) const { return !is_alnum(ch(i)); }
  [[nodiscard]] string_view previous_word() const {
    return out_.empty() || out_.back().kind == Kind::mark ? string_view{} : string_view(previous_);
  }

  // -- Writing.
  void put(Kind kind, string text, std::size_t from, std::size_t to) {
    out_.push_back({kind, std::move(text), folded_.start[from], folded_.end[to - 1]});
  }
  // Words separated by spaces; single capitals are letter names.
  void say(string_view words, std::size_t from, std::size_t to) {
    while (!words.empty()) {
      const std::size_t end = std::min(words.find(' '), words.size());
      const string_view word = words.substr(0, end);
      words.remove_prefix(std::min(end + 1, words.size()));
      if (word.empty()) continue;
      if (word == ",") {
        mark(",", from, to);
      } else if (word.size() == 1 && is_upper(word[0])) {
        put(Kind::letters, string(word), from, to);
      } else {
        put(Kind::word, string(word), from, to);
      }
    }
    previous_ = string(sub(from, std::min(to, from + kLook)));
  }
  void mark(string_view text, std::size_t from, std::size_t to) {
    if (out_.empty()) return;
    if (out_.back().kind == Kind::mark) {
      // A bracket's pause gives way to a real mark: "really (really)!"
      if (!weak_) return;
      out_.pop_back();
    }
    weak_ = false;
    put(Kind::mark, string(text), from, to);
  }
  void pause(std::size_t i) {
    if (out_.empty() || out_.back().kind == Kind::mark) return;
    mark(",", i, i + 1);
    weak_ = true;
  }
  void finish() {
    if (out_.empty()) return;
    SpokenToken& last = out_.back();
    if (last.kind != Kind::mark) {
      out_.push_back({Kind::mark, ".", last.in_end, last.in_end});
    } else if (last.text == ",") {
      last.text = ".";
    }
  }

  // -- One step: consumes at least one character.
  void step() {
    const char c = s_[at_];
    if (is_space(c)) return white();
    // An address is looked for once per run of printable characters, behind its opening brackets and quotes.
    if (at_ == 0 || is_space(s_[at_ - 1])) run_open_ = true;
    if (run_open_ && string_view("([{'\"*_`").find(c) == string_view::npos) {
      run_open_ = false;
      if (address()) return;
    }
    if (is_digit(c)) return number(false);
    if (is_letter(c)) return word();
    symbol();
  }

  // A blank line, or a new line before a list item, ends what stands before it.
  void white() {
    std::size_t i = at_;
    int lines = 0;
    while (i < s_.size() && is_space(s_[i])) lines += s_[i++] == '\n' ? 1 : 0;
    const bool item =
        lines > 0 && ((is_dash(ch(i)) || ch(i) == '*' || ch(i) == '+') ? ch(i + 1) == ' ' : is_item_number(i));
    if (lines >= 2 || item || (lines > 0 && ch(i) == '#')) mark(".", at_, at_ + 1);
    at_ = i;
  }
  [[nodiscard]] bool is_item_number(std::size_t i) const {
    const string_view digits = digits_at(i);
    const std::size_t end = i + digits.size();
    return !digits.empty() && digits.size() <= 3 && (ch(end) == '.' || ch(end) == ')') && ch(end + 1) == ' ';
  }

  // -- Web and mail addresses, handles, hashtags.
  static bool is_address_char(char c) { return c > ' ' && c < 0x7F && c != '"' && c != '<' && c != '>' && c != '|'; }

  bool address() {
    std::size_t end = at_;
    while (end < s_.size() && is_address_char(s_[end])) ++end;
    while (end > at_ && string_view(".,!?;:)'\"]}*_").find(s_[end - 1]) != string_view::npos) --end;
    const string_view text = sub(at_, end);
    if (text.size() > 2 && (text[0] == '@' || text[0] == '#')) return tag();
    if (const std::size_t mail = mail_end(text); mail != 0) {
      spell_address(at_, at_ + mail, false);
      at_ += mail;
      return true;
    }
    if (looks_like_url(text)) {
      spell_address(at_, end, true);
      at_ = end;
      return true;
    }
    return false;
  }

  bool tag() {
    const std::size_t name = at_ + 1;
    const auto is_name = [](char c) { return is_alnum(c) || c == '_'; };
    const std::size_t stop = run_end(name, is_name);
    if (stop == name || (ch(at_) == '#' && !is_letter(ch(name)))) return false;
    say(ch(at_) == '#' ? "hashtag" : "at", at_, at_ + 1);
    for (std::size_t i = name; i < stop;) i = piece(i, stop);
    at_ = stop;
    return true;
  }

  // Length of the mail address at the start of `text`, 0 if there is none.
  static std::size_t mail_end(string_view text) {
    const std::size_t at = text.find('@');
    if (at == string_view::npos || at == 0 || at > kLook) return 0;
    for (const char c : text.substr(0, at)) {
      if (!is_alnum(c) && string_view("._%+-").find(c) == string_view::npos) return 0;
    }
    std::size_t end = at + 1;
    bool dot = false;
    while (end < text.size() && (is_alnum(text[end]) || text[end] == '-' || text[end] == '.')) {
      dot = dot || (text[end] == '.' && end + 1 < text.size() && is_letter(text[end + 1]));
      ++end;
    }
    while (end > at && !is_alnum(text[end - 1])) --end;
    return dot ? end : 0;
  }

  static bool looks_like_url(string_view text) {
    const string head = lower(text.substr(0, 8));
    if (head.starts_with("http://") || head.starts_with("https://") || head.starts_with("ftp://")) return true;
    if (head.starts_with("www.")) return true;
    const string_view host = text.substr(0, std::min(text.find_first_of("/:?#"), text.size()));
    const std::size_t dot = host.rfind('.');
    if (dot == string_view::npos || dot == 0) return false;
    bool any_letter = false;
    for (const char c : host.substr(0, dot)) {
      if (!is_alnum(c) && c != '-' && c != '.') return false;
      any_letter = any_letter || is_letter(c);
    }
    return any_letter &&
           one_of(host.substr(dot + 1), {"com", "org", "net", "io", "ai", "dev", "edu", "gov", "app", "info", "co",
                                         "uk",  "de",  "fr",  "jp", "cn", "eu",  "gg",  "xyz", "tv",  "me"});
  }

  // One run of letters or digits of an address, or one sign; returns where it ends.
  std::size_t piece(std::size_t i, std::size_t end) {
    if (is_letter(s_[i])) {
      const std::size_t stop = std::min(run_end(i, is_letter), end);
      if (stop == i + 1) {
        put(Kind::letters, upper(sub(i, stop)), i, stop);
      } else {
        name_word(i, stop);
      }
      return stop;
    }
    if (is_digit(s_[i])) {
      const std::size_t stop = std::min(run_end(i, is_digit), end);
      const string_view digits = sub(i, stop);
      say(digits.size() == 4                      ? english::year(digits)
          : digits.size() < 4 && digits[0] != '0' ? cardinal(digits)
                                                  : one_by_one(digits),
          i, stop);
      return stop;
    }
    static constexpr struct {
      char sign;
      string_view name;
    } kNames[] = {{'.', "dot"},    {'/', "slash"},   {'-', "dash"}, {'_', "underscore"}, {'?', "question mark"},
                  {'=', "equals"}, {'&', "and"},     {'#', "hash"}, {':', "colon"},      {'@', "at"},
                  {'~', "tilde"},  {'%', "percent"}, {'+', "plus"}, {'*', "star"},       {'!', "exclamation mark"}};
    for (const auto& known : kNames) {
      if (known.sign == s_[i]) say(known.name, i, i + 1);
    }
    return i + 1;
  }

  void spell_address(std::size_t from, std::size_t end, bool url) {
    if (url) {
      const std::size_t scheme = sub(from, std::min(end, from + 8)).find("://");
      if (scheme != string_view::npos) from += scheme + 3;
      while (end > from && s_[end - 1] == '/') --end;
    }
    for (std::size_t i = from; i < end;) i = piece(i, end);
  }

  // -- Capitals, camelCase, words the dictionary lacks.
  void find_shouting() {
    // A stretch of three or more capital words, or of two of which one is long and known, is a raised voice.
    std::size_t i = 0;
    std::size_t first = 0;
    int words = 0;
    bool known = false;
    const auto close = [&](std::size_t end) {
      if (words >= 3 || (words == 2 && known)) shouting_.push_back({first, end});
      words = 0;
      known = false;
    };
    std::size_t end = 0;
    while (i < s_.size()) {
      if (!is_letter(s_[i])) {
        if (is_digit(s_[i]) || string_view("\n.!?").find(s_[i]) != string_view::npos) close(end);
        ++i;
        continue;
      }
      const std::size_t start = i;
      bool capital = true;
      while (i < s_.size() && (is_letter(s_[i]) || (s_[i] == '\'' && is_letter(ch(i + 1))))) {
        capital = capital && !is_lower(s_[i]);
        ++i;
      }
      const std::size_t size = i - start;
      if (!capital) {
        close(end);
      } else if (size >= 2) {
        if (words == 0) first = start;
        ++words;
        known = known || (size >= 4 && size < kLook && lexicon_.contains(lower(sub(start, i))));
        end = i;
      }
    }
    close(end);
  }
  [[nodiscard]] bool shouting(std::size_t i) const {
    const auto found = std::upper_bound(shouting_.begin(), shouting_.end(), i,
                                        [](std::size_t at, const auto& stretch) { return at < stretch.second; });
    return found != shouting_.end() && found->first <= i;
  }

  // A word of letters only, [from, to): decides between a word, letters, and parts.
  void name_word(std::size_t from, std::size_t to) {
    resolve(string(sub(from, to)), from, to);
    previous_ = string(sub(from, std::min(to, from + kLook)));
  }

  void resolve(const string& text, std::size_t from, std::size_t to) {
    const string low = lower(text);
    const bool known = text.size() < kLook && lexicon_.contains(low);
    if (text.size() == 1) {
      const bool pronoun_or_article = low == "a" || low == "i";
      put(pronoun_or_article ? Kind::word : Kind::letters, pronoun_or_article ? text : upper(text), from, to);
      return;
    }
    if (all_upper(text)) return resolve_capitals(text, low, known, from, to);
    // "GPUs": capitals and the plural.
    if (text.size() >= 3 && text.back() == 's' && all_upper(string_view(text).substr(0, text.size() - 1)) &&
        (text.size() > 4 || !known || text.size() == 3)) {
      put(Kind::letters, text, from, to);
      return;
    }
    if (known || text.size() >= kLook) return put(Kind::word, text, from, to);
    if (const string plain = undrawn(low); !plain.empty()) return put(Kind::word, plain, from, to);
    const bool title = is_upper(text[0]) && std::all_of(text.begin() + 1, text.end(), is_lower);
    if (!title && std::any_of(text.begin() + 1, text.end(), is_upper)) return resolve_camel(text, from, to);
    if (!has_vowel(text) && text.size() <= 6) return put(Kind::letters, upper(text), from, to);
    if (text.size() <= 3 && !title) return put(Kind::letters, upper(text), from, to);
    put(Kind::word, text, from, to);
  }

  // "sooo" -> "so", "coool" -> "cool": letters written three times or more, cut to what the dictionary knows.
  [[nodiscard]] string undrawn(string_view low) const {
    for (const bool last_single : {true, false}) {
      for (const std::size_t inside : {2U, 1U}) {
        string plain;
        bool drawn = false;
        for (std::size_t i = 0; i < low.size();) {
          const std::size_t end = std::min(low.find_first_not_of(low[i], i), low.size());
          const std::size_t run = end - i;
          drawn = drawn || run >= 3;
          const std::size_t most = end == low.size() && last_single ? 1 : inside;
          plain.append(run >= 3 ? most : run, low[i]);
          i = end;
        }
        if (!drawn) return "";
        if (lexicon_.contains(plain)) return plain;
      }
    }
    return "";
  }

  void resolve_capitals(const string& text, const string& low, bool known, std::size_t from, std::size_t to) {
    const bool loud = shouting(from);
    if (loud && known) return put(Kind::word, low, from, to);
    if (!loud && spelled_capitals(text)) return put(Kind::letters, text, from, to);
    if (text.size() == 2) return put(short_word(text) ? Kind::word : Kind::letters, text, from, to);
    if (known) return put(Kind::word, text, from, to);
    // Unknown capitals: long ones that can be said are a word.
    int run = 0;
    int longest = 0;
    for (const char c : text) {
      run = string_view("AEIOUY").find(c) == string_view::npos ? run + 1 : 0;
      longest = std::max(longest, run);
    }
    const bool sayable = text.size() >= (loud ? 4U : 5U) && longest <= 3 && has_vowel(text);
    if (sayable || text.size() > 12) return put(Kind::word, low, from, to);
    put(Kind::letters, text, from, to);
  }

  void resolve_camel(const string& text, std::size_t from, std::size_t to) {
    for (const string_view family : {"Mc", "Mac", "De", "Di", "Du", "La", "Le", "Van", "Fitz"}) {
      const string_view rest = string_view(text).substr(std::min(family.size(), text.size()));
      if (text.starts_with(family) && rest.size() > 2 && is_upper(rest[0]) &&
          std::all_of(rest.begin() + 1, rest.end(), is_lower)) {
        return put(Kind::word, text, from, to);
      }
    }
    std::size_t start = 0;
    for (std::size_t i = 1; i <= text.size(); ++i) {
      const bool edge = i == text.size() || (is_lower(text[i - 1]) && is_upper(text[i])) ||
                        (i + 1 < text.size() && is_upper(text[i - 1]) && is_upper(text[i]) && is_lower(text[i + 1]) &&
                         !(text[i + 1] == 's' && i + 2 == text.size()));
      if (!edge) continue;
      const string part = text.substr(start, i - start);
      if (part.size() == 1) {
        put(Kind::letters, upper(part), from, to);
      } else {
        resolve(part, from, to);
      }
      start = i;
    }
  }

  // -- Words.
  void word() {
    const std::size_t from = at_;
    if (dotted_letters()) return;
    std::size_t end = from;
    while (end < s_.size() &&
           (is_letter(s_[end]) || (s_[end] == '\'' && is_letter(ch(end + 1)) && is_letter(s_[end - 1]))))
      ++end;
    const string_view text = sub(from, end);
    const bool fresh = from == 0 || !is_alnum(s_[from - 1]);
    if (fresh && text.size() <= 12) {
      if (short_form(text, end)) return;
      if (dollars_abroad(text, end)) return;
      if (month_day(text, end)) return;
      if (roman_numeral(text, end)) return;
      if (abbreviation(text, end)) return;
      if (initial(text, end)) return;
      if (version(text, end)) return;
    }
    at_ = end;
    plain_word(from, end);
    // "item(s)"
    if (ch(at_) == '(' && ch(at_ + 1) == 's' && ch(at_ + 2) == ')') at_ += 3;
    // "AT&T", "R&D": the letters on both sides of the sign are read by name.
    if (ch(at_) == '&' && is_upper(ch(at_ + 1)) && text.size() <= 3 && all_upper(text)) {
      if (!out_.empty() && out_.back().kind == Kind::word) {
        out_.back().kind = Kind::letters;
        out_.back().text = string(text);
      }
      say("and", at_, at_ + 1);
      const std::size_t stop = run_end(at_ + 1, is_upper);
      put(Kind::letters, string(sub(at_ + 1, stop)), at_ + 1, stop);
      at_ = stop;
    }
  }

  void plain_word(std::size_t from, std::size_t end) {
    const string text(sub(from, end));
    const std::size_t quote = text.find('\'');
    if (quote == string::npos) {
      name_word(from, end);
      return;
    }
    const string low = lower(text);
    const string_view base = string_view(text).substr(0, quote);
    if (low.ends_with("'s") && quote + 2 == low.size() && base.size() >= 2 && !lexicon_.contains(low)) {
      // The owner decides: "NASA's" is a word, "FBI's" may be letters, "OpenAI's" parts.
      resolve(string(base), from, end);
      SpokenToken& last = out_.back();
      last.text += last.kind == Kind::letters ? "s" : "'s";
    } else if (all_upper(base) && base.size() >= 2 && spelled_capitals(base) && low.ends_with("'s")) {
      put(Kind::letters, string(base) + "s", from, end);
    } else {
      put(Kind::word, text, from, end);
    }
    previous_ = text.substr(0, kLook);
  }

  // "U.S.", "a.m.", "e.g.", "Ph.D.", "J.R.R."
  bool dotted_letters() {
    const std::size_t from = at_;
    if (from > 0 && is_alnum(s_[from - 1])) return false;
    string letters;
    std::size_t i = from;
    while (letters.size() < 8 && is_letter(ch(i)) && ch(i + 1) == '.') {
      letters += ch(i);
      i += 2;
    }
    if (sub(from, std::min(from + 5, s_.size())) == "Ph.D.") {
      letters = "PhD";
      i = from + 5;
    }
    if (letters.empty()) return false;
    bool dot = true;
    if (is_letter(ch(i)) && boundary(i + 1) && ch(i + 1) != '\'' && all_upper(letters) && is_upper(ch(i))) {
      letters += ch(i++);  // "U.S.A" without the last dot
      dot = false;
    }
    if ((letters == "i" && ch(i) == 'e') || (letters == "e" && ch(i) == 'g')) {
      letters += ch(i++);  // "i.e" without the last dot
      dot = false;
    }
    if (letters.size() < 2 || is_alnum(ch(i))) return false;
    const string low = lower(letters);
    if (low == "eg") {
      say("for example", from, i);
    } else if (low == "ie") {
      say("that is", from, i);
    } else {
      put(Kind::letters, upper(letters), from, i);
      previous_ = upper(letters);
    }
    const bool clock = low == "am" || low == "pm";
    at_ = i;
    if (dot) end_after_dot(i, clock ? End::may : End::never, low != "eg" && low != "ie");
    return true;
  }

  // The dot of an abbreviation before `i`: also the end of a sentence?
  void end_after_dot(std::size_t i, End end, bool at_text_end = true) {
    const std::size_t next = skip_spaces(i);
    if (next >= s_.size() || s_[next] == '\n') {
      if (at_text_end) mark(".", i - 1, i);
      return;
    }
    if (next == i) return;
    const string_view word = letters_at(next);
    if (starts_sentence(word) && (end == End::may || (at_text_end && word.size() > 1))) {
      mark(".", i - 1, i);
    } else if (end == End::may && !word.empty() && is_upper(word[0]) && !all_upper(word) && month_of(word) == 0 &&
               !is_weekday(word) && !one_of(word, {"Eastern", "Pacific", "Central", "Mountain"})) {
      mark(".", i - 1, i);
    }
  }

  // "w/", "w/o", "b/c", "and/or", "he/she"
  bool short_form(string_view text, std::size_t end) {
    if (ch(end) != '/') return false;
    if (text == "w" && ch(end + 1) == 'o' && boundary(end + 2)) return take("without", at_, end + 2);
    if (text == "w" && (ch(end + 1) == ' ' || is_letter(ch(end + 1)))) return take("with", at_, end + 1);
    if (text == "b" && ch(end + 1) == 'c' && boundary(end + 2)) return take("because", at_, end + 2);
    if (lower(text) == "and" && lower(letters_at(end + 1)) == "or") return take(text, at_, end + 1);
    if (lower(text) == "n" && lower(letters_at(end + 1)) == "a") return take("N A", at_, end + 2);
    return false;
  }
  bool take(string_view words, std::size_t from, std::size_t to) {
    say(words, from, to);
    at_ = to;
    return true;
  }

  // "US$5", "C$20"
  bool dollars_abroad(string_view text, std::size_t end) {
    if (ch(end) != '$' || !is_digit(ch(end + 1)) || !one_of(text, {"US", "A", "AU", "C", "CA", "NZ", "HK", "S"}))
      return false;
    if (text != "US") {
      put(Kind::letters, string(text), at_, end);
    }
    at_ = end;
    return money(end, text == "US" ? end - 2 : end, false);
  }

  // "March 3", "Mar. 3rd, 2021", "Sept 5"
  bool month_day(string_view text, std::size_t end) {
    bool brief = false;
    if (const string_view day = weekday_of(text); !day.empty() && (ch(end) == '.' || ch(end) == ',')) {
      const std::size_t next = skip_spaces(end + 1);
      if (next > end + 1 && (is_digit(ch(next)) || month_of(letters_at(next)) != 0)) {
        say(day, at_, end);
        at_ = ch(end) == '.' ? end + 1 : end;
        return true;
      }
    }
    const int month = month_of(text, &brief);
    if (month == 0) return false;
    std::size_t next = end;
    if (brief && ch(next) == '.') ++next;
    next = run_end(next, is_space, 2);
    const string_view digits = digits_at(next);
    const std::size_t after = next + digits.size();
    const bool day =
        digits.size() >= 1 && digits.size() <= 2 && to_int(digits) >= 1 && to_int(digits) <= 31 && next > end;
    const bool year = digits.size() == 4 && next > end && boundary(after);
    const string name(kMonths[static_cast<std::size_t>(month - 1)]);
    if (!day && !year) {
      if (!brief || ch(end) != '.' || text == "Mar" || text == "Jan" || text == "Jun") return false;
      say(name, at_, end);
      at_ = end + 1;
      end_after_dot(at_, End::may);
      return true;
    }
    if (year) {
      say(name, at_, end);
      previous_ = "in";
      at_ = next;
      return true;
    }
    std::size_t stop = after;
    if (const string_view suffix = letters_at(after); one_of(lower(suffix), {"st", "nd", "rd", "th"}))
      stop += suffix.size();
    if (!boundary(stop) || ch(stop) == ':' || ch(stop) == '%' || ch(stop) == '/' ||
        (ch(stop) == '.' && is_digit(ch(stop + 1)))) {
      if (!brief) return false;
      say(name, at_, end);
      at_ = next;
      return true;
    }
    say(name, at_, end);
    say(ordinal(digits), next, stop);
    at_ = stop;
    previous_ = "in";
    // "March 3-5"
    if ((ch(stop) == '-' || ch(stop) == sign::kEnDash) && is_digit(ch(stop + 1))) {
      const string_view until = digits_at(stop + 1);
      if (until.size() <= 2 && boundary(stop + 1 + until.size())) {
        say("to", stop, stop + 1);
        say(ordinal(until), stop + 1, stop + 1 + until.size());
        at_ = stop + 1 + until.size();
        previous_ = "in";
      }
    }
    // The year after the day: "March 3, 2021" runs on without a pause.
    std::size_t year_at = at_;
    if (ch(year_at) == ',') ++year_at;
    year_at = run_end(year_at, is_space, 2);
    const string_view years = digits_at(year_at);
    if (year_at > at_ && years.size() == 4 && boundary(year_at + 4) && ch(year_at + 4) != ':') {
      say(english::year(years), year_at, year_at + 4);
      at_ = year_at + 4;
    }
    return true;
  }

  // "Louis XIV", "World War II", "Chapter IV"
  bool roman_numeral(string_view text, std::size_t end) {
    const int value = english::roman(text);
    if (value == 0 || value > 99 || text == "L" || previous_word().empty() || out_.empty() || !boundary(end))
      return false;
    if (at_ == 0 || ch(at_ - 1) != ' ') return false;
    const string before(previous_word());
    const string digits = std::to_string(value);
    if (ch(end) == '.' && is_letter(ch(end + 1))) return false;
    if (counter_word(before) && is_letter(before[0])) {
      if (text == "I" && !is_upper(before[0])) return false;
      return take(cardinal(digits), at_, end);
    }
    const string_view next = letters_at(one_space(end));
    if (regnal_name(before)) {
      if (text == "I") {
        const bool verb =
            !next.empty() && is_lower(next[0]) &&
            !one_of(next, {"of", "was", "in", "who", "died", "ruled", "became", "and", "reigned", "is", "had"});
        if (verb || ch(end) == '\'') {
          if (!(ch(end) == '\'' && ch(end + 1) == 's')) return false;
        }
      }
      say("the", at_, end);
      return take(ordinal(digits), at_, end);
    }
    const bool small = text.find_first_not_of("IVX") == string_view::npos;
    if (text.size() >= 2 && small && is_upper(before[0])) return take(cardinal(digits), at_, end);
    return false;
  }

  bool abbreviation(string_view text, std::size_t end) {
    const bool dot = ch(end) == '.';
    const std::size_t behind = dot ? end + 1 : end;
    const std::size_t next = skip_spaces(behind);
    const char follows = ch(next);
    if (text == "St" || text == "Dr" || text == "Sts" || text == "Ln" || text == "Ct" || text == "Pl" || text == "Sq") {
      return street_or_title(text, dot, behind, next);
    }
    const Abbreviation* found = nullptr;
    for (const Abbreviation& entry : kAbbreviations) {
      if (entry.text == text || (entry.text == lower(text) && !all_upper(text))) found = &entry;
    }
    if (found == nullptr || (found->dot && !dot) || !boundary(end) || ch(end) == '\'') return false;
    if (!found->dot && !dot && ch(end) == '-') return false;
    if (found->need == Need::capital && !is_upper(follows)) return false;
    if (found->need == Need::digit && !is_digit(follows) && !(english::roman(letters_at(next)) > 0 && text.size() > 2))
      return false;
    if (dot && next == behind && is_alnum(follows) && found->need != Need::digit) return false;
    say(found->words, at_, behind);
    previous_ = string(found->words);
    if (!previous_.empty() && is_upper(text[0])) previous_[0] = static_cast<char>(std::toupper(previous_[0]));
    at_ = behind;
    if (dot) end_after_dot(behind, found->end);
    return true;
  }

  // "St. Louis" and "Main St.", "Dr. Who" and "Elm Dr."
  bool street_or_title(string_view text, bool dot, std::size_t behind, std::size_t next) {
    if (!boundary(at_ + text.size())) return false;
    const bool name_follows = is_upper(ch(next)) && next > behind && !starts_sentence(letters_at(next));
    const bool name_before = !previous_word().empty() && (is_upper(previous_word()[0]) || is_digit(previous_word()[0]));
    const bool title = text == "St" || text == "Dr" || text == "Sts";
    if (title && name_follows && !(name_before && ch(behind) == ',')) {
      if (!dot && text != "Dr" && text != "St") return false;
      say(text == "St" ? "saint" : text == "Dr" ? "doctor" : "saints", at_, behind);
      at_ = behind;
      return true;
    }
    if (name_before && (dot || !is_lower(ch(next)))) {
      say(text == "St"   ? "street"
          : text == "Dr" ? "drive"
          : text == "Ln" ? "lane"
          : text == "Ct" ? "court"
          : text == "Pl" ? "place"
          : text == "Sq" ? "square"
                         : "streets",
          at_, behind);
      at_ = behind;
      if (dot) end_after_dot(behind, End::may);
      return true;
    }
    if (!title) return false;
    say(text == "Dr" ? "doctor" : "street", at_, behind);
    at_ = behind;
    if (dot) end_after_dot(behind, End::never);
    return true;
  }

  // "J. R. R. Tolkien", "John F. Kennedy"; not "Plan B. Then".
  bool initial(string_view text, std::size_t end) {
    if (text.size() != 1 || !is_upper(text[0]) || ch(end) != '.' || ch(end + 1) != ' ') return false;
    const std::size_t next = skip_spaces(end + 1);
    const string_view follows = letters_at(next);
    if (follows.empty() || !is_upper(follows[0])) return false;
    const bool another = follows.size() == 1 && ch(next + 1) == '.';
    if (!another && starts_sentence(follows)) return false;
    if (text == "I" && !another) return false;
    const string before(previous_word());
    if (!another && !before.empty() && !is_upper(before[0])) return false;
    if (!another &&
        one_of(lower(before), {"vitamin", "plan", "grade", "type", "option", "group", "hepatitis", "section"}))
      return false;
    put(Kind::letters, string(text), at_, end + 1);
    previous_ = string(text);
    at_ = end + 1;
    return true;
  }

  // "v2.0.1", "V3"
  bool version(string_view text, std::size_t end) {
    if (lower(text) != "v" || !is_digit(ch(end))) return false;
    say("version", at_, end);
    at_ = end;
    number(true);
    return true;
  }

  // -- Numbers.
  // Nothing at all for longer than kLook: such runs are read digit by digit.
  [[nodiscard]] std::optional<Number> parse_number(std::size_t i) const {
    Number number;
    std::size_t at = run_end(i, is_digit);
    if (is_digit(ch(at))) return std::nullopt;
    number.digits = string(sub(i, at));
    if (!number.digits.empty() && number.digits.size() <= 3 && ch(at) == ',') {
      std::size_t group = at;
      while (ch(group) == ',' && is_digit(ch(group + 1)) && is_digit(ch(group + 2)) && is_digit(ch(group + 3)) &&
             !is_digit(ch(group + 4)) && group < i + kLook) {
        number.digits += string(sub(group + 1, group + 4));
        group += 4;
        number.grouped = true;
      }
      at = group;
    }
    if (ch(at) == '.' && is_digit(ch(at + 1))) {
      const std::size_t end = run_end(at + 1, is_digit);
      if (is_digit(ch(end))) return std::nullopt;
      number.decimals = string(sub(at + 1, end));
      at = end;
    }
    if (at == i) return std::nullopt;
    number.end = at;
    return number;
  }

  static string words_of(const Number& number) {
    string text;
    if (number.digits.empty()) {
      text = "zero";
    } else if (number.digits.size() > 1 && number.digits[0] == '0' && number.whole()) {
      text = one_by_one(number.digits);
    } else if (number.digits.size() >= 10 && !number.grouped && !number.digits.ends_with("000000")) {
      text = one_by_one(number.digits);
    } else {
      text = cardinal(number.digits);
    }
    if (!number.decimals.empty()) text += " point " + one_by_one(number.decimals);
    return text;
  }

  // The unit at `i` (a space before it allowed), in words.
  struct Suffix {
    std::size_t end = 0;
    string words;
  };
  [[nodiscard]] std::optional<Suffix> unit_at(std::size_t i, bool one) const {
    const bool apart = ch(i) == ' ';
    bool hyphen = ch(i) == '-';
    std::size_t at = apart || hyphen ? i + 1 : i;
    if (hyphen) one = true;  // "a 5-km run"
    std::size_t end = at;
    if (ch(at) == sign::kDegree) {
      ++end;
      const std::size_t letter = one_space(end);
      if ((ch(letter) == 'C' || ch(letter) == 'F') && boundary(letter + 1)) {
        return Suffix{letter + 1,
                      string(one ? "degree" : "degrees") + (ch(letter) == 'C' ? " celsius" : " fahrenheit")};
      }
      return Suffix{end, one ? "degree" : "degrees"};
    }
    if (ch(at) == '%') return Suffix{at + 1, "percent"};
    if (sub(at, std::min(at + 3, s_.size())) == "sq ") end = at + 3;
    while (end < at + 8 && (is_letter(ch(end)) || ch(end) == sign::kMicro)) ++end;
    if (end == at) return std::nullopt;
    if ((ch(end) == '2' || ch(end) == '3') && find_unit(sub(at, end + 1)) != nullptr) ++end;
    const Unit* unit = find_unit(sub(at, end));
    if (unit == nullptr || is_alnum(ch(end)) || (apart && !unit->apart) || ch(end) == '\'') return std::nullopt;
    if (apart && unit->sign == "m" && ch(end) == '.' && is_letter(ch(end + 1))) return std::nullopt;
    if (hyphen && ch(end) == '-' && unit->sign.size() < 2) return std::nullopt;
    string words(one ? unit->one : unit->many);
    if (ch(end) == sign::kSquared || ch(end) == sign::kCubed) {
      words = (ch(end) == sign::kSquared ? "square " : "cubic ") + words;
      ++end;
    }
    if (ch(end) == '/') {
      const std::size_t stop = run_end(end + 1, is_letter);
      if (const string_view per = per_word(sub(end + 1, stop)); !per.empty() && !is_alnum(ch(stop))) {
        words += " per ";
        if (ch(stop) == sign::kSquared) {
          words += string(per) + " squared";
          return Suffix{stop + 1, words};
        }
        if (ch(stop) == sign::kCubed) {
          words += "cubic " + string(per);
          return Suffix{stop + 1, words};
        }
        words += per;
        return Suffix{stop, words};
      }
    }
    // "5 lbs. of", "10 min. later": the dot belongs to the unit when the sentence goes on.
    if (ch(end) == '.' && ch(end + 1) == ' ' && (is_lower(ch(end + 2)) || is_digit(ch(end + 2)))) ++end;
    return Suffix{end, words};
  }

  // "million", "bn", "K" behind an amount.
  [[nodiscard]] std::optional<Suffix> magnitude_at(std::size_t i, bool money) const {
    const bool apart = ch(i) == ' ';
    const std::size_t at = apart ? i + 1 : i;
    const string_view text = letters_at(at);
    const std::size_t end = at + text.size();
    if (text.empty() || is_alnum(ch(end))) return std::nullopt;
    const string low = lower(text);
    if (one_of(low, {"hundred", "thousand", "million", "billion", "trillion", "quadrillion"})) return Suffix{end, low};
    if (apart) return std::nullopt;
    if (text == "bn" || text == "B" || (money && text == "b")) return Suffix{end, "billion"};
    if (text == "mn" || text == "mln" || text == "M" || (money && text == "m")) return Suffix{end, "million"};
    if (money && (text == "K" || text == "k")) return Suffix{end, "thousand"};
    if (text == "k") return Suffix{end, "thousand"};
    if (text == "tn" || (money && text == "T")) return Suffix{end, "trillion"};
    return std::nullopt;
  }

  // "5/month" behind money or a count; empty if there is none.
  [[nodiscard]] Suffix per_at(std::size_t i) const {
    if (ch(i) != '/') return {i, ""};
    const std::size_t end = run_end(i + 1, is_letter);
    const string_view per = per_word(sub(i + 1, end));
    if (per.empty() || is_alnum(ch(end))) return {i, ""};
    return {end, " per " + string(per)};
  }

  static string amount_words(const Currency& currency, const Number& number, const string& magnitude) {
    if (!magnitude.empty()) return words_of(number) + " " + magnitude + " " + string(currency.many);
    const string whole = number.digits.empty() ? "0" : number.digits;
    const bool cents = !currency.cents.empty() && (number.decimals.size() == 2 || number.decimals.size() == 1);
    if (number.whole() || !cents) {
      return words_of(number) + " " + string(number.is_one() ? currency.one : currency.many);
    }
    const string small = number.decimals.size() == 1 ? number.decimals + "0" : number.decimals;
    const string sub_words = cardinal(small) + " " + string(small == "01" ? currency.cent : currency.cents);
    const bool zero = std::all_of(whole.begin(), whole.end(), [](char c) { return c == '0'; });
    if (small == "00") return cardinal(whole) + " " + string(whole == "1" ? currency.one : currency.many);
    if (zero) return sub_words;
    return cardinal(whole) + " " + string(whole == "1" ? currency.one : currency.many) + " and " + sub_words;
  }

  // The currency sign stands at `i`; the span begins at `from` ("US$5", "-$5").
  bool money(std::size_t i, std::size_t from, bool negative) {
    const Currency* currency = find_currency(ch(i));
    std::size_t at = one_space(i + 1);
    if (is_dash(ch(at)) && is_digit(ch(at + 1))) {
      negative = true;
      ++at;
    }
    if (currency == nullptr || !(is_digit(ch(at)) || (ch(at) == '.' && is_digit(ch(at + 1))))) return false;
    const auto number = parse_number(at);
    if (!number) return false;
    std::size_t end = number->end;
    string text = negative ? "negative " : "";
    // "$5-10", "$5-$10 million"
    if ((ch(end) == '-' || ch(end) == sign::kEnDash) &&
        (is_digit(ch(end + 1)) || (ch(end + 1) == currency->sign && is_digit(ch(end + 2))))) {
      const auto second = parse_number(is_digit(ch(end + 1)) ? end + 1 : end + 2);
      if (second && second->digits.size() <= 15) {
        const auto magnitude = magnitude_at(second->end, true);
        text += words_of(*number) + " to " + amount_words(*currency, *second, magnitude ? magnitude->words : "");
        end = magnitude ? magnitude->end : second->end;
        const Suffix per = per_at(end);
        return take(text + per.words, from, per.end);
      }
    }
    const auto magnitude = magnitude_at(end, true);
    if (magnitude) end = magnitude->end;
    // "a $5 million deal", "a 5-dollar bill" stay plural: both are heard.
    text += amount_words(*currency, *number, magnitude ? magnitude->words : "");
    const Suffix per = per_at(end);
    return take(text + per.words, from, per.end);
  }

  // Digit groups of a phone number at `i`: 555-123-4567, 1-800-555-0199, 555-1234. `plus`: country code first.
  bool phone(std::size_t from, std::size_t i, bool bracket) {
    std::array<string_view, 6> groups;
    std::size_t n = 0;
    std::size_t at = i;
    char separator = '\0';
    const bool plus = ch(from) == '+';
    while (n < groups.size()) {
      if (ch(at) == '(' && n <= 1) {
        ++at;
        bracket = true;
      }
      const string_view digits = digits_at(at);
      if (digits.empty() || digits.size() > 5) break;
      groups[n++] = digits;
      at += digits.size();
      if (bracket && ch(at) == ')') {
        at = one_space(at + 1);
        bracket = false;
        if (ch(at) == '-') ++at;
        continue;
      }
      const char c = ch(at);
      if ((c == '-' || c == '.' || (c == ' ' && (plus || n >= 1))) &&
          (is_digit(ch(at + 1)) || (c != '.' && ch(at + 1) == '('))) {
        if (separator == '\0' || n == 1 || plus) separator = c;
        if (c != separator) break;
        ++at;
        continue;
      }
      break;
    }
    if (n == 0) return false;
    std::size_t end = at;
    const auto size = [&](std::size_t k) { return groups[k].size(); };
    const bool american = (n == 3 && size(0) == 3 && size(1) == 3 && size(2) == 4) ||
                          (n == 4 && size(0) <= 2 && size(1) == 3 && size(2) == 3 && size(3) == 4);
    const bool local = n == 2 && size(0) == 3 && size(1) == 4 && separator == '-' && !bracket;
    std::size_t total = 0;
    for (std::size_t k = 0; k < n; ++k) total += size(k);
    const bool world = plus && total >= 8 && total <= 15;
    if (!american && !local && !world) return false;
    // The end of the last group, whatever separator was looked at behind it.
    end = static_cast<std::size_t>(groups[n - 1].data() - s_.data()) + size(n - 1);
    if (is_alnum(ch(end)) || (ch(end) == '-' && is_digit(ch(end + 1)))) return false;
    string words = plus ? "plus " : "";
    for (std::size_t k = 0; k < n; ++k) {
      if (k > 0) words += " , ";
      words += one_by_one(groups[k]);
    }
    return take(words, from, end);
  }

  // Clock suffix at `i`: "pm", " p.m.", "PM". Its last dot is left when it may end the sentence.
  struct Clock {
    std::size_t end = 0;
    string_view words;
    bool dotted = false;
  };
  [[nodiscard]] std::optional<Clock> clock_at(std::size_t i) const {
    const std::size_t at = one_space(i);
    const char first = ch(at) | 0x20;
    if (first != 'a' && first != 'p') return std::nullopt;
    const string_view words = first == 'a' ? "AM" : "PM";
    if ((ch(at + 1) | 0x20) == 'm' && boundary(at + 2) && (ch(at + 1) == 'm' || is_upper(ch(at))))
      return Clock{at + 2, words, false};
    if (ch(at + 1) == '.' && (ch(at + 2) | 0x20) == 'm' && boundary(at + 3)) {
      const bool dot = ch(at + 3) == '.';
      return Clock{dot ? at + 4 : at + 3, words, dot};
    }
    return std::nullopt;
  }

  void say_clock(const Clock& clock, std::size_t from) {
    put(Kind::letters, string(clock.words), from, clock.end);
    at_ = clock.end;
    previous_ = string(clock.words);
    if (clock.dotted) end_after_dot(clock.end, End::may);
  }

  bool time(std::size_t from) {
    const string_view hours = digits_at(from);
    if (hours.size() > 2) return false;
    const std::size_t colon = from + hours.size();
    const int hour = to_int(hours);
    if (ch(colon) != ':') {
      const auto clock = clock_at(colon);
      if (!clock || hour > 12 || hour == 0) return false;
      say(cardinal(hours), from, clock->end);
      say_clock(*clock, from);
      return true;
    }
    const string_view minutes = digits_at(colon + 1);
    if (minutes.size() != 2 || to_int(minutes) > 59 || hour > 24) return false;
    std::size_t end = colon + 3;
    string words = cardinal(hours);
    const string minute = to_int(minutes) == 0 ? "" : minutes[0] == '0' ? "oh " + cardinal(minutes) : cardinal(minutes);
    string seconds;
    if (ch(end) == ':' && digits_at(end + 1).size() == 2) {
      const string_view digits = digits_at(end + 1);
      if (to_int(digits) != 0) seconds = " and " + cardinal(digits) + (to_int(digits) == 1 ? " second" : " seconds");
      end += 3;
    }
    if (is_digit(ch(end)) || (ch(end) == ':' && is_digit(ch(end + 1)))) return false;
    const auto clock = clock_at(end);
    if (!minute.empty()) {
      words += " " + minute;
    } else if (!clock) {
      words += hour >= 1 && hour <= 12 ? " o'clock" : " hundred";
    }
    say(words + seconds, from, clock ? clock->end : end);
    at_ = end;
    if (clock) say_clock(*clock, from);
    return true;
  }

  bool say_date(string_view y, int month, string_view day, std::size_t from, std::size_t end) {
    if (month < 1 || month > 12 || to_int(day) < 1 || to_int(day) > 31) return false;
    string words = string(kMonths[static_cast<std::size_t>(month - 1)]) + " " + ordinal(day);
    if (y.size() == 4) {
      words += " " + english::year(y);
    } else if (y.size() == 2) {
      words += " " + english::year((to_int(y) >= 50 ? "19" : "20") + string(y));
    }
    return take(words, from, end);
  }

  bool date(std::size_t from) {
    const string_view first = digits_at(from);
    const std::size_t one = from + first.size();
    const char separator = ch(one);
    if (separator != '-' && separator != '/' && separator != '.') return false;
    const string_view second = digits_at(one + 1);
    const std::size_t two = one + 1 + second.size();
    if (second.empty() || second.size() > 2 || ch(two) != separator) return false;
    const string_view third = digits_at(two + 1);
    const std::size_t end = two + 1 + third.size();
    if (third.empty() || (ch(end) == separator && is_digit(ch(end + 1)))) return false;
    if (first.size() == 4 && third.size() <= 2 && separator != '.') {
      if (is_letter(ch(end)) && !(ch(end) == 'T' && is_digit(ch(end + 1)))) return false;
      if (!say_date(first, to_int(second), third, from, end)) return false;
      // 2025-03-14T17:05:00Z
      if (ch(at_) == 'T' && is_digit(ch(at_ + 1))) {
        ++at_;
        if (!time(at_)) number(true);
        if (ch(at_) == 'Z' && boundary(at_ + 1)) {
          put(Kind::letters, "UTC", at_, at_ + 1);
          ++at_;
        }
      }
      return true;
    }
    if (first.size() > 2 || is_alnum(ch(end))) return false;
    const bool long_year = third.size() == 4;
    if (!long_year && (third.size() != 2 || separator != '/')) return false;
    const int a = to_int(first);
    const int b = to_int(second);
    // Month first, as in the United States, unless only the other way is a date; with dots the day is first.
    if (separator == '.' || a > 12) return say_date(third, b, first, from, end);
    return say_date(third, a, second, from, end);
  }

  // 1.2.3, 192.168.1.1
  bool dotted_numbers(std::size_t from) {
    std::size_t n = 0;
    std::size_t at = from;
    std::array<string_view, 6> parts;
    while (n < parts.size()) {
      const string_view digits = digits_at(at);
      if (digits.empty()) return false;
      parts[n++] = digits;
      at += digits.size();
      if (ch(at) != '.' || !is_digit(ch(at + 1))) break;
      ++at;
    }
    if (n < 3 || (ch(at) == '.' && is_digit(ch(at + 1)))) return false;
    string words;
    for (std::size_t k = 0; k < n; ++k) {
      if (k > 0) words += n == 4 ? " dot " : " point ";
      words += parts[k].size() <= 3 ? cardinal(parts[k]) : one_by_one(parts[k]);
    }
    return take(words, from, at);
  }

  bool fraction(std::size_t from) {
    std::size_t at = from;
    string words;
    string_view top = digits_at(at);
    std::size_t slash = at + top.size();
    if (ch(slash) == ' ' && is_digit(ch(slash + 1)) && top.size() <= 4) {
      const string_view inner = digits_at(slash + 1);
      const std::size_t inner_end = slash + 1 + inner.size();
      const string_view low = ch(inner_end) == '/' ? digits_at(inner_end + 1) : string_view{};
      if (low.empty() || to_int(inner) >= to_int(low) || to_int(low) > 64 || low.size() > 2 ||
          is_alnum(ch(inner_end + 1 + low.size())))
        return false;
      words = cardinal(top) + " and ";
      words += inner == "1" ? (low == "2" ? "a half" : "a " + english::fraction("1", low).substr(4))
                            : english::fraction(inner, low);
      at = inner_end + 1 + low.size();
      const auto unit = unit_at(at, false);
      return take(unit ? words + " " + unit->words : words, from, unit ? unit->end : at);
    }
    if (ch(slash) != '/' || !is_digit(ch(slash + 1)) || top.size() > 4) return false;
    const string_view bottom = digits_at(slash + 1);
    const std::size_t end = slash + 1 + bottom.size();
    if (bottom.size() > 4 || ch(end) == '/' || is_letter(ch(end)) || (ch(end) == '.' && is_digit(ch(end + 1))))
      return false;
    const string both = string(top) + "/" + string(bottom);
    if (both == "24/7") return take("twenty four seven", from, end);
    if (both == "9/11") return take("nine eleven", from, end);
    if (both == "50/50") return take("fifty fifty", from, end);
    const int a = to_int(top);
    const int b = to_int(bottom);
    if (b == 0 || b == 1 || a == b || (a > 1 && (b == 10 || b == 100)) || b > 100 || a > 100) {
      const bool years = top.size() == 4 && bottom.size() == 2;
      return take(years ? english::year(top) + " " + cardinal(bottom) : cardinal(top) + " out of " + cardinal(bottom),
                  from, end);
    }
    return take(english::fraction(top, bottom), from, end);
  }

  // A year rather than a count? Four digits, nothing else known about them.
  [[nodiscard]] bool is_year(const Number& number, std::size_t end) const {
    if (number.digits.size() != 4 || number.grouped || !number.whole() || number.digits[0] == '0') return false;
    const int n = to_int(number.digits);
    const string before = lower(previous_word());
    const bool strong =
        one_of(before, {"in",     "since",     "until",     "till",     "year",      "circa",  "before", "after",
                        "during", "from",      "early",     "late",     "mid",       "summer", "spring", "fall",
                        "autumn", "winter",    "christmas", "class",    "copyright", "and",    "to",     "by",
                        "of",     "january",   "february",  "march",    "april",     "may",    "june",   "july",
                        "august", "september", "october",   "november", "december",  "\x9C"});
    const std::size_t next = one_space(end);
    const string_view after = next > end ? letters_at(next) : string_view{};
    const bool counted =
        after.size() > 2 && is_lower(after[0]) &&
        ((after.back() == 's' && !after.ends_with("ss") && !one_of(after, {"was", "has", "his", "this", "its"})) ||
         one_of(after, {"people", "men", "women", "children", "of", "or", "different", "more", "other"}));
    if (n < 1100) return strong && n >= 1000 && !counted && before != "to" && before != "by" && before != "of";
    if (n >= 1100 && n < 2100) return !counted;
    return false;
  }

  void number(bool joined) {
    const std::size_t from = at_;
    const bool after_letter = joined || (from > 0 && is_letter(s_[from - 1]));
    if (!after_letter) {
      if (date(from) || phone(from, from, false)) return;
      if (time(from)) {
        if ((ch(at_) == '-' || ch(at_) == sign::kEnDash) && is_digit(ch(at_ + 1))) {
          say("to", at_, at_ + 1);
          ++at_;
        }
        return;
      }
    }
    if (dotted_numbers(from)) return;
    if (!after_letter && fraction(from)) return;
    const auto parsed = parse_number(from);
    if (!parsed) {
      for (; is_digit(ch(at_)) || (ch(at_) == '.' && is_digit(ch(at_ + 1))); ++at_) {
        say(is_digit(ch(at_)) ? one_by_one(sub(at_, at_ + 1)) : "point", at_, at_ + 1);
      }
      return;
    }
    const Number& number = *parsed;
    std::size_t end = number.end;

    // 1st, 22nd; 1990s, 80's
    if (number.whole()) {
      const string suffix = lower(letters_at(end));
      if (one_of(suffix, {"st", "nd", "rd", "th"})) {
        if (take(ordinal(number.digits), from, end + 2)) return month_behind(from, end + 2);
      }
      const std::size_t s = ch(end) == '\'' ? end + 1 : end;
      // "her 20s", "the 80's"; but "wait 20s" is seconds.
      const bool decade = number.digits.size() == 4 || s > end ||
                          one_of(lower(previous_word()),
                                 {"the", "her", "his", "my", "your", "their", "our", "early", "mid", "late", "in"});
      if (ch(s) == 's' && boundary(s + 1) && number.digits.back() == '0' && decade &&
          (number.digits.size() == 2 || number.digits.size() == 4)) {
        take(english::plural(english::year(number.digits)), from, s + 1);
        return;
      }
    }
    if (ch(end) == ':' && number.whole() && is_digit(ch(end + 1)) && !after_letter) {  // 3:1
      const string_view second = digits_at(end + 1);
      const std::size_t stop = end + 1 + second.size();
      if (second.size() <= 3 && boundary(stop) && ch(stop) != ':') {
        take(words_of(number) + " to " + cardinal(second), from, stop);
        return;
      }
    }
    if (range(from, number)) return;
    if (ch(end) == 'x' || ch(end) == sign::kTimes ||
        (ch(end) == ' ' && (ch(end + 1) == 'x' || ch(end + 1) == sign::kTimes) && ch(end + 2) == ' ')) {
      const std::size_t times = ch(end) == ' ' ? end + 1 : end;
      const std::size_t next = one_space(times + 1);
      if (is_digit(ch(next))) {  // 1920x1080
        const bool arithmetic = ch(end) == ' ' && s_[times] != 'x';
        say(number.digits.size() == 4 && number.whole() && !arithmetic ? english::year(number.digits)
                                                                       : words_of(number),
            from, end);
        say(arithmetic ? "times" : "by", times, times + 1);
        at_ = next;
        if (const string_view second = digits_at(next); second.size() == 4 && !arithmetic && boundary(next + 4))
          take(english::year(second), next, next + 4);
        return;
      }
      if (boundary(times + 1) && times == end) {  // 5x
        take(words_of(number) + (number.is_one() ? " time" : " times"), from, times + 1);
        return;
      }
    }
    if (ch(end) == sign::kCent) {
      take(words_of(number) + (number.is_one() ? " cent" : " cents"), from, end + 1);
      return;
    }
    if (const Currency* currency = find_currency(ch(end)); currency != nullptr && !is_digit(ch(end + 1))) {
      take(amount_words(*currency, number, ""), from, end + 1);
      return;
    }
    if (const auto magnitude = after_letter ? std::nullopt : magnitude_at(end, false)) {
      string words = words_of(number) + " " + magnitude->words;
      end = magnitude->end;
      if (find_currency(ch(end)) != nullptr && !is_digit(ch(end + 1))) {
        words += " " + string(find_currency(ch(end))->many);
        ++end;
      } else if (const string_view next = letters_at(end + 1); ch(end) == ' ' && one_of(next, {"USD", "EUR", "GBP"})) {
        words += next == "USD" ? " dollars" : next == "EUR" ? " euros" : " pounds";
        end += 1 + next.size();
      } else if (const auto unit = unit_at(end, false)) {
        words += " " + unit->words;
        end = unit->end;
      }
      take(words, from, end);
      return;
    }
    if (const auto height = feet_and_inches(number)) {
      take(height->words, from, height->end);
      return;
    }
    if (const string_view next = letters_at(one_space(end)); one_of(next, {"USD", "EUR", "GBP"})) {
      const Currency& currency = next == "USD" ? kCurrencies[0] : next == "EUR" ? kCurrencies[1] : kCurrencies[2];
      take(amount_words(currency, number, ""), from, one_space(end) + next.size());
      return;
    }
    if (const auto unit = after_letter ? std::nullopt : unit_at(end, number.is_one())) {
      string words = words_of(number);
      if (number.digits.size() == 4 && !number.grouped && unit->words.starts_with("pixel"))
        words = english::year(number.digits);
      take(words + " " + unit->words, from, unit->end);
      return;
    }
    // "1080p": the p is read by name.
    if ((number.digits == "1080" || number.digits == "720" || number.digits == "480" || number.digits == "1440" ||
         number.digits == "2160") &&
        ch(end) == 'p' && boundary(end + 1)) {
      const string words = number.digits.size() == 4 ? english::year(number.digits)
                           : number.digits == "720"  ? "seven twenty"
                                                     : "four eighty";
      take(words + " P", from, end + 1);
      return;
    }
    if (number.digits == "911" && number.whole() &&
        one_of(lower(previous_word()), {"call", "called", "dial", "dialed", "calling"})) {
      take("nine one one", from, end);
      return;
    }
    if (is_year(number, end) || (after_letter && number.whole() && number.digits.size() == 4)) {
      take(english::year(number.digits), from, end);
      return;
    }
    take(words_of(number), from, end);
    if (number.whole() && number.digits.size() <= 2) month_behind(from, end);
  }

  // The day was just said as a number or ordinal; "3 March" and "3rd March 2021" are "the third of March".
  void month_behind(std::size_t from, std::size_t end) {
    const std::size_t next = one_space(end);
    const string_view name = letters_at(next);
    bool brief = false;
    const int month = month_of(name, &brief);
    const string_view digits = digits_at(from);
    const int day = to_int(digits);
    if (next == end || month == 0 || digits.size() > 2 || day < 1 || day > 31 || is_digit(ch(next + name.size())))
      return;
    if (brief && one_of(name, {"Mar", "Jan", "Dec", "Jun"}) && ch(next + 3) != '.' && !is_digit(ch(next + 4))) return;
    const bool article = out_words_before(from) == "the";
    while (!out_.empty() && out_.back().in_start >= folded_.start[from] && out_.back().kind != Kind::mark)
      out_.pop_back();
    if (!article) say("the", from, end);
    say(ordinal(digits), from, end);
    say("of", from, end);
    std::size_t stop = next + name.size();
    say(kMonths[static_cast<std::size_t>(month - 1)], next, stop);
    if (brief && ch(stop) == '.') ++stop;
    previous_ = "in";
    at_ = stop;
    const std::size_t year_at = run_end(ch(stop) == ',' ? stop + 1 : stop, is_space, 2);
    const string_view years = digits_at(year_at);
    if (year_at > stop && years.size() == 4 && boundary(year_at + 4) && ch(year_at + 4) != ':') {
      say(english::year(years), year_at, year_at + 4);
      at_ = year_at + 4;
    }
  }
  // The last word said before the input position `from`.
  [[nodiscard]] string out_words_before(std::size_t from) const {
    for (auto token = out_.rbegin(); token != out_.rend(); ++token) {
      if (token->in_start < folded_.start[from]) return token->kind == Kind::mark ? "" : lower(token->text);
    }
    return "";
  }

  // 5'10", 6'
  [[nodiscard]] std::optional<Suffix> feet_and_inches(const Number& number) const {
    if (!number.whole() || number.digits.size() > 2 || ch(number.end) != '\'') return std::nullopt;
    const string_view inches = digits_at(number.end + 1);
    const std::size_t end = number.end + 1 + inches.size();
    if (inches.empty() || inches.size() > 2 || ch(end) != '"') return std::nullopt;
    return Suffix{end + 1, cardinal(number.digits) + (number.is_one() ? " foot " : " feet ") + cardinal(inches) +
                               (inches == "1" ? " inch" : " inches")};
  }

  // "10-20", "1939-1945", "5-10%"
  bool range(std::size_t from, const Number& first) {
    std::size_t dash = first.end;
    if (ch(dash) == ' ' && ch(dash + 1) == sign::kEnDash && ch(dash + 2) == ' ') ++dash;
    if (ch(dash) == '%' && is_dash(ch(dash + 1)) && is_digit(ch(dash + 2))) ++dash;
    if ((ch(dash) != '-' && ch(dash) != sign::kEnDash) || first.digits.size() > 9) return false;
    const std::size_t next = one_space(dash + 1);
    if (!is_digit(ch(next)) || (ch(dash) == '-' && next != dash + 1)) return false;
    const auto second = parse_number(next);
    if (!second || second->digits.size() > 9) return false;
    std::size_t end = second->end;
    if (ch(end) == '-' && is_digit(ch(end + 1))) {
      // "1-2-3", an ISBN: no ranges.
      std::size_t part = from;
      while (true) {
        const std::size_t stop = run_end(part, is_digit, s_.size());
        say(stop - part <= 2 ? cardinal(sub(part, stop)) : one_by_one(sub(part, stop)), part, stop);
        at_ = stop;
        if (ch(stop) != '-' || !is_digit(ch(stop + 1))) return true;
        part = stop + 1;
      }
    }
    if (is_letter(ch(end)) && !unit_at(end, false) && !magnitude_at(end, false) &&
        !one_of(letters_at(end), {"s", "th", "am", "pm", "x"}))
      return false;
    const bool years = first.digits.size() == 4 && second->digits.size() == 4 && !first.grouped && first.whole() &&
                       second->whole() && to_int(first.digits) >= 1000 && to_int(second->digits) < 2200;
    const bool short_years =
        first.digits.size() == 4 && second->digits.size() == 2 && first.digits[0] <= '2' && first.whole();
    say(years || short_years ? english::year(first.digits) : words_of(first), from, first.end);
    say("to", dash, dash + 1);
    at_ = next;
    if (years || (second->digits.size() == 4 && is_year(*second, end))) {
      take(english::year(second->digits), next, end);
      return true;
    }
    // The second number is read by the usual rules: unit, percent, clock, ordinal.
    previous_ = "to";
    return true;
  }

  // -- Signs.
  void symbol() {
    const std::size_t i = at_;
    const char c = s_[i];
    const char next = ch(i + 1);
    const bool spaced = (i == 0 || is_space(ch(i - 1)) || ch(i - 1) == '(') && i + 1 < s_.size();
    const bool before_number = is_digit(next) || (next == '.' && is_digit(ch(i + 2)));
    at_ = i + 1;
    switch (c) {
      case '.':
        if (next == '.') {
          std::size_t end = i;
          while (ch(end) == '.') ++end;
          at_ = end;
          return mark("…", i, end);
        }
        if (is_digit(next) && (i == 0 || !is_alnum(s_[i - 1]))) {
          at_ = i;
          return number(true);
        }
        if (i > 0 && is_alnum(s_[i - 1]) && is_lower(next)) return say("dot", i, i + 1);
        if (i > 0 && is_space(s_[i - 1]) && is_letter(next)) return say("dot", i, i + 1);  // ".NET"
        return mark(".", i, i + 1);
      case sign::kEllipsis:
        return mark("…", i, i + 1);
      case ',':
      case ';':
      case ':':
        return mark(",", i, i + 1);
      case '!':
        return mark("!", i, i + 1);
      case '?':
        return mark("?", i, i + 1);
      case '(':
        if (phone(i, i, false)) return;
        return pause(i);
      case ')':
      case '[':
      case ']':
      case '{':
      case '}':
      case '|':
        if (c == ']' && next == '(') return skip_link(i);
        return pause(i);
      case sign::kEmDash:
        return pause(i);
      case sign::kMinus:
        if (before_number) return signed_number(i, spaced ? "negative" : "minus");
        return say("minus", i, i + 1);
      case sign::kEnDash:
      case '-':
        return hyphen(i, c, spaced, before_number);
      case '+':
        if (is_digit(next) && phone(i, i + 1, false)) return;
        if (is_digit(next) || spaced) return say("plus", i, i + 1);
        if (next == '+') {  // C++
          say("plus plus", i, i + 2);
          at_ = i + 2;
          return;
        }
        if (i > 0 && is_alnum(s_[i - 1])) return say("plus", i, i + 1);
        return;
      case '$':
      case sign::kEuro:
      case sign::kPound:
      case sign::kYen:
      case sign::kRupee:
      case sign::kWon:
      case sign::kBitcoin:
        at_ = i;
        if (money(i, i, false)) return;
        at_ = i + 1;
        if (c != '$') say(find_currency(c)->many, i, i + 1);
        return;
      case '%':
        return say("percent", i, i + 1);
      case '&':
        return say("and", i, i + 1);
      case '@':
        return say("at", i, i + 1);
      case '#':
        if (is_digit(next)) return say("number", i, i + 1);
        if (i > 0 && is_letter(s_[i - 1])) return say("sharp", i, i + 1);  // C#
        return;
      case '=':
        return next == '=' || ch(i - 1) == '=' ? void() : say("equals", i, i + 1);
      case '/':
        if (i > 0 && is_alnum(s_[i - 1]) && is_alnum(next)) return say("slash", i, i + 1);
        return;
      case '\\':
        return;
      case '~':
      case sign::kAbout:
        if (is_digit(next) || c == sign::kAbout || find_currency(next) != nullptr) return say("about", i, i + 1);
        return;
      case '<':
      case '>':
        if (next == '=' && (is_digit(ch(one_space(i + 2))))) {
          at_ = i + 2;
          return say(c == '<' ? "less than or equal to" : "greater than or equal to", i, i + 2);
        }
        if (is_digit(ch(one_space(i + 1)))) return say(c == '<' ? "less than" : "greater than", i, i + 1);
        return;
      case '*':
        if (i > 0 && is_digit(ch(i - 1 - (is_space(s_[i - 1]) && i > 1 ? 1 : 0))) && is_digit(ch(one_space(i + 1))))
          return say("times", i, i + 1);
        return;
      case '^':
        if (i > 0 && is_alnum(s_[i - 1]) && is_alnum(next)) return say("to the power of", i, i + 1);
        return;
      case sign::kTimes:
        return say("times", i, i + 1);
      case sign::kDivide:
        return say("divided by", i, i + 1);
      case sign::kPlusMinus:
        return say("plus or minus", i, i + 1);
      case sign::kAtMost:
        return say("less than or equal to", i, i + 1);
      case sign::kAtLeast:
        return say("greater than or equal to", i, i + 1);
      case sign::kNotEqual:
        return say("is not equal to", i, i + 1);
      case sign::kArrow:
        return say("to", i, i + 1);
      case sign::kRoot:
        return say("the square root of", i, i + 1);
      case sign::kInfinity:
        return say("infinity", i, i + 1);
      case sign::kMicro:
        return say("micro", i, i + 1);
      case sign::kSection:
        return say("section", i, i + 1);
      case sign::kCopyright:
        return say("copyright", i, i + 1);
      case sign::kSquared:
        if (i > 0 && is_alnum(s_[i - 1])) return say("squared", i, i + 1);
        return;
      case sign::kCubed:
        if (i > 0 && is_alnum(s_[i - 1])) return say("cubed", i, i + 1);
        return;
      case sign::kDegree:
        return say("degrees", i, i + 1);
      case sign::kCent:
        return say("cents", i, i + 1);
      case '\'':
        return apostrophe(i);
      default:
        return;  // quotes, underscores, backticks
    }
  }

  // "[text](address)": the address is not read.
  void skip_link(std::size_t i) {
    std::size_t end = i + 2;
    end = run_end(
        end, [](char c) { return c != ')' && !is_space(c); }, 8 * kLook);
    if (ch(end) == ')') {
      at_ = end + 1;
    } else {
      mark(",", i, i + 1);
    }
  }

  // '90s, 'em, 'twas
  void apostrophe(std::size_t i) {
    if (i > 0 && is_alnum(s_[i - 1])) return;
    if (is_digit(ch(i + 1))) {
      const string_view digits = digits_at(i + 1);
      const std::size_t end = i + 1 + digits.size();
      if (digits.size() == 2 && digits[1] == '0' && ch(end) == 's' && boundary(end + 1)) {
        take(english::plural(cardinal(digits)), i, end + 1);
      }
      return;
    }
    const string_view text = letters_at(i + 1);
    if (one_of(lower(text), {"em", "til", "tis", "twas", "cause", "bout", "round"}) &&
        ch(i + 1 + text.size()) != '\'') {
      put(Kind::word, "'" + lower(text), i, i + 1 + text.size());
      at_ = i + 1 + text.size();
    }
  }

  void signed_number(std::size_t i, string_view word) {
    say(word, i, i + 1);
    at_ = i + 1;
  }

  void hyphen(std::size_t i, char c, bool spaced, bool before_number) {
    const char next = ch(i + 1);
    if (spaced && (find_currency(next) != nullptr) && is_digit(ch(i + 2))) {
      at_ = i;
      if (money(i + 1, i, true)) return;
      at_ = i + 1;
      return;
    }
    if (c == '-' && next == '>') {
      at_ = i + 2;
      return say("to", i, i + 2);
    }
    if (c == '-' && is_dash(next)) {
      std::size_t end = i;
      while (is_dash(ch(end))) ++end;
      at_ = end;
      return mark(",", i, end);
    }
    if (before_number && spaced) {
      // "7 - 3" is arithmetic, "-3" a negative number; a temperature is "minus three degrees".
      const auto value = parse_number(i + 1);
      const auto unit = value ? unit_at(value->end, true) : std::nullopt;
      return signed_number(i, unit && unit->words.starts_with("degree") ? "minus" : "negative");
    }
    const bool after_space = i == 0 || is_space(s_[i - 1]);
    if (after_space && is_space(next)) {
      if (i > 1 && is_digit(s_[i - 2]) && is_digit(ch(i + 2)) && c == '-') return say("minus", i, i + 1);
      return mark(",", i, i + 1);
    }
    if (after_space || next == '\0' || is_space(next)) {
      if (c == sign::kEnDash) return mark(",", i, i + 1);
      return;
    }
    if (c == sign::kEnDash && !is_alnum(next)) return mark(",", i, i + 1);
    // Inside a word: nothing is said.
  }

  const Folded& folded_;
  const string& s_;
  const Lexicon& lexicon_;
  std::vector<std::pair<std::size_t, std::size_t>> shouting_;
  std::vector<SpokenToken> out_;
  string previous_;  // the last word as written, for rules that look back
  std::size_t at_ = 0;
  bool run_open_ = true;
  bool weak_ = false;  // the last mark is a bracket's
};

}  // namespace

std::vector<SpokenToken> normalize_english(const Folded& text, const Lexicon& lexicon) {
  return Scanner(text, lexicon).run();
}

std::string to_string(std::span<const SpokenToken> tokens) {
  std::string text;
  for (const SpokenToken& token : tokens) {
    if (token.kind == Kind::mark) {
      text += token.text;
      continue;
    }
    if (!text.empty()) text += ' ';
    if (token.kind == Kind::word) {
      text += token.text;
      continue;
    }
    for (std::size_t i = 0; i < token.text.size(); ++i) {
      const bool plural = i + 1 == token.text.size() && token.text[i] == 's';
      if (i > 0 && !plural) text += ' ';
      text += token.text[i];
    }
  }
  return text;
}

}  // namespace tts
