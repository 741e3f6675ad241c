#pragma once

#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>

#include <ATen/ATen.h>

#include "models/weights.h"

namespace tts {

/// For benches: any tensor, with values of a trained network's order of magnitude.
class RandomWeights final : public WeightSource {
 public:
  bool has(std::string_view key) const override { return !key.ends_with("weight_v"); }
  at::Tensor get(const std::string& key, at::IntArrayRef shape) const override {
    if (shape.size() < 2) return key.ends_with("weight") ? at::ones(shape) : at::zeros(shape);
    std::int64_t fan_in = 1;
    for (std::size_t i = 1; i < shape.size(); ++i) fan_in *= shape[i];
    return at::randn(shape) / std::sqrt(static_cast<double>(fan_in));
  }
};

}  // namespace tts
