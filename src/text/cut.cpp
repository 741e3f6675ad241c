#include "src/text/cut.h"

#include <unicode/uchar.h>
#include <algorithm>

#include "src/text/code_points.h"

namespace tts {
namespace {

using View = std::u32string_view;
using Pieces = std::vector<std::u32string>;

constexpr View kSplits = U"，。？！,.?!~:：—…";
constexpr View kPlainMarks = U"!?…,.-";
constexpr View kPlainMarksAndSpace = U"!?…,.- ";
constexpr View kAllMarks = U",.;?!、，。？！；：…";
constexpr std::size_t kLongest = 510;
constexpr std::size_t kShortest = 5;

bool one_of(char32_t c, View set) {
  return set.find(c) != View::npos;
}

bool only(View text, View set) {
  return text.find_first_not_of(set) == View::npos;
}

View strip(View text, char32_t c) {
  while (text.starts_with(c)) text.remove_prefix(1);
  while (text.ends_with(c)) text.remove_suffix(1);
  return text;
}

View strip_space(View text) {
  const auto space = [](char32_t c) { return u_isUWhiteSpace(static_cast<UChar32>(c)) != 0; };
  while (!text.empty() && space(text.front())) text.remove_prefix(1);
  while (!text.empty() && space(text.back())) text.remove_suffix(1);
  return text;
}

// Of marks in a row the first stays.
std::u32string single_marks(View text) {
  std::u32string out;
  for (const char32_t c : text) {
    if (one_of(c, kPlainMarks) && !out.empty() && one_of(out.back(), kPlainMarks)) continue;
    out += c;
  }
  return out;
}

std::u32string replaced(View text, View what, View with) {
  std::u32string out;
  for (std::size_t i = 0; i < text.size();) {
    if (text.substr(i, what.size()) == what) {
      out += with;
      i += what.size();
    } else {
      out += text[i++];
    }
  }
  return out;
}

// Clauses with the marks that end them.
Pieces clauses(View text) {
  std::u32string all = replaced(replaced(text, U"……", U"。"), U"——", U"，");
  if (all.empty() || !one_of(all.back(), kSplits)) all += U'。';
  Pieces out;
  std::size_t begin = 0;
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (!one_of(all[i], kSplits)) continue;
    out.push_back(all.substr(begin, i + 1 - begin));
    begin = i + 1;
  }
  return out;
}

void add(Pieces& pieces, View piece, View silent) {
  if (!only(piece, silent)) pieces.emplace_back(piece);
}

Pieces by_four(View text) {
  const Pieces all = clauses(text);
  Pieces out;
  if (all.size() <= 4) {
    add(out, text, kPlainMarksAndSpace);
    return out;
  }
  // What is left over after the last whole four goes with it.
  const std::size_t groups = (all.size() + 3) / 4 - 1;
  for (std::size_t group = 0; group < groups; ++group) {
    const std::size_t end = group + 1 == groups ? all.size() : group * 4 + 4;
    std::u32string piece;
    for (std::size_t i = group * 4; i < end; ++i) piece += all[i];
    add(out, piece, kPlainMarksAndSpace);
  }
  return out;
}

Pieces by_fifty(View text) {
  const Pieces all = clauses(text);
  if (all.size() < 2) return {std::u32string(text)};
  Pieces parts;
  std::u32string piece;
  for (const std::u32string& clause : all) {
    piece += clause;
    if (piece.size() <= 50) continue;
    parts.push_back(std::move(piece));
    piece.clear();
  }
  if (!piece.empty()) parts.push_back(std::move(piece));
  if (parts.size() > 1 && parts.back().size() < 50) {
    parts[parts.size() - 2] += parts.back();
    parts.pop_back();
  }
  Pieces out;
  for (const std::u32string& part : parts) add(out, part, kPlainMarksAndSpace);
  return out;
}

Pieces at_chinese_stops(View text) {
  text = strip(text, U'。');
  Pieces out;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(U'。', begin), text.size());
    add(out, text.substr(begin, end - begin), kPlainMarksAndSpace);
    begin = end + 1;
  }
  return out;
}

bool digit_at(View text, std::size_t i) {
  return i < text.size() && u_charType(static_cast<UChar32>(text[i])) == U_DECIMAL_DIGIT_NUMBER;
}

