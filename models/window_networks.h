#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include "models/hifigan.h"
#include "models/published.h"
#include "models/weights.h"

// The networks of the published forms once more, for batches of windows on any device: libtorch's own operators, shapes
// that depend on nothing but the shapes of the inputs, no state. The CPU's own are quicker there (Linear, Hifigan, ..);
// these are compared with them in tests.

namespace tts {

/// Where networks are computed, and with which numbers.
struct Placement {
  at::Device device{at::kCPU};
  at::ScalarType type = at::kFloat;  ///< of weights and signals: kFloat, kBFloat16 or kHalf
};

/// Affine map of the last axis.
struct WindowLinear {
  at::Tensor weight, bias;

  WindowLinear() = default;
  /// weight [out, in] or [out, in, 1]; bias [out].
  WindowLinear(const at::Tensor& weight, const at::Tensor& bias, const Placement& placement);
  WindowLinear(const WeightScope& scope, std::int64_t in, std::int64_t out, bool pointwise_conv,
               const Placement& placement);
  [[nodiscard]] at::Tensor operator()(const at::Tensor& x) const;
};

/// "Same" convolution of [batch, channels, frames].
struct WindowConv {
  at::Tensor weight, bias;
  std::int64_t dilation = 1;

  WindowConv() = default;
  /// weight [out, in, kernel]; bias [out], or undefined.
  WindowConv(const at::Tensor& weight, const at::Tensor& bias, const Placement& placement, std::int64_t dilation = 1);
  [[nodiscard]] at::Tensor operator()(const at::Tensor& x) const;
};

/// Transposed convolution by a whole rate, as SampleUpsampler: [batch, in, frames] -> [batch, out, frames * rate]. As a
/// convolution that makes `rate` samples of each frame: a transposed one is wrong or missing for some numbers on some
/// devices.
struct WindowUpsampler {
  at::Tensor weight, bias;  ///< [rate * out, in, taps]
  std::int64_t rate = 1;
  std::int64_t left = 0, right = 0;

  WindowUpsampler() = default;
  /// weight [in, out, kernel]; bias [out].
  WindowUpsampler(const at::Tensor& weight, const at::Tensor& bias, std::int64_t rate, const Placement& placement);
  [[nodiscard]] at::Tensor operator()(const at::Tensor& x) const;
};

/// Input frames on either side of its own that a sample of a generator (HifiganConfig, BigvganConfig) depends on, each
/// of whose activations sees so many samples on either side.
template <class Config>
std::int64_t generator_context(const Config& config, std::int64_t activation) {
  // Of the last layers, in samples; on the way up the reach shrinks with the rate.
  auto reach = static_cast<double>(3 + activation);
  for (std::size_t i = config.rates.size(); i-- > 0;) {
    std::int64_t widest = 0;
    for (const std::int64_t kernel : config.block_kernels) {
      std::int64_t sum = 0;
      for (const std::int64_t dilation : config.block_dilations) {
        sum += (kernel - 1) * (dilation + 1) / 2 + 2 * activation;
      }
      widest = std::max(widest, sum);
    }
    const std::int64_t rate = config.rates[i];
    const std::int64_t cut = (config.kernels[i] - rate) / 2;
    const std::int64_t taps = std::max(config.kernels[i] - 1 - cut, rate - 1 + cut);
    reach = (reach + static_cast<double>(widest + taps)) / static_cast<double>(rate);
  }
  return static_cast<std::int64_t>(std::ceil(reach)) + 3;
}

/// AttentionEncoder without a window, over rows of different lengths.
class WindowAttentionEncoder {
 public:
  WindowAttentionEncoder(const WeightScope& weights, std::int64_t layers, std::int64_t channels, std::int64_t heads,
                         std::int64_t filter, const Placement& placement);
  /// x [batch, frames, channels]; mask [batch, frames, 1] is 1 where a row has frames and 0 behind them.
  [[nodiscard]] at::Tensor forward(at::Tensor x, const at::Tensor& mask) const;

