#include "models/t2s_guard.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <memory>
#include <numeric>
#include <span>
#include <string_view>

#include "models/sampling.h"
#include "models/token_model.h"
#include "src/text/phonemes.h"

namespace tts {
namespace {

// "The weather is clear today.", "Who would have thought so?", "Numbers matter: seven, nine."
constexpr std::array<std::string_view, 3> kTexts = {
    "DH AH0 W EH1 DH ER0 IH1 Z K L IH1 R T AH0 D EY1 .",
    "HH UW1 W UH1 D HH AE1 V TH AO1 T S OW1 ?",
    "N AH1 M B ER0 Z M AE1 T ER0 , S EH1 V AH0 N , N AY1 N .",
};

std::vector<std::int32_t> phonemes_of(std::string_view text, std::int64_t vocab) {
  std::vector<std::int32_t> ids;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find(' '), text.size());
    ids.push_back(static_cast<std::int32_t>(phoneme_id(text.substr(0, end)).value_or(0) % vocab));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return ids;
}

struct Stats {
  double mean = 0;
  double deviation = 0;
};

Stats stats_of(std::span<const float> row) {
  Stats s;
  for (const float v : row) s.mean += v;
  s.mean /= static_cast<double>(row.size());
  for (const float v : row) s.deviation += (v - s.mean) * (v - s.mean);
  s.deviation = std::sqrt(s.deviation / static_cast<double>(row.size()));
  return s;
}

std::vector<double> log_softmax(std::span<const float> row) {
  const double top = *std::max_element(row.begin(), row.end());
  double total = 0;
  for (const float v : row) total += std::exp(v - top);
  std::vector<double> out(row.size());
  for (std::size_t i = 0; i < row.size(); ++i) out[i] = row[i] - top - std::log(total);
  return out;
}

std::vector<std::size_t> best(std::span<const float> row, std::size_t n) {
  std::vector<std::size_t> order(row.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  n = std::min(n, order.size());
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(n), order.end(),
                    [&](std::size_t a, std::size_t b) { return row[a] != row[b] ? row[a] > row[b] : a < b; });
  order.resize(n);
  return order;
}

}  // namespace

T2SAnswers answer_guard(const TokenModel& model, const T2SAnswers* follow) {
  constexpr std::size_t kInputs = kTexts.size();
  const auto tokens_of = [](std::vector<std::int32_t>& all, std::size_t input) {
    return std::span(all).subspan(input * kGuardTokens, kGuardTokens);
  };
  T2SAnswers answers;
  answers.vocab = model.config().vocab;
  const std::unique_ptr<TokenState> made = model.make_token_state(kInputs, 40 + kGuardTokens);
  TokenState& state = *made;
  std::vector<std::vector<std::int32_t>> texts;
  for (const std::string_view text : kTexts) texts.push_back(phonemes_of(text, model.config().phoneme_vocab));
  const std::vector<std::int64_t> rows = {0, 1, 2};
  std::vector<std::int32_t> newest(kInputs);
  if (follow != nullptr) {
    answers.tokens = follow->tokens;
  } else {
    answers.tokens.resize(kInputs * kGuardTokens);
    SamplingParams params;
    params.min_tokens = kGuardTokens;
    Sampler sampler;
    std::vector<float> logits;
    for (std::size_t i = 0; i < kInputs; ++i) model.start_row(texts[i], {}, {}, state, rows[i]);
    for (std::int64_t t = 0; t < kGuardTokens; ++t) {
      for (std::size_t i = 0; i < kInputs; ++i) {
        const auto tokens = tokens_of(answers.tokens, i);
        const auto raw = state.logits(rows[i]);
        logits.assign(raw.begin(), raw.end());
        const bool sound = std::all_of(raw.begin(), raw.end(), [](float v) { return std::isfinite(v); });
        const auto history = tokens.first(static_cast<std::size_t>(t));
        newest[i] = sound ? sampler.draw(logits, history, params, SeededNoise(i), t).token : 0;
        tokens[static_cast<std::size_t>(t)] = newest[i];
      }
      if (t + 1 < kGuardTokens) model.step_rows(rows, newest, state);
    }
  }
  const auto keep = [&] {
    for (const std::int64_t row : rows) {
      const auto logits = state.logits(row);
      answers.logits.insert(answers.logits.end(), logits.begin(), logits.end());
    }
  };
  for (std::size_t i = 0; i < kInputs; ++i) {
    model.start_row(texts[i], {}, tokens_of(answers.tokens, i).first(kGuardPrompt), state, rows[i]);
  }
  keep();
  for (std::int64_t t = kGuardPrompt; t + 1 < kGuardTokens; ++t) {
    for (std::size_t i = 0; i < kInputs; ++i) newest[i] = tokens_of(answers.tokens, i)[static_cast<std::size_t>(t)];
    model.step_rows(rows, newest, state);
    keep();
  }
  return answers;
}

