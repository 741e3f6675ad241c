#include "models/decode_guard.h"

#include <algorithm>
#include <array>
#include <utility>

#include "src/text/phonemes.h"

namespace tts {
namespace {

constexpr std::size_t kShortestCycleWindow = 16;
constexpr float kCycleShare = 0.85F;  ///< of a window that must repeat what was a period before
constexpr int kMatch = 2;
constexpr int kMiss = -1;

bool is_sound(std::int32_t phoneme) {
  const std::string_view symbol = phoneme_symbol(phoneme);
  return !is_punctuation(phoneme) && symbol != "_" && symbol != "UNK" && !symbol.starts_with("SP");
}

std::vector<std::int32_t> without_repeats(std::span<const std::int32_t> tokens) {
  std::vector<std::int32_t> result;
  for (const std::int32_t token : tokens) {
    if (result.empty() || result.back() != token) result.push_back(token);
  }
  return result;
}

/// The most often any stretch of up to 24 phonemes is said in a row.
std::size_t repeats_of(std::span<const std::int32_t> phonemes) {
  std::size_t most = 1;
  for (std::size_t period = 2; period <= std::min<std::size_t>(24, phonemes.size() / 2); ++period) {
    std::size_t run = 0;
    for (std::size_t i = period; i < phonemes.size(); ++i) {
      run = phonemes[i] == phonemes[i - period] ? run + 1 : 0;
      most = std::max(most, 1 + run / period);
    }
  }
  return most;
}

}  // namespace

std::string_view to_string(Verdict verdict) noexcept {
  static constexpr std::array<std::string_view, 8> kNames{"ok",   "loop",      "stall", "skip",
                                                          "lost", "early_end", "leak",  "babble"};
  return kNames[static_cast<std::size_t>(verdict)];
}

int local_alignment(std::span<const std::int32_t> a, std::span<const std::int32_t> b) {
  std::vector<int> row(b.size() + 1, 0);
  int best = 0;
  for (const std::int32_t x : a) {
    int diagonal = 0;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const int pair = diagonal + (x == b[j - 1] ? kMatch : kMiss);
      diagonal = row[j];
      row[j] = std::max({0, pair, row[j] + kMiss, row[j - 1] + kMiss});
      best = std::max(best, row[j]);
    }
  }
  return best;
}

DecodeGuard::DecodeGuard(GuardText text, const GuardLimits& limits)
    : text_(std::move(text)),
      limits_(limits),
      own_repeats_(repeats_of(text_.phonemes)),
      prompt_(without_repeats(text_.prompt_tokens)) {
  sounds_before_.push_back(0);
  for (std::size_t i = 0; i < text_.phonemes.size(); ++i) {
    const bool sound = is_sound(text_.phonemes[i]);
    if (sound) last_sound_ = i;
    sounds_before_.push_back(sounds_before_.back() + (sound ? 1 : 0));
  }
}

std::size_t DecodeGuard::sounds_between(std::int32_t from, std::int32_t to) const {
  const auto clamp = [&](std::int32_t i) {
    return static_cast<std::size_t>(std::clamp<std::int32_t>(i, 0, static_cast<std::int32_t>(text_.phonemes.size())));
  };
  return to > from ? sounds_before_[clamp(to)] - sounds_before_[clamp(from)] : 0;
}

bool DecodeGuard::may_end() const {
  if (believe_ends_) return true;
  if (follows_) return at_end();
  return static_cast<float>(seen_.size()) >= limits_.min_tokens_per_sound * static_cast<float>(sounds_before_.back());
}

bool DecodeGuard::at_end() const {
  if (!follows_ || seen_.empty()) return false;
  // The last sound may be swallowed: the one before it is near enough.
  return sounds_between(seen_.back().place + 1, static_cast<std::int32_t>(text_.phonemes.size())) <= 1;
}