 private:
  struct Layer {
    WindowLinear qkv, out;
    at::Tensor relative_key, relative_value;
    at::Tensor gain1, bias1, gain2, bias2;
    WindowConv ffn1, ffn2;
  };
  std::int64_t heads_;
  std::vector<Layer> layers_;
};

/// Semantic tokens and phonemes to frames at 50 Hz: quantiser and enc_p (SovitsFront). In float32.
class WindowEncoder {
 public:
  /// `project`: load "enc_p.proj", and return mean and logarithm of the deviation.
  WindowEncoder(const WeightScope& acoustic, const PublishedConfig& config, bool project, at::Device device);
  /// tokens [batch, t] and phonemes [batch, p] int64, of which counts [batch, 2] are given; ge [batch, mrte_dim]
  /// -> [batch, 2t, channels()]; a row's frames behind its tokens mean nothing.
  [[nodiscard]] at::Tensor forward(const at::Tensor& tokens, const at::Tensor& phonemes, const at::Tensor& counts,
                                   const at::Tensor& ge) const;
  [[nodiscard]] std::int64_t channels() const { return project_.weight.defined() ? 2 * hidden_ : hidden_; }

 private:
  std::int64_t hidden_, cross_heads_;
  at::Tensor codes_, embedding_;
  WindowLinear semantic_in_;
  WindowAttentionEncoder semantic_, text_, out_;
  WindowLinear cross_in_, cross_text_, cross_q_, cross_k_, cross_v_, cross_o_, cross_out_, project_;
};

/// WaveNet, conditioned from outside.
class WindowWaveNet {
 public:
  WindowWaveNet(const WeightScope& weights, std::int64_t channels, std::int64_t layers, std::int64_t kernel,
                const Placement& placement);
  /// x [batch, channels, frames], condition [batch, layers * 2 * channels, 1] -> [batch, channels, frames]. Where a
  /// mask [batch, 1, frames] is 0, frames count as zeros and come out as zeros.
  [[nodiscard]] at::Tensor forward(at::Tensor x, const at::Tensor& condition, const at::Tensor& mask = {}) const;

 private:
  std::int64_t channels_;
  std::vector<WindowConv> in_, res_skip_;
};

/// The reversed flow of VITS (CouplingFlow).
class WindowCouplingFlow {
 public:
  WindowCouplingFlow(const WeightScope& weights, const PublishedConfig& config, const Placement& placement);
  /// z_p [batch, frames, channels], condition [batch, condition_size()] -> z [batch, frames, channels], in float32.
  [[nodiscard]] at::Tensor reverse(const at::Tensor& z_p, const at::Tensor& condition) const;
  /// What the speaker's part of all WaveNets takes, and that part of an embedding ge [ge_dim].
  [[nodiscard]] std::int64_t condition_size() const { return 4 * layers_ * 2 * channels_; }
  [[nodiscard]] at::Tensor prepare(const at::Tensor& ge) const;
  [[nodiscard]] std::int64_t context() const { return 4 * layers_ * 2; }

 private:
  struct Coupling {
    WindowConv pre, post;
    WindowWaveNet wavenet;
  };
  Placement placement_;
  std::int64_t channels_, layers_;
  std::vector<WindowLinear> conditions_;  ///< on the CPU
  std::vector<Coupling> couplings_;
};

/// The HiFi-GAN generator (Hifigan).
class WindowHifigan {
 public:
  WindowHifigan(const WeightScope& weights, const HifiganConfig& config, const Placement& placement);
  /// x [batch, frames, in], condition [batch, config.channels] (undefined when the config has none)
  /// -> [batch, frames * hop], in float32.
  [[nodiscard]] at::Tensor forward(const at::Tensor& x, const at::Tensor& condition) const;
  /// The speaker's part of an embedding [config.condition] -> [config.channels], on the CPU.
  [[nodiscard]] at::Tensor prepare(const at::Tensor& ge) const;
  /// Frames on either side of its own that a frame's samples depend on.
  [[nodiscard]] std::int64_t context() const;

 private:
  struct Block {
    std::vector<WindowConv> first, second;
  };
  HifiganConfig config_;
  Placement placement_;
  WindowLinear condition_;  ///< on the CPU
  WindowConv pre_, post_;
  std::vector<WindowUpsampler> ups_;
  std::vector<Block> blocks_;
};

/// mask [batch, n, 1] of float32: 1 in the first counts [batch] of each row.
[[nodiscard]] at::Tensor length_mask(const at::Tensor& counts, std::int64_t n);

}  // namespace tts
