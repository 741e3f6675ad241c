#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace tts {

/// The acoustic half of one segment, whatever the form of the voice: semantic tokens in, samples out, in a stream.
/// Holds its own state; the model it came from must outlive it. One thread at a time.
class TokenRenderer {
 public:
  virtual ~TokenRenderer() = default;
  /// Takes the next tokens and returns all samples that are certain now and were not returned before. With `last`, also
  /// the rest; nothing may follow. How the tokens are cut into calls has no influence on the samples (up to float32
  /// rounding). Throws ModelError on a token outside the codebook or a push after the last.
  [[nodiscard]] virtual std::vector<float> push(std::span<const std::int32_t> tokens, bool last) = 0;
};

}  // namespace tts
