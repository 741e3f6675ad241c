#include "models/semantic_tokenizer.h"

namespace tts {
namespace {

constexpr std::int64_t kFramesPerToken = 2;

}  // namespace

SemanticTokenizer::SemanticTokenizer(const WeightScope& weights, const QuantizerConfig& config, std::int64_t ssl_dim)
    : ssl_dim_(ssl_dim),
      project_(weights("ssl_proj")
                   .get("weight", {config.dim, ssl_dim, kFramesPerToken})
                   .permute({0, 2, 1})
                   .reshape({config.dim, kFramesPerToken * ssl_dim}),
               weights("ssl_proj").get("bias", {config.dim})),
      quantizer_(weights("quantizer"), config) {}

at::Tensor SemanticTokenizer::encode(const at::Tensor& features, const Probe* probe) const {
  check_shape(features, {-1, ssl_dim_}, "HuBERT features");
  const std::int64_t n = features.size(0) / kFramesPerToken;
  if (n < 1) throw ModelError("HuBERT features: got " + to_string(features.sizes()) + ", wanted [>= 2, ..]");
  const at::Tensor pairs = features.narrow(0, 0, n * kFramesPerToken).reshape({n, kFramesPerToken * ssl_dim_});
  const at::Tensor projected = project_(pairs);  // [tokens, dim]
  if (probe != nullptr) (*probe)("ssl_proj", projected.t().unsqueeze(0));
  return quantizer_.encode(projected);
}

}  // namespace tts
