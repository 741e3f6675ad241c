#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "models/layers.h"
#include "models/quantizer.h"

namespace tts {

/// HuBERT features to semantic tokens (upstream's extract_latent): a convolution that halves the rate to 25 Hz, then
/// the nearest row of the codebook. Once per reference: the tokens are the prompt of the T2S.
class SemanticTokenizer {
 public:
  /// `weights` is the acoustic checkpoint's root: keys "ssl_proj" and "quantizer.vq.layers.0._codebook.embed".
  /// ssl_dim: width of the features. Throws ModelError naming the missing or misshapen tensor.
  explicit SemanticTokenizer(const WeightScope& weights, const QuantizerConfig& config = {},
                             std::int64_t ssl_dim = 768);

  /// features [frames, ssl_dim] at 50 Hz, frames >= 2 -> tokens [frames / 2], int64.
  [[nodiscard]] at::Tensor encode(const at::Tensor& features, const Probe* probe = nullptr) const;

 private:
  std::int64_t ssl_dim_;
  Linear project_;  ///< of two frames
  Quantizer quantizer_;
};

}  // namespace tts
