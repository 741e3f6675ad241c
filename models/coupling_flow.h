#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "models/layers.h"
#include "models/wavenet.h"

namespace tts {

struct CouplingFlowConfig {
  std::int64_t channels = 192;   ///< of the latents; also the width of the WaveNets
  std::int64_t condition = 512;  ///< channels of the speaker embedding
  std::int64_t couplings = 4;
  std::int64_t layers = 4;  ///< of each WaveNet
  std::int64_t kernel = 5;
};

/// The normalising flow of VITS (Kim et al. 2021, sec. 2.2.2) run backwards: mean-only residual couplings with a
/// reversal of the channels before each. Symmetric and non-causal: an output frame needs context() input frames on
/// either side, and the ends of the sequence count as zeros.
class CouplingFlow {
 public:
  /// Keys "flows.{0,2,..}.{pre,post}", "flows.#.enc.*". Throws ModelError naming the missing or misshapen tensor.
  explicit CouplingFlow(const WeightScope& weights, const CouplingFlowConfig& config = {});

  /// The speaker's part, once per voice: one per coupling.
  using Condition = std::vector<at::Tensor>;
  [[nodiscard]] Condition prepare(const at::Tensor& ge) const;

  /// z_p [frames, channels] -> z [frames, channels].
  [[nodiscard]] at::Tensor reverse(at::Tensor z, const Condition& condition, const Probe* probe = nullptr) const;

  [[nodiscard]] std::int64_t context() const;

 private:
  struct Coupling {
    Linear pre;
    WaveNet wavenet;
    Linear post;
  };
  CouplingFlowConfig config_;
  std::vector<Coupling> couplings_;
};

}  // namespace tts
