#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "models/layers.h"

namespace tts {

/// Sizes of the published network; another `channels` makes a small one for tests.
struct Eres2NetConfig {
  std::int64_t channels = 64;    ///< of the stem; the stages have 1, 2, 4 and 8 times that before expansion
  std::int64_t base_width = 24;  ///< width of a group, in 64ths of a stage's channels
  std::int64_t bands = 80;
  std::array<std::int64_t, 4> blocks = {3, 4, 6, 3};
};

/// Speaker embedding of v2Pro and v2ProPlus: ERes2NetV2 (Chen et al. 2024) with 4 groups and expansion 4, up to the
/// fusion of its last two stages; the mean over time of that, without pooling statistics and the last layer. Runs once
/// per reference. Batch norms are folded into the convolutions at load. Const after construction.
class Eres2Net {
 public:
  /// Keys of the published checkpoint: "conv1", "bn1", "layer{1..4}.*", "layer3_ds", "fuse34.*".
  /// Throws ModelError naming the missing or misshapen tensor.
  explicit Eres2Net(const WeightScope& weights, const Eres2NetConfig& config = {});

  /// Length of the embedding: 20480 in the published size, channel by channel, each over the frequencies.
  [[nodiscard]] std::int64_t dim() const;

  /// features [frames, bands], frames >= 1, from kaldi_fbank -> [dim()].
  [[nodiscard]] at::Tensor forward(const at::Tensor& features, const Probe* probe = nullptr) const;
  /// wave [samples] at 16 kHz in [-1, 1], 400 samples or more -> [dim()]. Upstream's wave is the 32 kHz reference of
  /// the spectrogram, made 16 kHz by resample_sinc (models/mel.h).
  [[nodiscard]] at::Tensor embed(const at::Tensor& wave) const;

 private:
  struct Conv {
    at::Tensor weight, bias;  ///< batch norm folded in
    std::int64_t stride = 1;
    [[nodiscard]] at::Tensor operator()(const at::Tensor& x) const;
  };
  /// Attentional fusion of two images.
  struct Fusion {
    Conv squeeze, expand;
    [[nodiscard]] at::Tensor operator()(const at::Tensor& x, const at::Tensor& y) const;
  };
  struct Block {
    Conv in, out, shortcut;  ///< shortcut.weight is undefined for the identity
    std::vector<Conv> groups;
    std::vector<Fusion> fusions;  ///< empty where groups are added
    [[nodiscard]] at::Tensor operator()(const at::Tensor& x) const;
  };

  static Fusion make_fusion(const WeightScope& scope, std::int64_t channels);
  static Block make_block(const WeightScope& scope, std::int64_t in, std::int64_t planes, std::int64_t width,
                          std::int64_t stride, bool fuse);

  Eres2NetConfig config_;
  Conv stem_, downsample_;
  std::array<std::vector<Block>, 4> stages_;
  Fusion fuse_;
};

}  // namespace tts
