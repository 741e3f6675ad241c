#include "models/frame_stretch.h"

#include <algorithm>
#include <string>

#include <ATen/ops/empty.h>

#include "models/semantic_encoder.h"

namespace tts {

void check_speed(double speed) {
  if (!(speed >= 0.5 && speed <= 2.0)) {
    throw ModelError("speed: got " + std::to_string(speed) + ", wanted 0.5..2");
  }
}

double FrameStretch::source(std::int64_t i) const {
  return std::max(0.0, (static_cast<double>(i) + 0.5) * speed_ - 0.5);
}

at::Tensor FrameStretch::push(const at::Tensor& frames, bool last) {
  if (speed_ == 1.0) {
    return frames;
  }
  in_.append(frames);
  const std::int64_t total = in_.size();
  if (total == 0) {
    return frames;
  }
  std::int64_t until = out_;
  if (last) {
    until = frames_at_speed(total, speed_);
  } else {
    while (static_cast<std::int64_t>(source(until)) + 1 < total) {
      ++until;
    }
  }
  const std::int64_t base = std::min(static_cast<std::int64_t>(source(out_)), total - 1);
  const at::Tensor rows = in_.slice(base, total);
  at::Tensor left = at::empty({until - out_}, at::kLong);
  at::Tensor right = at::empty({until - out_}, at::kLong);
  at::Tensor weight = at::empty({until - out_, 1}, at::kFloat);
  for (std::int64_t i = out_; i < until; ++i) {
    const double position = std::min(source(i), static_cast<double>(total - 1));
    const auto floor = static_cast<std::int64_t>(position);
    left.data_ptr<std::int64_t>()[i - out_] = floor - base;
    right.data_ptr<std::int64_t>()[i - out_] = std::min(floor + 1, total - 1) - base;
    weight.data_ptr<float>()[i - out_] = static_cast<float>(position - static_cast<double>(floor));
  }
  const at::Tensor a = rows.index_select(0, left);
  const at::Tensor b = rows.index_select(0, right);
  out_ = until;
  in_.drop_before(std::min(static_cast<std::int64_t>(source(until)), total - 1));
  return a + (b - a) * weight;
}

}  // namespace tts
