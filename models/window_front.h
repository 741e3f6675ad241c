#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "models/frame_stretch.h"
#include "models/prefix_encoder.h"
#include "models/published.h"
#include "models/sovits_front.h"
#include "models/window_stage.h"

namespace tts {

/// From semantic tokens to frames at 50 Hz in windows: PrefixEncoder for any device.
class WindowFront {
 public:
  /// `project`: the frames are mean and logarithm of the deviation of latents. `options` must outlive it.
  WindowFront(const WeightScope& acoustic, const PublishedConfig& config, const PrefixPolicy& policy, bool project,
              const WindowOptions& options);

  class Tokens;
  /// What the encoder has to do for a stream: the frames of tokens [begin, end) from tokens [first, known).
  struct Block {
    TokenRenderer::Job* job;
    const Tokens* stream;
    std::int64_t first, begin, end, known;
    WindowShape shape{};
    at::Tensor rows{};  ///< [2 * (end - begin), channels]

    void fill(const std::vector<at::Tensor>& inputs, std::int64_t row) const;
    void take(const at::Tensor& result) { rows = result.narrow(0, 0, 2 * (end - begin)).clone(); }
  };

  /// The tokens of one stream. The model and the speaker's numbers must outlive it.
  class Tokens {
   public:
    /// ge: SovitsFront::Speaker::text_ge. Throws ModelError as PrefixEncoder does.
    Tokens(const WindowFront& front, std::span<const std::int32_t> phonemes, std::span<const float> ge, double speed);
    /// Takes the tokens of a push and adds what the encoder has to do for them. Throws ModelError on a token outside
    /// the codebook and on a push after the last.
    void accept(TokenRenderer::Job& job, std::vector<Block>& blocks);
    /// The frames [n, channels] that came of it, at the speed. `blocks`: those of this stream among others.
    [[nodiscard]] at::Tensor frames(std::span<const Block> blocks);
    [[nodiscard]] bool ended() const { return ended_; }
    [[nodiscard]] std::int64_t count() const { return static_cast<std::int64_t>(tokens_.size()); }
    /// About how many frames there will be in all after n more tokens.
    [[nodiscard]] std::int64_t frames_after(std::int64_t n, bool last) const;

   private:
    friend struct Block;
    const WindowFront& front_;
    const std::span<const float> ge_;
    const std::vector<std::int32_t> phonemes_;
    std::vector<std::int32_t> tokens_;  ///< all so far
    const double speed_;
    std::int64_t block_ = 0;
    std::int64_t encoded_ = 0;  ///< tokens
    FrameStretch stretch_;
    bool ended_ = false;
  };

  [[nodiscard]] SovitsFront::Speaker make_speaker(std::span<const SovitsFront::Reference> references) const {
    return front_.make_speaker(references);
  }
  /// Networks on the CPU, for what is made once a voice.
  [[nodiscard]] const SovitsFront& front() const { return front_; }
  [[nodiscard]] const PrefixPolicy& policy() const { return policy_; }
  /// A call for n_rows frames of n_tokens tokens, and the longest that comes again.
  [[nodiscard]] WindowShape shape(std::int64_t n_tokens, std::int64_t n_phonemes, std::int64_t n_rows) const;
  static constexpr std::int64_t kMostTokens = 148;
  static constexpr std::int64_t kMostRows = 96;

 private:
  PublishedConfig config_;
  PrefixPolicy policy_;
  const WindowOptions& options_;
  SovitsFront front_;
  WindowEncoder encoder_;
};

}  // namespace tts