Fault DecodeGuard::see(const GuardStep& step) {
  Seen now;
  if (!seen_.empty()) now = seen_.back();
  now.token = step.token;
  const bool could_end = may_end();
  now.eager = !could_end && step.eos_probability > 0.5F ? now.eager + 1 : 0;
  Fault fault;
  follows_ = !step.attention.empty();
  if (follows_) fault = follow(step, now);
  seen_.push_back(now);
  if (!fault) fault = judge_tokens();
  if (!fault && now.eager >= limits_.eager) fault = {Verdict::early_end, seen_.size() - now.eager};
  if (!fault) return {};
  // What is reported once is known; what comes of going on is judged by itself.
  if (fault.onset < reported_) return {};
  reported_ = seen_.size();
  return fault;
}

/// Where attention points now, and whether it got there in a way speech does.
Fault DecodeGuard::follow(const GuardStep& step, Seen& now) {
  const std::size_t n = seen_.size();
  const auto peak = std::max_element(step.attention.begin(), step.attention.end());
  now.weight = *peak;
  now.column = static_cast<std::int32_t>(peak - step.attention.begin()) -
               static_cast<std::int32_t>(text_.prompt_phonemes.size());
  const std::int32_t before = now.place;
  const bool far_ahead = sounds_between(before + 1, now.column) >= limits_.skipped_sounds;
  const bool far_back = now.column < 0 || sounds_between(now.column, before) >= limits_.repeated_sounds;
  now.strays = far_ahead || far_back ? now.strays + 1 : 0;
  Fault fault;
  if (now.strays == 0) {
    now.place = std::max(now.place, now.column);
  } else if (now.strays >= limits_.settle) {
    std::int32_t low = now.column;
    std::int32_t high = now.column;
    for (std::size_t i = n + 1 - limits_.settle; i < n; ++i) {
      low = std::min(low, seen_[i].column);
      high = std::max(high, seen_[i].column);
    }
    if (high - low <= static_cast<std::int32_t>(limits_.settle) + 1) {
      const std::size_t onset = n + 1 - now.strays;
      if (low > before) {
        now.skipped += static_cast<std::uint32_t>(sounds_between(before + 1, low));
        fault = {Verdict::skip, onset};
      } else {
        fault = {high < 0 ? Verdict::leak : Verdict::loop, onset};
        fault.complete = high >= 0 && at_end();
      }
      now.place = std::max(high, 0);
      now.strays = 0;
    }
  }
  now.stay = now.place == before ? now.stay + 1 : 1;
  if (fault) return fault;
  if (now.stay >= limits_.stay) {
    const bool complete = at_end();
    now.stay = 0;
    // After the text, a little silence belongs to it.
    return {Verdict::stall, n + 1 - limits_.stay + (complete ? limits_.stay / 3 : limits_.stay / 2), complete};
  }
  if (n + 1 >= limits_.lost_window) {
    float sum = now.weight;
    for (std::size_t i = n + 1 - limits_.lost_window; i < n; ++i) sum += seen_[i].weight;
    if (sum < limits_.lost_weight * static_cast<float>(limits_.lost_window)) {
      return {Verdict::lost, n + 1 - limits_.lost_window, at_end()};
    }
  }
  return {};
}

Fault DecodeGuard::judge_tokens() const {
  const std::size_t n = seen_.size();
  for (std::size_t period = 2; period <= limits_.longest_cycle; ++period) {
    // Said once and twice more; words the text itself repeats may come as often as it does.
    const std::size_t window = std::max(kShortestCycleWindow, period * (own_repeats_ + 1));
    if (n < window + period) break;
    if (const auto onset = cycle(period, window)) return {Verdict::loop, *onset, at_end()};
  }
  if (n >= limits_.still) {
    std::int32_t first = seen_[n - 1].token;
    std::int32_t second = first;
    bool still = true;
    for (std::size_t i = n - limits_.still; i < n && still; ++i) {
      const std::int32_t token = seen_[i].token;
      if (token == first || token == second) continue;
      still = first == second;
      second = token;
    }
    if (still) return {Verdict::stall, n - limits_.still / 2, at_end()};
  }
  if (!prompt_.empty() && n <= limits_.leak_within && n >= 8 && copies_prompt()) return {Verdict::leak, 0};
  return {};
}

