#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "models/acoustic.h"
#include "models/cfm.h"
#include "models/cfm_model.h"
#include "models/chunking.h"
#include "models/feature_encoder.h"
#include "models/published.h"
#include "models/token_renderer.h"
#include "models/window_bigvgan.h"
#include "models/window_dit.h"
#include "models/window_front.h"
#include "models/window_networks.h"
#include "models/window_stage.h"

namespace tts {

/// CfmModel for any device, as VitsWindows is VitsModel: the acoustic half of v3 and v4, the windows of different
/// streams in one call. Encoder blocks, conditioning, windows of the flow (all of its steps are one call) and of the
/// vocoder follow each other; splicing is done on the host. Rows of a flow's call may differ in length, in a bucket of
/// 64 frames. Const after construction; serves any number of streams and threads.
class CfmWindows {
 public:
  using Options = WindowOptions;
  /// As CfmModel. Throws ModelError naming the missing or misshapen tensor.
  CfmWindows(const WeightScope& acoustic, const WeightScope& vocoder, const PublishedConfig& config, Options options);
  ~CfmWindows();
  CfmWindows(const CfmWindows&) = delete;
  CfmWindows& operator=(const CfmWindows&) = delete;

  /// A speaker, made once per voice, on the host.
  struct Speaker {
    std::vector<float> encoder, conditioning;
    FlowPrompt prompt;
  };
  /// As CfmModel::make_speaker().
  [[nodiscard]] Speaker make_speaker(const SovitsFront::Reference& reference, const at::Tensor& mel,
                                     std::span<const std::int32_t> tokens,
                                     std::span<const std::int32_t> phonemes) const;

  /// As CfmModel::begin(); streams of one model are rendered together by TokenRenderer::push_together().
  [[nodiscard]] std::unique_ptr<TokenRenderer> begin(std::span<const std::int32_t> phonemes, const Speaker& speaker,
                                                     const AcousticOptions& options) const;

  /// Tokens after which push() first returns samples at speed 1; nothing when the whole segment is awaited.
  [[nodiscard]] std::optional<std::int64_t> first_audio_tokens() const;
  [[nodiscard]] const PublishedConfig& config() const { return config_; }
  [[nodiscard]] const PrefixPolicy& policy() const { return front_.policy(); }
  [[nodiscard]] std::int64_t hop_samples() const { return config_.hop_samples(); }
  [[nodiscard]] std::int64_t max_batch() const { return options_.max_batch; }
  [[nodiscard]] std::size_t lanes() const { return options_.lanes; }

 private:
  class Stream;
  using Piece = WindowPiece<Stream>;
  struct FlowPiece;
  /// A schedule made ready; `number` tells calls of different ones apart.
  struct Plan : WindowDit::Plan {
    std::int64_t number = 0;
  };
  [[nodiscard]] std::shared_ptr<const Plan> plan(const FlowSchedule& schedule) const;
  [[nodiscard]] WindowShape refine_shape(std::int64_t width) const;
  [[nodiscard]] WindowShape flow_shape(std::int64_t frames, const std::shared_ptr<const Plan>& plan) const;
  [[nodiscard]] WindowShape vocoder_shape(std::int64_t width) const;
  void push_together(std::span<TokenRenderer::Job> jobs) const;

  Options options_;
  PublishedConfig config_;
  FlowWindowPolicy windows_;
  WindowFront front_;
  FeatureEncoder features_;  ///< on the CPU, for speakers
  WindowConv bridge_, pre_, proj_;
  WindowWaveNet wavenet_;
  WindowDit dit_;
  std::optional<WindowBigvgan> bigvgan_;  ///< v3
  std::optional<WindowHifigan> hifigan_;  ///< v4
  WindowPolicy refine_windows_, vocoder_windows_;
  mutable FlowPlans<Plan> plans_;
  mutable std::int64_t plans_made_ = 0;  ///< counted where they are made, one at a time
  mutable DeviceLanes lanes_;
};

}  // namespace tts
