#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <ATen/core/Tensor.h>
#include <nlohmann/json.hpp>

#include "models/weights.h"

namespace tts::parity {

using Json = nlohmann::json;

// The deterministic tensors of the parity fixtures: every weight and input is a pure function of a name and a flat
// row-major index. Arithmetic is in double, rounded once to float; compiled without FMA contraction.

[[nodiscard]] std::uint64_t fnv1a64(std::string_view name) noexcept;
/// The i-th raw 64-bit number of the stream whose name hashes to `hash`.
[[nodiscard]] std::uint64_t raw_at(std::uint64_t hash, std::uint64_t index) noexcept;
/// u in [0, 1) with 24 bits, exact.
[[nodiscard]] double uniform_at(std::uint64_t hash, std::uint64_t index) noexcept;
/// r = 2u - 1.
[[nodiscard]] double signed_at(std::uint64_t hash, std::uint64_t index) noexcept;

/// True if `text` matches `glob`, where '*' stands for any characters, dots included.
[[nodiscard]] bool matches(std::string_view glob, std::string_view text) noexcept;

/// Weights by the rules of the scheme. The stream of a tensor is named weight_prefix + key; the rules look at the key
/// and the shape. "X.weight_g" must be asked for after "X.weight_v", whose norm it is made from.
class SchemeSource final : public WeightSource {
 public:
  struct Gain {
    std::string glob;
    float factor = 1.0F;
  };

  explicit SchemeSource(std::string weight_prefix = {}, std::vector<Gain> gains = {});
  /// From a fixture case: its weight_prefix and config.weight_gain, where present.
  explicit SchemeSource(const Json& fixture_case);

  /// Makes has() say no for keys that match: what the imitated checkpoint lacks. By default it has every key.
  void set_absent(std::vector<std::string> globs) { absent_ = std::move(globs); }

  [[nodiscard]] bool has(std::string_view key) const override;
  [[nodiscard]] at::Tensor get(const std::string& key, at::IntArrayRef shape) const override;

 private:
  [[nodiscard]] at::Tensor generate(const std::string& key, at::IntArrayRef shape) const;

  std::string prefix_;
  std::vector<Gain> gains_;
  std::vector<std::string> absent_;
  mutable std::map<std::string, std::vector<std::int64_t>> v_shapes_;  ///< of every weight_v handed out
};

/// An input object of a fixture: kind "int" gives int64, kind "float" float32 (with zero_cols applied).
[[nodiscard]] at::Tensor make_input(const Json& description);

/// q_i ~ Exp(1) of the race draw: -ln(u + 2^-25), columns 0..n-1.
[[nodiscard]] std::vector<float> exponential_noise(std::string_view name, std::int64_t n);

/// A fixture's array of integers as a shape or token list.
[[nodiscard]] std::vector<std::int64_t> to_int64s(const Json& array);

}  // namespace tts::parity
