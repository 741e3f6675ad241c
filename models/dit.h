#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "models/layers.h"

namespace tts {

struct DitConfig {
  std::int64_t dim = 1024;
  std::int64_t depth = 22;
  std::int64_t heads = 16;
  std::int64_t filter = 0;  ///< width of the feed-forward parts; 0: 2 * dim
  std::int64_t text_dim = 512;
  std::int64_t text_layers = 4;
  std::int64_t mel = 100;
};

/// The velocity field of GPT-SoVITS v3/v4: a diffusion transformer (Peebles & Xie 2023; F5-TTS, Chen et al. 2024)
/// with ConvNeXt V2 text blocks. Attention and the text blocks' global response norm see the whole window, so
/// the output of a window is a function of the whole window. As published, rotary positions turn head 0 only. With
/// weights of Precision::bf16 the linear layers of the blocks are computed in it.
class Dit {
 public:
  /// Keys as under "cfm.estimator". Throws ModelError naming the missing or misshapen tensor.
  Dit(const WeightScope& weights, const DitConfig& config = {});

  /// Flow time t and step size d, both in [0, 1] -> [1, dim].
  [[nodiscard]] at::Tensor time(double t, double d, const Probe* probe = nullptr) const;
  /// Conditioning mu [batch, frames, text_dim] -> [batch, frames, text_dim]; the same for every step of a window.
  [[nodiscard]] at::Tensor text(const at::Tensor& mu, const Probe* probe = nullptr) const;

  /// What depends on the time alone: the gains and shifts of the norms, and the gates.
  struct Modulation {
    std::vector<at::Tensor> blocks;  ///< [6, dim]: shift, gain, gate of the attention, then of the feed-forward part
    at::Tensor out;                  ///< [2, dim]: gain, shift
  };
  [[nodiscard]] Modulation modulation(const at::Tensor& time) const;

  /// What of a window is the same at every time. prompt [batch, frames, mel] (zero outside the prompt), text as above.
  struct Window {
    at::Tensor input;         ///< [batch, frames, dim]: what prompt and text add to the input
    at::Tensor cosine, sine;  ///< [frames, 32], of the rotary positions
  };
  [[nodiscard]] Window window(const at::Tensor& prompt, const at::Tensor& text) const;

  /// x [batch, frames, mel] -> velocity [batch, frames, mel]; every item of the batch for itself.
  [[nodiscard]] at::Tensor velocity(const at::Tensor& x, const Window& window, const Modulation& modulation,
                                    const Probe* probe = nullptr) const;

  [[nodiscard]] const DitConfig& config() const { return config_; }

 private:
  struct TextBlock {
    at::Tensor depthwise_weight, depthwise_bias;
    LayerNorm norm;
    Linear in;
    at::Tensor gamma, beta;  ///< [1, 1, 2 * text_dim]
    Linear out;
  };
  struct Block {
    Linear modulation;
    Linear qkv;
    Linear attended;
    Linear ff_in, ff_out;
  };
  /// qkv [frames, 3 * dim], head 0 turned in place -> [frames, dim].
  [[nodiscard]] at::Tensor attention(const at::Tensor& qkv, const Window& window) const;

  DitConfig config_;
  Linear time_in_, time_out_, step_in_, step_out_;
  std::vector<TextBlock> text_blocks_;
  Linear input_x_, input_rest_;  ///< parts of input_embed.proj; the bias is in the second
  at::Tensor position_weight_[2], position_bias_[2];
  std::vector<Block> blocks_;
  Linear out_modulation_, out_;
};

}  // namespace tts
