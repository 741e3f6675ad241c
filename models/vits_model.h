#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include <ATen/core/Tensor.h>

#include "models/acoustic.h"
#include "models/coupling_flow.h"
#include "models/frame_stretch.h"
#include "models/hifigan.h"
#include "models/prefix_encoder.h"
#include "models/published.h"
#include "models/sovits_front.h"
#include "models/token_renderer.h"

namespace tts {

/// The acoustic half of the forms v1, v2, v2Pro and v2ProPlus: semantic tokens and phonemes to 32 kHz samples by the
/// VITS decoder (Kim et al. 2021): enc_p gives mean and deviation of the latents, a reversed flow shapes them to the
/// speaker, HiFi-GAN makes them sound. Const after construction; serves any number of streams.
class VitsModel {
 public:
  /// What depends on the form alone.
  [[nodiscard]] static HifiganConfig decoder_config(const PublishedConfig& config);
  [[nodiscard]] static PrefixPolicy prefix_policy(const PublishedConfig& config);
  static constexpr double kNoiseScale = 0.5;

  /// Keys "quantizer", "ref_enc", "enc_p", "flow", "dec" and for Pro "sv_emb", "prelu", "ge_to512". Throws ModelError
  /// naming the missing or misshapen tensor.
  VitsModel(const WeightScope& acoustic, const PublishedConfig& config);

  /// A speaker, made once per voice.
  struct Speaker {
    SovitsFront::Speaker front;
    CouplingFlow::Condition flow;
  };
  [[nodiscard]] Speaker make_speaker(std::span<const SovitsFront::Reference> references,
                                     const Probe* probe = nullptr) const;

  /// A whole segment as upstream decodes it. tokens [n >= 1] and phonemes [m >= 1] int64; noise [frames, hidden] of
  /// unit variance, frames = frames_at_speed(2n, speed) -> samples [frames * hop].
  [[nodiscard]] at::Tensor decode(const at::Tensor& tokens, const at::Tensor& phonemes, const Speaker& speaker,
                                  double speed, const at::Tensor& noise, const Probe* probe = nullptr) const;
  /// Its last part: encoder frames [n, hidden] and noise of the same shape -> samples [n * hop].
  [[nodiscard]] at::Tensor decode_frames(const at::Tensor& frames, const Speaker& speaker, const at::Tensor& noise,
                                         const Probe* probe = nullptr) const;

  /// The same in a stream, with the noise of a seed. phonemes: all of the segment. The speaker must outlive the stream.
  /// Throws ModelError on an id outside the inventory or a speed outside its range.
  [[nodiscard]] std::unique_ptr<TokenRenderer> begin(std::span<const std::int32_t> phonemes, const Speaker& speaker,
                                                     const AcousticOptions& options) const;

  /// Frames behind its own that the flow sees of a frame that it shapes when this many blocks are there. The first
  /// block may see fewer than the flow depends on, so that the first sound needs fewer tokens; each further one sees
  /// more, up to context().
  [[nodiscard]] std::int64_t flow_ahead(std::int64_t blocks) const;
  /// Tokens after which push() first returns samples at speed 1; nothing when the whole segment is awaited.
  [[nodiscard]] std::optional<std::int64_t> first_audio_tokens() const;
  [[nodiscard]] const PrefixPolicy& policy() const { return policy_; }
  [[nodiscard]] const SovitsFront& front() const { return front_; }
  [[nodiscard]] const PublishedConfig& config() const { return config_; }
  [[nodiscard]] std::int64_t hop_samples() const { return decoder_.hop_samples(); }

  /// The noise of a latent frame is numbers frame * hidden .. + hidden of this stream of the seed.
  static constexpr std::uint64_t kNoiseStream = 3;

 private:
  class Stream;
  /// z_p from encoder frames and noise.
  [[nodiscard]] at::Tensor draw(const at::Tensor& frames, const at::Tensor& noise, const Probe* probe) const;

  [[nodiscard]] std::int64_t first_sound() const;

  PublishedConfig config_;
  PrefixPolicy policy_;
  SovitsFront front_;
  CouplingFlow flow_;
  Hifigan decoder_;
};

}  // namespace tts
