#pragma once

#include <cmath>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <ATen/ATen.h>

#include "models/weights.h"
#include "tests/doctest.h"

namespace tts::test {

/// Has every tensor it is asked for, made of its key and shape: noise of a trained network's size, gains and variances
/// around 1. Remembers what it was asked for.
class FakeWeights final : public WeightSource {
 public:
  [[nodiscard]] bool has(std::string_view) const override { return true; }
  [[nodiscard]] at::Tensor get(const std::string& key, at::IntArrayRef shape) const override {
    asked_.try_emplace(key, shape.vec());
    at::Tensor tensor = at::empty(shape, at::kFloat);
    const std::int64_t fan_in = shape.empty() || tensor.numel() == 0 ? 1 : tensor.numel() / shape[0];
    const bool gain = shape.size() == 1 && (key.ends_with("weight") || key.ends_with("running_var"));
    const float scale = shape.size() > 1 ? 1.0F / std::sqrt(static_cast<float>(fan_in)) : 0.05F;
    std::uint64_t state = std::hash<std::string>{}(key);
    auto* out = tensor.data_ptr<float>();
    for (std::int64_t i = 0; i < tensor.numel(); ++i) {
      state = state * 6364136223846793005ULL + 1442695040888963407ULL;
      out[i] = (gain ? 1.0F : 0.0F) + scale * (static_cast<float>(state >> 40U) / 8388608.0F - 1.0F);
    }
    return tensor;
  }
  [[nodiscard]] const std::map<std::string, std::vector<std::int64_t>>& asked() const { return asked_; }
  /// All that was asked for.
  [[nodiscard]] TensorMap to_map() const {
    TensorMap map;
    for (const auto& [key, shape] : std::map(asked_)) map.put(key, get(key, shape));
    return map;
  }

 private:
  mutable std::map<std::string, std::vector<std::int64_t>> asked_;
};

/// Builds a network of all its tensors, then once without each and once with one row too many of each: that must be a
/// ModelError that names the tensor and the shapes.
inline void check_every_tensor(const std::function<void(const WeightScope&)>& build) {
  const auto fake = std::make_shared<FakeWeights>();
  build(WeightScope(fake));
  REQUIRE(!fake->asked().empty());
  const TensorMap all = fake->to_map();
  build(WeightScope(std::make_shared<TensorMap>(all)));
  const auto message_with = [&](TensorMap map) {
    try {
      build(WeightScope(std::make_shared<TensorMap>(std::move(map))));
    } catch (const ModelError& error) {
      return std::string(error.what());
    }
    return std::string("no ModelError");
  };
  for (const auto& [key, shape] : fake->asked()) {
    TensorMap without;
    for (const auto& [other, other_shape] : fake->asked()) {
      if (other != key) without.put(other, all.get(other, other_shape));
    }
    std::string message = message_with(without);
    CAPTURE(message);
    CHECK(message.find(key) != std::string::npos);
    CHECK(message.find(to_string(shape)) != std::string::npos);
    std::vector<std::int64_t> longer = shape;
    ++longer.at(0);
    without.put(key, at::zeros(longer));
    message = message_with(std::move(without));
    CHECK(message.find(key) != std::string::npos);
    CHECK(message.find(to_string(shape)) != std::string::npos);
    CHECK(message.find(to_string(longer)) != std::string::npos);
  }
}

/// What `action` throws as ModelError.
inline std::string model_error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const ModelError& error) {
    return error.what();
  }
  return "no ModelError";
}

inline bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

/// Largest absolute difference; infinite for other shapes.
inline double max_difference(const at::Tensor& a, const at::Tensor& b) {
  if (a.sizes() != b.sizes()) return INFINITY;
  return (a - b).abs().max().item<double>();
}

}  // namespace tts::test
