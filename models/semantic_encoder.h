#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include <ATen/core/Tensor.h>

#include "models/convnext.h"
#include "models/layers.h"

namespace tts {

/// Which frames a frame may attend to, relative to itself: [-left, right].
struct AttentionWindow {
  std::int64_t left = 0;
  std::int64_t right = 0;
};

struct AttentionEncoderConfig {
  std::int64_t layers = 3;
  std::int64_t channels = 192;
  std::int64_t heads = 2;
  std::int64_t filter = 768;  ///< channels inside the feed-forward convolutions
  std::int64_t kernel = 3;
  std::int64_t relative = 4;              ///< relative positions are embedded up to this distance
  std::optional<AttentionWindow> window;  ///< none: every frame attends to all frames
};

/// Post-norm transformer with relative positions (Shaw et al. 2018) and convolutional feed-forward layers: the
/// `attentions.Encoder` of VITS. Frames have no absolute position.
class AttentionEncoder {
 public:
  /// Keys "attn_layers.#.conv_{q,k,v,o}", "attn_layers.#.emb_rel_{k,v}", "norm_layers_{1,2}.#.{gamma,beta}",
  /// "ffn_layers.#.conv_{1,2}".
  AttentionEncoder(const WeightScope& weights, const AttentionEncoderConfig& config);

  /// x [frames, channels] -> [frames, channels].
  [[nodiscard]] at::Tensor encode(at::Tensor x) const;

  /// What the next frames of a stream depend on.
  struct State {
    struct Layer {
      FrameBuffer qkv;          ///< of the frames that attend or are attended to yet
      FrameBuffer input;        ///< of the frames that attend yet
      FrameBuffer attended;     ///< norm1's frames that wait for the feed-forward layers
      at::Tensor past1, past2;  ///< of those
      std::int64_t done = 0;    ///< frames that have come out
    };
    std::vector<Layer> layers;
    FrameBuffer whole;  ///< without an attention window: all of the input
  };
  [[nodiscard]] State initial_state() const;
  /// encode() in a stream, bit for bit: x [frames, channels] -> those output frames that nothing can change any more;
  /// with `last`, all that remain. May return none; without an attention window it does until `last`.
  [[nodiscard]] at::Tensor step(at::Tensor x, State& state, bool last) const;
  /// Input frames that must have come after an output frame; none without an attention window.
  [[nodiscard]] std::optional<std::int64_t> lookahead() const;

 private:
  struct Layer {
    Linear qkv;  ///< q (already divided by sqrt(head width)), k and v side by side: [channels, 3 * channels]
    Linear out;
    at::Tensor relative_key, relative_value;  ///< [2 * relative + 1, head width]
    LayerNorm norm1, norm2;
    LookaheadConv ffn1, ffn2;
  };
  [[nodiscard]] at::Tensor attention(const Layer& layer, const at::Tensor& x) const;
  [[nodiscard]] at::Tensor banded_attention(const Layer& layer, const at::Tensor& qkv, std::int64_t first,
                                            std::int64_t last) const;
  [[nodiscard]] at::Tensor step(const Layer& layer, const at::Tensor& x, State::Layer& state, bool last) const;

  AttentionEncoderConfig config_;
  std::vector<Layer> layers_;
};

struct SemanticEncoderConfig {
  std::int64_t features = 768;  ///< channels of the quantiser's frames
  std::int64_t hidden = 192;
  std::int64_t heads = 2;
  std::int64_t filter = 768;
  std::int64_t kernel = 3;
  std::int64_t semantic_layers = 3;
  std::int64_t text_layers = 6;
  std::int64_t out_layers = 3;
  std::int64_t phonemes = 732;      ///< size of the phoneme inventory
  std::int64_t cross_hidden = 512;  ///< width of the cross-attention; also of ge
  std::int64_t cross_heads = 4;
  std::optional<AttentionWindow> window;  ///< of encoder_ssl and encoder2, in frames
  bool project = false;                   ///< load `proj` (m and logs of the v2 family)
};

/// Semantic frames and phonemes to acoustic conditioning: `enc_p` of GPT-SoVITS (TextEncoder with MRTE, the
/// multi-reference timbre encoder of Mega-TTS 2, which here is cross-attention to the phonemes).
///
/// Phonemes are taken whole. Frames may come piece by piece: with an attention window every layer keeps what its next
/// frames depend on, so that nothing is computed twice and any pieces give exactly the output of the whole utterance.
class SemanticEncoder {
 public:
  explicit SemanticEncoder(const WeightScope& weights, const SemanticEncoderConfig& config = {});

  /// The phonemes as the cross-attention sees them; made once per utterance.
  struct Text {
    at::Tensor key, value;  ///< [phonemes, cross_hidden]
  };
  /// phonemes [n >= 1], int64. Throws ModelError on an id outside the inventory.
  [[nodiscard]] Text encode_text(const at::Tensor& phonemes, const Probe* probe = nullptr) const;

  /// frames [frames, features], ge [cross_hidden] -> [frames, hidden].
  [[nodiscard]] at::Tensor encode(const at::Tensor& frames, const Text& text, const at::Tensor& ge,
                                  const Probe* probe = nullptr) const;

  struct State {
    AttentionEncoder::State semantic, out;
  };
  [[nodiscard]] State initial_state() const;
  /// encode() in a stream, as AttentionEncoder::step().
  [[nodiscard]] at::Tensor step(const at::Tensor& frames, const Text& text, const at::Tensor& ge, State& state,
                                bool last) const;
  /// Frames that must have come after an output frame; none without an attention window.
  [[nodiscard]] std::optional<std::int64_t> lookahead() const;

  /// What encode() makes of frames and text before the speaker comes in: [frames, cross_hidden], to which ge is added.
  [[nodiscard]] at::Tensor mix(const at::Tensor& frames, const Text& text, const Probe* probe = nullptr) const;

  /// [frames, hidden] -> [frames, 2 * hidden]: m and logs. Needs config.project.
  [[nodiscard]] at::Tensor project(const at::Tensor& encoded) const;

  /// Channels of the frames that encode() returns.
  [[nodiscard]] std::int64_t hidden() const { return config_.hidden; }

 private:
  /// encoder_ssl's frames and the phonemes: [frames, cross_hidden].
  [[nodiscard]] at::Tensor cross(const at::Tensor& semantic, const Text& text) const;

  SemanticEncoderConfig config_;
  Linear semantic_in_;
  AttentionEncoder semantic_encoder_;
  at::Tensor embedding_;  ///< [phonemes, hidden]
  AttentionEncoder text_encoder_;
  Linear cross_in_, cross_text_, cross_q_, cross_k_, cross_v_, cross_o_, cross_out_;
  AttentionEncoder out_encoder_;
  Linear project_;
};

/// Frames of an utterance after a change of speed: n_frames at speed 1, else int(n_frames / speed) + 1.
[[nodiscard]] std::int64_t frames_at_speed(std::int64_t n_frames, double speed);

/// Linear interpolation over time, align_corners false: x [frames, channels] -> [n_frames, channels].
[[nodiscard]] at::Tensor resize_linear(const at::Tensor& x, std::int64_t n_frames);

}  // namespace tts
