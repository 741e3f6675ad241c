#include "models/sample_conv.h"

#include <algorithm>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include "models/layers.h"

namespace tts {
namespace {

std::shared_ptr<const PackedLinear> pack_rows(const at::Tensor& weight, const std::vector<float>& bias) {
  return std::make_shared<PackedLinear>(kernels(), weight.data_ptr<float>(), weight.size(0), weight.size(1),
                                        std::span<const float>(bias));
}

/// The number of samples per row for which a sample costs least: wider rows fill the panel, but multiply zeros.
std::int64_t best_group(std::int64_t out, std::int64_t kernel) {
  const std::int64_t panel = kernels().panel;
  std::int64_t best = 1;
  double least = 0;
  for (std::int64_t group = 1; group <= 64; ++group) {
    const std::int64_t columns = (group * out + panel - 1) / panel * panel;
    const double cost =
        static_cast<double>(columns) * static_cast<double>(kernel + group - 1) / static_cast<double>(group);
    if (group == 1 || cost < 0.99 * least) {
      best = group;
      least = cost;
    }
  }
  return best;
}

}  // namespace

SampleConv::SampleConv(const at::Tensor& weight, const at::Tensor& bias, std::int64_t dilation)
    : in_(weight.size(1)),
      out_(weight.size(0)),
      kernel_(weight.size(2)),
      dilation_(dilation),
      group_(best_group(weight.size(0), weight.size(2))) {
  // Sample g of a row has its kernel g samples further on.
  at::Tensor rows = at::zeros({group_, out_, kernel_ + group_ - 1, in_}, at::kFloat);
  std::vector<float> offsets(static_cast<std::size_t>(group_ * out_), 0.0F);
  const at::Tensor taps = weight.permute({0, 2, 1});
  for (std::int64_t g = 0; g < group_; ++g) {
    rows.select(0, g).narrow(1, g, kernel_).copy_(taps);
    if (bias.defined()) {
      std::copy_n(bias.data_ptr<float>(), out_, offsets.data() + g * out_);
    }
  }
  packed_ = pack_rows(rows.view({group_ * out_, (kernel_ + group_ - 1) * in_}), offsets);
}

/// x [samples + kernel - 1, in] -> y [samples, out], dilation 1.
void SampleConv::dense(const float* x, std::int64_t samples, float* y) const {
  const std::int64_t rows = samples / group_;
  packed_->apply(x, group_ * in_, rows, y, group_ * out_);
  const std::int64_t rest = samples - rows * group_;
  if (rest > 0) {
    std::vector<float> window(static_cast<std::size_t>((kernel_ + group_ - 1) * in_), 0.0F);
    std::copy_n(x + rows * group_ * in_, (rest + kernel_ - 1) * in_, window.data());
    std::vector<float> made(static_cast<std::size_t>(group_ * out_));
    packed_->apply(window.data(), 0, 1, made.data(), group_ * out_);
    std::copy_n(made.data(), rest * out_, y + rows * group_ * out_);
  }
}

at::Tensor SampleConv::valid(const at::Tensor& x) const {
  check_shape(x, {-1, in_}, "convolution input");
  const std::int64_t samples = std::max<std::int64_t>(0, x.size(0) - span());
  at::Tensor out = at::empty({samples, out_}, at::kFloat);
  const auto* from = x.data_ptr<float>();
  auto* to = out.data_ptr<float>();
  if (samples == 0) {
    return out;
  }
  if (dilation_ == 1) {
    dense(from, samples, to);
    return out;
  }
  std::vector<float> sparse;
  std::vector<float> made;
  for (std::int64_t phase = 0; phase < std::min(dilation_, samples); ++phase) {
    const std::int64_t n = (samples - phase + dilation_ - 1) / dilation_;
    sparse.resize(static_cast<std::size_t>((n + kernel_ - 1) * in_));
    made.resize(static_cast<std::size_t>(n * out_));
    for (std::int64_t i = 0; i < n + kernel_ - 1; ++i) {
      std::memcpy(sparse.data() + i * in_, from + (phase + i * dilation_) * in_,
                  static_cast<std::size_t>(in_) * sizeof(float));
    }
    dense(sparse.data(), n, made.data());
    for (std::int64_t i = 0; i < n; ++i) {
      std::memcpy(to + (phase + i * dilation_) * out_, made.data() + i * out_,
                  static_cast<std::size_t>(out_) * sizeof(float));
    }
  }
  return out;
}

Polyphase make_polyphase(const at::Tensor& weight, const at::Tensor& bias, std::int64_t rate) {
  const std::int64_t kernel = weight.size(2);
  const std::int64_t cut = (kernel - rate) / 2;
  if (kernel < rate || (kernel - rate) % 2 != 0) {
    throw ModelError("upsampling kernel: got " + std::to_string(kernel) + ", wanted the rate " + std::to_string(rate) +
                     " or more by an even number");
  }
  Polyphase p{
      .weight = {}, .bias = bias.repeat({rate}), .left = (kernel - 1 - cut) / rate, .right = (rate - 1 + cut) / rate};
  // Sample r of frame a is the sum over frames a + o of tap r + cut - o * rate.
  const at::Tensor rows = at::zeros({rate, weight.size(1), p.left + 1 + p.right, weight.size(0)}, at::kFloat);
  for (std::int64_t r = 0; r < rate; ++r) {
    for (std::int64_t o = -p.left; o <= p.right; ++o) {
      const std::int64_t tap = r + cut - o * rate;
      if (tap >= 0 && tap < kernel) {
        rows.select(0, r).select(1, o + p.left).copy_(weight.select(2, tap).t());
      }
    }
  }
  p.weight = rows.view({rate * weight.size(1), -1, weight.size(0)});
  return p;
}

SampleUpsampler::SampleUpsampler(const at::Tensor& weight, const at::Tensor& bias, std::int64_t rate)
    : in_(weight.size(0)), out_(weight.size(1)), rate_(rate) {
  const Polyphase p = make_polyphase(weight, bias, rate);
  left_ = p.left;
  right_ = p.right;
  const std::vector<float> offsets(p.bias.data_ptr<float>(), p.bias.data_ptr<float>() + p.bias.numel());
  packed_ = pack_rows(p.weight.view({rate * out_, -1}), offsets);
}

at::Tensor SampleUpsampler::valid(const at::Tensor& x) const {
  check_shape(x, {-1, in_}, "upsampling input");
  const std::int64_t frames = std::max<std::int64_t>(0, x.size(0) - left_ - right_);
  at::Tensor out = at::empty({frames * rate_, out_}, at::kFloat);
  packed_->apply(x.data_ptr<float>(), in_, frames, out.data_ptr<float>(), rate_ * out_);
  return out;
}

at::Tensor delay(at::Tensor& held, const at::Tensor& x, std::int64_t n) {
  const at::Tensor all = !held.defined() || held.size(0) == 0 ? x : at::cat({held, x});
  held = all.narrow(0, n, all.size(0) - n);
  return all.narrow(0, 0, n);
}

}  // namespace tts
