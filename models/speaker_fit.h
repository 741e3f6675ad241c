#pragma once

#include <array>

#include <ATen/core/Tensor.h>

namespace tts {

struct AcousticConfig;

/// What a speaker's recording taught the acoustic networks of the starter form beyond what the reference encoder heard
/// in it (models/fit_speaker.h): offsets of everything by which a speaker, or a time of the flow, conditions them. The
/// weights stay those of the model, so voices share them and cost nothing more to speak. Either all defined or none.
struct SpeakerFit {
  at::Tensor style;         ///< [mrte_dim], of ge
  at::Tensor conditioning;  ///< [wns_layers, 2 * feature_dim], of wns1's conditioning
  at::Tensor norms;         ///< [estimator.layers, 3 * estimator.dim]: shift, scale and gate of the flow's blocks
  at::Tensor out_norm;      ///< [2 * estimator.dim]: scale and shift of its last norm

  [[nodiscard]] bool defined() const { return style.defined(); }
  [[nodiscard]] std::array<at::Tensor*, 4> tensors() { return {&style, &conditioning, &norms, &out_norm}; }
};

/// An offset that is further than this from 0 is no fit.
constexpr double kMostFitted = 2.0;

/// Zeros of the shapes that a voice of this configuration has.
[[nodiscard]] SpeakerFit nothing_fitted(const AcousticConfig& config);

/// Throws ModelError when a tensor is missing, of another shape, or holds a value that is not finite or too far from 0.
void check_speaker_fit(const SpeakerFit& fit, const AcousticConfig& config);

}  // namespace tts
