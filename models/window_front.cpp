#include "models/window_front.h"

#include <algorithm>
#include <array>
#include <string>

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/gather.h>
#include <ATen/ops/zeros.h>

namespace tts {
namespace {

// Windows that streams come to: their first blocks, and those that follow at full length.
constexpr std::array<std::int64_t, 3> kTokens{40, 80, WindowFront::kMostTokens};
constexpr std::array<std::int64_t, 3> kPhonemes{48, 96, 160};

void check_ids(const char* what, std::span<const std::int32_t> ids, std::int64_t inventory) {
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] >= 0 && ids[i] < inventory) continue;
    throw ModelError(std::string(what) + " " + std::to_string(i) + ": got " + std::to_string(ids[i]) + ", wanted 0.." +
                     std::to_string(inventory - 1));
  }
}

/// ids into a row of an int64 input, zeros behind them.
void ids_to_row(std::span<const std::int32_t> ids, const at::Tensor& input, std::int64_t row) {
  auto* to = input.data_ptr<std::int64_t>() + row * input.size(1);
  std::fill(std::copy(ids.begin(), ids.end(), to), to + input.size(1), 0);
}

}  // namespace

void frames_to_row(const at::Tensor& from, const at::Tensor& input, std::int64_t row) {
  const std::int64_t size = input.size(1) * input.size(2);
  const at::Tensor rows = from.contiguous();
  auto* to = input.data_ptr<float>() + row * size;
  std::fill(std::copy_n(rows.data_ptr<float>(), rows.numel(), to), to + size, 0.0F);
}

std::vector<float> to_numbers(const at::Tensor& t) {
  const at::Tensor flat = t.contiguous();
  return {flat.data_ptr<float>(), flat.data_ptr<float>() + flat.numel()};
}

WindowFront::WindowFront(const WeightScope& acoustic, const PublishedConfig& config, const PrefixPolicy& policy,
                         bool project, const WindowOptions& options)
    : config_(config),
      policy_(policy),
      options_(options),
      front_(acoustic.with(Precision::fp32), config, project),
      encoder_(acoustic, config, project, options.placement.device) {}

WindowShape WindowFront::shape(std::int64_t n_tokens, std::int64_t n_phonemes, std::int64_t n_rows) const {
  const std::int64_t t = bucket_of(kTokens, n_tokens);
  const std::int64_t p = bucket_of(kPhonemes, n_phonemes);
  const std::int64_t rows = n_rows <= kMostRows ? std::min(kMostRows, 2 * t) : 2 * t;
  return {.key = {0, t, p, rows},
          .recurring = t <= kTokens.back() && p <= kPhonemes.back(),
          .inputs = {{{t}, at::kLong}, {{p}, at::kLong}, {{3}, at::kLong}, {{config_.mrte_dim}}},
          .function = [this, rows](const std::vector<at::Tensor>& in) {
            const at::Tensor made = encoder_.forward(in[0], in[1], in[2].narrow(1, 0, 2), in[3]);
            const at::Tensor index =
                (in[2].narrow(1, 2, 1) + at::arange(rows, in[2].options()).unsqueeze(0)).clamp_max(made.size(1) - 1);
            return at::gather(made, 1, index.unsqueeze(2).expand({made.size(0), rows, made.size(2)}));
          }};
}

void WindowFront::Block::fill(const std::vector<at::Tensor>& inputs, std::int64_t row) const {
  const std::span<const std::int32_t> tokens(stream->tokens_);
  const std::int64_t count = known - first;
  ids_to_row(tokens.subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(count)), inputs[0], row);
  ids_to_row(stream->phonemes_, inputs[1], row);
  auto* numbers = inputs[2].data_ptr<std::int64_t>() + 3 * row;
  numbers[0] = count;
  numbers[1] = static_cast<std::int64_t>(stream->phonemes_.size());
  numbers[2] = 2 * (begin - first);
  numbers_to_row(stream->ge_, inputs[3], row);
}

WindowFront::Tokens::Tokens(const WindowFront& front, std::span<const std::int32_t> phonemes, std::span<const float> ge,
                            double speed)
    : front_(front), ge_(ge), phonemes_(phonemes.begin(), phonemes.end()), speed_(speed), stretch_(speed) {
  check_speed(speed_);
  if (phonemes_.empty()) throw ModelError("phonemes: got none, wanted at least one");
  check_ids("phoneme", phonemes_, front.config_.phonemes);
}

void WindowFront::Tokens::accept(TokenRenderer::Job& job, std::vector<Block>& blocks) {
  if (ended_) throw ModelError("acoustic stream: got tokens after the last, wanted none");
  check_ids("semantic token", job.tokens, front_.config_.codes);
  ended_ = job.last;
  tokens_.insert(tokens_.end(), job.tokens.begin(), job.tokens.end());
  const std::int64_t known = count();
  const PrefixPolicy& policy = front_.policy_;
  const auto add = [&](std::int64_t end, std::int64_t seen) {
    const std::int64_t first = policy.lookahead ? std::max<std::int64_t>(0, encoded_ - policy.context) : 0;
    blocks.push_back({&job, this, first, encoded_, end, seen});
    blocks.back().shape = front_.shape(seen - first, static_cast<std::int64_t>(phonemes_.size()), 2 * (end - encoded_));
    encoded_ = end;
  };
  while (policy.lookahead && policy.block_end(block_) + *policy.lookahead <= known) {
    const std::int64_t end = policy.block_end(block_++);
    add(end, end + *policy.lookahead);
  }
  if (ended_ && encoded_ < known) add(known, known);
}

at::Tensor WindowFront::Tokens::frames(std::span<const Block> blocks) {
  std::vector<at::Tensor> made;
  for (const Block& block : blocks) {
    if (block.stream == this) made.push_back(block.rows);
  }
  const at::Tensor all = made.empty() ? at::zeros({0, front_.encoder_.channels()}, at::kFloat) : at::cat(made);
  if (front_.policy_.lookahead) return stretch_.push(all, ended_);
  return speed_ == 1.0 || all.size(0) == 0 ? all : resize_linear(all, frames_at_speed(all.size(0), speed_));
}

std::int64_t WindowFront::Tokens::frames_after(std::int64_t n, bool last) const {
  const std::int64_t settled = last ? count() + n : front_.policy_.settled(count() + n);
  return static_cast<std::int64_t>(2.0 * static_cast<double>(settled) / speed_);
}

}  // namespace tts
