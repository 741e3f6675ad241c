#include "src/audio/level.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numbers>
#include <vector>

namespace tts {
namespace {

struct Biquad {
  double b0, b1, b2, a1, a2;
  double z1 = 0;
  double z2 = 0;
  double operator()(double x) {
    const double y = b0 * x + z1;
    z1 = b1 * x - a1 * y + z2;
    z2 = b2 * x - a2 * y;
    return y;
  }
};

// The analogue prototypes behind BS.1770's 48 kHz coefficients, mapped to any rate by the bilinear transform
// (Brian De Man, "Evaluation of implementations of the EBU R128 loudness measurement", AES 145, 2018).
Biquad shelf(double rate_hz) {
  const double k = std::tan(std::numbers::pi * 1681.974450955533 / rate_hz);
  constexpr double q = 0.7071752369554196;
  const double vh = std::pow(10.0, 3.999843853973347 / 20.0);
  const double vb = std::pow(vh, 0.4996667741545416);
  const double a0 = 1.0 + k / q + k * k;
  return {(vh + vb * k / q + k * k) / a0, 2.0 * (k * k - vh) / a0, (vh - vb * k / q + k * k) / a0,
          2.0 * (k * k - 1.0) / a0, (1.0 - k / q + k * k) / a0};
}

Biquad high_pass(double rate_hz) {
  const double k = std::tan(std::numbers::pi * 38.13547087602444 / rate_hz);
  constexpr double q = 0.5003270373238773;
  const double a0 = 1.0 + k / q + k * k;
  return {1.0, -2.0, 1.0, 2.0 * (k * k - 1.0) / a0, (1.0 - k / q + k * k) / a0};
}

double to_lufs(double power) {
  return power > 1e-12 ? -0.691 + 10.0 * std::log10(power) : -120.0;
}

double mean_above(const std::vector<double>& powers, double gate_lufs) {
  double sum = 0;
  int n = 0;
  for (const double power : powers) {
    if (to_lufs(power) > gate_lufs) {
      sum += power;
      ++n;
    }
  }
  return n > 0 ? sum / n : 0.0;
}

}  // namespace

float peak(std::span<const float> pcm) noexcept {
  float largest = 0;
  for (const float x : pcm) largest = std::max(largest, std::abs(x));
  return largest;
}

float rms(std::span<const float> pcm) noexcept {
  if (pcm.empty()) return 0;
  double sum = 0;
  for (const float x : pcm) sum += static_cast<double>(x) * x;
  return static_cast<float>(std::sqrt(sum / static_cast<double>(pcm.size())));
}

float to_dbfs(float amplitude) noexcept {
  return amplitude > 1e-6F ? 20.0F * std::log10(amplitude) : -120.0F;
}

double loudness_lufs(std::span<const float> pcm, int rate_hz) {
  Biquad first = shelf(rate_hz);
  Biquad second = high_pass(rate_hz);
  std::vector<double> cumulative(pcm.size() + 1, 0.0);
  for (std::size_t i = 0; i < pcm.size(); ++i) {
    const double y = second(first(pcm[i]));
    cumulative[i + 1] = cumulative[i] + y * y;
  }
  const auto hop = static_cast<std::size_t>(rate_hz / 10);
  const std::size_t block = 4 * hop;
  std::vector<double> powers;
  for (std::size_t at = 0; at + block <= pcm.size(); at += hop) {
    powers.push_back((cumulative[at + block] - cumulative[at]) / static_cast<double>(block));
  }
  const double ungated = to_lufs(mean_above(powers, -70.0));
  return to_lufs(mean_above(powers, std::max(-70.0, ungated - 10.0)));
}

void limit_peaks(std::span<float> pcm) noexcept {
  constexpr float kKnee = 0.7F;
  constexpr float kRoom = 0.28F;
  for (float& x : pcm) {
    const float over = std::abs(x) - kKnee;
    if (over > 0) x = std::copysign(kKnee + kRoom * std::tanh(over / kRoom), x);
  }
}

}  // namespace tts
