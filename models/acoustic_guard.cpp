#include "models/acoustic_guard.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <span>

#include <ATen/ops/empty.h>
#include <c10/core/InferenceMode.h>

#include "models/bf16_kernels.h"
#include "models/mel.h"
#include "models/noise.h"
#include "src/core/log.h"

namespace tts {
namespace {

constexpr std::uint64_t kSeed = 20;
constexpr std::int64_t kTokens = 24;  // about a second
constexpr std::int64_t kPhonemes = 16;
constexpr std::int64_t kReferenceFrames = 60;
/// Of v3 and v4 on a CPU, where one costs half a second.
constexpr int kCpuFlowSteps = 2;

/// Normal numbers of a stream of the guard's seed.
at::Tensor normal(at::IntArrayRef shape, std::uint64_t stream) {
  at::Tensor out = at::empty(shape, at::kFloat);
  GaussianNoise(kSeed, stream).fill(0, {out.data_ptr<float>(), static_cast<std::size_t>(out.numel())});
  return out;
}

/// Ids that wander over an inventory.
std::vector<std::int32_t> ids(std::int64_t count, std::int64_t inventory) {
  std::vector<std::int32_t> out;
  for (std::int64_t i = 0; i < count; ++i) out.push_back(static_cast<std::int32_t>((i * 37 + 11) % inventory));
  return out;
}

/// A made-up recording.
SovitsFront::Reference some_reference(const PublishedConfig& config) {
  SovitsFront::Reference reference;
  reference.spectrogram = normal({kReferenceFrames, config.ref_bins}, 1).abs();
  if (config.speaker_dim > 0) reference.embedding = normal({config.speaker_dim}, 2);
  return reference;
}

/// What a model of a published form makes of the guard's input in that speaker's voice.
template <class Model>
std::vector<float> wave_of(const Model& model, const typename Model::Speaker& speaker,
                           const AcousticOptions& options = {.seed = kSeed}) {
  const PublishedConfig& config = model.config();
  const auto stream = model.begin(ids(kPhonemes, config.phonemes), speaker, options);
  return stream->push(ids(kTokens, config.codes), true);
}

template <class Model>
std::vector<float> vits_wave(const Model& model) {
  const c10::InferenceMode inference;
  const SovitsFront::Reference reference = some_reference(model.config());
  return wave_of(model, model.make_speaker(std::span(&reference, 1)));
}

template <class Model>
std::vector<float> cfm_wave(const Model& model, const AcousticOptions& options) {
  const c10::InferenceMode inference;
  const PublishedConfig& config = model.config();
  const at::Tensor mel = normal({kReferenceFrames, config.dit.mel}, 2) - 5.0;
  const auto speaker =
      model.make_speaker(some_reference(config), mel, ids(kTokens, config.codes), ids(kPhonemes, config.phonemes));
  return wave_of(model, speaker, options);
}

}  // namespace

std::string to_string(const AcousticDrift& drift) {
  char text[96];
  std::snprintf(text, sizeof(text), "mel_db=%.3f level_db=%.3f finite=%d", drift.mean_db, drift.level_db,
                drift.finite ? 1 : 0);
  return text;
}

AcousticDrift acoustic_drift(const std::vector<float>& wanted, const std::vector<float>& got) {
  AcousticDrift drift;
  const auto is_finite = [](float v) { return std::isfinite(v); };
  drift.finite = wanted.size() == got.size() && std::all_of(got.begin(), got.end(), is_finite);
  if (!drift.finite || wanted.empty()) return drift;
  const auto to_mel = [](const std::vector<float>& wave) {
    at::Tensor samples = at::empty({static_cast<std::int64_t>(wave.size())}, at::kFloat);
    std::copy(wave.begin(), wave.end(), samples.data_ptr<float>());
    return MelFrontEnd(kMelV3)(samples).contiguous();
  };
  const auto energy = [](const std::vector<float>& wave) {
    double sum = 1e-12;
    for (const float v : wave) sum += static_cast<double>(v) * static_cast<double>(v);
    return sum;
  };
  drift.level_db = 10.0 * std::log10(energy(got) / energy(wanted));
  const at::Tensor a = to_mel(wanted);
  const at::Tensor b = to_mel(got);
  const std::span<const float> left(a.data_ptr<float>(), static_cast<std::size_t>(a.numel()));
  const std::span<const float> right(b.data_ptr<float>(), static_cast<std::size_t>(b.numel()));
  constexpr float kDbPerNeper = 8.685889638F;
  const float floor = *std::max_element(left.begin(), left.end()) - 60.0F / kDbPerNeper;
  double sum = 0;
  std::int64_t count = 0;
  for (std::size_t i = 0; i < left.size(); ++i) {
    if (std::max(left[i], right[i]) < floor) continue;
    sum += std::abs(std::max(left[i], floor) - std::max(right[i], floor));
    ++count;
  }
  if (count > 0) drift.mean_db = kDbPerNeper * sum / static_cast<double>(count);
  return drift;
}

std::vector<float> guard_wave(const AcousticModel& model, const GuardSpeech& speech) {
  const c10::InferenceMode inference;
  AcousticStream stream = model.begin(speech.phonemes, speech.speaker, {.seed = kSeed});
  return stream.push(speech.tokens, true);
}

std::vector<float> guard_wave(const VitsModel& model) {
  return vits_wave(model);
}

std::vector<float> guard_wave(const VitsWindows& model) {
  return vits_wave(model);
}

std::vector<float> guard_wave(const CfmModel& model) {
  return cfm_wave(model, {.seed = kSeed, .steps = kCpuFlowSteps});
}

std::vector<float> guard_wave(const CfmWindows& model) {
  return cfm_wave(model, {.seed = kSeed});
}

void log_impossible(std::string_view name, std::string_view precision, const std::string& what) {
  // Of libtorch's many lines the first.
  get_logger("models")->info("acoustic precision={} not possible on this device model={} what={}", precision, name,
                             log_value(what.substr(0, what.find('\n'))));
}

bool may_use_bf16(PrecisionChoice wish, std::string_view name) {
  if (wish == PrecisionChoice::fp32) return false;
  if (bf16_kernels() != nullptr) return true;
  if (wish == PrecisionChoice::bf16) {
    get_logger("models")->warn("acoustic networks stay at fp32: this CPU has no AVX512-BF16, and is not one with AVX2 alone model={}", name);
  }
  return false;
}

bool judge_drift(const AcousticDrift& drift, std::string_view name, std::string_view precision) {
  if (drift.passes()) {
    get_logger("models")->info("acoustic precision={} model={} {}", precision, name, to_string(drift));
    return true;
  }
  get_logger("models")->warn("acoustic precision={} refused by its guard model={} {}", precision, name,
                             to_string(drift));
  return false;
}

}  // namespace tts
