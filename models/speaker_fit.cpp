#include "models/speaker_fit.h"

#include <string>

#include <ATen/ops/zeros.h>

#include "models/acoustic.h"
#include "models/layers.h"

namespace tts {

SpeakerFit nothing_fitted(const AcousticConfig& c) {
  return {.style = at::zeros({c.mrte_dim}),
          .conditioning = at::zeros({c.wns_layers, 2 * c.feature_dim}),
          .norms = at::zeros({c.estimator.layers, 3 * c.estimator.dim}),
          .out_norm = at::zeros({2 * c.estimator.dim})};
}

void check_speaker_fit(const SpeakerFit& fit, const AcousticConfig& config) {
  SpeakerFit wanted = nothing_fitted(config);
  SpeakerFit got = fit;
  const auto want = wanted.tensors();
  const auto have = got.tensors();
  for (std::size_t i = 0; i < have.size(); ++i) {
    check_shape(*have[i], want[i]->sizes(), "fit");
    if (!(have[i]->abs() <= kMostFitted).all().item<bool>()) {
      throw ModelError("fit: holds a value that is not finite or further than " + std::to_string(kMostFitted) +
                       " from 0");
    }
  }
}

}  // namespace tts
