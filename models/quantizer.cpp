#include "models/quantizer.h"

#include <ATen/ops/argmin.h>
#include <ATen/ops/mm.h>

#include "models/layers.h"

namespace tts {

Quantizer::Quantizer(const WeightScope& weights, const QuantizerConfig& config)
    : config_(config), embed_(weights.get("vq.layers.0._codebook.embed", {config.codes, config.dim})) {}

at::Tensor Quantizer::decode(const at::Tensor& codes) const {
  check_shape(codes, {-1}, "semantic tokens");
  if (codes.numel() == 0) {
    return embed_.narrow(0, 0, 0);
  }
  const auto* first = codes.data_ptr<std::int64_t>();
  for (std::int64_t i = 0; i < codes.numel(); ++i) {
    if (first[i] < 0 || first[i] >= config_.codes) {
      throw ModelError("semantic token " + std::to_string(i) + ": got " + std::to_string(first[i]) + ", wanted 0.." +
                       std::to_string(config_.codes - 1));
    }
  }
  return embed_.index_select(0, codes.repeat_interleave(config_.repeat));
}

at::Tensor Quantizer::encode(const at::Tensor& features) const {
  check_shape(features, {-1, config_.dim}, "features to quantise");
  // |x - e|^2 without |x|^2, which is the same for every code.
  const at::Tensor distance = embed_.square().sum(1) - 2.0 * at::mm(features, embed_.t());
  return at::argmin(distance, 1);
}

}  // namespace tts
