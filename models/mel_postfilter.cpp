#include "models/mel_postfilter.h"

#include <cmath>
#include <numeric>
#include <string>

#include <ATen/ATen.h>

#include "models/layers.h"

namespace tts {
namespace {

constexpr double kWidth = 4.0;  // bands
constexpr std::int64_t kReach = 16;
constexpr std::int64_t kFirst = 60;

/// The band of `bands` that stands for one beyond the edges: mirrored there, the outermost one twice.
std::int64_t mirrored(std::int64_t band, std::int64_t bands) {
  while (band < 0 || band >= bands) band = band < 0 ? -1 - band : 2 * bands - 1 - band;
  return band;
}

}  // namespace

MelPostfilter::MelPostfilter(std::int64_t bands, double depth) : depth_(static_cast<float>(depth)) {
  if (!(depth >= 0.0 && depth <= 2.0)) {
    throw ModelError("mel postfilter: got " + std::to_string(depth) + ", wanted 0 .. 2");
  }
  std::vector<double> bell;
  for (std::int64_t k = -kReach; k <= kReach; ++k) {
    const double away = static_cast<double>(k) / kWidth;
    bell.push_back(std::exp(-0.5 * away * away));
  }
  const double sum = std::accumulate(bell.begin(), bell.end(), 0.0);
  for (const double b : bell) bell_.push_back(static_cast<float>(b / sum));
  for (std::int64_t band = -kReach; band < bands + kReach; ++band) sources_.push_back(mirrored(band, bands));
}

at::Tensor MelPostfilter::operator()(const at::Tensor& mel) const {
  if (depth_ == 0.0F) return mel;
  const at::Tensor in = mel.contiguous();
  const std::int64_t bands = in.size(1);
  at::Tensor out = in.clone();
  std::vector<float> wide(sources_.size());
  for (std::int64_t frame = 0; frame < in.size(0); ++frame) {
    const float* from = in.data_ptr<float>() + frame * bands;
    float* to = out.data_ptr<float>() + frame * bands;
    for (std::size_t i = 0; i < wide.size(); ++i) wide[i] = from[sources_[i]];
    for (std::int64_t band = kFirst; band < bands; ++band) {
      const float smooth = std::inner_product(bell_.begin(), bell_.end(), wide.begin() + band, 0.0F);
      to[band] += depth_ * (from[band] - smooth);
    }
  }
  return out;
}

}  // namespace tts
