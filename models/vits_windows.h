#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "models/acoustic.h"
#include "models/published.h"
#include "models/token_renderer.h"
#include "models/window_front.h"
#include "models/window_networks.h"
#include "models/window_stage.h"

namespace tts {

/// VitsModel for any device: the acoustic half of v1, v2 and Pro in windows of fixed widths, those of different streams
/// in one call. What a stream carries from call to call lies on the host; a call takes its inputs up in one go and its
/// result back in one copy. Encoder blocks, flow windows and decoder windows are three such calls after each other.
/// A stream sounds as with a VitsModel whose flow sees its whole context ahead (within float32 rounding), however its
/// tokens are cut and whoever shares its calls. Const after construction; serves any number of streams and threads.
class VitsWindows {
 public:
  using Options = WindowOptions;
  /// As VitsModel. Throws ModelError naming the missing or misshapen tensor.
  VitsWindows(const WeightScope& acoustic, const PublishedConfig& config, Options options);
  VitsWindows(const WeightScope& acoustic, const PublishedConfig& config) : VitsWindows(acoustic, config, Options{}) {}
  ~VitsWindows();
  VitsWindows(const VitsWindows&) = delete;
  VitsWindows& operator=(const VitsWindows&) = delete;

  /// A speaker, made once per voice: what the three networks see of it, on the host.
  struct Speaker {
    std::vector<float> encoder, flow, decoder;
  };
  [[nodiscard]] Speaker make_speaker(std::span<const SovitsFront::Reference> references) const;

  /// As VitsModel::begin(); streams of one model are rendered together by TokenRenderer::push_together().
  [[nodiscard]] std::unique_ptr<TokenRenderer> begin(std::span<const std::int32_t> phonemes, const Speaker& speaker,
                                                     const AcousticOptions& options) const;

  /// Tokens after which push() first returns samples at speed 1; nothing when the whole segment is awaited.
  [[nodiscard]] std::optional<std::int64_t> first_audio_tokens() const;
  [[nodiscard]] const PrefixPolicy& policy() const { return front_.policy(); }
  [[nodiscard]] const PublishedConfig& config() const { return config_; }
  [[nodiscard]] std::int64_t hop_samples() const { return config_.hop_samples(); }
  [[nodiscard]] std::int64_t max_batch() const { return options_.max_batch; }
  [[nodiscard]] std::size_t lanes() const { return options_.lanes; }

  /// Its parts, for measurements: the calls that push() makes, of `batch` windows each.
  enum class Part { encoder, flow, decoder };
  /// The widest window of a part: tokens (encoder) or frames.
  [[nodiscard]] std::int64_t widest(Part part) const;
  /// Runs a part once over windows of its widest kind, filled with anything.
  void run_part(Part part, std::int64_t batch) const;

 private:
  class Stream;
  using Piece = WindowPiece<Stream>;
  [[nodiscard]] WindowShape flow_shape(std::int64_t width) const;
  [[nodiscard]] WindowShape decoder_shape(std::int64_t width) const;
  void push_together(std::span<TokenRenderer::Job> jobs) const;

  Options options_;
  PublishedConfig config_;
  WindowFront front_;
  WindowCouplingFlow flow_;
  WindowHifigan decoder_;
  WindowPolicy flow_windows_, decoder_windows_;
  mutable DeviceLanes lanes_;
};

}  // namespace tts
