#include "src/audio/click_detector.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace tts {
namespace {

// Adds the autocorrelation of `x` under a Hann window to `r`.
void add_autocorrelation(std::span<const float> x, std::span<double> r) {
  std::vector<double> windowed(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double phase = 2 * std::numbers::pi * (static_cast<double>(i) + 0.5) / static_cast<double>(x.size());
    windowed[i] = x[i] * (0.5 - 0.5 * std::cos(phase));
  }
  for (std::size_t lag = 0; lag < r.size(); ++lag) {
    for (std::size_t i = lag; i < x.size(); ++i) r[lag] += windowed[i] * windowed[i - lag];
  }
}

// Levinson-Durbin: the coefficients a[1..order] of x[n] ~ -sum a[k] x[n - k]; a[0] is 1.
std::vector<double> to_predictor(std::span<const double> r) {
  std::vector<double> a(r.size(), 0.0);
  a[0] = 1;
  double error = r[0];
  for (std::size_t i = 1; i < r.size() && error > 0; ++i) {
    double sum = r[i];
    for (std::size_t k = 1; k < i; ++k) sum += a[k] * r[i - k];
    const double reflection = -sum / error;
    for (std::size_t k = 1; k <= i / 2; ++k) {
      const double low = a[k];
      const double high = a[i - k];
      a[k] = low + reflection * high;
      if (k != i - k) a[i - k] = high + reflection * low;
    }
    a[i] = reflection;
    error *= 1 - reflection * reflection;
  }
  return a;
}

float residual(std::span<const float> x, std::size_t i, std::span<const double> a) {
  double sum = 0;
  for (std::size_t k = 0; k < a.size(); ++k) sum += a[k] * x[i - k];
  return static_cast<float>(std::abs(sum));
}

}  // namespace

std::vector<SeamScore> score_seams(std::span<const float> pcm, int rate_hz, std::span<const std::size_t> seams,
                                   const ClickRule& rule) {
  const auto near = static_cast<std::size_t>(rate_hz / 1000);
  const std::size_t context = 40 * near;
  const std::size_t order = near;
  std::vector<SeamScore> scores;
  scores.reserve(seams.size());
  std::vector<float> block_peaks;
  std::vector<double> r(order + 1);
  for (const std::size_t seam : seams) {
    SeamScore& score = scores.emplace_back();
    score.seam = seam;
    score.at = seam;
    if (seam < 5 * near || seam + 5 * near > pcm.size()) continue;
    const std::size_t begin = seam > context ? seam - context : 0;
    const std::size_t end = std::min(pcm.size(), seam + context);
    std::fill(r.begin(), r.end(), 0.0);
    add_autocorrelation(pcm.subspan(begin, seam - near - begin), r);
    add_autocorrelation(pcm.subspan(seam + near, end - seam - near), r);
    r[0] = r[0] * (1 + 1e-6) + 1e-9;
    const std::vector<double> predictor = to_predictor(r);

    // The largest residual of each block of 10 ms; their upper quartile is what this voice does of its own.
    block_peaks.assign((end - begin) / (10 * near) + 1, 0.0F);
    float largest = 0;
    for (std::size_t i = begin + order; i < end; ++i) {
      const float e = residual(pcm, i, predictor);
      if (i + near < seam || i > seam + 2 * near) {
        float& block = block_peaks[(i - begin) / (10 * near)];
        block = std::max(block, e);
      } else if (e > largest) {
        largest = e;
        score.at = i;
      }
    }
    const auto quartile = block_peaks.begin() + static_cast<std::ptrdiff_t>(block_peaks.size() * 3 / 4);
    std::nth_element(block_peaks.begin(), quartile, block_peaks.end());
    score.score = largest / std::max(*quartile, rule.floor);
    score.click = score.score >= rule.threshold;
  }
  return scores;
}

std::vector<SeamScore> find_clicks(std::span<const float> pcm, int rate_hz, std::span<const std::size_t> seams,
                                   const ClickRule& rule) {
  std::vector<SeamScore> scores = score_seams(pcm, rate_hz, seams, rule);
  std::erase_if(scores, [](const SeamScore& score) { return !score.click; });
  return scores;
}

}  // namespace tts
