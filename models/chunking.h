#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include <ATen/core/Tensor.h>

namespace tts {

/// The flow samples one window: mu [batch, frames, channels], prompt [1, n_prompt, mel] (normalised), noise from
/// whoever calls -> [batch, frames, mel], normalised.
using FlowWindow = std::function<at::Tensor(const at::Tensor& mu, const at::Tensor& prompt)>;

/// The prompt of the v3/v4 loops, cut to what both the reference mel and its features have, then to their last
/// max_frames frames: mel [n, mel], features [n, channels].
struct FlowPrompt {
  at::Tensor mel, features;
};
[[nodiscard]] FlowPrompt make_flow_prompt(const at::Tensor& mel, const at::Tensor& features, std::int64_t max_frames);

/// Upstream's serial loop: windows of window_frames, prompt included; each window's prompt is the tail of the one
/// before. features [frames, channels] -> [frames, mel], normalised.
[[nodiscard]] at::Tensor sample_serial(const FlowPrompt& prompt, const at::Tensor& features, std::int64_t window_frames,
                                       const FlowWindow& flow);

/// Upstream's batched loop: overlapping windows with the same prompt, sampled in one batch.
struct BatchedMel {
  at::Tensor mel;  ///< [windows * chunk, mel], normalised: the windows end to end, seams included
  std::int64_t chunk_frames = 0;
  std::int64_t pad_frames = 0;  ///< zero frames at the end of the last window
};
[[nodiscard]] BatchedMel sample_batched(const FlowPrompt& prompt, const at::Tensor& features,
                                        std::int64_t window_frames, std::int64_t overlap_frames,
                                        const FlowWindow& flow);
/// Joins the waveform of a BatchedMel: cuts it into windows, overlaps them by SOLA and drops the leading overlap and
/// the trailing padding. wave [windows * chunk * hop] -> [samples].
[[nodiscard]] at::Tensor join_batched(const at::Tensor& wave, const BatchedMel& mel, std::int64_t overlap_frames,
                                      std::int64_t hop_samples, std::int64_t search_samples = 320);

/// Synchronised overlap-add: pieces [samples], each longer than overlap + search; every piece starts at the offset in
/// 0..search where it correlates best with the tail before it, and fades in over `overlap` samples of a Hann window.
[[nodiscard]] at::Tensor overlap_add_aligned(const std::vector<at::Tensor>& pieces, std::int64_t overlap_samples,
                                             std::int64_t search_samples);

}  // namespace tts
