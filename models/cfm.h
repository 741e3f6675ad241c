#pragma once

#include <cstdint>
#include <functional>

#include <ATen/core/Tensor.h>

#include "models/dit.h"

namespace tts {

struct CfmOptions {
  int steps = 8;
  double guidance = 0.0;  ///< classifier-free guidance rate; at most 1e-5 means one network call per step
};

/// Samples mel frames by conditional flow matching (Lipman et al. 2023): uniform Euler steps from t = 0.
/// mu [batch, frames, text_dim], prompt [1 or batch, n_prompt <= frames, mel] (normalised mel of the first frames),
/// noise [batch, frames, mel] -> [batch, frames, mel], normalised; the prompt's frames are zero.
/// The noise is the caller's: the function is deterministic.
[[nodiscard]] at::Tensor sample_flow(const Dit& estimator, const at::Tensor& mu, const at::Tensor& prompt,
                                     const at::Tensor& noise, const CfmOptions& options);

/// Log mel to the flow's range and back: (mel + 12) / 14 * 2 - 1.
[[nodiscard]] at::Tensor normalize_mel(const at::Tensor& mel);
[[nodiscard]] at::Tensor denormalize_mel(const at::Tensor& mel);

}  // namespace tts
