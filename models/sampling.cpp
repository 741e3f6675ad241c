#include "models/sampling.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>

namespace tts {
namespace {

constexpr float kRemoved = -std::numeric_limits<float>::infinity();

std::uint64_t mix(std::uint64_t z) noexcept {  // the finaliser of SplitMix64
  z += 0x9E3779B97F4A7C15ULL;
  z = (z ^ (z >> 30U)) * 0xBF58476D1CE4E5B9ULL;
  z = (z ^ (z >> 27U)) * 0x94D049BB133111EBULL;
  return z ^ (z >> 31U);
}

std::int32_t first_maximum(std::span<const float> values) {
  return static_cast<std::int32_t>(std::max_element(values.begin(), values.end()) - values.begin());
}

void penalise(std::span<float> logits, std::span<const std::int32_t> history, float penalty,
              std::vector<std::uint8_t>& seen) {
  if (penalty == 1.0F) return;
  seen.assign(logits.size(), 0);
  for (const std::int32_t token : history) {
    const auto column = static_cast<std::size_t>(token);
    if (token < 0 || column >= logits.size() || seen[column] != 0) continue;
    seen[column] = 1;
    float& logit = logits[column];
    logit = logit < 0 ? logit * penalty : logit / penalty;
  }
}

/// Removes every entry whose cumulative probability, its own included, exceeds top_p, but never the best one.
void keep_top_p(std::span<float> logits, float top_p, std::vector<std::int32_t>& order) {
  order.resize(logits.size());
  std::iota(order.begin(), order.end(), 0);
  const auto at = [&](std::int32_t column) { return logits[static_cast<std::size_t>(column)]; };
  // Best first, equal logits by column.
  const auto worse = [&](std::int32_t a, std::int32_t b) { return at(a) < at(b) || (at(a) == at(b) && a > b); };
  std::make_heap(order.begin(), order.end(), worse);
  const float best = at(order.front());
  double total = 0.0;
  for (const float logit : logits) total += std::exp(logit - best);
  double cumulative = 0.0;
  auto end = order.end();
  for (bool first = true; end != order.begin(); first = false) {
    const std::int32_t column = order.front();
    cumulative += std::exp(at(column) - best) / total;
    if (!first && cumulative > top_p) break;
    std::pop_heap(order.begin(), end, worse);
    --end;
  }
  for (auto removed = order.begin(); removed != end; ++removed) logits[static_cast<std::size_t>(*removed)] = kRemoved;
}

/// Removes what is below the k-th largest; ties with it stay.
void keep_top_k(std::span<float> logits, std::size_t k, std::vector<float>& sorted) {
  if (k >= logits.size()) return;
  sorted.assign(logits.begin(), logits.end());
  std::nth_element(sorted.begin(), sorted.begin() + static_cast<std::ptrdiff_t>(k - 1), sorted.end(), std::greater<>());
  const float pivot = sorted[k - 1];
  for (float& logit : logits) {
    if (logit < pivot) logit = kRemoved;
  }
}

}  // namespace

float SeededNoise::exponential(std::int64_t step, std::int64_t column) const {
  const std::uint64_t bits = mix(mix(seed_ ^ 0xA0761D6478BD642FULL) + (static_cast<std::uint64_t>(step) << 24U) +
                                 static_cast<std::uint64_t>(column));
  // 24 bits at the middle of their interval: never 0 or 1, so the logarithm is finite and positive.
  const double u = (static_cast<double>(bits >> 40U) + 0.5) / 16777216.0;
  return static_cast<float>(-std::log(u));
}

Draw Sampler::draw(std::span<float> logits, std::span<const std::int32_t> history, const SamplingParams& params,
                   const NoiseSource& noise, std::int64_t step) {
  if (step < params.min_tokens) logits = logits.first(logits.size() - 1);
  penalise(logits, history, params.repetition_penalty, seen_);
  Draw result;
  result.argmax = first_maximum(logits);

  probabilities_.assign(logits.begin(), logits.end());
  const std::span<float> work(probabilities_);
  if (params.top_p && *params.top_p < 1.0F) keep_top_p(work, *params.top_p, order_);
  const float temperature = std::max(params.temperature, 1e-5F);
  if (temperature != 1.0F) {
    for (float& logit : work) logit /= temperature;
  }
  if (params.top_k) keep_top_k(work, static_cast<std::size_t>(std::max(*params.top_k, 1)), sorted_);

  const float best = *std::max_element(work.begin(), work.end());
  float total = 0.0F;
  for (float& value : work) {
    value = value == kRemoved ? 0.0F : std::exp(value - best);
    total += value;
  }
  float winner = -1.0F;
  for (std::size_t column = 0; column < work.size(); ++column) {
    work[column] /= total;
    if (work[column] <= 0.0F) continue;
    const float score = work[column] / noise.exponential(step, static_cast<std::int64_t>(column));
    if (score > winner) {
      winner = score;
      result.token = static_cast<std::int32_t>(column);
    }
  }
  return result;
}

}  // namespace tts
