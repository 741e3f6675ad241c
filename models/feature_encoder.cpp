#include "models/feature_encoder.h"

#include <algorithm>
#include <cmath>

#include <ATen/ops/empty.h>
#include <ATen/ops/leaky_relu.h>
#include <ATen/ops/zeros.h>

namespace tts {

std::int64_t nearest_source(std::int64_t i, double rate) {
  return static_cast<std::int64_t>(std::floor(static_cast<float>(i) * static_cast<float>(1.0 / rate)));
}

at::Tensor resize_nearest(const at::Tensor& x, double rate) {
  const auto n = static_cast<std::int64_t>(std::floor(static_cast<double>(x.size(0)) * rate));
  const at::Tensor index = at::empty({n}, x.options().dtype(at::kLong));
  auto* out = index.data_ptr<std::int64_t>();
  for (std::int64_t i = 0; i < n; ++i) {
    out[i] = std::min(nearest_source(i, rate), x.size(0) - 1);
  }
  return x.index_select(0, index);
}

void resize_nearest(FrameBuffer& from, FrameBuffer& to, double rate) {
  const std::int64_t done = to.size();
  const auto total = static_cast<std::int64_t>(std::floor(static_cast<double>(from.size()) * rate));
  if (total <= done) {
    return;
  }
  const std::int64_t base = nearest_source(done, rate);
  at::Tensor index = at::empty({total - done}, at::kLong);
  for (std::int64_t i = done; i < total; ++i) {
    index.data_ptr<std::int64_t>()[i - done] = std::min(nearest_source(i, rate), from.size() - 1) - base;
  }
  to.append(from.slice(base, from.size()).index_select(0, index));
  from.drop_before(nearest_source(total, rate));
}

FeatureEncoder::FeatureEncoder(const WeightScope& weights, const FeatureEncoderConfig& config)
    : config_(config),
      bridge_(weights("bridge.0"), config.in, config.channels, true),
      pre_(weights("wns1.pre"), config.channels, config.channels, true),
      proj_(weights("wns1.proj"), config.channels, config.channels, true),
      wavenet_(weights("wns1.enc"), {config.channels, config.condition, config.layers, config.kernel}) {}

at::Tensor FeatureEncoder::bridge(const at::Tensor& encoded) const {
  check_shape(encoded, {-1, config_.in}, "bridge input");
  return at::leaky_relu(bridge_(encoded), 0.01);
}

at::Tensor FeatureEncoder::refine(const at::Tensor& x, const at::Tensor& prepared, std::int64_t n_valid,
                                  const Probe* probe) const {
  check_shape(x, {-1, config_.channels}, "wns1 input");
  const std::int64_t n_zero = std::max<std::int64_t>(0, x.size(0) - n_valid);
  const std::int64_t n_kept = x.size(0) - n_zero;
  at::Tensor h = pre_(x);
  if (n_zero > 0) {
    h.narrow(0, n_kept, n_zero).zero_();
  }
  h = wavenet_.forward(h, prepared, n_kept);
  if (probe != nullptr) {
    (*probe)("wns1.enc", h.t().unsqueeze(0));
  }
  h = proj_(h);
  if (n_zero > 0) {
    h.narrow(0, n_kept, n_zero).zero_();
  }
  return h;
}

at::Tensor FeatureEncoder::forward(const at::Tensor& encoded, const at::Tensor& prepared, std::int64_t n_valid,
                                   const Probe* probe) const {
  const at::Tensor resized = resize_nearest(bridge(encoded), config_.rate);
  if (probe != nullptr) {
    (*probe)("wns1.in", resized.t().unsqueeze(0));
    at::Tensor mask = at::zeros({1, 1, resized.size(0)}, resized.options());
    mask.narrow(2, 0, std::min(n_valid, resized.size(0))).fill_(1);
    (*probe)("wns1.mask", mask);
  }
  return refine(resized, prepared, n_valid, probe);
}

std::int64_t FeatureEncoder::valid_frames(std::int64_t n_codes, double speed) const {
  const double frames = static_cast<double>(n_codes) * config_.frames_per_code;
  return speed == 1.0 ? static_cast<std::int64_t>(frames) : static_cast<std::int64_t>(frames / speed) + 1;
}

}  // namespace tts
