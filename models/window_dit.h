#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "models/cfm.h"
#include "models/dit.h"
#include "models/window_networks.h"

namespace tts {

/// Dit and the flow through it, for batches of windows of different lengths on any device (window_networks.h). Linear
/// layers and attention compute with the placement's numbers; norms, residual signal, text and the way in and out of
/// the mel in float32.
class WindowDit {
 public:
  WindowDit(const WeightScope& weights, const DitConfig& config, const Placement& placement);

  /// FlowPlan on the device.
  struct Plan {
    FlowSchedule schedule;
    std::vector<Dit::Modulation> calls;
  };
  [[nodiscard]] Plan make_plan(const FlowSchedule& schedule) const;

  /// sample_flow() of every row for itself. mu [batch, frames, text_dim]; known [batch, frames, mel]: the prompt, zeros
  /// behind it; noise [batch, frames, mel]; counts [batch, 2], int64: frames of a row's prompt, and of the row
  /// -> [batch, frames, mel], of which a row's frames behind its own mean nothing.
  [[nodiscard]] at::Tensor sample(const at::Tensor& mu, const at::Tensor& known, const at::Tensor& noise,
                                  const at::Tensor& counts, const Plan& plan) const;

 private:
  struct TextBlock {
    WindowConv depthwise;
    at::Tensor gain, bias;
    WindowLinear in, out;
    at::Tensor gamma, beta;  ///< [1, 1, 2 * text_dim]
  };
  struct Block {
    WindowLinear modulation;
    WindowLinear qkv, attended, ff_in, ff_out;
  };
  struct Input {
    at::Tensor rest;          ///< [batch, frames, dim]: what prompt and text add
    at::Tensor mask;          ///< [batch, frames, 1]
    at::Tensor unseen;        ///< [batch, 1, 1, frames], added to scores
    at::Tensor cosine, sine;  ///< [frames, 32]
  };
  [[nodiscard]] at::Tensor text(const at::Tensor& mu, const at::Tensor& mask) const;
  [[nodiscard]] at::Tensor velocity(const at::Tensor& x, const Input& input, const Dit::Modulation& modulation) const;
  [[nodiscard]] at::Tensor attention(const at::Tensor& qkv, const Input& input) const;

  DitConfig config_;
  Placement placement_;
  WindowLinear time_in_, time_out_, step_in_, step_out_;
  at::Tensor positions_;      ///< of the text, [kMostFrames, text_dim]
  at::Tensor cosine_, sine_;  ///< [kMostFrames, 32]
  std::vector<TextBlock> text_blocks_;
  WindowLinear input_x_, input_rest_;
  WindowConv position_[2];
  std::vector<Block> blocks_;
  WindowLinear out_modulation_, out_;
};

}  // namespace tts
