#include "src/text/zh_segment.h"

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

namespace tts {
namespace {

constexpr double kMinusInfinity = -std::numeric_limits<double>::infinity();
constexpr std::string_view kUnknown = "x";

// Han characters and the full stop make blocks, every other character stands alone (jieba's character classes, for the
// characters that get here).
bool in_block(char32_t c) {
  return ZhData::is_han(c) || c == U'.';
}

// End of the best word at each place. Of equal ones the tagger takes the longer, the cutter the shorter: jieba and
// its C twin differ in this.
std::vector<std::size_t> best_route(const ZhData& data, std::u32string_view text, bool longer) {
  std::vector<double> score(text.size() + 1, 0.0);
  std::vector<std::size_t> end(text.size(), 0);
  for (std::size_t i = text.size(); i-- > 0;) {
    double best = kMinusInfinity;
    std::size_t best_end = i + 1;
    ZhData::Node node = 0;
    for (std::size_t k = i; k < text.size(); ++k) {
      node = data.child(node, text[k]);
      if (node == 0) break;
      if (!data.is_word(node)) continue;
      const double value = data.log_count(node) - data.log_total() + score[k + 1];
      if (longer ? value >= best : value > best) {
        best = value;
        best_end = k + 1;
      }
    }
    if (best == kMinusInfinity) best = 0.0 - data.log_total() + score[i + 1];
    score[i] = best;
    end[i] = best_end;
  }
  return end;
}

// Viterbi over the states that the characters may have; of equal paths the last state in order.
void tag_unknown(const ZhData& data, std::u32string_view text, std::size_t offset, std::vector<ZhWord>& out) {
  const ZhData::Tagging& model = data.tagging();
  constexpr std::size_t kStates = 256;
  constexpr std::uint16_t kAbsent = 0xFFFF;
  std::vector<std::array<std::uint8_t, kStates>> from(text.size());
  std::array<double, kStates> score{};
  std::array<double, kStates> next_score{};
  std::array<bool, kStates> here{};
  std::array<double, kStates> emission{};

  const auto load = [&](char32_t c, std::array<bool, kStates>& allowed) {
    emission.fill(ZhData::kMinFloat);
    const auto known = data.emissions(c);
    bool any = false;
    for (const ZhData::Emission& e : known) {
      emission[e.state] = e.value;
      any = any || e.listed;
    }
    allowed.fill(!any);
    if (any) {
      for (const ZhData::Emission& e : known) allowed[e.state] = e.listed;
    }
  };

  load(text[0], here);
  for (std::size_t y = 0; y < kStates; ++y) score[y] = here[y] ? model.start[y] + emission[y] : kMinusInfinity;
  for (std::size_t t = 1; t < text.size(); ++t) {
    std::array<bool, kStates> reachable{};
    for (std::size_t y0 = 0; y0 < kStates; ++y0) {
      if (!here[y0]) continue;
      for (const ZhData::Transition& to : model.next[y0]) reachable[to.to] = true;
    }
    std::array<bool, kStates> allowed{};
    load(text[t], allowed);
    bool any = false;
    for (std::size_t y = 0; y < kStates; ++y) {
      allowed[y] = allowed[y] && reachable[y];
      any = any || allowed[y];
    }
    if (!any) allowed = reachable;
    std::array<std::uint16_t, kStates> best_from;
    best_from.fill(kAbsent);
    next_score.fill(kMinusInfinity);
    for (std::size_t y0 = 0; y0 < kStates; ++y0) {
      if (!here[y0]) continue;
      for (const ZhData::Transition& to : model.next[y0]) {
        if (!allowed[to.to]) continue;
        const double value = score[y0] + to.value + emission[to.to];
        if (best_from[to.to] == kAbsent || value >= next_score[to.to]) {
          next_score[to.to] = value;
          best_from[to.to] = static_cast<std::uint16_t>(y0);
        }
      }
    }
    for (std::size_t y = 0; y < kStates; ++y) {
      here[y] = best_from[y] != kAbsent;
      from[t][y] = static_cast<std::uint8_t>(here[y] ? best_from[y] : 0);
    }
    score = next_score;
  }

  std::size_t state = 0;
  double best = kMinusInfinity;
  for (std::size_t y = 0; y < kStates; ++y) {
    if (here[y] && score[y] >= best) {
      best = score[y];
      state = y;
    }
  }
  std::vector<std::uint8_t> path(text.size());
  for (std::size_t t = text.size(); t-- > 0;) {
    path[t] = static_cast<std::uint8_t>(state);
    state = from[t][state];
  }
  std::size_t begin = 0;
  std::size_t done = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char letter = model.letter[path[i]];
    const std::string_view tag = data.tag_name(model.tag[path[i]]);
    if (letter == 'B') {
      begin = i;
    } else if (letter == 'E') {
      out.push_back({offset + begin, offset + i + 1, tag});
      done = i + 1;
    } else if (letter == 'S') {
      out.push_back({offset + i, offset + i + 1, tag});
      done = i + 1;
    }
  }
  if (done < text.size()) {
    out.push_back({offset + done, offset + text.size(), data.tag_name(model.tag[path[done]])});
  }
}

// The states B M E S of unknown words, in the order of operations of jieba's C code: sums of huge negative numbers
// absorb small ones, so order decides.
void cut_unknown(const ZhData& data, std::u32string_view text, std::vector<std::size_t>& lengths) {
  const ZhData::Cutting& model = data.cutting();
  enum : std::size_t { kB, kM, kE, kS };
  static constexpr std::array<std::array<std::size_t, 2>, 4> kFrom = {{{kE, kS}, {kM, kB}, {kB, kM}, {kS, kE}}};
  static constexpr std::array<std::size_t, 4> kFallback = {kS, kM, kM, kS};
  std::vector<std::array<std::uint8_t, 4>> from(text.size());
  std::array<double, 4> score{};
  for (std::size_t y = 0; y < 4; ++y) score[y] = data.cut_emissions(text[0])[y] + model.start[y];
  for (std::size_t t = 1; t < text.size(); ++t) {
    const std::array<double, 4>& emission = data.cut_emissions(text[t]);
    std::array<double, 4> next{};
    for (std::size_t y = 0; y < 4; ++y) {
      double best = ZhData::kMinFloat;
      std::size_t best_from = kFallback[y];
      for (const std::size_t y0 : kFrom[y]) {
        const double value = emission[y] + score[y0] + model.next[y0][y];
        if (value > best) {
          best = value;
          best_from = y0;
        }
      }
      next[y] = best;
      from[t][y] = static_cast<std::uint8_t>(best_from);
    }
    score = next;
  }
  std::size_t state = score[kS] > score[kE] ? kS : kE;
  std::vector<std::size_t> path(text.size());
  for (std::size_t t = text.size(); t-- > 0;) {
    path[t] = state;
    state = from[t][state];
  }
  std::size_t begin = 0;
  std::size_t done = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (path[i] == kB) {
      begin = i;
    } else if (path[i] == kE) {
      lengths.push_back(i + 1 - begin);
      done = i + 1;
    } else if (path[i] == kS) {
      lengths.push_back(1);
      done = i + 1;
    }
  }
  if (done < text.size()) lengths.push_back(text.size() - done);
}

