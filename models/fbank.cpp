#include "models/fbank.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <ATen/ops/cat.h>
#include <ATen/ops/fft_rfft.h>
#include <ATen/ops/hann_window.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/view_as_real.h>
#include <ATen/ops/zeros.h>

#include "models/layers.h"

namespace tts {
namespace {

constexpr std::int64_t kFftSize = 512;
constexpr double kLowHz = 20.0;
constexpr double kHighHz = 8000.0;
constexpr double kPreemphasis = 0.97;

/// [257, 80], in float32 throughout as upstream computes it; the last bin takes no part.
at::Tensor make_filterbank() {
  const auto to_mel = [](double hz) { return 1127.0 * std::log(1.0 + hz / 700.0); };
  const double low = to_mel(kLowHz);
  const double delta = (to_mel(kHighHz) - low) / static_cast<double>(kFbankBands + 1);
  at::Tensor bank = at::zeros({kFftSize / 2 + 1, kFbankBands}, at::kFloat);
  auto* out = bank.data_ptr<float>();
  for (std::int64_t bin = 0; bin < kFftSize / 2; ++bin) {
    const float hz = static_cast<float>(bin) * (static_cast<float>(kFbankRateHz) / static_cast<float>(kFftSize));
    const float mel = 1127.0F * std::log(1.0F + hz / 700.0F);
    for (std::int64_t band = 0; band < kFbankBands; ++band) {
      const auto edge = [&](std::int64_t i) {
        return static_cast<float>(low) + static_cast<float>(i) * static_cast<float>(delta);
      };
      const float left = edge(band);
      const float centre = edge(band + 1);
      const float right = edge(band + 2);
      out[bin * kFbankBands + band] =
          std::max(0.0F, std::min((mel - left) / (centre - left), (right - mel) / (right - centre)));
    }
  }
  return bank;
}

}  // namespace

at::Tensor kaldi_fbank(const at::Tensor& wave) {
  check_shape(wave, {-1}, "filter bank's waveform");
  if (wave.size(0) < kFbankWindow) {
    throw ModelError("filter bank's waveform: got " + std::to_string(wave.size(0)) + " samples, wanted " +
                     std::to_string(kFbankWindow) + " or more");
  }
  static const at::Tensor filterbank = make_filterbank();
  static const at::Tensor window = at::hann_window(kFbankWindow, /*periodic=*/false, at::kFloat).pow(0.85);
  at::Tensor frames = wave.contiguous().unfold(0, kFbankWindow, kFbankShift);  // [frames, 400]
  frames = frames - frames.mean(1, /*keepdim=*/true);
  const at::Tensor before = at::cat({frames.narrow(1, 0, 1), frames.narrow(1, 0, kFbankWindow - 1)}, 1);
  frames = (frames - before * kPreemphasis) * window;
  const at::Tensor parts = at::view_as_real(at::fft_rfft(frames, kFftSize));  // [frames, 257, 2]
  const at::Tensor energy = at::matmul(parts.square().sum(-1), filterbank);
  return energy.clamp_min(std::numeric_limits<float>::epsilon()).log();
}

}  // namespace tts
