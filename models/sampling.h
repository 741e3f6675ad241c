#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace tts {

/// How the next semantic token is drawn from the logits.
struct SamplingParams {
  std::optional<int> top_k = 15;      ///< >= 1; unset: no limit
  std::optional<float> top_p = 1.0F;  ///< 1 or unset: no limit; 0 leaves the best token alone
  float temperature = 1.0F;           ///< below 1e-5 counts as 1e-5
  float repetition_penalty = 1.35F;   ///< 1: none
  std::int64_t min_tokens = 11;       ///< end of speech is forbidden for the first min_tokens steps
};

/// The random numbers of the draw: one Exp(1) value for each (step, column). Pure, so that an utterance can be replayed
/// and its draws do not depend on who else is in the batch.
class NoiseSource {
 public:
  virtual ~NoiseSource() = default;
  /// > 0.
  [[nodiscard]] virtual float exponential(std::int64_t step, std::int64_t column) const = 0;
};

/// Counter-based noise: a hash of (seed, step, column). The same seed gives the same speech on every machine whose
/// logits agree.
class SeededNoise final : public NoiseSource {
 public:
  explicit SeededNoise(std::uint64_t seed) noexcept : seed_(seed) {}
  [[nodiscard]] float exponential(std::int64_t step, std::int64_t column) const override;

 private:
  std::uint64_t seed_;
};

struct Draw {
  std::int32_t token = 0;
  std::int32_t argmax = 0;  ///< of the penalised logits, before top_p, temperature and top_k

  /// The reference's rule: speech ends when EOS is drawn or when it is the most likely token, whatever was drawn.
  [[nodiscard]] bool ends(std::int64_t eos) const noexcept { return token == eos || argmax == eos; }
};

/// One sampling step in the reference's order: suppress EOS, repetition penalty, top_p, temperature, top_k, softmax,
/// race. Holds only scratch memory; not for use by two threads at once.
class Sampler {
 public:
  /// Draws the token of `step` (0 = the one after the prefill). `logits` [vocab], EOS last, is changed in place to the
  /// penalised logits. `history`: prompt and generated tokens; each distinct one is penalised once.
  [[nodiscard]] Draw draw(std::span<float> logits, std::span<const std::int32_t> history, const SamplingParams& params,
                          const NoiseSource& noise, std::int64_t step);

  /// Probabilities of the last draw [columns]: vocab, or vocab - 1 while EOS was suppressed. Removed entries are 0.
  [[nodiscard]] std::span<const float> probabilities() const noexcept { return probabilities_; }

 private:
  std::vector<float> probabilities_;
  std::vector<float> sorted_;
  std::vector<std::int32_t> order_;
  std::vector<std::uint8_t> seen_;
};

}  // namespace tts