// Runs of one kind; calls use(begin, end, han).
template <class Use>
void each_run(std::u32string_view text, Use use) {
  for (std::size_t i = 0; i < text.size();) {
    const bool han = ZhData::is_han(text[i]);
    std::size_t end = i + 1;
    while (end < text.size() && ZhData::is_han(text[end]) == han) ++end;
    use(i, end, han);
    i = end;
  }
}

// The words of a block, told by the best route; runs of single characters go to unknown(begin, end).
template <class Word, class Unknown>
void walk_block(const ZhData& data, std::u32string_view block, bool longer, Word word, Unknown unknown) {
  const std::vector<std::size_t> route = best_route(data, block, longer);
  std::size_t run = 0;  // begin of the run of single characters that ends at i
  const auto close = [&](std::size_t end) {
    if (end == run) return;
    const ZhData::Node node = data.find(block.substr(run, end - run));
    if (end - run == 1 || (node != 0 && data.is_word(node))) {
      for (; run < end; ++run) word(run, run + 1);
    } else {
      unknown(run, end);
    }
  };
  for (std::size_t i = 0; i < block.size(); i = route[i]) {
    if (route[i] - i == 1) continue;
    close(i);
    word(i, route[i]);
    run = route[i];
  }
  close(block.size());
}

/// Goes through a text: `single` gets the index of a character outside of all blocks, `block` where a block begins and
/// ends.
template <class Single, class Block>
void each_block(std::u32string_view text, Single single, Block block) {
  for (std::size_t i = 0; i < text.size();) {
    if (!in_block(text[i])) {
      single(i++);
      continue;
    }
    std::size_t end = i + 1;
    while (end < text.size() && in_block(text[end])) ++end;
    block(i, end);
    i = end;
  }
}

}  // namespace

