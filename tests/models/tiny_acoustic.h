#pragma once

#include "models/acoustic.h"
#include "models/source_filter_vocoder.h"
#include "models/weights.h"

// The tiny voice whose weights scripts/train/golden.py wrote; scripts/train/tiny.py has the same sizes.

namespace tts::testing {

constexpr const char* kTinyAcoustic = "tests/data/golden/acoustic.safetensors";
constexpr int kTinySteps = 3;

inline AcousticConfig tiny_acoustic_config() {
  AcousticConfig c;
  c.codes = 16;
  c.code_dim = 8;
  c.phonemes = 40;
  c.hidden = 32;
  c.filter = 64;
  c.layers_text = 2;
  c.attention_window = AttentionWindow{5, 1};
  c.mrte_dim = 32;
  c.style_dim = 16;
  c.feature_dim = 32;
  c.flow.steps = kTinySteps;
  c.estimator.dim = 32;
  c.estimator.inner = 64;
  c.estimator.layers = 3;
  return c;
}

inline SourceFilterConfig tiny_vocoder_config() {
  SourceFilterConfig c;
  c.dim = 32;
  c.inner = 64;
  c.layers = 2;
  c.f0_dim = 32;
  c.f0_inner = 64;
  c.f0_layers = 2;
  return c;
}

/// Scopes "acoustic" and "vocoder".
inline WeightScope tiny_acoustic_weights() {
  return WeightScope(load_weights(kTinyAcoustic));
}

}  // namespace tts::testing
