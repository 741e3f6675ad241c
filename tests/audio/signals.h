#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numbers>
#include <random>
#include <span>
#include <vector>

namespace tts::testing {

/// Speech-like sound: a gliding glottal pulse train through three formants, in syllables, with fricative noise between
/// them. Peak about 0.5. The same seed gives the same samples.
inline std::vector<float> speech_like(std::size_t samples, int rate_hz, std::uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> noise(0.0F, 1.0F);
  struct Formant {
    double hz, width, gain;
    double y1 = 0, y2 = 0;
  } formants[] = {{550, 90, 1.0}, {1500, 120, 0.5}, {2500, 160, 0.25}};
  std::vector<float> out(samples);
  double phase = 0;
  double glottis = 0;
  double last = 0;
  double radiated = 0;
  for (std::size_t i = 0; i < samples; ++i) {
    const double t = static_cast<double>(i) / rate_hz;
    phase += (140 + 40 * std::sin(3 * t)) / rate_hz;
    phase -= std::floor(phase);
    const double envelope = std::pow(std::max(0.0, std::sin(12 * t)), 2);
    const double pulse = phase < 0.4 ? 0.5 - 0.5 * std::cos(2 * std::numbers::pi * phase / 0.4) : 0.0;
    glottis = 0.7 * glottis + 0.3 * pulse;
    double voiced = 0;
    for (Formant& f : formants) {
      const double r = std::exp(-std::numbers::pi * f.width / rate_hz);
      const double y = (1 - r) * glottis * f.gain * 4 + 2 * r * std::cos(2 * std::numbers::pi * f.hz / rate_hz) * f.y1 -
                       r * r * f.y2;
      f.y2 = f.y1;
      f.y1 = y;
      voiced += y;
    }
    // The lips let no steady pressure out.
    radiated = voiced - last + std::exp(-2 * std::numbers::pi * 120 / rate_hz) * radiated;
    last = voiced;
    const double hiss = 0.01 * std::max(0.0, std::sin(12 * t + 3)) * noise(random);
    out[i] = static_cast<float>(std::clamp(0.5 * envelope * radiated + hiss, -0.9, 0.9));
  }
  return out;
}

/// Simpler: a falling pitch with overtones, in syllables; its loudest sample at about 0.5.
inline std::vector<float> fake_speech(double seconds, int rate_hz, double pitch_hz = 140) {
  std::vector<float> pcm(static_cast<std::size_t>(std::lround(seconds * rate_hz)));
  double phase = 0;
  for (std::size_t i = 0; i < pcm.size(); ++i) {
    const double t = static_cast<double>(i) / rate_hz;
    phase += 2 * std::numbers::pi * (pitch_hz - 6 * t) / rate_hz;
    double x = 0;
    for (int k = 1; k <= 6; ++k) x += std::sin(k * phase) / k;
    pcm[i] = static_cast<float>(0.3 * std::max(0.0, std::sin(15 * t)) * x);
  }
  return pcm;
}

inline std::vector<float> sine(double hz, std::size_t samples, int rate_hz, float amplitude = 0.5F) {
  std::vector<float> out(samples);
  for (std::size_t i = 0; i < samples; ++i) {
    const double phase = 2 * std::numbers::pi * hz * static_cast<double>(i) / rate_hz;
    out[i] = amplitude * static_cast<float>(std::sin(phase));
  }
  return out;
}

/// Cuts `pcm` into random pieces, empty ones among them, and gives each to `take`.
template <class Take>
void in_pieces(std::span<const float> pcm, std::uint32_t seed, std::size_t longest, Take take) {
  std::mt19937 random(seed);
  std::uniform_int_distribution<std::size_t> length(0, longest);
  while (!pcm.empty()) {
    const std::size_t n = std::min(length(random), pcm.size());
    take(pcm.first(n));
    pcm = pcm.subspan(n);
  }
}

}  // namespace tts::testing
