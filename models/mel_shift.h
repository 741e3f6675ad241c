#pragma once

#include <ATen/core/Tensor.h>

namespace tts {

/// What has to be added to every frame of the log mels that a network makes of a speaker so that their mean spectrum
/// is that of a recording of the speaker: a filter, the same for all frames, so that streams stay exact and nothing is
/// louder or softer than beside it. A network that learned from many speakers makes an unknown one more like them.
///
/// recorded and made: [frames, bands], natural logarithm, of the same words; frames that one of them has more are left
/// out. -> [bands], cut at a neper, then such that the level stays. From the frames whose power is within 4 nepers
/// of the loudest; zeros when these are fewer than 25 or made holds values that are not finite.
[[nodiscard]] at::Tensor mel_shift(const at::Tensor& recorded, const at::Tensor& made);

/// Nepers, the most of any band: more no recording gives.
constexpr double kMostMelShift = 2.0;

/// Throws ModelError when a value is not finite or beyond kMostMelShift.
void check_mel_shift(const at::Tensor& shift);

}  // namespace tts
