#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include <ATen/core/Tensor.h>

#include "models/convnext.h"
#include "models/frame_stretch.h"
#include "models/sovits_front.h"

namespace tts {

/// When frames are computed, and from which tokens. The encoder attends to all tokens of a segment, so a frame computed
/// before the last one is known is an approximation, the better the more tokens stand behind it. Tokens are grouped
/// into blocks; the frames of a block are computed once, from all tokens up to `lookahead` behind the block. The blocks
/// are fixed beforehand, so that the frames do not depend on when the tokens came.
struct PrefixPolicy {
  std::optional<std::int64_t> lookahead = 8;  ///< tokens; none: one block, the whole segment (upstream's result)
  std::int64_t first = 20;                    ///< tokens of the first block: the flow sees 16 ahead, the rest is heard
  std::int64_t next = 8;                      ///< of the second; further ones grow
  double growth = 1.5;
  std::int64_t max = 40;
  /// Tokens before a block that its frames are computed with, when they are not computed from the whole segment: the
  /// cost of a second of speech does not depend on the length of its text.
  std::int64_t context = 100;

  /// Where block `index` ends, in tokens from the segment's start.
  [[nodiscard]] std::int64_t block_end(std::int64_t index) const;
  /// Tokens whose frames are computed once n of the segment are known and more may follow.
  [[nodiscard]] std::int64_t settled(std::int64_t n) const;
  /// With n tokens known and about `count` more to come: the most of them, or if need be the fewest above, after which
  /// a block is just settled. Without a lookahead, count.
  [[nodiscard]] std::int64_t useful(std::int64_t n, std::int64_t count) const;
};

/// Semantic tokens of one segment to encoder frames at 50 Hz, in a stream. `front` must outlive it.
class PrefixEncoder {
 public:
  /// phonemes: of the segment (not of the prompt), at least one. Throws ModelError on an id outside the inventory and
  /// on a speed outside 0.5..2.
  PrefixEncoder(const SovitsFront& front, std::span<const std::int32_t> phonemes, const SovitsFront::Speaker& speaker,
                const PrefixPolicy& policy, double speed);

  /// Returns the frames [n, hidden] settled by these tokens, at the speed; with `last` all that remain. Throws
  /// ModelError on a token outside the codebook and on a push after the last.
  [[nodiscard]] at::Tensor push(std::span<const std::int32_t> tokens, bool last);
  /// Blocks whose frames were returned.
  [[nodiscard]] std::int64_t blocks() const { return block_; }
  /// Tokens so far.
  [[nodiscard]] std::int64_t tokens() const { return quantized_.size() / 2; }

 private:
  [[nodiscard]] at::Tensor encode_settled(std::span<const std::int32_t> tokens, bool last);
  [[nodiscard]] at::Tensor encode(std::int64_t begin, std::int64_t end, std::int64_t known) const;

  const SovitsFront* front_;
  at::Tensor ge_;
  SemanticEncoder::Text text_;
  PrefixPolicy policy_;
  FrameBuffer quantized_;  ///< those that a later block may need
  std::int64_t block_ = 0;
  std::int64_t done_ = 0;  ///< tokens whose frames were returned
  double speed_;
  FrameStretch stretch_;
  bool ended_ = false;
};

}  // namespace tts
