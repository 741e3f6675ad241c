#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "models/convnext.h"
#include "models/layers.h"
#include "models/noise.h"

namespace tts {

struct SourceFilterConfig {
  std::int64_t dim = 256;    ///< of the body that predicts the filters
  std::int64_t inner = 768;  ///< width inside its ConvNeXt blocks
  std::int64_t layers = 6;
  std::int64_t f0_dim = 128;  ///< the same of the F0 head
  std::int64_t f0_inner = 256;
  std::int64_t f0_layers = 3;
  double gain_db = 0;  ///< of the waveform; unless 0, peaks above 0.7 are bent to stay below full scale
};

/// Log mel frames (24 kHz, hop 256, 100 bands) to waveform, chunk by chunk: a harmonic source (band-limited pulse train
/// at the F0 that a small head reads off the mel) and white noise, each multiplied by a spectrum that the body
/// predicts relative to the mel's envelope, joined by an inverse STFT.
///
/// Lookahead: 3 frames for F0, 3 more for the body's input convolution, then 384 samples of overlap-add:
/// 7.5 frames, 80 ms. All other layers look left only, phase and overlap run on, and noise is indexed by absolute
/// sample, so any chunking equals the whole. Const after construction: one vocoder serves all streams.
class SourceFilterVocoder {
 public:
  static constexpr std::int64_t kRateHz = 24000;
  static constexpr std::int64_t kHopSamples = 256;
  static constexpr std::int64_t kMel = 100;
  static constexpr std::int64_t kLookaheadFrames = 6;     ///< mel frames a spectrum waits for
  static constexpr std::int64_t kLookaheadSamples = 384;  ///< samples the overlap-add holds back
  /// The noise under sample s is number s of this stream of the seed.
  static constexpr std::uint64_t kNoiseStream = 2;

  /// Keys "f0.*", "f0_out", "body.*", "out". Throws ModelError naming the missing or misshapen tensor.
  explicit SourceFilterVocoder(const WeightScope& weights, const SourceFilterConfig& config = {});

  struct BodyState {
    at::Tensor in_past;            ///< input frames the first convolution still needs
    std::vector<at::Tensor> past;  ///< per block [6, dim]
  };
  struct State {
    BodyState f0, body;
    FrameBuffer mel;             ///< frames whose filters are not predicted yet
    std::int64_t f0_frames = 0;  ///< frames with known F0
    std::int64_t spectra = 0;    ///< frames added to `overlap`
    std::vector<float> held;     ///< F0 in Hz of frames from held_start on, unvoiced ones holding the last voiced value
    std::vector<float> voiced;   ///< 1 or 0, the same frames
    std::int64_t held_start = 0;
    float last_voiced_hz = 0;
    double phase = 0;           ///< cycles, [0, 1)
    std::vector<float> pulses;  ///< source samples from pulse_start on
    std::int64_t pulse_start = 0;
    std::vector<float> overlap;  ///< output samples from overlap_start on, the last 768 incomplete
    std::int64_t overlap_start = 0;
    GaussianNoise noise{0, 0};
  };
  [[nodiscard]] State initial_state(std::uint64_t seed) const;

  /// mel [frames, 100], natural logarithm -> the samples that are certain now, in [-1, 1] up to the voice's own level.
  /// May be empty early on.
  [[nodiscard]] std::vector<float> step(const at::Tensor& mel, State& state) const;
  /// Emits what the lookahead still holds: kHopSamples for each frame in all. The state is spent afterwards.
  [[nodiscard]] std::vector<float> finish(State& state) const;
  /// step(mel) and finish() in one pass.
  [[nodiscard]] std::vector<float> finish(const at::Tensor& mel, State& state) const;

  /// F0 in Hz of whole utterances, 0 = unvoiced: mel [frames, 100] -> [frames]. For tests and analysis.
  [[nodiscard]] std::vector<float> predict_f0(const at::Tensor& mel) const;

 private:
  /// ConvNeXt stack: input convolution with 3 frames of lookahead, then causal blocks.
  struct Body {
    LookaheadConv in;
    LayerNorm norm_in, norm_out;
    std::vector<CausalConvNext> blocks;
    std::vector<LayerNorm> norms;
    std::vector<at::Tensor> gates;

    Body() = default;
    Body(const WeightScope& scope, std::int64_t in, std::int64_t dim, std::int64_t inner, std::int64_t layers);
    [[nodiscard]] BodyState initial_state() const;
    [[nodiscard]] at::Tensor step(const at::Tensor& x, BodyState& state, bool last) const;
  };
  [[nodiscard]] std::vector<float> advance(const at::Tensor& mel, State& state, bool last) const;
  [[nodiscard]] std::vector<float> f0_of(const at::Tensor& logits) const;
  void extend_pulses(State& state, std::int64_t until, bool last) const;

  Body f0_, body_;
  Linear f0_out_, out_;
  Linear envelope_;    ///< log mel to log magnitude per bin, 100 -> 513
  at::Tensor window_;  ///< [1024], Hann
  at::Tensor synthesis_window_;
  bool amplified_;
  std::vector<float> log_f0_;  ///< of the F0 head's bins
};

}  // namespace tts
