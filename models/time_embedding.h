#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace tts {

/// Numbers that a time becomes.
constexpr std::int64_t kTimeFeatures = 256;

/// Sinusoidal features of a flow time t in [0, 1]: [sin(1000 t w_k), cos(1000 t w_k)], w_k = exp(-k ln(10000) / 127),
/// k = 0..127, as [1, 256]. Computed with the reference's operators: one unit in the last place of w_k is 6e-5 rad.
[[nodiscard]] at::Tensor time_features(double t);

}  // namespace tts