std::vector<ZhWord> tag_words(const ZhData& data, std::u32string_view text) {
  std::vector<ZhWord> words;
  const auto single = [&](std::size_t i) { words.push_back({i, i + 1, kUnknown}); };
  each_block(text, single, [&](std::size_t i, std::size_t end) {
    const std::u32string_view block = text.substr(i, end - i);
    walk_block(
        data, block, true,
        [&](std::size_t from, std::size_t to) {
          words.push_back({i + from, i + to, data.tag(data.find(block.substr(from, to - from)))});
        },
        [&](std::size_t from, std::size_t to) {
          each_run(block.substr(from, to - from), [&](std::size_t begin, std::size_t stop, bool han) {
            if (han) {
              tag_unknown(data, block.substr(from + begin, stop - begin), i + from + begin, words);
            } else {
              words.push_back({i + from + begin, i + from + stop, "m"});
            }
          });
        });
  });
  return words;
}

ZhSplit split_word(const ZhData& data, std::u32string_view text) {
  // The shortest subword in the order in which they are found; of equal lengths the first.
  std::size_t length = std::numeric_limits<std::size_t>::max();
  std::size_t at = 0;
  const auto found = [&](std::size_t begin, std::size_t end) {
    if (end - begin < length) {
      length = end - begin;
      at = begin;
    }
  };
  const auto is_word = [&](std::u32string_view part) {
    const ZhData::Node node = data.find(part);
    return node != 0 && data.is_word(node);
  };
  const auto search = [&](std::size_t begin, std::size_t end) {
    for (const std::size_t gram : {2, 3}) {
      if (end - begin <= gram) continue;
      for (std::size_t i = begin; i + gram <= end; ++i) {
        if (is_word(text.substr(i, gram))) found(i, i + gram);
      }
    }
    found(begin, end);
  };
  const auto single = [&](std::size_t i) { found(i, i + 1); };
  each_block(text, single, [&](std::size_t i, std::size_t end) {
    const std::u32string_view block = text.substr(i, end - i);
    walk_block(
        data, block, false, [&](std::size_t from, std::size_t to) { search(i + from, i + to); },
        [&](std::size_t from, std::size_t to) {
          each_run(block.substr(from, to - from), [&](std::size_t begin, std::size_t stop, bool han) {
            if (!han) {
              search(i + from + begin, i + from + stop);
              return;
            }
            std::vector<std::size_t> lengths;
            cut_unknown(data, block.substr(from + begin, stop - begin), lengths);
            std::size_t word = i + from + begin;
            for (const std::size_t n : lengths) {
              search(word, word + n);
              word += n;
            }
          });
        });
  });
  if (text.empty()) return {};
  const std::u32string_view subword = text.substr(at, length);
  if (text.starts_with(subword)) return {subword, text.substr(length), text.substr(length)};
  const std::size_t rest = text.size() - length;
  return {text.substr(0, rest), text.substr(rest), subword};
}

}  // namespace tts