T2SDrift measure_drift(const T2SAnswers& full, const T2SAnswers& low) {
  T2SDrift drift;
  const auto vocab = static_cast<std::size_t>(full.vocab);
  const std::size_t n = full.logits.size() / vocab;
  double same = 0;
  double shared = 0;
  for (std::size_t r = 0; r < n; ++r) {
    const auto a = std::span(full.logits).subspan(r * vocab, vocab);
    const auto b = std::span(low.logits).subspan(r * vocab, vocab);
    const auto finite = [](float v) { return std::isfinite(v); };
    if (!std::all_of(a.begin(), a.end(), finite) || !std::all_of(b.begin(), b.end(), finite)) {
      return {-1, HUGE_VAL, HUGE_VAL, 0, 0};
    }
    const Stats sa = stats_of(a);
    const Stats sb = stats_of(b);
    double product = 0;
    double largest = 0;
    for (std::size_t i = 0; i < vocab; ++i) {
      const double x = a[i] - sa.mean;
      const double y = b[i] - sb.mean;
      product += x * y;
      largest = std::max(largest, std::abs(x - y));
    }
    const double scale = sa.deviation * sb.deviation * static_cast<double>(vocab);
    drift.cosine = std::min(drift.cosine, scale > 0 ? product / scale : 1.0);
    drift.largest = std::max(drift.largest, largest / std::max(sa.deviation, 1e-9));
    const std::vector<double> pa = log_softmax(a);
    const std::vector<double> pb = log_softmax(b);
    for (std::size_t i = 0; i < vocab; ++i) drift.divergence += std::exp(pa[i]) * (pa[i] - pb[i]);
    const auto first = best(a, 5);
    const auto second = best(b, 5);
    const double near = std::log(0.75);
    same += pa[second.front()] >= pa[first.front()] + near ? 1 : 0;
    for (const std::size_t token : second) {
      shared += pa[token] >= pa[first.back()] + near ? 1.0 / static_cast<double>(second.size()) : 0;
    }
  }
  drift.divergence /= static_cast<double>(n);
  drift.top1 = same / static_cast<double>(n);
  drift.top5 = shared / static_cast<double>(n);
  return drift;
}

std::string guard_fault(const T2SDrift& drift, bool closely) {
  constexpr double kCosine = 0.995;
  constexpr double kLargest = 0.5;
  const double divergence = closely ? 0.0002 : 0.02;
  constexpr double kTop1 = 0.9;
  constexpr double kTop5 = 0.9;
  const auto past = [](const char* what, double got, const char* bound, double limit) {
    std::array<char, 96> text{};
    std::snprintf(text.data(), text.size(), "%s is %.4g, %s %.4g allowed;", what, got, bound, limit);
    return std::string(text.data());
  };
  if (drift.cosine < kCosine) return past("cosine", drift.cosine, "at least", kCosine);
  if (drift.largest > kLargest) return past("largest difference", drift.largest, "at most", kLargest);
  if (drift.divergence > divergence) return past("divergence", drift.divergence, "at most", divergence);
  if (drift.top1 < kTop1) return past("agreement on the best token", drift.top1, "at least", kTop1);
  if (drift.top5 < kTop5) return past("agreement on the five best", drift.top5, "at least", kTop5);
  return {};
}

std::string to_string(const T2SDrift& drift) {
  std::array<char, 160> text{};
  std::snprintf(text.data(), text.size(), "cosine=%.5f largest=%.4f divergence=%.5f top1=%.3f top5=%.3f", drift.cosine,
                drift.largest, drift.divergence, drift.top1, drift.top5);
  return text.data();
}

}  // namespace tts
