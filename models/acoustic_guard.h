#pragma once

#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "models/acoustic.h"
#include "models/cfm_model.h"
#include "models/cfm_windows.h"
#include "models/precision_choice.h"
#include "models/vits_model.h"
#include "models/vits_windows.h"
#include "models/weights.h"

namespace tts {

/// How far the sound of one precision is from that of another on the guard's input: of the starter form what its T2S
/// says; of the published forms made-up tokens, phonemes and speaker, the same for every voice. Log mel spectrograms
/// are compared where one of them is within 60 dB of its loudest value; what is softer is not heard beside it.
struct AcousticDrift {
  double mean_db = 0;   ///< mean difference of a band of a frame
  double level_db = 0;  ///< of the whole sound's level
  bool finite = true;

  /// Measured: 0.23 dB for v2 and v2Pro, 0.90 dB for the starter voice, whose phases and noise take part; 1.06 dB for
  /// the one before it, which of 934 words said 40 wrong with that and 38 in float32.
  [[nodiscard]] bool passes() const { return finite && mean_db <= 1.5 && level_db >= -0.3 && level_db <= 0.3; }
};
[[nodiscard]] std::string to_string(const AcousticDrift& drift);
[[nodiscard]] AcousticDrift acoustic_drift(const std::vector<float>& wanted, const std::vector<float>& got);

/// Speech of the starter form: attention that was taught to follow a text has nothing to hold on to in made-up
/// phonemes.
struct GuardSpeech {
  std::vector<std::int32_t> phonemes;
  std::vector<std::int32_t> tokens;  ///< that say them
  AcousticModel::Speaker speaker;    ///< of any model of these weights
};

/// The samples that a model makes of the guard's input.
[[nodiscard]] std::vector<float> guard_wave(const AcousticModel& model, const GuardSpeech& speech);
[[nodiscard]] std::vector<float> guard_wave(const VitsModel& model);
[[nodiscard]] std::vector<float> guard_wave(const CfmModel& model);
[[nodiscard]] std::vector<float> guard_wave(const VitsWindows& model);
[[nodiscard]] std::vector<float> guard_wave(const CfmWindows& model);

/// Whether bf16 may be tried at all; if it was asked for and may not, the log says so.
[[nodiscard]] bool may_use_bf16(PrecisionChoice wish, std::string_view name);
/// One line in the log; whether the precision is taken.
[[nodiscard]] bool judge_drift(const AcousticDrift& drift, std::string_view name, std::string_view precision = "bf16");

/// Makes a model in the precision that is wished for. For bf16 a float32 model is made first, sounds on the guard's
/// input, and goes; when bf16 drifts from it past the bounds, float32 is made again. `name` is for the log, `sound`
/// what gives the samples.
template <class Model>
[[nodiscard]] std::unique_ptr<const Model> make_guarded(
    PrecisionChoice wish, std::string_view name,
    const std::function<std::unique_ptr<const Model>(Precision precision)>& make,
    const std::function<std::vector<float>(const Model& model)>& sound = [](const Model& m) { return guard_wave(m); }) {
  if (!may_use_bf16(wish, name)) return make(Precision::fp32);
  const std::vector<float> wanted = sound(*make(Precision::fp32));
  std::unique_ptr<const Model> model = make(Precision::bf16);
  if (!judge_drift(acoustic_drift(wanted, sound(*model)), name)) model = make(Precision::fp32);
  return model;
}

/// Says in the log that a device cannot compute with these numbers.
void log_impossible(std::string_view name, std::string_view precision, const std::string& what);

/// The same for a device: of the numbers that may be tried there the first in which the networks sound as in float32,
/// else float32. `make` may throw for numbers that the device cannot compute with.
template <class Model>
[[nodiscard]] std::unique_ptr<const Model> make_guarded_windows(
    PrecisionChoice wish, std::string_view name,
    const std::function<std::unique_ptr<const Model>(at::ScalarType type)>& make) {
  std::unique_ptr<const Model> plain = make(at::kFloat);
  if (wish == PrecisionChoice::fp32) return plain;
  const std::vector<float> wanted = guard_wave(*plain);
  for (const at::ScalarType type : {at::kHalf, at::kBFloat16}) {  // half is finer, where its range suffices
    if (wish == PrecisionChoice::bf16 && type != at::kBFloat16) continue;
    const char* precision = type == at::kHalf ? "fp16" : "bf16";
    try {
      std::unique_ptr<const Model> model = make(type);
      if (judge_drift(acoustic_drift(wanted, guard_wave(*model)), name, precision)) return model;
    } catch (const std::exception& e) {
      log_impossible(name, precision, e.what());
    }
  }
  return plain;
}

}  // namespace tts
