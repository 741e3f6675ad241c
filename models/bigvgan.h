#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "models/layers.h"
#include "models/sample_conv.h"

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
/// back to the rate; both filters 12-tap Kaiser-windowed sincs with replicated edges. Signals are [samples, channels].
class SnakeActivation {
 public:
  /// Samples on either side of its own that a result depends on.
  static constexpr std::int64_t kContext = 5;

  SnakeActivation() = default;
  /// Keys "act.{alpha,beta}" [channels], in log scale.
  SnakeActivation(const WeightScope& scope, std::int64_t channels);
  /// A whole signal.
  [[nodiscard]] at::Tensor operator()(const at::Tensor& x) const;
  /// A stretch of a signal with its context, [kContext + n + kContext, channels] -> [n, channels]. The first `before`
  /// and the last `behind` samples lie outside the signal and repeat its edge. x must be contiguous.
  [[nodiscard]] at::Tensor valid(const at::Tensor& x, std::int64_t before, std::int64_t behind) const;
  /// What lies between the filters: a whole signal at twice the rate, and the same bent.
  [[nodiscard]] static at::Tensor double_rate(const at::Tensor& x);
  [[nodiscard]] at::Tensor bend(const at::Tensor& doubled) const;
  /// The 12 taps shared by both filters.
  [[nodiscard]] static std::array<double, 12> filter();

 private:
  void bend(float* rows, std::int64_t n_rows) const;

  std::vector<float> alpha_;  ///< e^alpha
  std::vector<float> beta_;   ///< 1 / (e^beta + 1e-9)
};

/// Mel frames to 24 kHz waveform: the v3 vocoder, BigVGAN v2. A sample needs 38 input frames on either side.
class Bigvgan {
 public:
  /// Weight-normed keys "conv_pre", "ups.#.0", "resblocks.#.convs{1,2}.#", "conv_post";
  /// "resblocks.#.activations.#.act.*", "activation_post.act.*". Throws ModelError naming the missing or misshapen
  /// tensor.
  explicit Bigvgan(const WeightScope& weights, const BigvganConfig& config = {});

  /// mel [batch, in, frames] -> [batch, frames * 256], clamped to [-1, 1].
  [[nodiscard]] at::Tensor forward(const at::Tensor& mel, const Probe* probe = nullptr) const;

  /// One utterance in a stream: what every layer still needs of its input, and the shorter sides of the sums. Nothing
  /// is computed twice, and any chunking equals forward() of the whole.
  struct State {
    struct Held {
      at::Tensor samples;
      std::int64_t first = 0;  ///< of an activation: where in the signal they begin
    };
    std::vector<Held> held;  ///< in the order of the layers
    bool ended = false;
  };
  /// frames [n, in] -> the samples [m] that are certain now; with `last` all that remain.
  [[nodiscard]] at::Tensor step(const at::Tensor& frames, State& state, bool last) const;

 private:
  class Cursor;
  struct Block {
    std::vector<SampleConv> first, second;
    std::vector<SnakeActivation> activations;  ///< two per dilation
  };
  /// As step(), for as many frames as stay in the cache; the probe sees what forward() is asked to show.
  [[nodiscard]] at::Tensor step_piece(const at::Tensor& frames, State& state, bool last, const Probe* probe) const;

  BigvganConfig config_;
  SampleConv pre_, post_;
  std::vector<SampleUpsampler> ups_;
  std::vector<Block> blocks_;
  SnakeActivation out_activation_;
};

}  // namespace tts
