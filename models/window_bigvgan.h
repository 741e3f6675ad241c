#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "models/bigvgan.h"
#include "models/window_networks.h"

namespace tts {

/// Bigvgan for batches of windows on any device (window_networks.h). The periodic activations compute in float32.
class WindowBigvgan {
 public:
  WindowBigvgan(const WeightScope& weights, const BigvganConfig& config, const Placement& placement);
  /// mel [batch, frames, in] -> [batch, frames * hop], in float32.
  [[nodiscard]] at::Tensor forward(const at::Tensor& mel) const;
  /// Frames on either side of its own that a frame's samples depend on.
  [[nodiscard]] std::int64_t context() const;

 private:
  struct Snake {
    at::Tensor alpha, beta;  ///< e^alpha and 1 / e^beta, [channels, 1]
  };
  struct Block {
    std::vector<WindowConv> first, second;
    std::vector<Snake> snakes;  ///< two per dilation
  };
  [[nodiscard]] Snake load_snake(const WeightScope& scope, std::int64_t channels) const;
  [[nodiscard]] at::Tensor activate(const at::Tensor& x, const Snake& snake) const;

  BigvganConfig config_;
  Placement placement_;
  at::Tensor up_, down_;  ///< filters, [2, 1, 7] and [1, 1, 12]
  WindowConv pre_, post_;
  std::vector<WindowUpsampler> ups_;
  std::vector<Block> blocks_;
  Snake out_;
};

}  // namespace tts
