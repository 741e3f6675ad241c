#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include <ATen/core/Tensor.h>

#include "models/acoustic.h"
#include "models/bigvgan.h"
#include "models/cfm.h"
#include "models/chunking.h"
#include "models/dit.h"
#include "models/feature_encoder.h"
#include "models/hifigan.h"
#include "models/prefix_encoder.h"
#include "models/published.h"
#include "models/sovits_front.h"
#include "models/token_renderer.h"

namespace tts {

/// The acoustic half of the forms v3 and v4: semantic tokens and phonemes to mel frames by flow matching with a
/// diffusion transformer, which continues the mel of the reference, and from there to samples by BigVGAN (v3, 24 kHz)
/// or HiFi-GAN (v4, 48 kHz). Const after construction; serves any number of streams.
class CfmModel {
 public:
  /// What depends on the form alone. Upstream's limits: frames of the reference, and of a window with it.
  [[nodiscard]] static PrefixPolicy prefix_policy(const PublishedConfig& config);
  [[nodiscard]] static FlowWindowPolicy window_policy(const PublishedConfig& config);
  /// The same beside a prompt of so many frames.
  [[nodiscard]] static FlowWindowPolicy window_policy(const PublishedConfig& config, std::int64_t prompt_frames);
  [[nodiscard]] static FeatureEncoderConfig feature_config(const PublishedConfig& config);
  [[nodiscard]] static std::int64_t max_prompt_frames(ModelForm form) { return form == ModelForm::v3 ? 468 : 500; }
  [[nodiscard]] static std::int64_t max_window_frames(ModelForm form) { return form == ModelForm::v3 ? 934 : 1000; }
  [[nodiscard]] static BigvganConfig bigvgan_config(const PublishedConfig& config);
  [[nodiscard]] static HifiganConfig hifigan_config(const PublishedConfig& config);
  /// What a stream's windows see of a speaker's prompt: its last frames. Throws ModelError for a negative number.
  [[nodiscard]] static FlowPrompt prompt_of(const FlowPrompt& prompt, const PublishedConfig& config,
                                            const AcousticOptions& options);

  /// `acoustic` holds "quantizer", "ref_enc", "enc_p", "bridge", "wns1", "cfm.estimator"; `vocoder` the vocoder's keys.
  /// Throws ModelError naming the missing or misshapen tensor.
  CfmModel(const WeightScope& acoustic, const WeightScope& vocoder, const PublishedConfig& config);

  /// A speaker, made once per voice: the recording, what it says, and its mel.
  struct Speaker {
    SovitsFront::Speaker front;
    at::Tensor prepared;  ///< wns1's conditioning
    FlowPrompt prompt;
  };
  /// mel [frames, bands]: natural logarithm, not normalised. tokens and phonemes of the recording, at least one each.
  [[nodiscard]] Speaker make_speaker(const SovitsFront::Reference& reference, const at::Tensor& mel,
                                     std::span<const std::int32_t> tokens,
                                     std::span<const std::int32_t> phonemes) const {
    return make_speaker(front_, features_, config_, reference, mel, tokens, phonemes);
  }
  /// The same with networks of the caller's.
  [[nodiscard]] static Speaker make_speaker(const SovitsFront& front, const FeatureEncoder& features,
                                            const PublishedConfig& config, const SovitsFront::Reference& reference,
                                            const at::Tensor& mel, std::span<const std::int32_t> tokens,
                                            std::span<const std::int32_t> phonemes);

  /// A segment in a stream, with the noise of a seed. phonemes: all of the segment. The speaker must outlive the
  /// stream. The flow's windows are those of windows(), the noise is indexed by absolute frame, so that the samples do
  /// not depend on when the tokens came. When the whole segment is awaited (no lookahead) the windows are upstream's
  /// serial loop. Throws ModelError on an id outside the inventory or options outside their range.
  [[nodiscard]] std::unique_ptr<TokenRenderer> begin(std::span<const std::int32_t> phonemes, const Speaker& speaker,
                                                     const AcousticOptions& options) const;

  /// Tokens after which push() first returns samples at speed 1; nothing when the whole segment is awaited.
  [[nodiscard]] std::optional<std::int64_t> first_audio_tokens() const;
  [[nodiscard]] const PublishedConfig& config() const { return config_; }
  [[nodiscard]] const PrefixPolicy& policy() const { return policy_; }
  [[nodiscard]] const FlowWindowPolicy& windows() const { return windows_; }
  [[nodiscard]] std::int64_t hop_samples() const { return config_.hop_samples(); }

  /// The noise of a mel frame is numbers frame * bands .. + bands of this stream of the seed.
  static constexpr std::uint64_t kNoiseStream = 4;

 private:
  class Stream;
  class Vocoder;
  [[nodiscard]] std::shared_ptr<const FlowPlan> plan(const FlowSchedule& schedule) const;

  PublishedConfig config_;
  PrefixPolicy policy_;
  FlowWindowPolicy windows_;
  SovitsFront front_;
  FeatureEncoder features_;
  Dit dit_;
  std::optional<Bigvgan> bigvgan_;  ///< v3
  std::optional<Hifigan> hifigan_;  ///< v4
  mutable FlowPlans<FlowPlan> plans_;
};

}  // namespace tts
