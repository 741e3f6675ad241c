#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include <ATen/core/Tensor.h>

#include "models/convnext.h"

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

/// How a stream of frames is cut into windows of the flow. A window sees the reference as its prompt, then up to
/// `context` frames that were already made as more of it, and makes new frames; its last `overlap` ones are made again
/// by the next window, and the two are spliced. The windows are fixed beforehand: they do not depend on when frames
/// came.
struct FlowWindowPolicy {
  std::int64_t first = 44;  ///< new frames of the first window, overlap not counted; v3: 72
  double growth = 2.0;      ///< of each further one, up to `most`
  std::int64_t most = 400;
  std::int64_t context = 50;
  std::int64_t overlap = 12;
};

/// Frames [begin, end) are made and kept, those up to `until` are made for the splice; the window sees `context` frames
/// before `begin`.
struct FlowWindowSpan {
  std::int64_t context, begin, end, until;
};
/// Window `index` of a stream of which `begin` frames are made and `known` are conditioned, `last` when no more come;
/// nothing while it lacks frames or all are made.
[[nodiscard]] std::optional<FlowWindowSpan> flow_window(const FlowWindowPolicy& policy, std::int64_t index,
                                                        std::int64_t begin, std::int64_t known, bool last);

struct SplicePolicy {
  std::int64_t max_shift = 3;  ///< frames by which the later version may be ahead or behind
  double bend = 0.002;         ///< cost of changing the shift by one frame, as a mean squared distance
};
/// How far the later version of an overlap runs ahead of the earlier one, frame by frame: the path of least cost, by
/// dynamic programming. A frame costs the mean squared distance of before[i] and after[i + shift], weighted by how
/// much both are heard there; the shift changes by at most 1 a frame and is 0 behind the overlap, so that no time is
/// lost. before [n, mel], after [>= n, mel], normalised.
[[nodiscard]] std::vector<std::int64_t> align_overlap(const at::Tensor& before, const at::Tensor& after,
                                                      const SplicePolicy& policy = {});
/// The overlap [n, mel] of two versions, the later one aligned: an equal-power crossfade, that is of the powers which
/// the mel stands for. Equal versions stay what they are.
[[nodiscard]] at::Tensor splice_mel(const at::Tensor& before, const at::Tensor& after, const SplicePolicy& policy = {});

/// The mel of one stream, which windows of the flow make one after the other.
class WindowedMel {
 public:
  explicit WindowedMel(const FlowWindowPolicy& policy) : policy_(policy) {}

  /// The next window while `known` frames are conditioned (flow_window()).
  [[nodiscard]] std::optional<FlowWindowSpan> next(std::int64_t known, bool last) const {
    return flow_window(policy_, window_, made_, known, last);
  }
  /// The mel that this window continues: the reference's prompt and what was made before. [n_prompt + context, mel].
  [[nodiscard]] at::Tensor known(const FlowWindowSpan& window, const at::Tensor& prompt) const;
  /// Takes what that window made, [until - begin, mel], whose beginning it overwrites with the splice; returns the
  /// frames that stay, [end - begin, mel].
  at::Tensor take(const FlowWindowSpan& window, const at::Tensor& fresh);
  /// Frames that stay, so far.
  [[nodiscard]] std::int64_t made() const { return made_; }
  /// Frames before this one are in no further window.
  [[nodiscard]] std::int64_t first_needed() const { return made_ - policy_.context; }

 private:
  FlowWindowPolicy policy_;
  FrameBuffer mel_;    ///< normalised: the context of the next window
  at::Tensor before_;  ///< the last window's version of the next frames
  std::int64_t made_ = 0;
  std::int64_t window_ = 0;  ///< windows made
};

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
