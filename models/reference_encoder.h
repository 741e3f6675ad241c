#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "models/layers.h"

namespace tts {

struct ReferenceEncoderConfig {
  std::int64_t bins = 704;  ///< leading spectrogram bins or mel bands used
  std::int64_t hidden = 128;
  std::int64_t kernel = 5;
  std::int64_t heads = 2;
  std::int64_t out = 512;  ///< channels of the speaker embedding ge
};

/// Reference spectrogram to speaker embedding: the mel style encoder of StyleSpeech (Min et al. 2021, fig. 2) as
/// GPT-SoVITS uses it; attention scores are divided by sqrt(hidden), not by the root of the head width.
/// Runs once per voice; needs the whole reference.
class ReferenceEncoder {
 public:
  /// Keys "spectral.{0,3}.fc", "temporal.{0,1}.conv1.conv", "slf_attn.{w_qs,w_ks,w_vs,fc}", "fc.fc".
  /// Throws ModelError naming the missing or misshapen tensor.
  explicit ReferenceEncoder(const WeightScope& weights, const ReferenceEncoderConfig& config = {});

  /// spectrogram [frames, >= bins] -> ge [out].
  [[nodiscard]] at::Tensor encode(const at::Tensor& spectrogram, const Probe* probe = nullptr) const;

 private:
  ReferenceEncoderConfig config_;
  Linear spectral0_, spectral1_;
  std::vector<FrameConv> temporal_;
  Linear query_, key_, value_, attended_, out_;
};

}  // namespace tts
