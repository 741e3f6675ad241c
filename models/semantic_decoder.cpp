#include "models/semantic_decoder.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace tts {

SemanticDecoder::SemanticDecoder(const T2S& model, std::int64_t capacity)
    : model_(model), state_(model.make_state(1, capacity)) {}

void SemanticDecoder::start(std::span<const std::int32_t> phonemes, std::span<const float> bert,
                            std::span<const std::int32_t> prompt, const Options& options, const NoiseSource& noise) {
  options_ = options;
  if (options_.max_tokens <= 0) options_.max_tokens = model_.config().max_tokens;
  noise_ = &noise;
  reason_ = FinishReason::eos;  // of a start that throws
  const std::int64_t needed = model_.capacity_for(static_cast<std::int64_t>(phonemes.size()),
                                                  static_cast<std::int64_t>(prompt.size()), options_.max_tokens);
  if (needed > state_.capacity()) state_ = model_.make_state(1, needed);
  history_.assign(prompt.begin(), prompt.end());
  history_.reserve(prompt.size() + static_cast<std::size_t>(options_.max_tokens));
  n_prompt_ = prompt.size();
  step_ = 0;
  pending_ = false;
  model_.prefill(phonemes, bert, prompt, state_);
  reason_ = FinishReason::running;
}

std::optional<std::int32_t> SemanticDecoder::next() {
  if (reason_ != FinishReason::running) return std::nullopt;
  if (static_cast<std::int64_t>(tokens().size()) >= options_.max_tokens) {
    reason_ = FinishReason::limit;
    return std::nullopt;
  }
  if (pending_) model_.step(history_.back(), state_);
  const std::span<const float> logits = state_.logits();
  logits_.assign(logits.begin(), logits.end());
  if (!std::all_of(logits_.begin(), logits_.end(), [](float x) { return std::isfinite(x); })) {
    throw std::runtime_error("the T2S gave a value that is not finite");
  }
  draw_ = sampler_.draw(logits_, history_, options_.sampling, *noise_, step_);
  ++step_;
  if (draw_.ends(model_.config().eos())) {
    reason_ = FinishReason::eos;
    return std::nullopt;
  }
  history_.push_back(draw_.token);
  pending_ = true;
  return draw_.token;
}

std::span<const std::int32_t> SemanticDecoder::tokens() const noexcept {
  return std::span<const std::int32_t>(history_).subspan(n_prompt_);
}

std::span<const std::int32_t> SemanticDecoder::result() const noexcept {
  const std::span<const std::int32_t> all = tokens();
  const bool lost = options_.upstream_compat && reason_ == FinishReason::limit && n_prompt_ > 0 && !all.empty();
  return lost ? all.subspan(1) : all;
}

std::optional<UpstreamChunker::Chunk> UpstreamChunker::push(std::int32_t token, bool last) {
  tokens_.push_back(token);
  ++since_;
  if (last) return std::nullopt;
  if (similarity_.empty()) {
    if (since_ < chunk_length_) return std::nullopt;
    Chunk chunk{{tokens_.end() - since_, tokens_.end()}, false};
    start_ += static_cast<std::size_t>(since_);
    since_ = 0;
    return chunk;
  }
  if (since_ < chunk_length_ + 2) return std::nullopt;
  const auto window = std::span<const std::int32_t>(tokens_).subspan(start_);
  const auto score = [&](std::size_t j) {
    const float above = similarity_.at(static_cast<std::size_t>(window[j])) - threshold_;
    return above < 0 ? -1.0F : above;
  };
  std::size_t best = 0;
  float best_score = 0.0F;
  for (std::size_t j = 0; j < window.size(); ++j) {
    const float pair = score(j) + (j + 1 < window.size() ? score(j + 1) : 0.0F);
    if (j == 0 || pair > best_score) {
      best = j;
      best_score = pair;
    }
  }
  const auto cut = static_cast<std::int64_t>(best) + 1;
  if (best_score < 0 || cut < chunk_length_) return std::nullopt;
  Chunk chunk{{window.begin(), window.end()}, false};
  since_ -= cut;
  start_ += static_cast<std::size_t>(cut);
  return chunk;
}

UpstreamChunker::Chunk UpstreamChunker::finish() const {
  return {{tokens_.begin() + static_cast<std::ptrdiff_t>(start_), tokens_.end()}, true};
}

std::vector<float> token_similarity(const T2S& model, std::int32_t token) {
  const auto norm = [](std::span<const float> v) {
    double sum = 0;
    for (const float x : v) sum += static_cast<double>(x) * x;
    return std::max(std::sqrt(sum), 1e-8);
  };
  const std::span<const float> reference = model.token_embedding(token);
  std::vector<float> similarity(static_cast<std::size_t>(model.config().vocab));
  for (std::size_t t = 0; t < similarity.size(); ++t) {
    const std::span<const float> other = model.token_embedding(static_cast<std::int32_t>(t));
    double dot = 0;
    for (std::size_t c = 0; c < other.size(); ++c) dot += static_cast<double>(reference[c]) * other[c];
    similarity[t] = static_cast<float>(dot / (norm(reference) * norm(other)));
  }
  return similarity;
}

}  // namespace tts
