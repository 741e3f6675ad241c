#include "models/mel_shift.h"

#include <algorithm>

#include <ATen/ATen.h>

#include "models/layers.h"

namespace tts {
namespace {

constexpr double kRange = 4.0;  // nepers
constexpr double kMost = 1.0;   // nepers
constexpr std::int64_t kLeastFrames = 25;

/// Natural logarithm of the power of all of a log mel.
at::Tensor power(const at::Tensor& mel) {
  return at::logsumexp(2 * mel, at::IntArrayRef{0, 1});
}

}  // namespace

at::Tensor mel_shift(const at::Tensor& recorded, const at::Tensor& made) {
  check_shape(made, {-1, recorded.size(1)}, "mel_shift");
  const at::Tensor none = at::zeros({recorded.size(1)});
  const std::int64_t frames = std::min(recorded.size(0), made.size(0));
  if (frames < kLeastFrames) return none;
  const at::Tensor theirs = recorded.narrow(0, 0, frames);
  const at::Tensor level = at::logsumexp(2 * theirs, at::IntArrayRef{1}) / 2;
  const at::Tensor loud = at::nonzero(level > level.max() - kRange).squeeze(1);
  if (loud.numel() < kLeastFrames) return none;
  const at::Tensor have = made.narrow(0, 0, frames).index_select(0, loud);
  const at::Tensor shift = (theirs.index_select(0, loud).mean(0) - have.mean(0)).clamp(-kMost, kMost);
  const at::Tensor kept = shift - (power(have + shift) - power(have)) / 2;
  // What a damaged network makes.
  return at::isfinite(kept).all().item<bool>() ? kept : none;
}

void check_mel_shift(const at::Tensor& shift) {
  if (!(shift.abs() <= kMostMelShift).all().item<bool>()) {
    throw ModelError("mel_shift: holds a value that is not finite or beyond 2 nepers");
  }
}

}  // namespace tts
