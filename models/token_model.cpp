#include "models/token_model.h"

#include <stdexcept>
#include <string>

namespace tts {

void check_token(const T2SConfig& config, std::int32_t token) {
  if (token < 0 || token >= config.vocab) {
    throw std::invalid_argument("semantic token " + std::to_string(token) + " is outside 0.." +
                                std::to_string(config.vocab - 1));
  }
}

void check_input(const T2SConfig& config, std::span<const std::int32_t> phonemes, std::span<const float> bert,
                 std::span<const std::int32_t> prompt) {
  const auto n_text = static_cast<std::int64_t>(phonemes.size());
  const auto n_prompt = static_cast<std::int64_t>(prompt.size());
  if (n_text == 0) throw std::invalid_argument("T2S text is empty");
  if (n_text > kT2SPositions || n_prompt >= kT2SPositions) {
    throw std::invalid_argument("T2S input of " + std::to_string(n_text) + " phonemes and " + std::to_string(n_prompt) +
                                " prompt tokens; at most " + std::to_string(kT2SPositions));
  }
  if (!bert.empty() && bert.size() != phonemes.size() * static_cast<std::size_t>(config.bert_dim)) {
    throw std::invalid_argument("T2S bert feature has " + std::to_string(bert.size()) + " values, wanted " +
                                std::to_string(n_text) + " x " + std::to_string(config.bert_dim));
  }
  for (const std::int32_t id : phonemes) {
    if (id < 0 || id >= config.phoneme_vocab) {
      throw std::invalid_argument("phoneme id " + std::to_string(id) + " is outside 0.." +
                                  std::to_string(config.phoneme_vocab - 1));
    }
  }
  for (const std::int32_t token : prompt) check_token(config, token);
}

}  // namespace tts