Pieces at_english_stops(View text) {
  text = strip(text, U'.');
  Pieces out;
  std::size_t begin = 0;
  for (std::size_t i = 0; i <= text.size(); ++i) {
    const bool stop = i < text.size() && text[i] == U'.' && !(i > 0 && digit_at(text, i - 1)) && !digit_at(text, i + 1);
    if (!stop && i != text.size()) continue;
    add(out, text.substr(begin, i - begin), kPlainMarksAndSpace);
    begin = i + 1;
  }
  return out;
}

Pieces at_all_marks(View text) {
  Pieces out;
  std::size_t begin = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (!one_of(text[i], kAllMarks)) continue;
    if (text[i] == U'.' && i > 0 && digit_at(text, i - 1) && digit_at(text, i + 1)) continue;
    add(out, text.substr(begin, i + 1 - begin), kAllMarks);
    begin = i + 1;
  }
  add(out, text.substr(begin), kAllMarks);
  return out;
}

Pieces cut(View text, CutMethod method) {
  switch (method) {
    case CutMethod::four_clauses:
      return by_four(text);
    case CutMethod::fifty_letters:
      return by_fifty(text);
    case CutMethod::chinese_stops:
      return at_chinese_stops(text);
    case CutMethod::english_stops:
      return at_english_stops(text);
    case CutMethod::all_marks:
      return at_all_marks(text);
    case CutMethod::none:
      break;
  }
  Pieces out;
  add(out, text, kPlainMarksAndSpace);
  return out;
}

bool has_word(View text) {
  return std::any_of(text.begin(), text.end(), [](char32_t c) {
    return c == U'_' || (U_GET_GC_MASK(static_cast<UChar32>(c)) & (U_GC_N_MASK | U_GC_L_MASK)) != 0;
  });
}

// A piece too long for BERT, parted at marks.
void part_long(View text, Pieces& out) {
  std::u32string piece;
  std::size_t begin = 0;
  const auto put = [&](View part) {
    if (part.empty()) return;
    if (piece.size() + part.size() > kLongest) {
      out.push_back(std::move(piece));
      piece.assign(part);
    } else {
      piece += part;
    }
  };
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (!one_of(text[i], kSplits)) continue;
    put(text.substr(begin, i - begin));
    put(text.substr(i, 1));
    begin = i + 1;
  }
  put(text.substr(begin));
  if (!piece.empty()) out.push_back(std::move(piece));
}

}  // namespace

Result<CutMethod> parse_cut_method(std::string_view name) {
  if (name.size() == 4 && name.starts_with("cut") && name[3] >= '0' && name[3] <= '5') {
    return static_cast<CutMethod>(name[3] - '0');
  }
  return Error{Errc::bad_message, "cut method: got \"" + std::string(name.substr(0, 16)) + "\", wanted cut0 to cut5"};
}

std::vector<std::string> cut_text(std::string_view bytes, std::string_view lang, CutMethod method) {
  const std::u32string whole = single_marks(to_code_points(bytes));
  std::u32string text(strip(whole, U'\n'));
  if (text.empty()) return {};
  const char32_t stop = lang == "en" ? U'.' : U'。';
  const View first = strip_space(View(text).substr(0, std::min(text.find_first_of(kSplits), text.size())));
  if (!one_of(text.front(), kSplits) && first.size() < 4) text.insert(text.begin(), stop);

  Pieces lines;
  for (const std::u32string& piece : cut(text, method)) {
    for (std::size_t begin = 0; begin <= piece.size();) {
      const std::size_t end = std::min(piece.find(U'\n', begin), piece.size());
      const View line = View(piece).substr(begin, end - begin);
      if (!line.empty() && line != U" ") lines.emplace_back(line);
      begin = end + 1;
    }
  }
  Pieces joined;
  std::u32string piece;
  for (std::u32string& line : lines) {
    piece += line;
    if (piece.size() < kShortest && lines.size() > 1) continue;
    joined.push_back(std::move(piece));
    piece.clear();
  }
  if (!piece.empty()) {
    if (joined.empty()) {
      joined.push_back(std::move(piece));
    } else {
      joined.back() += piece;
    }
  }
  Pieces pieces;
  for (std::u32string& part : joined) {
    if (!has_word(part)) continue;
    if (!one_of(part.back(), kSplits)) part += stop;
    if (part.size() > kLongest) {
      part_long(part, pieces);
    } else {
      pieces.push_back(std::move(part));
    }
  }
  std::vector<std::string> out;
  for (const std::u32string& part : pieces) {
    if (part.empty()) continue;
    out.push_back(to_utf8(part));
  }
  return out;
}

}  // namespace tts
