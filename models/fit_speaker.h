#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>

#include <ATen/core/Tensor.h>

#include "models/acoustic.h"
#include "models/fit_options.h"
#include "models/speaker_fit.h"
#include "models/weights.h"

namespace tts {

/// Is told how many rounds are done, and of how many.
using FitProgress = std::function<void(int done, int rounds)>;

/// A recording and what is said in it.
struct FitTarget {
  std::span<const std::int32_t> tokens;    ///< those of the recording
  std::span<const std::int32_t> phonemes;  ///< at least one
  at::Tensor mel;                          ///< [frames, estimator.mel], natural logarithm
  at::Tensor ge;                           ///< [mrte_dim], what the reference encoder hears in it
};

/// Fits the acoustic networks of the starter form to a speaker: gradient descent on the mean distance of the mel that
/// they make of the recording's tokens, in the steps of the voice's own flow, from that of the recording. Learned are
/// offsets of the conditioning alone, not weights (as AdaSpeech adapts its conditional norms: Chen et al. 2021, section
/// 2.3), few enough for seconds of speech.
///
/// acoustic: the model's tensors (quantizer, enc_p, bridge, wns1, cfm.estimator). Deterministic on one thread. A round
/// takes some 0.2 s of a core, and no more of a longer recording. Nothing when it is shorter than a second or
/// what comes out is not nearer to it. Throws ModelError on a missing tensor and on ids outside their inventory.
[[nodiscard]] std::optional<SpeakerFit> fit_speaker(const WeightScope& acoustic, const AcousticConfig& config,
                                                    const FitTarget& target, const FitOptions& options = {},
                                                    const FitProgress& progress = {});

/// What fit_speaker() makes smaller, of the whole recording and noise of the seed: the mean over frames and bands of
/// the distance of the normalised mels.
[[nodiscard]] double speaker_distance(const WeightScope& acoustic, const AcousticConfig& config,
                                      const FitTarget& target, const SpeakerFit& fit, std::uint64_t seed = 0);

}  // namespace tts
