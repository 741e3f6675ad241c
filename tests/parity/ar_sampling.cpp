#include <cmath>

#include <ATen/ATen.h>

#include "models/sampling.h"
#include "tests/parity/parity.h"
#include "tests/parity/scheme.h"

// ar_sampling.json: one sampling step on given logits, with injected noise.

namespace tts::parity {
namespace {

class FixedNoise final : public NoiseSource {
 public:
  FixedNoise(const std::string& name, std::int64_t columns) : q_(exponential_noise(name, columns)) {}
  [[nodiscard]] float exponential(std::int64_t, std::int64_t column) const override {
    return q_.at(static_cast<std::size_t>(column));
  }

 private:
  std::vector<float> q_;
};

at::Tensor to_tensor(std::span<const float> values) {
  at::Tensor tensor = at::empty({static_cast<std::int64_t>(values.size())}, at::kFloat);
  std::copy(values.begin(), values.end(), tensor.data_ptr<float>());
  return tensor;
}

const Registration kSampling("ar_sampling", [](const Fixture& fixture, Report& report) {
  const at::Tensor logits = make_input(fixture.json.at("logits"));
  const at::Tensor previous = make_input(fixture.json.at("prev"));
  for_each_case(fixture, report, [&](const Json& c, CaseReport& check) {
    const auto name = c.at("name").get<std::string>();
    const auto n_vocab = c.at("n_vocab").get<std::int64_t>();
    const at::Tensor source = c.at("source") == "ties_logits" ? logits.round() : logits;  // round half to even

    SamplingParams params;
    params.top_k = c.at("top_k").is_null() ? std::nullopt : std::optional<int>(c.at("top_k").get<int>());
    params.top_p = c.at("top_p").is_null() ? std::nullopt : std::optional<float>(c.at("top_p").get<float>());
    params.temperature = c.at("temperature").get<float>();
    params.repetition_penalty = c.at("repetition_penalty").get<float>();
    params.min_tokens = n_vocab == logits.numel() ? 0 : 1;  // the short vectors are those without EOS

    std::vector<std::int32_t> history;
    if (c.at("use_prev").get<bool>()) {
      for (std::int64_t i = 0; i < previous.numel(); ++i) {
        history.push_back(static_cast<std::int32_t>(previous.data_ptr<std::int64_t>()[i]));
      }
    }
    Sampler sampler;
    bool tokens_equal = true;
    bool argmax_equal = true;
    std::vector<float> work;
    for (std::size_t i = 0; i < c.at("noise").size(); ++i) {
      const FixedNoise noise(c.at("noise")[i].get<std::string>(), n_vocab);
      work.assign(source.data_ptr<float>(), source.data_ptr<float>() + source.numel());
      const Draw draw = sampler.draw(work, history, params, noise, /*step=*/0);
      tokens_equal = tokens_equal && draw.token == c.at("tokens")[i].get<std::int32_t>();
      argmax_equal = argmax_equal && draw.argmax == c.at("argmax_after_penalty").get<std::int32_t>();
    }
    work.resize(static_cast<std::size_t>(n_vocab));
    check.close("penalised", to_tensor(work), fixture.array("penalised." + name), 1e-5);
    const at::Tensor probabilities = to_tensor(sampler.probabilities());
    check.close("probs", probabilities, fixture.array("probs." + name), 1e-5);
    check.same("kept", probabilities.gt(0).sum().item<std::int64_t>() == c.at("n_nonzero").get<std::int64_t>());
    check.same("tokens", tokens_equal);
    check.same("argmax", argmax_equal);
  });
});

}  // namespace
}  // namespace tts::parity
