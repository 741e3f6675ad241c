#pragma once

#include <functional>
#include <memory>

#include "models/device_choice.h"
#include "models/token_model.h"
#include "models/weights.h"

namespace tts {

/// A T2S on `device` as `options` ask, with its guard. `scope` holds the checkpoint's keys after "model.". Throws
/// ModelError naming the missing or misshapen tensor, or what is wrong with the device. What a GPU cannot do (its
/// sizes, float32, int8; or the guard refuses) is done on the CPU, with a line in the log; so is all when the choice
/// was automatic and the GPU fails.
[[nodiscard]] std::unique_ptr<const TokenModel> make_token_model(const T2SConfig& config, const WeightScope& scope,
                                                                 const T2SOptions& options,
                                                                 const DeviceChoice& device = {});

/// Makes a model on a device at a precision; throws what the device says.
using MakeAt = std::function<std::unique_ptr<const TokenModel>(T2SPrecision precision)>;
/// Of bf16 and fp16 the one that `wanted` names, if the guard (t2s_guard.h) lets it pass, else the other one; with
/// automatic the one nearer to float32. Null when both are refused.
[[nodiscard]] std::unique_ptr<const TokenModel> make_guarded(const T2SConfig& config, const WeightScope& scope,
                                                             const T2SOptions& options, const MakeAt& make);

}  // namespace tts
