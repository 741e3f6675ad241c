#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "models/layers.h"

namespace tts {

struct WaveNetConfig {
  std::int64_t channels = 512;
  std::int64_t condition = 512;  ///< channels of the speaker embedding
  std::int64_t layers = 8;
  std::int64_t kernel = 5;  ///< dilation is 1 in every layer
};

/// Gated residual convolutions conditioned on the speaker: `modules.WN` of VITS. Symmetric and non-causal: an output
/// frame needs layers * (kernel - 1) / 2 input frames on either side.
class WaveNet {
 public:
  /// Weight-normed keys "cond_layer", "in_layers.#", "res_skip_layers.#".
  WaveNet(const WeightScope& weights, const WaveNetConfig& config);

  /// The conditioning, which depends on the speaker alone: condition [condition] -> [layers, 2 * channels].
  [[nodiscard]] at::Tensor prepare(const at::Tensor& condition) const;

  /// x [frames, channels], prepared as above -> [frames, channels]. Frames from n_valid on count as zeros and come
  /// out as zeros.
  [[nodiscard]] at::Tensor forward(at::Tensor x, const at::Tensor& prepared, std::int64_t n_valid) const;

  [[nodiscard]] std::int64_t context() const { return config_.layers * (config_.kernel - 1) / 2; }

 private:
  [[nodiscard]] at::Tensor forward_bf16(const at::Tensor& x, const at::Tensor& prepared) const;

  WaveNetConfig config_;
  Linear condition_;
  std::vector<FrameConv> in_;
  std::vector<Linear> res_skip_;
};

}  // namespace tts
