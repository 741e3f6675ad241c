#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "models/convnext.h"
#include "models/layers.h"
#include "models/wavenet.h"

namespace tts {

struct FeatureEncoderConfig {
  std::int64_t in = 192;
  std::int64_t channels = 512;
  std::int64_t condition = 512;  ///< channels of the speaker embedding
  std::int64_t layers = 8;
  std::int64_t kernel = 5;
  double rate = 1.875;             ///< feature frames per encoder frame: 1.875 (v3), 2 (v4)
  double frames_per_code = 3.875;  ///< of the length rule: 3.875 (v3), 4 (v4)
};

/// Encoder frames at 50 Hz to the flow's conditioning at the mel's rate: `bridge`, nearest interpolation and `wns1`
/// of GPT-SoVITS v3/v4 (the tail of decode_encp).
class FeatureEncoder {
 public:
  /// Keys "bridge.0", "wns1.{pre,proj}", "wns1.enc.*" under `weights`.
  FeatureEncoder(const WeightScope& weights, const FeatureEncoderConfig& config = {});

  /// The speaker's part, once per voice: ge [condition] -> opaque.
  [[nodiscard]] at::Tensor prepare(const at::Tensor& ge) const { return wavenet_.prepare(ge); }

  /// encoded [frames, in] -> [floor(frames * rate), channels]. Frames from n_valid on are zero (length rule).
  [[nodiscard]] at::Tensor forward(const at::Tensor& encoded, const at::Tensor& prepared, std::int64_t n_valid,
                                   const Probe* probe = nullptr) const;

  /// bridge alone, leaky ReLU included: [frames, in] -> [frames, channels].
  [[nodiscard]] at::Tensor bridge(const at::Tensor& encoded) const;
  /// wns1 alone: x [frames, channels] -> [frames, channels].
  [[nodiscard]] at::Tensor refine(const at::Tensor& x, const at::Tensor& prepared, std::int64_t n_valid,
                                  const Probe* probe = nullptr) const;

  /// Upstream's length rule: the frames of n_codes codes that are not masked.
  [[nodiscard]] std::int64_t valid_frames(std::int64_t n_codes, double speed) const;
  /// Frames of context refine() needs on either side of an output frame.
  [[nodiscard]] std::int64_t context() const { return wavenet_.context(); }
  /// Feature frames per encoder frame.
  [[nodiscard]] double rate() const { return config_.rate; }

 private:
  FeatureEncoderConfig config_;
  Linear bridge_, pre_, proj_;
  WaveNet wavenet_;
};

/// Source frame of output frame i under nearest interpolation by `rate`: floor(i * float(1 / rate)).
[[nodiscard]] std::int64_t nearest_source(std::int64_t i, double rate);
/// x [frames, channels] -> [floor(frames * rate), channels].
[[nodiscard]] at::Tensor resize_nearest(const at::Tensor& x, double rate);
/// The same in a stream: appends to `to` what it lacks of the frames that those of `from` give, and drops of `from`
/// what no further ones need.
void resize_nearest(FrameBuffer& from, FrameBuffer& to, double rate);

}  // namespace tts
