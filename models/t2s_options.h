#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace tts {

/// The arithmetic of a T2S. bf16 and int8 keep the keys and values as bf16; layer norms, softmax and the residual are
/// float32 always.
enum class T2SPrecision {
  automatic,  ///< the fastest that this device has instructions for and the guard lets pass
  fp32,       ///< the reference's numbers within float32 rounding
  bf16,
  int8,  ///< of the linear layers only; what gives the logits is bf16
  fp16,  ///< on a GPU; the CPU keeps weights that are halves as such and computes in float32
};

struct T2SOptions {
  T2SPrecision precision = T2SPrecision::fp32;
  /// Attention window over the tokens made since the prefill: a token sees text, prompt and the newest `window` tokens,
  /// itself included, and older ones leave memory. 0: all of them.
  std::int64_t window = 0;
};

/// "auto", "fp32", "bf16", "int8", "fp16".
[[nodiscard]] const char* to_string(T2SPrecision precision);
[[nodiscard]] std::optional<T2SPrecision> t2s_precision_of(std::string_view name);

}  // namespace tts
