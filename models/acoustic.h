#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include <ATen/core/Tensor.h>

#include "models/causal_flow.h"
#include "models/convnext.h"
#include "models/feature_encoder.h"
#include "models/mel_postfilter.h"
#include "models/quantizer.h"
#include "models/reference_encoder.h"
#include "models/semantic_encoder.h"
#include "models/source_filter_vocoder.h"
#include "models/speaker_fit.h"
#include "models/token_renderer.h"
#include "models/weights.h"

namespace tts {

/// Sizes of a voice's acoustic networks; the names of the manifest's "acoustic" object stand beside them.
struct AcousticConfig {
  std::int64_t codes = 512;
  std::int64_t code_dim = 64;
  std::int64_t phonemes = 732;
  std::int64_t hidden = 192;
  std::int64_t filter = 512;
  std::int64_t heads = 2;
  std::int64_t layers_ssl = 1;
  std::int64_t layers_text = 3;
  std::int64_t layers_post = 2;
  std::optional<AttentionWindow> attention_window =
      AttentionWindow{16, 1};   ///< none: nothing is emitted before the end
  std::int64_t mrte_dim = 256;  ///< also the width of ge
  std::int64_t mrte_heads = 4;
  std::int64_t ref_bins = 100;
  std::int64_t style_dim = 128;
  std::int64_t feature_dim = 256;
  std::int64_t wns_layers = 2;
  FlowSchedule flow{.steps = 4};  ///< unless an utterance asks for another
  double postfilter = 0.0;        ///< depth of models/mel_postfilter.h
  CausalFlowConfig estimator;     ///< features is feature_dim

  [[nodiscard]] SemanticEncoderConfig encoder() const;   ///< enc_p's sizes
  [[nodiscard]] CausalFlowConfig flow_network() const;   ///< those of cfm.estimator
};

class AcousticModel;

/// One utterance's way from semantic tokens to samples. Movable; the model must outlive it. One thread at a time.
class AcousticStream final : public TokenRenderer {
 public:
  [[nodiscard]] std::vector<float> push(std::span<const std::int32_t> tokens, bool last) override;

 private:
  friend class AcousticModel;
  explicit AcousticStream(const AcousticModel& model) : model_(&model) {}
  /// Log mel [frames, bands] of what these tokens complete, postfiltered.
  [[nodiscard]] at::Tensor make_mel(std::span<const std::int32_t> tokens, bool last);
  void resample(bool last);
  [[nodiscard]] at::Tensor condition(bool last);

  const AcousticModel* model_;
  at::Tensor ge_, prepared_;
  SemanticEncoder::Text text_;
  double speed_ = 1.0;
  CausalFlow::State flow_;
  SourceFilterVocoder::State vocoder_;
  at::Tensor mel_shift_;
  SemanticEncoder::State encoder_;
  FrameBuffer encoder_frames_;    ///< enc_p output, 50 Hz, at speed 1
  FrameBuffer bridged_;           ///< bridge output, 50 Hz, after the change of speed
  FrameBuffer resized_;           ///< the same at the mel's rate
  std::int64_t conditioned_ = 0;  ///< mel frames given to the flow
  bool done_ = false;
};

/// What an utterance may choose.
struct AcousticOptions {
  std::uint64_t seed = 0;
  double speed = 1.0;  ///< 0.5 .. 2: frames are stretched by 1 / speed, total int(frames / speed)
  int steps = 0;       ///< flow steps; 0: the voice's own
  FlowChoice flow{};   ///< what else of the flow's schedule is to be another than the voice's own
  /// v3, v4: frames of the reference that a window of the flow sees, its last ones; 0: the voice's own number.
  std::int64_t prompt_frames = 0;

  /// The schedule that these options ask of a voice whose own this is.
  [[nodiscard]] FlowSchedule schedule(const FlowSchedule& own) const {
    FlowChoice choice = flow;
    if (steps != 0) choice.steps = steps;
    return chosen_schedule(own, choice);
  }
};

/// The acoustic half of a voice: semantic tokens, phonemes and a speaker embedding to 24 kHz samples, streaming.
/// Stages: quantiser and enc_p (banded attention), bridge and wns1, causal flow matching, source-filter vocoder. Const
/// after construction; serves any number of streams.
///
/// Lookahead at 50 Hz: that of enc_p; then at 93.75 Hz: wns1's context, the vocoder's 6 frames and 384 samples. A token
/// is 960 samples at speed 1.
class AcousticModel {
 public:
  static constexpr std::int64_t kRateHz = SourceFilterVocoder::kRateHz;
  static constexpr std::int64_t kTokenSamples = 960;
  static constexpr double kMelPerFrame = 1.875;  ///< 93.75 Hz over the 50 Hz of enc_p

  /// `acoustic` holds quantizer, ref_enc, enc_p, bridge, wns1 and cfm.estimator; `vocoder` the vocoder's keys.
  /// Throws ModelError naming the missing or misshapen tensor.
  AcousticModel(const WeightScope& acoustic, const AcousticConfig& config, const WeightScope& vocoder,
                const SourceFilterConfig& vocoder_config);

  /// A speaker, made once per voice.
  struct Speaker {
    at::Tensor ge;         ///< [mrte_dim]
    at::Tensor prepared;   ///< wns1's conditioning
    at::Tensor mel_shift;  ///< [bands], added to every frame of the mel (models/mel_shift.h); undefined: none
    SpeakerFit fit;        ///< in the others already; the flow's part is for schedules that are yet to be made
    std::shared_ptr<const CausalFlow::Schedule> schedule;  ///< the model's own, fitted; none: not fitted
  };
  /// fit: of the right shapes (check_speaker_fit()).
  [[nodiscard]] Speaker make_speaker(const at::Tensor& ge, const SpeakerFit& fit = {}) const;
  /// From reference audio: log mel [frames, ref_bins], natural logarithm, not normalised.
  [[nodiscard]] Speaker make_speaker_from_mel(const at::Tensor& mel, const SpeakerFit& fit = {}) const;

  /// phonemes: all of the segment, at least one. Throws ModelError on an id outside the inventory or options outside
  /// their range.
  [[nodiscard]] AcousticStream begin(std::span<const std::int32_t> phonemes, const Speaker& speaker,
                                     const AcousticOptions& options) const;

  /// The log mel [frames, bands] that becomes of a whole utterance, postfiltered, before `speaker.mel_shift`. Throws as
  /// begin() does.
  [[nodiscard]] at::Tensor make_mel(std::span<const std::int32_t> tokens, std::span<const std::int32_t> phonemes,
                                    const Speaker& speaker) const;

  /// Tokens after which push() first returns samples at speed 1; nothing for a model without an attention window.
  [[nodiscard]] std::optional<std::int64_t> first_audio_tokens() const;

  [[nodiscard]] const AcousticConfig& config() const { return config_; }

 private:
  friend class AcousticStream;
  AcousticConfig config_;
  Quantizer quantizer_;
  ReferenceEncoder reference_;
  SemanticEncoder encoder_;
  FeatureEncoder features_;
  CausalFlow flow_;
  MelPostfilter postfilter_;
  SourceFilterVocoder vocoder_;
  std::shared_ptr<const CausalFlow::Schedule> schedule_;  ///< of config_.flow
};

}  // namespace tts
