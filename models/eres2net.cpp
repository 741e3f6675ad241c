#include "models/eres2net.h"

#include <string>

#include <ATen/ops/cat.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/tanh.h>

#include "models/fbank.h"

namespace tts {
namespace {

constexpr std::int64_t kGroups = 4;     // "scale"
constexpr std::int64_t kExpansion = 4;  // channels of a block's output over its planes
constexpr std::int64_t kSqueeze = 4;    // of the fusions
constexpr double kBatchNormEps = 1e-5;
constexpr double kCeiling = 20.0;

at::Tensor clipped(const at::Tensor& x) {
  return x.clamp(0.0, kCeiling);
}

struct Folded {
  at::Tensor weight, bias;
};

/// conv [out, in, kernel, kernel], with a bias when `biased`, followed by the batch norm `norm`, as one convolution.
Folded fold(const WeightScope& conv, const WeightScope& norm, std::int64_t in, std::int64_t out, std::int64_t kernel,
            bool biased) {
  const at::Tensor weight = conv.get("weight", {out, in, kernel, kernel});
  const at::Tensor gain = norm.get("weight", {out});
  const at::Tensor shift = norm.get("bias", {out});
  at::Tensor centre = norm.get("running_mean", {out});
  const at::Tensor scale = gain / (norm.get("running_var", {out}) + kBatchNormEps).sqrt();
  if (biased) centre = centre - conv.get("bias", {out});
  return {(weight * scale.view({-1, 1, 1, 1})).contiguous(), shift - centre * scale};
}

}  // namespace

at::Tensor Eres2Net::Conv::operator()(const at::Tensor& x) const {
  const std::int64_t pad = weight.size(2) / 2;
  return at::conv2d(x, weight, bias, {stride, stride}, {pad, pad});
}

at::Tensor Eres2Net::Fusion::operator()(const at::Tensor& x, const at::Tensor& y) const {
  const at::Tensor weight = at::tanh(expand(at::silu(squeeze(at::cat({x, y}, 1)))));
  return x * (1.0 + weight) + y * (1.0 - weight);
}

at::Tensor Eres2Net::Block::operator()(const at::Tensor& x) const {
  const std::vector<at::Tensor> split = clipped(in(x)).chunk(kGroups, 1);
  std::vector<at::Tensor> done;
  for (std::size_t i = 0; i < groups.size(); ++i) {
    at::Tensor group = split[i];
    if (i > 0) group = fusions.empty() ? done.back() + group : fusions[i - 1](done.back(), group);
    done.push_back(clipped(groups[i](group)));
  }
  return clipped(out(at::cat(done, 1)) + (shortcut.weight.defined() ? shortcut(x) : x));
}

Eres2Net::Fusion Eres2Net::make_fusion(const WeightScope& scope, std::int64_t channels) {
  const WeightScope layers = scope("local_att");
  const std::int64_t inner = channels / kSqueeze;
  const Folded squeeze = fold(layers("0"), layers("1"), 2 * channels, inner, 1, true);
  const Folded expand = fold(layers("3"), layers("4"), inner, channels, 1, true);
  return {{squeeze.weight, squeeze.bias}, {expand.weight, expand.bias}};
}

Eres2Net::Block Eres2Net::make_block(const WeightScope& scope, std::int64_t in, std::int64_t planes, std::int64_t width,
                                     std::int64_t stride, bool fuse) {
  Block block;
  const std::int64_t out = planes * kExpansion;
  const Folded first = fold(scope("conv1"), scope("bn1"), in, kGroups * width, 1, false);
  block.in = {first.weight, first.bias, stride};
  for (std::int64_t i = 0; i < kGroups; ++i) {
    const Folded group = fold(scope("convs", i), scope("bns", i), width, width, 3, false);
    block.groups.push_back({group.weight, group.bias});
    if (fuse && i > 0) block.fusions.push_back(make_fusion(scope("fuse_models", i - 1), width));
  }
  const Folded last = fold(scope("conv3"), scope("bn3"), kGroups * width, out, 1, false);
  block.out = {last.weight, last.bias};
  if (stride != 1 || in != out) {
    const Folded shortcut = fold(scope("shortcut.0"), scope("shortcut.1"), in, out, 1, false);
    block.shortcut = {shortcut.weight, shortcut.bias, stride};
  }
  return block;
}

Eres2Net::Eres2Net(const WeightScope& weights, const Eres2NetConfig& config) : config_(config) {
  const Folded stem = fold(weights("conv1"), weights("bn1"), 1, config.channels, 3, false);
  stem_ = {stem.weight, stem.bias};
  std::int64_t in = config.channels;
  for (std::size_t s = 0; s < stages_.size(); ++s) {
    const std::int64_t planes = config.channels << s;
    const std::int64_t width = planes * config.base_width / 64;
    const WeightScope layer = weights("layer" + std::to_string(s + 1));
    for (std::int64_t i = 0; i < config.blocks[s]; ++i) {
      const std::int64_t stride = i == 0 && s > 0 ? 2 : 1;
      stages_[s].push_back(make_block(layer(std::to_string(i)), in, planes, width, stride, s >= 2));
      in = planes * kExpansion;
    }
  }
  downsample_ = {weights("layer3_ds").get("weight", {in, in / 2, 3, 3}), {}, 2};
  fuse_ = make_fusion(weights("fuse34"), in);
}

std::int64_t Eres2Net::dim() const {
  std::int64_t bins = config_.bands;
  for (int halvings = 0; halvings < 3; ++halvings) bins = (bins + 1) / 2;
  return config_.channels * 8 * kExpansion * bins;
}

at::Tensor Eres2Net::forward(const at::Tensor& features, const Probe* probe) const {
  check_shape(features, {-1, config_.bands}, "filter bank features");
  if (features.size(0) < 1) throw ModelError("filter bank features: got no frame, wanted one or more");
  const auto show = [&](const std::string& name, const at::Tensor& value) {
    if (probe != nullptr) (*probe)(name, value);
  };
  at::Tensor x = stem_(features.t().contiguous().view({1, 1, config_.bands, -1}));  // [1, channels, bands, frames]
  show("bn1", x);
  x = at::relu(x);
  at::Tensor third;
  for (std::size_t s = 0; s < stages_.size(); ++s) {
    for (const Block& block : stages_[s]) x = block(x);
    show("layer" + std::to_string(s + 1), x);
    if (s == 2) third = x;
  }
  const at::Tensor down = downsample_(third);
  show("layer3_ds", down);
  const at::Tensor fused = fuse_(x, down);
  show("fuse34", fused);
  const at::Tensor embedding = fused.flatten(1, 2).mean(-1).squeeze(0);
  show("embedding", embedding.unsqueeze(0));
  return embedding;
}

at::Tensor Eres2Net::embed(const at::Tensor& wave) const {
  return forward(kaldi_fbank(wave));
}

}  // namespace tts
