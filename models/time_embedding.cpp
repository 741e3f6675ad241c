#include "models/time_embedding.h"

#include <cmath>

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/cos.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/sin.h>

namespace tts {

at::Tensor time_features(double t) {
  const double step = std::log(10000.0) / 127.0;
  const at::Tensor w = at::exp(at::arange(128, at::kFloat) * -step);
  const at::Tensor angle = (w * (1000.0F * static_cast<float>(t))).unsqueeze(0);
  return at::cat({at::sin(angle), at::cos(angle)}, 1);
}

}  // namespace tts
