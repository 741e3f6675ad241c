#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include <ATen/core/Tensor.h>

#include "models/convnext.h"
#include "models/flow_schedule.h"
#include "models/layers.h"
#include "models/noise.h"
#include "models/speaker_fit.h"

namespace tts {

struct CausalFlowConfig {
  std::int64_t features = 256;  ///< channels of the conditioning mu
  std::int64_t mel = 100;
  std::int64_t dim = 256;
  std::int64_t inner = 768;  ///< width inside the ConvNeXt blocks
  std::int64_t layers = 8;
  std::int64_t kernel = 7;
};

/// Conditioning to mel frames, chunk by chunk: conditional flow matching (Lipman et al. 2023), whose velocity field is
/// a stack of causal ConvNeXt blocks with adaptive norms. Frame i depends on frames <= i only, so any chunking equals
/// the whole and nothing is held back: the lookahead is 0 frames. Const after construction: one CausalFlow serves all
/// streams, each with its own State.
class CausalFlow {
 public:
  /// Keys "time_embed.time_mlp.{0,2}", "input_embed.proj", "blocks.#.{dwconv,ada,pwconv1,pwconv2}", "norm_out.linear",
  /// "proj_out" under "cfm.estimator". Throws ModelError naming the missing or misshapen tensor.
  CausalFlow(const WeightScope& weights, const CausalFlowConfig& config);

  /// What depends on the flow's schedule alone: the adaptive norms of every call. Shared by all streams that use it.
  struct Block {
    at::Tensor gain, bias, gate;  ///< [dim]
  };
  struct Call {
    std::vector<Block> blocks;
    at::Tensor out_gain, out_bias;  ///< [dim]
  };
  struct Schedule {
    FlowSchedule flow;
    std::vector<Call> calls;  ///< one for each of flow_calls()
  };
  /// Guidance is off in this network, whatever the schedule says. `fit`: the speaker's, if there is one. Throws
  /// ModelError on a schedule out of its range.
  [[nodiscard]] std::shared_ptr<const Schedule> make_schedule(const FlowSchedule& flow,
                                                              const SpeakerFit& fit = {}) const;

  struct State {
    std::shared_ptr<const Schedule> schedule;
    std::vector<at::Tensor> past;  ///< call by call, block by block: [kernel - 1, dim]
    GaussianNoise noise{0, 0};
    std::int64_t frames = 0;  ///< done so far
  };
  [[nodiscard]] State initial_state(std::shared_ptr<const Schedule> schedule, std::uint64_t seed) const;

  /// mu [frames, features] -> normalised mel [frames, mel].
  [[nodiscard]] at::Tensor step(const at::Tensor& mu, State& state) const;

  /// The noise a frame starts from is number frame * mel + band of this stream of the seed.
  static constexpr std::uint64_t kNoiseStream = 1;

 private:
  CausalFlowConfig config_;
  Linear time_in_, time_out_;
  Linear input_x_, input_mu_;  ///< the halves of input_embed.proj; the bias is in the second
  std::vector<CausalConvNext> blocks_;
  std::vector<Linear> modulations_;
  Linear out_modulation_, out_;
};

}  // namespace tts
