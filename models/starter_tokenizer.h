#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "models/layers.h"
#include "models/mel.h"
#include "models/quantizer.h"

namespace tts {

/// Sizes of a starter voice's tokenizer; the names of the manifest's "tokenizer" object.
struct StarterTokenizerConfig {
  std::int64_t dim = 192;
  std::int64_t layers = 3;  ///< ConvNeXt blocks before and again after the rate is halved
  std::int64_t mel_bands = 80;
};

/// A recording to the semantic tokens that a T2S of the starter form continues: log mel at 50 Hz, ConvNeXt blocks
/// (Liu et al. 2022, fig. 4) on both sides of a step to 25 Hz, the nearest row of the codebook. Looks at the whole
/// recording, once per reference.
class StarterTokenizer {
 public:
  static constexpr std::int64_t kRateHz = 24000;
  static constexpr std::int64_t kTokenSamples = 960;

  /// `weights`: keys "inp", "enc1.N", "down", "enc2.N", "to_code.0" and "to_code.1"; `acoustic`: the root of the
  /// acoustic weights, for their codebook. Throws ModelError naming the missing or misshapen tensor.
  StarterTokenizer(const WeightScope& weights, const StarterTokenizerConfig& config, const WeightScope& acoustic,
                   const QuantizerConfig& codes);

  /// Log mel [2 * tokens, mel_bands] of a wave at kRateHz, natural logarithm; a rest of less than a token is left out.
  [[nodiscard]] at::Tensor mel(const at::Tensor& wave) const;
  /// mel as above, at least two frames -> tokens, int64 [frames / 2].
  [[nodiscard]] at::Tensor encode(const at::Tensor& mel) const;

 private:
  struct Block {
    at::Tensor taps;  ///< [5, dim]
    at::Tensor bias;  ///< [dim]
    LayerNorm norm;
    Linear in, out;

    Block(const WeightScope& scope, std::int64_t dim);
    void operator()(at::Tensor& x) const;  ///< [frames, dim], in place
  };

  StarterTokenizerConfig config_;
  MelFrontEnd front_;
  FrameConv input_;
  std::vector<Block> fast_, slow_;
  Linear halve_;
  LayerNorm norm_;
  Linear to_code_;
  Quantizer quantizer_;
};

/// How loud a recording is for the starter form, whose networks know speech of level 0 only: the natural logarithm of
/// the mean power, summed over the bands, of the frames within 25 dB of the loudest. mel [frames, bands], natural
/// logarithm. Half of it taken from a log mel brings that to level 0.
[[nodiscard]] double mel_level(const at::Tensor& mel);

}  // namespace tts
