#include "models/mel.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>
#include <vector>

#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/conv1d.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/fft_rfft.h>
#include <ATen/ops/hann_window.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/reflection_pad1d.h>
#include <ATen/ops/view_as_real.h>
#include <ATen/ops/zeros.h>

#include "models/layers.h"

namespace tts {

at::Tensor magnitude_spectrogram(const at::Tensor& wave, std::int64_t n_fft, std::int64_t hop_samples) {
  check_shape(wave, {-1}, "waveform");
  const std::int64_t pad = (n_fft - hop_samples) / 2;
  if (wave.size(0) <= pad || wave.size(0) < hop_samples) {
    throw ModelError("waveform: got " + std::to_string(wave.size(0)) + " samples, wanted more than " +
                     std::to_string(std::max(pad, hop_samples - 1)));
  }
  const at::Tensor padded = at::reflection_pad1d(wave.unsqueeze(0), {pad, pad}).squeeze(0);
  const at::Tensor frames = padded.unfold(0, n_fft, hop_samples) * at::hann_window(n_fft, wave.options());
  const at::Tensor parts = at::view_as_real(at::fft_rfft(frames));  // [frames, bins, 2]
  return (parts.square().sum(-1) + 1e-8).sqrt_();
}

at::Tensor reference_spectrogram(const at::Tensor& wave) {
  return magnitude_spectrogram(wave, 2048, 640);
}

namespace {

double slaney_to_hz(double mel) {
  return mel < 15.0 ? mel * 200.0 / 3.0 : 1000.0 * std::exp((mel - 15.0) * std::log(6.4) / 27.0);
}
double hz_to_slaney(double hz) {
  return hz < 1000.0 ? 3.0 * hz / 200.0 : 15.0 + std::log(hz / 1000.0) * 27.0 / std::log(6.4);
}

}  // namespace

std::vector<double> mel_edges_hz(const MelConfig& config) {
  const double top = hz_to_slaney(static_cast<double>(config.rate_hz) / 2.0);
  std::vector<double> edge(static_cast<std::size_t>(config.bands + 2));
  for (std::size_t i = 0; i < edge.size(); ++i) {
    edge[i] = slaney_to_hz(top * static_cast<double>(i) / static_cast<double>(config.bands + 1));
  }
  return edge;
}

MelFrontEnd::MelFrontEnd(const MelConfig& config) : config_(config) {
  const std::int64_t bins = config.n_fft / 2 + 1;
  const std::vector<double> edge = mel_edges_hz(config);
  filterbank_ = at::zeros({config.bands, bins}, at::kFloat);
  auto* out = filterbank_.data_ptr<float>();
  for (std::int64_t band = 0; band < config.bands; ++band) {
    const double left = edge[static_cast<std::size_t>(band)];
    const double centre = edge[static_cast<std::size_t>(band + 1)];
    const double right = edge[static_cast<std::size_t>(band + 2)];
    for (std::int64_t bin = 0; bin < bins; ++bin) {
      const double hz = static_cast<double>(bin * config.rate_hz) / static_cast<double>(config.n_fft);
      const double value = std::min((hz - left) / (centre - left), (right - hz) / (right - centre));
      out[band * bins + bin] = static_cast<float>(std::max(0.0, value) * 2.0 / (right - left));
    }
  }
}

at::Tensor MelFrontEnd::operator()(const at::Tensor& wave) const {
  const at::Tensor magnitude = magnitude_spectrogram(wave, config_.n_fft, config_.hop_samples);
  return at::matmul(magnitude, filterbank_.t()).clamp_min_(1e-5).log_();
}

at::Tensor resample_sinc(const at::Tensor& wave, std::int64_t from_hz, std::int64_t to_hz) {
  check_shape(wave, {-1}, "waveform");
  if (from_hz < 1 || to_hz < 1) {
    throw ModelError("resampling: got " + std::to_string(from_hz) + " Hz to " + std::to_string(to_hz) +
                     " Hz, wanted positive rates");
  }
  if (from_hz == to_hz) {
    return wave;
  }
  const std::int64_t g = std::gcd(from_hz, to_hz);
  const std::int64_t o = from_hz / g;
  const std::int64_t n = to_hz / g;
  const double base = 0.99 * static_cast<double>(std::min(o, n));
  const auto width = static_cast<std::int64_t>(std::ceil(6.0 * static_cast<double>(o) / base));
  const std::int64_t taps = 2 * width + o;
  at::Tensor kernel = at::empty({n, 1, taps}, at::kFloat);
  for (std::int64_t i = 0; i < n; ++i) {
    // torchaudio makes the phase a float32 inside an otherwise double computation.
    const auto phase = static_cast<double>(static_cast<float>(-i) / static_cast<float>(n));
    for (std::int64_t j = 0; j < taps; ++j) {
      const double at = static_cast<double>(j - width) / static_cast<double>(o);
      const double t = std::clamp((phase + at) * base, -6.0, 6.0);
      const double window = std::cos(t * std::numbers::pi / 12.0);
      const double x = t * std::numbers::pi;
      const double sinc = x == 0.0 ? 1.0 : std::sin(x) / x;
      kernel.data_ptr<float>()[i * taps + j] =
          static_cast<float>(sinc * window * window * base / static_cast<double>(o));
    }
  }
  const at::Tensor padded = at::constant_pad_nd(wave, {width, width + o}).view({1, 1, -1});
  const at::Tensor out = at::conv1d(padded, kernel, {}, o);  // [1, n, ceil(samples / o) or one more]
  const std::int64_t n_out = (n * wave.size(0) + o - 1) / o;
  return out.squeeze(0).t().reshape({-1}).narrow(0, 0, n_out).contiguous();
}

}  // namespace tts
