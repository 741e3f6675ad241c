#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

namespace tts {

/// Deepens the fine structure of log mels along the bands: networks that learn a mean make it shallower than that of
/// recordings (as the formant enhancement of parametric speech synthesis does: Ling et al. 2006, the USTC system for
/// the Blizzard Challenge). What a Gaussian of 4 bands takes away from a frame is added again `depth` times, from band
/// 60 on (3 kHz of 100 bands to 12 kHz); the bands below say the words and hold the harmonics from which F0 is read.
/// Every frame by itself and always in the same order, so streams stay exact to the bit.
class MelPostfilter {
 public:
  /// depth 0 changes nothing. Throws ModelError when it is outside 0..2.
  explicit MelPostfilter(std::int64_t bands, double depth = 0.0);

  /// [frames, bands], natural logarithm, float32 -> the same shape.
  [[nodiscard]] at::Tensor operator()(const at::Tensor& mel) const;

 private:
  float depth_;
  std::vector<float> bell_;            ///< of 2 kReach + 1 bands, sum 1
  std::vector<std::int64_t> sources_;  ///< the band that stands for each of bands + 2 kReach
};

}  // namespace tts
