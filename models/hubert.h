#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include <ATen/core/Tensor.h>

#include "models/layers.h"
#include "src/core/result.h"

namespace tts {

/// Sizes of the published Chinese HuBERT base.
struct HubertConfig {
  std::vector<std::int64_t> conv_channels = {512, 512, 512, 512, 512, 512, 512};
  std::vector<std::int64_t> conv_kernels = {10, 3, 3, 3, 3, 2, 2};
  std::vector<std::int64_t> conv_strides = {5, 2, 2, 2, 2, 2, 2};  ///< 320 samples a frame
  std::int64_t hidden = 768;
  std::int64_t layers = 12;
  std::int64_t heads = 12;
  std::int64_t ff = 3072;
  std::int64_t position_kernel = 128;
  std::int64_t position_groups = 16;
  double eps = 1e-5;
};

/// Speech to features at 50 Hz: HuBERT (Hsu et al. 2021), the base size with group norm in the first convolution and
/// norms after the blocks. Runs once per reference; needs the whole of it. Const after construction.
class Hubert {
 public:
  /// Keys of the published checkpoint, without a prefix: "feature_extractor.*", "feature_projection.*", "encoder.*".
  /// The positional convolution's weight norm is read as "weight_g"/"weight_v", as
  /// "parametrizations.weight.original0"/"original1", or as a plain "weight" when already folded.
  /// Throws ModelError naming the missing or misshapen tensor.
  explicit Hubert(const WeightScope& weights, const HubertConfig& config = {});

  /// Frames of `samples` samples; 0 when there are too few for one.
  [[nodiscard]] std::int64_t frames(std::int64_t samples) const;

  /// wave [samples] at 16 kHz in [-1, 1], not normalised -> the last hidden state [frames(samples), hidden].
  /// Throws ModelError when the wave is too short for a frame.
  [[nodiscard]] at::Tensor forward(const at::Tensor& wave, const Probe* probe = nullptr) const;

 private:
  struct Block {
    Linear query, key, value, out, inner, outer;
    LayerNorm attention_norm, final_norm;
  };

  [[nodiscard]] at::Tensor convolve(const at::Tensor& wave, const Probe* probe) const;

  HubertConfig config_;
  std::vector<Linear> convs_;           ///< each over the frames under its kernel, one after the other
  at::Tensor group_gain_, group_bias_;  ///< [channels]
  LayerNorm feature_norm_, encoder_norm_;
  Linear projection_;
  at::Tensor position_weight_, position_bias_;  ///< [hidden, hidden / groups, kernel], [hidden]
  std::vector<Block> blocks_;
};

inline constexpr int kHubertRateHz = 16'000;
inline constexpr std::int64_t kHubertTailSamples = 9'600;      ///< silence behind the reference: 0.6 s
inline constexpr std::int64_t kMinReferenceSamples = 48'000;   ///< 3 s at 16 kHz
inline constexpr std::int64_t kMaxReferenceSamples = 160'000;  ///< 10 s

/// A reference recording as HuBERT is given it: resampled to 16 kHz (libsoxr HQ, ceil(samples * 16000 / rate) samples,
/// as librosa.load does), with kHubertTailSamples zeros behind. pcm: mono in [-1, 1].
/// Errc::bad_file when it is not 3 to 10 s long at 16 kHz; Errc::unsupported_format for a rate that cannot be.
[[nodiscard]] Result<std::vector<float>> make_hubert_wave(std::span<const float> pcm, int rate_hz);

}  // namespace tts
