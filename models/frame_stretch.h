#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "models/convnext.h"

namespace tts {

/// Throws ModelError unless speech can be that fast: 0.5 .. 2.
void check_speed(double speed);

/// Change of speed in a stream: n frames become frames_at_speed(n, speed) by linear interpolation. Upstream maps
/// centres by the ratio of the two lengths, which needs the final length; here the ratio is the speed itself, so that
/// an output frame depends on its two neighbours only. Speed 1 passes frames on as they are.
class FrameStretch {
 public:
  explicit FrameStretch(double speed) : speed_(speed) {}

  /// frames [n, channels] -> the output frames that are certain now; with `last` the rest.
  [[nodiscard]] at::Tensor push(const at::Tensor& frames, bool last);

 private:
  [[nodiscard]] double source(std::int64_t i) const;

  double speed_;
  FrameBuffer in_;
  std::int64_t out_ = 0;  ///< frames returned
};

}  // namespace tts
