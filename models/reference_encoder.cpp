#include "models/reference_encoder.h"

#include <cmath>

#include <ATen/ops/mish.h>
#include <ATen/ops/sigmoid.h>

namespace tts {

ReferenceEncoder::ReferenceEncoder(const WeightScope& weights, const ReferenceEncoderConfig& config)
    : config_(config),
      spectral0_(weights("spectral.0.fc"), config.bins, config.hidden),
      spectral1_(weights("spectral.3.fc"), config.hidden, config.hidden),
      query_(weights("slf_attn.w_qs"), config.hidden, config.hidden),
      key_(weights("slf_attn.w_ks"), config.hidden, config.hidden),
      value_(weights("slf_attn.w_vs"), config.hidden, config.hidden),
      attended_(weights("slf_attn.fc"), config.hidden, config.hidden),
      out_(weights("fc.fc"), config.hidden, config.out) {
  for (std::int64_t i = 0; i < 2; ++i) {
    temporal_.emplace_back(weights("temporal", i)("conv1.conv"), config.hidden, 2 * config.hidden, config.kernel);
  }
}

at::Tensor ReferenceEncoder::encode(const at::Tensor& spectrogram, const Probe* probe) const {
  if (spectrogram.dim() != 2 || spectrogram.size(0) < 1 || spectrogram.size(1) < config_.bins) {
    throw ModelError("reference spectrogram: got " + to_string(spectrogram.sizes()) +
                     ", wanted [>= 1, >= " + std::to_string(config_.bins) + "]");
  }
  at::Tensor x = at::mish(spectral0_(spectrogram.narrow(1, 0, config_.bins)));
  x = at::mish(spectral1_(x));  // [frames, hidden]
  if (probe != nullptr) {
    (*probe)("ref_enc.spectral", x.unsqueeze(0));
  }
  for (const FrameConv& conv : temporal_) {  // gated linear unit with a residual
    const at::Tensor y = conv.same(x);
    x = x + y.narrow(1, 0, config_.hidden) * at::sigmoid(y.narrow(1, config_.hidden, config_.hidden));
  }
  if (probe != nullptr) {
    (*probe)("ref_enc.temporal", x.t().unsqueeze(0));
  }
  x = attended_(
          attend(query_(x), key_(x), value_(x), config_.heads, 1.0 / std::sqrt(static_cast<double>(config_.hidden)))) +
      x;
  if (probe != nullptr) {
    (*probe)("ref_enc.slf_attn", x.unsqueeze(0));
  }
  return out_(x).mean(0);
}

}  // namespace tts
