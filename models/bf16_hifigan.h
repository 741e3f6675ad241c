#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "models/fir_conv.h"
#include "models/row_window.h"
#include "src/core/spare_thread.h"

namespace tts {

/// The HiFi-GAN generator of models/hifigan.h for CPUs with bfloat16 products: the same function of a stream up to that
/// rounding. Sums and the residual signals stay in float32. Every layer takes what the one before it has made and keeps
/// the past that it needs, so nothing is computed twice and any chunking gives the same samples to the last bit. The
/// blocks of a stage are shared with the caller's spare thread (spare_thread.h), to the same bits.
class Bf16Hifigan {
 public:
  /// Float32 weights, convolutions as [out, kernel, in]; views that are read by the constructor only.
  struct Conv {
    const float* weight = nullptr;
    std::span<const float> bias;
    std::int64_t out = 0, kernel = 0, in = 0, dilation = 1;
  };
  /// A transposed convolution as the product that makes `rate` samples of a frame: [rate * out, taps, in].
  struct Upsampling {
    const float* weight = nullptr;
    std::span<const float> bias;  ///< [rate * out]
    std::int64_t rate = 1, out = 0, taps = 0, in = 0, left = 0, right = 0;
  };

  Bf16Hifigan() = default;
  void set_first(const Conv& conv);
  void set_last(const Conv& conv);
  void add_stage(const Upsampling& up);
  /// To the stage added last: a residual block of pairs of convolutions.
  void add_block(std::span<const Conv> first, std::span<const Conv> second);

  struct State {
    struct Pair {
      RowWindow<Bf16> in, middle;  ///< of the first pair `in` is unused: all blocks share the stage's
      std::int64_t middle_done = 0, done = 0;
    };
    struct Block {
      RowWindow<float> y;
      std::vector<Pair> pairs;
    };
    struct Stage {
      RowWindow<Bf16> in;        ///< of the upsampling
      std::int64_t up_done = 0;  ///< frames
      RowWindow<float> x;        ///< upsampled
      RowWindow<Bf16> activated;
      std::vector<Block> blocks;
      std::int64_t done = 0;  ///< samples given on
    };
    std::vector<float> start;  ///< bias of the first convolution, with the speaker's part
    RowWindow<Bf16> in;
    std::int64_t in_done = 0;
    std::vector<Stage> stages;
    RowWindow<Bf16> last;
    std::int64_t last_done = 0;
  };
  /// condition: what the speaker adds to the first convolution's output, [channels] or empty.
  [[nodiscard]] State initial_state(std::span<const float> condition) const;
  /// frames [n, in] -> samples that are certain now; with `last` all that remain.
  [[nodiscard]] std::vector<float> step(const float* frames, std::int64_t n, State& state, bool last) const;

 private:
  struct Pair {
    FirConv first, second;
  };
  struct Stage {
    Bf16Weight up;
    std::int64_t rate = 1, channels = 0, left = 0, right = 0;
    std::vector<std::vector<Pair>> blocks;
    std::vector<int> owners;  ///< which of two threads runs a block, so that both have about as much to do
    std::int64_t margin = 0;  ///< rows behind the upsampled signal that the blocks read
  };
  /// What follows after this: the stream's end, more of this step, or only a later step.
  enum class Next { end, more, later };
  void advance(std::size_t n, State& state, Next next, std::vector<float>& wave) const;
  /// Some panels of the outputs of the next `frames` frames.
  static void upsample(SpareThread::Member::Range panels, const Stage& stage, State::Stage& s, std::int64_t frames);
  void run_block(const std::vector<Pair>& pairs, State::Stage& stage, State::Block& block, Next next) const;
  void finish(State& state, bool ended, std::vector<float>& wave) const;

  std::vector<FirConv> first_, last_;  ///< one each
  std::vector<float> first_bias_;
  std::int64_t in_ = 0, channels_ = 0;
  std::vector<Stage> stages_;
};

}  // namespace tts
