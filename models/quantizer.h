#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "models/weights.h"

namespace tts {

struct QuantizerConfig {
  std::int64_t codes = 1024;
  std::int64_t dim = 768;
  std::int64_t repeat = 2;  ///< frames per code: codes at 25 Hz, frames at 50 Hz
};

/// Semantic tokens to feature frames: a codebook look-up, each row held for `repeat` frames. No context, so any
/// chunking of the tokens gives the same frames.
class Quantizer {
 public:
  /// Key "vq.layers.0._codebook.embed". Throws ModelError naming the missing or misshapen tensor.
  explicit Quantizer(const WeightScope& weights, const QuantizerConfig& config = {});

  /// codes [tokens], int64, each in [0, codes) -> [tokens * repeat, dim]. Throws ModelError on a code outside.
  [[nodiscard]] at::Tensor decode(const at::Tensor& codes) const;

  /// features [frames, dim] -> codes [frames], the row with the smallest squared distance, the first of equals.
  [[nodiscard]] at::Tensor encode(const at::Tensor& features) const;

 private:
  QuantizerConfig config_;
  at::Tensor embed_;  ///< [codes, dim]
};

}  // namespace tts
