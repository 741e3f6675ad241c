#include "models/starter_tokenizer.h"

#include <cmath>

#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/logsumexp.h>

namespace tts {
namespace {

constexpr std::int64_t kKernel = 5;
constexpr double kMelCentre = -5.0;  // about the mean of a log mel of speech
constexpr double kMelSpread = 4.0;

MelConfig mel_config(std::int64_t bands) {
  return {StarterTokenizer::kRateHz, 1024, StarterTokenizer::kTokenSamples / 2, bands};
}

}  // namespace

StarterTokenizer::Block::Block(const WeightScope& scope, std::int64_t dim)
    : taps(scope("dw").get("weight", {dim, 1, kKernel}).squeeze(1).t().contiguous()),
      bias(scope("dw").get("bias", {dim})),
      norm(scope("norm"), dim, 1e-5),
      in(scope("a"), dim, 3 * dim),
      out(scope("b"), 3 * dim, dim) {}

void StarterTokenizer::Block::operator()(at::Tensor& x) const {
  const std::int64_t frames = x.size(0);
  const at::Tensor padded = at::constant_pad_nd(x, {0, 0, kKernel / 2, kKernel / 2});
  at::Tensor y = bias + padded.narrow(0, 0, frames) * taps[0];
  for (std::int64_t tap = 1; tap < kKernel; ++tap) y.addcmul_(padded.narrow(0, tap, frames), taps[tap]);
  x += out(at::gelu(in(norm(y))));
}

StarterTokenizer::StarterTokenizer(const WeightScope& weights, const StarterTokenizerConfig& config,
                                   const WeightScope& acoustic, const QuantizerConfig& codes)
    : config_(config),
      front_(mel_config(config.mel_bands)),
      input_(weights("inp"), config.mel_bands, config.dim, kKernel),
      halve_(weights("down"), 2 * config.dim, config.dim),
      norm_(weights("to_code.0"), config.dim, 1e-5),
      to_code_(weights("to_code.1"), config.dim, codes.dim),
      quantizer_(acoustic("quantizer"), codes) {
  for (std::int64_t i = 0; i < config.layers; ++i) {
    fast_.emplace_back(weights("enc1", i), config.dim);
    slow_.emplace_back(weights("enc2", i), config.dim);
  }
}

at::Tensor StarterTokenizer::mel(const at::Tensor& wave) const {
  return front_(wave.narrow(0, 0, wave.size(0) / kTokenSamples * kTokenSamples));
}

at::Tensor StarterTokenizer::encode(const at::Tensor& mel) const {
  check_shape(mel, {-1, config_.mel_bands}, "mel of the reference");
  const std::int64_t tokens = mel.size(0) / 2;
  if (tokens == 0) throw ModelError("mel of the reference: got fewer than two frames");
  at::Tensor x = input_.same((mel.narrow(0, 0, 2 * tokens) - kMelCentre) / kMelSpread);
  for (const Block& block : fast_) block(x);
  x = halve_(x.reshape({tokens, 2 * config_.dim}));
  for (const Block& block : slow_) block(x);
  return quantizer_.encode(to_code_(norm_(x)));
}

double mel_level(const at::Tensor& mel) {
  constexpr double kNear = 25.0 / 4.342944819;  // 25 dB of power as a natural logarithm
  const at::Tensor power = at::logsumexp(2 * mel, at::IntArrayRef{1});
  const at::Tensor loud = power.masked_select(power > power.max() - kNear);
  return at::logsumexp(loud, at::IntArrayRef{0}).item<double>() - std::log(static_cast<double>(loud.numel()));
}

}  // namespace tts
