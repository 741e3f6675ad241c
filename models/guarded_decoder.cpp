#include "models/guarded_decoder.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <utility>

#include "src/text/phonemes.h"

namespace tts {
namespace {

constexpr std::size_t kBefore = 6;       ///< tokens before a fault's onset that are drawn again, too
constexpr std::size_t kNearStart = 12;   ///< faults before this token make the whole be drawn again
constexpr int kMaxRetries = 4;           ///< in one segment, and one at the same place
constexpr std::size_t kMinProgress = 8;  ///< phonemes between two resumes

bool is_pause(std::int32_t phoneme) {
  return is_punctuation(phoneme) || phoneme_symbol(phoneme).starts_with("SP");
}

/// Of EOS, when it is the most likely; otherwise 0, which is near enough for all uses.
float eos_probability(std::span<const float> logits) {
  const float eos = logits.back();
  if (*std::max_element(logits.begin(), logits.end()) > eos) return 0;
  float total = 0;
  for (const float logit : logits) total += std::exp(logit - eos);
  return 1 / total;
}

}  // namespace

GuardedDecoder::GuardedDecoder(const T2SConfig& config, Text text, Options options)
    : eos_(config.eos()), bert_dim_(config.bert_dim), text_(std::move(text)), options_(std::move(options)) {
  drawn_.reserve(static_cast<std::size_t>(options_.max_tokens));
  begin(0);
}

std::int64_t GuardedDecoder::capacity() const {
  return static_cast<std::int64_t>(text_.prompt_phonemes.size() + text_.phonemes.size() + text_.prompt_tokens.size()) +
         options_.max_tokens;
}

/// Makes the text from this phoneme on the one being spoken.
void GuardedDecoder::begin(std::size_t from_phoneme) {
  from_ = from_phoneme;
  base_ = drawn_.size();
  tries_ = 0;
  first_try_.reset();
  const auto rest = std::span(text_.phonemes).subspan(from_);
  given_phonemes_ = text_.prompt_phonemes;
  given_phonemes_.insert(given_phonemes_.end(), rest.begin(), rest.end());
  given_bert_.clear();
  if (!text_.bert.empty()) {
    const auto dim = static_cast<std::ptrdiff_t>(bert_dim_);
    const auto n_prompt = static_cast<std::ptrdiff_t>(text_.prompt_phonemes.size());
    given_bert_.assign(text_.bert.begin(), text_.bert.begin() + n_prompt * dim);
    given_bert_.insert(given_bert_.end(), text_.bert.begin() + (n_prompt + static_cast<std::ptrdiff_t>(from_)) * dim,
                       text_.bert.end());
  }
  history_ = text_.prompt_tokens;
  needs_prefill_ = true;
  if (options_.guard) {
    guard_.emplace(GuardText{{rest.begin(), rest.end()}, text_.prompt_phonemes, text_.prompt_tokens}, options_.limits);
  }
}

void GuardedDecoder::feed(const TokenModel& model, TokenState& state, std::span<GuardedDecoder* const> decoders,
                          std::span<const std::int64_t> rows) {
  std::vector<std::int64_t> stepped;
  std::vector<std::int32_t> newest;
  for (std::size_t i = 0; i < decoders.size(); ++i) {
    GuardedDecoder& decoder = *decoders[i];
    if (decoder.finished_ || decoder.fed_) continue;
    decoder.fed_ = true;
    if (decoder.needs_prefill_) {
      model.start_row(decoder.given_phonemes_, decoder.given_bert_, decoder.history_, state, rows[i]);
      decoder.needs_prefill_ = false;
    } else {
      stepped.push_back(rows[i]);
      newest.push_back(decoder.history_.back());
    }
  }
  if (!stepped.empty()) model.step_rows(stepped, newest, state);
}

void GuardedDecoder::draw(const TokenState& state, std::int64_t row) {
  draw(state.logits(row), options_.watched && options_.guard ? state.attention(0, row) : std::span<const float>());
}

void GuardedDecoder::draw(std::span<const float> logits, std::span<const float> attention) {
  if (finished_) return;
  if (!std::all_of(logits.begin(), logits.end(), [](float x) { return std::isfinite(x); })) {
    throw std::runtime_error("the T2S gave a value that is not finite");
  }
  needs_prefill_ = false;
  fed_ = false;
  draw_one(logits, attention);
  give_out();
}

void GuardedDecoder::draw_one(std::span<const float> logits, std::span<const float> attention) {
  if (static_cast<std::int64_t>(drawn_.size()) >= options_.max_tokens) {
    finished_ = true;
    if (guard_) cure(guard_->limit_reached());
    return;
  }
  ++draws_;
  const auto step = static_cast<std::int64_t>(drawn_.size() - base_);
  SamplingParams params = options_.sampling;
  if (guard_ && !guard_->may_end()) params.min_tokens = std::max(params.min_tokens, step + 1);
  logits_.assign(logits.begin(), logits.end());
  const SeededNoise noise(options_.seed + draws_again_ * 0xD1B54A32D192ED03ULL);
  const Draw draw = sampler_.draw(logits_, history_, params, noise, step);
  if (draw.ends(eos_)) {
    finished_ = true;
    return;
  }
  drawn_.push_back(draw.token);
  history_.push_back(draw.token);
  if (!guard_) return;
  const Fault fault = guard_->see(
      {draw.token, eos_probability(logits), attention.empty() ? attention : attention.first(given_phonemes_.size())});
  if (fault) cure(fault);
}

void GuardedDecoder::give_out() {
  const std::size_t n = drawn_.size();
  if (finished_ || !guard_) {
    given_out_ = n;
    return;
  }
  if (n < options_.first_block) return;
  const std::size_t behind = std::min(options_.held_back, (n - options_.first_block) / 3);
  given_out_ = std::max(given_out_, std::min(n - behind, base_ + guard_->certain()));
}

void GuardedDecoder::cure(const Fault& fault) {
  ++report_.faults;
  if (report_.first == Verdict::ok) report_.first = fault.verdict;
  const std::size_t onset = std::min(base_ + fault.onset, drawn_.size());
  const std::size_t floor = std::max(given_out_, base_);
  if (fault.complete) {
    cut(std::max(floor, onset));
    return;
  }
  const bool again = tries_ > 0 && onset < last_onset_ + 2 * kNearStart;
  const bool retry = !again && report_.retries < kMaxRetries && fault.verdict != Verdict::lost;
  if (retry) {
    last_onset_ = onset;
    std::size_t keep = std::max(floor, onset > base_ + kBefore ? onset - kBefore : base_);
    const bool whole = fault.verdict == Verdict::leak || fault.verdict == Verdict::babble ||
                       onset < base_ + kNearStart || !options_.can_rewind;
    if (whole && given_out_ <= base_) keep = base_;
    const bool possible = keep == base_ || options_.can_rewind;
    // The last tokens before the limit, drawn again, come to the limit again.
    const bool useful =
        (fault.verdict != Verdict::skip || keep <= onset) && (fault.verdict != Verdict::babble || keep == base_);
    if (possible && useful && keep < drawn_.size()) {
      if (keep == base_ && !first_try_) {
        const auto from = drawn_.begin() + static_cast<std::ptrdiff_t>(base_);
        first_try_ = Try{{from, drawn_.begin() + static_cast<std::ptrdiff_t>(onset)}, guard_->score(onset - base_)};
      }
      redraw(keep);
      return;
    }
  }
  if (fault.verdict == Verdict::skip) return;
  if (fault.verdict == Verdict::early_end) {
    guard_->believe_ends();
    return;
  }
  const auto word = next_word(guard_->place(std::max(floor, onset) - base_));
  if (fault.verdict != Verdict::babble && word && *word >= from_ + kMinProgress) {
    ++report_.resumes;
    drawn_.resize(std::max(floor, onset));
    finished_ = false;
    begin(*word);
    return;
  }
  if (given_out_ <= base_ && first_try_ && first_try_->score > guard_->score(onset - base_)) {
    drawn_.resize(base_);
    drawn_.insert(drawn_.end(), first_try_->tokens.begin(), first_try_->tokens.end());
    cut(drawn_.size());
    return;
  }
  cut(std::max(floor, onset));
}

/// Drops all but the first `keep` tokens and goes on with another seed.
void GuardedDecoder::redraw(std::size_t keep) {
  ++report_.retries;
  ++draws_again_;
  ++tries_;
  drawn_.resize(keep);
  history_.resize(text_.prompt_tokens.size() + keep - base_);
  guard_->rewind(keep - base_);
  needs_prefill_ = true;
  finished_ = false;
}

void GuardedDecoder::cut(std::size_t keep) {
  ++report_.cuts;
  drawn_.resize(std::min(keep, drawn_.size()));
  finished_ = true;
}

/// First phoneme of the word after the one spoken at `place` of the current text, if there is one.
std::optional<std::size_t> GuardedDecoder::next_word(std::size_t place) const {
  if (place == 0) return std::nullopt;
  const auto& all = text_.phonemes;
  std::size_t i = from_ + place;
  while (i < all.size() && !is_pause(all[i])) ++i;
  while (i < all.size() && is_pause(all[i])) ++i;
  return i < all.size() ? std::optional(i) : std::nullopt;
}

std::vector<std::int32_t> say(const TokenModel& model, std::span<const std::int32_t> phonemes,
                              const SamplingParams& sampling, std::size_t longest) {
  const auto n_text = static_cast<std::int64_t>(phonemes.size());
  const std::unique_ptr<TokenState> state = model.make_token_state(1, n_text + static_cast<std::int64_t>(longest) + 1);
  const std::int64_t only = 0;
  model.start_row(phonemes, {}, {}, *state, only);
  Sampler sampler;
  const SeededNoise noise(1);
  std::vector<std::int32_t> said;
  std::vector<float> logits;
  while (said.size() < longest) {
    logits.assign(state->logits().begin(), state->logits().end());
    const Draw draw = sampler.draw(logits, said, sampling, noise, static_cast<std::int64_t>(said.size()));
    if (draw.ends(model.config().eos())) break;
    said.push_back(draw.token);
    model.step_rows({&only, 1}, {&draw.token, 1}, *state);
  }
  return said;
}

std::optional<TokenState::Probe> find_alignment_head(const TokenModel& model, std::span<const std::int32_t> phonemes,
                                                     std::span<const float> bert,
                                                     std::span<const std::int32_t> tokens) {
  constexpr std::int64_t kLongest = 100;  // tokens, enough to tell
  constexpr float kMass = 0.8F;           // of the attention that must lie on the text
  constexpr float kSharp = 0.4F;          // mean of the largest weight
  constexpr double kForward = 0.85;       // steps that go on by 0 to 3 phonemes
  constexpr double kCovered = 0.6;        // of the text that is passed, for the share of its tokens that were used
  const auto n_text = static_cast<std::int64_t>(phonemes.size());
  const std::int64_t n = std::min(kLongest, static_cast<std::int64_t>(tokens.size()) - 1);
  if (n_text < 12 || n < n_text) return std::nullopt;
  std::vector<TokenState::Probe> heads;
  for (std::int64_t layer = 0; layer < model.config().layers; ++layer) {
    for (std::int64_t head = 0; head < model.config().heads; ++head) heads.push_back({layer, head});
  }
  struct Path {
    double mass = 0, weight = 0;
    std::int64_t forward = 0, last = 0, far = 0;
  };
  std::vector<Path> paths(heads.size());
  const std::unique_ptr<TokenState> made = model.make_token_state(1, n_text + kLongest + 1);
  TokenState& state = *made;
  state.set_attention_probes(heads);
  const std::int64_t only = 0;
  model.start_row(phonemes, bert, {}, state, only);
  for (std::int64_t t = 0; t < n; ++t) {
    const std::int32_t token = tokens[static_cast<std::size_t>(t)];
    model.step_rows({&only, 1}, {&token, 1}, state);
    for (std::size_t i = 0; i < heads.size(); ++i) {
      const std::span<const float> row = state.attention(i).first(phonemes.size());
      const auto peak = std::max_element(row.begin(), row.end());
      const auto column = static_cast<std::int64_t>(peak - row.begin());
      Path& path = paths[i];
      for (const float weight : row) path.mass += weight;
      path.weight += *peak;
      const std::int64_t moved = column - path.last;
      path.forward += moved >= 0 && moved <= 3 ? 1 : 0;
      path.last = column;
      path.far = std::max(path.far, column);
    }
  }
  const double part = static_cast<double>(n) / static_cast<double>(tokens.size());
  std::optional<TokenState::Probe> best;
  double best_weight = 0;
  for (std::size_t i = 0; i < heads.size(); ++i) {
    const Path& path = paths[i];
    const auto steps = static_cast<double>(n);
    if (path.mass < kMass * steps || path.weight < kSharp * steps ||
        static_cast<double>(path.forward) < kForward * steps ||
        static_cast<double>(path.far) < kCovered * part * static_cast<double>(n_text)) {
      continue;
    }
    const double quality = path.weight / steps + static_cast<double>(path.forward) / steps;
    if (!best || quality > best_weight) {
      best = heads[i];
      best_weight = quality;
    }
  }
  return best;
}

}  // namespace tts
