#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "models/layers.h"

namespace tts {

struct BigvganConfig {
  std::int64_t in = 100;
  std::int64_t channels = 1536;  ///< after conv_pre; halves at every stage
  std::vector<std::int64_t> rates{4, 4, 2, 2, 2, 2};
  std::vector<std::int64_t> kernels{8, 8, 4, 4, 4, 4};
  std::vector<std::int64_t> block_kernels{3, 7, 11};
  std::vector<std::int64_t> block_dilations{1, 3, 5};
};

/// The periodic activation of BigVGAN (Lee et al. 2023, sec. 3): twice the rate, x + sin^2(e^alpha x) / e^beta,
/// back to the rate; both filters 12-tap Kaiser-windowed sincs with replicated edges.
struct SnakeActivation {
  at::Tensor alpha;  ///< e^alpha, [1, channels, 1]
  at::Tensor beta;   ///< 1 / (e^beta + 1e-9), [1, channels, 1]

  SnakeActivation() = default;
  /// Keys "act.{alpha,beta}" [channels], in log scale.
  SnakeActivation(const WeightScope& scope, std::int64_t channels);
  /// x [batch, channels, frames] -> the same shape.
  [[nodiscard]] at::Tensor operator()(const at::Tensor& x) const;
  /// The parts: doubled [.., 2 * frames], bent in place.
  [[nodiscard]] static at::Tensor double_rate(const at::Tensor& x);
  [[nodiscard]] static at::Tensor halve_rate(const at::Tensor& x);
  [[nodiscard]] at::Tensor bend(const at::Tensor& x) const;
  /// The 12 taps shared by both filters.
  [[nodiscard]] static std::array<double, 12> filter();
};

/// Mel frames to 24 kHz waveform: the v3 vocoder, BigVGAN v2. A sample needs 38 input frames on either side.
class Bigvgan {
 public:
  /// Weight-normed keys "conv_pre", "ups.#.0", "resblocks.#.convs{1,2}.#", "conv_post";
  /// "resblocks.#.activations.#.act.*", "activation_post.act.*".
  explicit Bigvgan(const WeightScope& weights, const BigvganConfig& config = {});

  /// mel [batch, in, frames] -> [batch, frames * 256], clamped to [-1, 1].
  [[nodiscard]] at::Tensor forward(const at::Tensor& mel, const Probe* probe = nullptr) const;

 private:
  struct Conv {
    at::Tensor weight, bias;
  };
  struct Block {
    std::vector<Conv> first, second;
    std::vector<SnakeActivation> activations;  ///< two per dilation
    std::int64_t kernel = 3;
  };

  BigvganConfig config_;
  Conv pre_, post_;
  std::vector<Conv> ups_;
  std::vector<Block> blocks_;
  SnakeActivation out_activation_;
};

}  // namespace tts
