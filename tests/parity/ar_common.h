#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <ATen/ATen.h>

#include "models/sampling.h"
#include "models/semantic_decoder.h"
#include "models/t2s.h"
#include "tests/parity/parity.h"
#include "tests/parity/scheme.h"

// What the ar_t2s_* and ar_streaming fixtures share.

namespace tts::parity {

/// The text of one sequence.
struct T2SInput {
  std::vector<std::int32_t> phonemes;
  std::vector<float> bert;  ///< [phonemes, 1024]; the fixtures have it transposed
};

inline std::vector<std::int32_t> to_tokens(const at::Tensor& tensor) {
  const at::Tensor ids = tensor.to(at::kInt).contiguous();
  return {ids.data_ptr<std::int32_t>(), ids.data_ptr<std::int32_t>() + ids.numel()};
}

inline std::vector<std::int32_t> to_tokens(const Json& array) {
  return array.get<std::vector<std::int32_t>>();
}

inline T2SInput make_t2s_input(const Json& item) {
  const at::Tensor bert = make_input(item.at("bert")).t().contiguous();
  return {to_tokens(make_input(item.at("phones"))), {bert.data_ptr<float>(), bert.data_ptr<float>() + bert.numel()}};
}

inline T2S make_t2s(const Json& fixture_case) {
  const Json& c = fixture_case.at("config");
  T2SConfig config;
  config.layers = c.at("n_layer").get<std::int64_t>();
  config.hidden = c.at("hidden_dim").get<std::int64_t>();
  config.heads = c.at("head").get<std::int64_t>();
  config.phoneme_vocab = c.at("phoneme_vocab_size").get<std::int64_t>();
  config.vocab = c.at("vocab_size").get<std::int64_t>();
  config.bert_dim = 1024;
  const WeightScope root(std::make_shared<SchemeSource>(fixture_case));
  return {config, root("model")};
}

inline SamplingParams to_sampling(const Json& s) {
  SamplingParams params;
  params.top_k = s.at("top_k").get<int>();
  params.top_p = s.at("top_p").get<float>();
  params.temperature = s.at("temperature").get<float>();
  params.repetition_penalty = s.at("repetition_penalty").get<float>();
  return params;
}

/// The reference stops after early_stop_num + 1 tokens, or after 1500.
inline std::int64_t max_tokens(const Json& s) {
  const auto early_stop = s.at("early_stop_num").get<std::int64_t>();
  return early_stop < 0 ? 1500 : std::min<std::int64_t>(1500, early_stop + 1);
}

/// The fixtures' noise "<name>.<step>.<row>"; no name means 1 everywhere.
class FixtureNoise final : public NoiseSource {
 public:
  explicit FixtureNoise(const Json& name, std::size_t row = 0) {
    if (name.is_string()) name_ = name.get<std::string>();
    row_ = row;
  }
  [[nodiscard]] float exponential(std::int64_t step, std::int64_t column) const override {
    if (!name_) return 1.0F;
    if (step != step_) {
      q_ = exponential_noise(*name_ + "." + std::to_string(step) + "." + std::to_string(row_), kColumns);
      step_ = step;
    }
    return q_.at(static_cast<std::size_t>(column));
  }

 private:
  static constexpr std::int64_t kColumns = 1025;
  std::optional<std::string> name_;
  std::size_t row_ = 0;
  mutable std::int64_t step_ = -1;
  mutable std::vector<float> q_;
};

inline at::Tensor to_tensor(std::span<const float> values, at::IntArrayRef shape) {
  at::Tensor tensor = at::empty(shape, at::kFloat);
  if (tensor.numel() != static_cast<std::int64_t>(values.size())) {
    throw std::runtime_error("got " + std::to_string(values.size()) + " values, wanted shape " + to_string(shape));
  }
  std::copy(values.begin(), values.end(), tensor.data_ptr<float>());
  return tensor;
}

inline double l2(std::span<const float> values) {
  double sum = 0;
  for (const float v : values) sum += static_cast<double>(v) * v;
  return std::sqrt(sum);
}

}  // namespace tts::parity