/// The first token that came back, when the last `window` tokens repeat what was `period` before them.
std::optional<std::size_t> DecodeGuard::cycle(std::size_t period, std::size_t window) const {
  const std::size_t n = seen_.size();
  if (seen_[n - 1].token != seen_[n - 1 - period].token) return std::nullopt;
  std::size_t misses = 0;
  std::size_t onset = n;
  const auto allowed = static_cast<std::size_t>((1 - kCycleShare) * static_cast<float>(window));
  for (std::size_t i = n - window; i < n; ++i) {
    if (seen_[i].token == seen_[i - period].token) {
      onset = std::min(onset, i);
    } else if (++misses > allowed) {
      return std::nullopt;
    }
  }
  // Silence and long vowels are one or two tokens over and over; they are a matter of length.
  std::array<std::int32_t, 3> distinct{};
  std::size_t count = 0;
  for (std::size_t i = n - period; i < n && count < 3; ++i) {
    if (std::find(distinct.begin(), distinct.begin() + static_cast<std::ptrdiff_t>(count), seen_[i].token) ==
        distinct.begin() + static_cast<std::ptrdiff_t>(count)) {
      distinct[count++] = seen_[i].token;
    }
  }
  return count >= 3 ? std::optional(onset) : std::nullopt;
}

bool DecodeGuard::copies_prompt() const {
  std::vector<std::int32_t> tokens;
  for (const Seen& seen : seen_) {
    if (tokens.empty() || tokens.back() != seen.token) tokens.push_back(seen.token);
  }
  if (local_alignment(tokens, prompt_) < limits_.leak_score) return false;
  // The same words in text and reference sound the same; a text that shares a stretch with it is not judged.
  constexpr std::size_t kShared = 6;
  const auto& phonemes = text_.phonemes;
  if (phonemes.size() < kShared) return true;
  for (std::size_t i = 0; i + kShared <= phonemes.size(); ++i) {
    const auto from = phonemes.begin() + static_cast<std::ptrdiff_t>(i);
    if (std::search(text_.prompt_phonemes.begin(), text_.prompt_phonemes.end(), from,
                    from + static_cast<std::ptrdiff_t>(kShared)) != text_.prompt_phonemes.end()) {
      return false;
    }
  }
  return true;
}

Fault DecodeGuard::limit_reached() const {
  return {Verdict::babble, seen_.size(), at_end()};
}

void DecodeGuard::rewind(std::size_t n) {
  seen_.resize(std::min(n, seen_.size()));
  reported_ = std::min(reported_, seen_.size());
}

std::size_t DecodeGuard::certain() const {
  return seen_.empty() ? 0 : seen_.size() - std::min<std::size_t>(seen_.back().strays, limits_.settle);
}

std::size_t DecodeGuard::place(std::size_t n) const {
  return n == 0 || seen_.empty() ? 0 : static_cast<std::size_t>(seen_[std::min(n, seen_.size()) - 1].place);
}

double DecodeGuard::score(std::size_t n) const {
  if (seen_.empty()) return 0;
  n = std::clamp<std::size_t>(n, 1, seen_.size());
  const auto sounds = static_cast<double>(std::max<std::size_t>(1, sounds_before_.back()));
  double read = 0;
  if (follows_) {
    const Seen& last = seen_[n - 1];
    const std::size_t passed = sounds_between(0, last.place + 1);
    read = static_cast<double>(passed - std::min<std::size_t>(passed, last.skipped)) / sounds;
  } else {
    read = std::min(1.0, static_cast<double>(n) / (1.5 * sounds));
  }
  return read - static_cast<double>(seen_.size() - n) / static_cast<double>(seen_.size());
}

}  // namespace tts
