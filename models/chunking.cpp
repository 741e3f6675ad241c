#include "models/chunking.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include <ATen/ops/argmax.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/conv1d.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/hann_window.h>
#include <ATen/ops/logaddexp.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>

#include "models/layers.h"
#include "src/audio/crossfade.h"

namespace tts {

FlowPrompt make_flow_prompt(const at::Tensor& mel, const at::Tensor& features, std::int64_t max_frames) {
  std::int64_t n = std::min(mel.size(0), features.size(0));
  const std::int64_t skip = std::max<std::int64_t>(0, n - max_frames);
  n -= skip;
  return {mel.narrow(0, skip, n), features.narrow(0, skip, n)};
}

namespace {
std::int64_t chunk_of(const FlowPrompt& prompt, std::int64_t window_frames) {
  const std::int64_t chunk = window_frames - prompt.mel.size(0);
  if (chunk < 1) {
    throw ModelError("flow window: got " + std::to_string(window_frames) + " frames, wanted more than the prompt's " +
                     std::to_string(prompt.mel.size(0)));
  }
  return chunk;
}
}  // namespace

std::optional<FlowWindowSpan> flow_window(const FlowWindowPolicy& policy, std::int64_t index, std::int64_t begin,
                                          std::int64_t known, bool last) {
  const double grown = static_cast<double>(policy.first) * std::pow(policy.growth, static_cast<double>(index));
  const std::int64_t size = grown < static_cast<double>(policy.most) ? std::llround(grown) : policy.most;
  const std::int64_t context = std::min(policy.context, begin);
  if (begin + size + policy.overlap <= known) {
    return FlowWindowSpan{context, begin, begin + size, begin + size + policy.overlap};
  }
  if (last && begin < known) {
    return FlowWindowSpan{context, begin, known, known};
  }
  return std::nullopt;
}

at::Tensor WindowedMel::known(const FlowWindowSpan& window, const at::Tensor& prompt) const {
  if (window.context == 0) {
    return prompt;
  }
  return at::cat({prompt, mel_.slice(window.begin - window.context, window.begin)});
}

at::Tensor WindowedMel::take(const FlowWindowSpan& window, const at::Tensor& fresh) {
  const auto [context, begin, end, until] = window;
  if (before_.defined()) {
    const std::int64_t n = std::min(before_.size(0), fresh.size(0));
    fresh.narrow(0, 0, n).copy_(splice_mel(before_.narrow(0, 0, n), fresh));
  }
  before_ = until > end ? fresh.narrow(0, end - begin, until - end) : at::Tensor();
  const at::Tensor kept = fresh.narrow(0, 0, end - begin);
  mel_.append(kept);
  made_ = end;
  ++window_;
  mel_.drop_before(first_needed());
  return kept;
}

std::vector<std::int64_t> align_overlap(const at::Tensor& before, const at::Tensor& after, const SplicePolicy& policy) {
  const std::int64_t n = before.size(0);
  const std::int64_t reach = policy.max_shift;
  const std::int64_t width = 2 * reach + 1;
  constexpr double kNever = std::numeric_limits<double>::infinity();
  const at::Tensor distances =
      (before.unsqueeze(1) - after.unsqueeze(0)).square().mean(-1).contiguous();  // [n, frames of after]
  const auto* distance = distances.data_ptr<float>();
  const std::int64_t m = after.size(0);
  std::vector<double> cost(static_cast<std::size_t>(width), 0.0);  // any shift may begin: nothing of it is heard yet
  std::vector<std::int64_t> from(static_cast<std::size_t>(n * width), 0);
  for (std::int64_t i = 0; i < n; ++i) {
    const auto [down, up] = fade_weights(Fade::equal_power, static_cast<std::size_t>(i), static_cast<std::size_t>(n));
    const double heard = 4.0 * down * down * up * up;
    std::vector<double> next(cost.size(), kNever);
    for (std::int64_t s = 0; s < width; ++s) {
      const std::int64_t j = i + s - reach;
      if (j < 0 || j >= m) {
        continue;
      }
      double least = kNever;
      for (const std::int64_t previous : {s, s - 1, s + 1}) {  // the same shift first: it wins a tie
        if (previous < 0 || previous >= width || (i == 0 && previous != s)) {
          continue;
        }
        const double bent = cost[static_cast<std::size_t>(previous)] + (previous == s ? 0.0 : policy.bend);
        if (bent < least) {
          least = bent;
          from[static_cast<std::size_t>(i * width + s)] = previous;
        }
      }
      next[static_cast<std::size_t>(s)] = least + heard * distance[i * m + j];
    }
    cost = std::move(next);
  }
  std::int64_t s = reach;
  for (const std::int64_t end : {reach - 1, reach + 1}) {
    if (end >= 0 && end < width &&
        cost[static_cast<std::size_t>(end)] + policy.bend < cost[static_cast<std::size_t>(s)]) {
      s = end;
    }
  }
  std::vector<std::int64_t> shifts(static_cast<std::size_t>(n));
  for (std::int64_t i = n - 1; i >= 0; --i) {
    shifts[static_cast<std::size_t>(i)] = s - reach;
    s = from[static_cast<std::size_t>(i * width + s)];
  }
  return shifts;
}

at::Tensor splice_mel(const at::Tensor& before, const at::Tensor& after, const SplicePolicy& policy) {
  const std::int64_t n = before.size(0);
  check_shape(before, {-1, after.size(1)}, "overlap");
  if (after.size(0) < n) {
    throw ModelError("overlap: got " + std::to_string(after.size(0)) + " frames of the later window, wanted at least " +
                     std::to_string(n));
  }
  constexpr double kPowerPerMel = 14.0;  // normalised 1 is 7 in the log of the magnitude
  const std::vector<std::int64_t> shifts = align_overlap(before, after, policy);
  at::Tensor out = at::empty_like(before);
  for (std::int64_t i = 0; i < n; ++i) {
    const auto [down, up] = fade_weights(Fade::equal_power, static_cast<std::size_t>(i), static_cast<std::size_t>(n));
    const at::Tensor old_power = before[i] * kPowerPerMel + 2.0 * std::log(static_cast<double>(down));
    const at::Tensor new_power =
        after[i + shifts[static_cast<std::size_t>(i)]] * kPowerPerMel + 2.0 * std::log(static_cast<double>(up));
    out[i].copy_(at::logaddexp(old_power, new_power) / kPowerPerMel);
  }
  return out;
}

at::Tensor sample_serial(const FlowPrompt& prompt, const at::Tensor& features, std::int64_t window_frames,
                         const FlowWindow& flow) {
  const std::int64_t chunk = chunk_of(prompt, window_frames);
  FlowPrompt current = prompt;
  std::vector<at::Tensor> out;
  for (std::int64_t at = 0; at < features.size(0); at += chunk) {
    const at::Tensor part = features.narrow(0, at, std::min(chunk, features.size(0) - at));
    const std::int64_t n_prompt = current.mel.size(0);
    const at::Tensor window = at::cat({current.features, part}).unsqueeze(0);
    const at::Tensor mel =
        flow(window, current.mel.unsqueeze(0)).squeeze(0).narrow(0, n_prompt, part.size(0)).contiguous();
    out.push_back(mel);
    const std::int64_t n_next = std::min(n_prompt, part.size(0));
    current = {mel.narrow(0, mel.size(0) - n_next, n_next), part.narrow(0, part.size(0) - n_next, n_next)};
  }
  return at::cat(out);
}

BatchedMel sample_batched(const FlowPrompt& prompt, const at::Tensor& features, std::int64_t window_frames,
                          std::int64_t overlap_frames, const FlowWindow& flow) {
  const std::int64_t chunk = chunk_of(prompt, window_frames);
  if (chunk <= overlap_frames) {
    throw ModelError("flow window: got a chunk of " + std::to_string(chunk) + " frames, wanted more than the overlap " +
                     std::to_string(overlap_frames));
  }
  const std::int64_t channels = features.size(1);
  const at::Tensor padded = at::cat({at::zeros({overlap_frames, channels}, features.options()), features});
  std::vector<at::Tensor> windows;
  std::int64_t pad = 0;
  for (std::int64_t pos = 0;;) {
    if (pos > 0) {
      pos -= overlap_frames;
    }
    const std::int64_t n = std::min(chunk, padded.size(0) - pos);
    if (n <= 0) {
      break;
    }
    pad = chunk - n;
    at::Tensor part = padded.narrow(0, pos, n);
    if (pad > 0) {
      part = at::cat({part, at::zeros({pad, channels}, features.options())});
    }
    windows.push_back(at::cat({prompt.features, part}));
    pos += chunk;  // upstream goes on while anything is left, be it only overlap
  }
  const at::Tensor mel = flow(at::stack(windows), prompt.mel.unsqueeze(0));  // [windows, window_frames, mel]
  return {mel.narrow(1, mel.size(1) - chunk, chunk).reshape({-1, mel.size(2)}), chunk, pad};
}

at::Tensor join_batched(const at::Tensor& wave, const BatchedMel& mel, std::int64_t overlap_frames,
                        std::int64_t hop_samples, std::int64_t search_samples) {
  const std::int64_t piece = mel.chunk_frames * hop_samples;
  std::vector<at::Tensor> pieces;
  for (std::int64_t at = 0; at < wave.size(0); at += piece) {
    pieces.push_back(wave.narrow(0, at, std::min(piece, wave.size(0) - at)));
  }
  const at::Tensor joined = overlap_add_aligned(pieces, overlap_frames * hop_samples, search_samples);
  const std::int64_t skip = overlap_frames * hop_samples;
  return joined.narrow(0, skip, std::max<std::int64_t>(0, joined.size(0) - skip - mel.pad_frames * hop_samples));
}

at::Tensor overlap_add_aligned(const std::vector<at::Tensor>& pieces, std::int64_t overlap_samples,
                               std::int64_t search_samples) {
  if (pieces.empty()) {
    return {};
  }
  const std::int64_t overlap = overlap_samples;
  for (const at::Tensor& piece : pieces) {
    if (pieces.size() > 1 && piece.size(0) < overlap + search_samples) {
      throw ModelError("overlap-add: got a piece of " + std::to_string(piece.size(0)) + " samples, wanted at least " +
                       std::to_string(overlap + search_samples));
    }
  }
  const at::Tensor window = at::hann_window(2 * overlap, pieces[0].options());
  const at::Tensor ones = at::ones({1, 1, overlap}, pieces[0].options());
  std::vector<at::Tensor> out;
  at::Tensor previous = pieces[0];
  for (std::size_t i = 1; i < pieces.size(); ++i) {
    const at::Tensor tail = previous.narrow(0, previous.size(0) - overlap, overlap);
    const at::Tensor head = pieces[i].narrow(0, 0, overlap + search_samples).reshape({1, 1, -1});
    const at::Tensor score = at::conv1d(head, tail.reshape({1, 1, -1}));
    const at::Tensor energy = at::conv1d(head.square(), ones);
    const std::int64_t offset = at::argmax((score / (energy + 1e-8).sqrt()).view({-1})).item<std::int64_t>();
    at::Tensor next = pieces[i].narrow(0, offset, pieces[i].size(0) - offset).clone();
    next.narrow(0, 0, overlap).mul_(window.narrow(0, 0, overlap)).add_(window.narrow(0, overlap, overlap) * tail);
    out.push_back(previous.narrow(0, 0, previous.size(0) - overlap));
    previous = next;
  }
  out.push_back(previous);
  return at::cat(out);
}

}  // namespace tts
