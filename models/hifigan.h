#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include <ATen/core/Tensor.h>

#include "models/bf16_hifigan.h"
#include "models/layers.h"
#include "models/sample_conv.h"

namespace tts {

struct HifiganConfig {
  std::int64_t in = 100;
  std::int64_t channels = 512;  ///< after conv_pre; halves at every stage
  std::vector<std::int64_t> rates{10, 6, 2, 2, 2};
  std::vector<std::int64_t> kernels{20, 12, 4, 4, 4};
  std::vector<std::int64_t> block_kernels{3, 7, 11};
  std::vector<std::int64_t> block_dilations{1, 3, 5};
  std::int64_t condition = 0;  ///< channels of the speaker embedding; 0: unconditioned (v4)
  bool out_bias = true;        ///< conv_post has a bias (v4: yes, v2: no)
};

/// Mel frames (v4) or latents (v2 family) to waveform: the HiFi-GAN generator (Kong et al. 2020, sec. 2.2).
/// Convolutions are symmetric: a sample needs about 12 (v4) or 11 (v2) input frames on either side of its own. With
/// weights of Precision::bf16 (and channel counts that are multiples of 16) the work is done by Bf16Hifigan.
class Hifigan {
 public:
  /// Keys "conv_pre", "ups.#", "resblocks.#.convs{1,2}.#", "conv_post", "cond"; ups and resblocks with or without
  /// weight norm. Throws ModelError naming the missing or misshapen tensor.
  explicit Hifigan(const WeightScope& weights, const HifiganConfig& config = {});

  /// mel [batch, in, frames], condition [batch, condition, 1] (undefined when the config has none)
  /// -> [batch, frames * hop], in [-1, 1].
  [[nodiscard]] at::Tensor forward(const at::Tensor& mel, const at::Tensor& condition = {},
                                   const Probe* probe = nullptr) const;
  /// Whether it computes in bfloat16; a probe then sees nothing.
  [[nodiscard]] bool is_bf16() const { return bf16_ != nullptr; }

  /// One utterance in a stream: what every convolution still needs of its input, and the shorter sides of the sums.
  /// Nothing is computed twice, and any chunking equals forward() of the whole.
  struct State {
    at::Tensor condition;          ///< [channels], or undefined
    std::vector<at::Tensor> held;  ///< in the order of the layers
    Bf16Hifigan::State bf16;       ///< instead, in that precision
    bool ended = false;
  };
  /// condition [condition], undefined when the config has none.
  [[nodiscard]] State initial_state(const at::Tensor& condition = {}) const;
  /// frames [n, in] -> the samples [m] that are certain now; with `last` all that remain.
  [[nodiscard]] at::Tensor step(const at::Tensor& frames, State& state, bool last) const;
  /// Samples that are certain after the first n frames of a stream.
  [[nodiscard]] std::int64_t certain_samples(std::int64_t n_frames) const;

  [[nodiscard]] std::int64_t hop_samples() const;

 private:
  class Cursor;
  struct ResBlock {
    std::vector<SampleConv> first, second;  ///< one pair per dilation
  };
  /// As step(), for as many frames as stay in the cache; the probe sees what forward() is asked to show.
  [[nodiscard]] at::Tensor step_piece(const at::Tensor& frames, State& state, bool last, const Probe* probe) const;

  HifiganConfig config_;
  std::shared_ptr<Bf16Hifigan> bf16_;
  SampleConv pre_, post_;
  Linear condition_;
  std::vector<SampleUpsampler> ups_;
  std::vector<ResBlock> blocks_;
};

}  // namespace tts
