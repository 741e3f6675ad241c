#include "models/make_token_model.h"

#include <exception>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>

#include "models/t2s.h"
#include "models/t2s_guard.h"
#include "src/core/log.h"
#if defined(SONORANT_CUDA)
#include "models/cuda/t2s_cuda.h"
#endif

namespace tts {
namespace {

#if defined(SONORANT_CUDA)
std::vector<float> read_floats(const WeightScope& scope, const T2SConfig& config, const std::string& key,
                               const std::vector<std::int64_t>& shape) {
  if (key == "bert_proj.bias" && config.bert_dim == 0 && !scope.has(key)) return {};
  const at::Tensor tensor = scope.get(key, shape);
  return {tensor.data_ptr<float>(), tensor.data_ptr<float>() + tensor.numel()};
}

std::unique_ptr<const TokenModel> make_on_gpu(const T2SConfig& config, const WeightScope& scope,
                                              const T2SOptions& options, int device) {
  std::string why = cuda::unfit(config);
  if (options.precision == T2SPrecision::fp32 || options.precision == T2SPrecision::int8) {
    why = std::string("a GPU computes in bf16 or fp16, wanted is ") + to_string(options.precision);
  }
  std::unique_ptr<const TokenModel> model;
  if (why.empty()) {
    model = make_guarded(config, scope, options, [&](T2SPrecision precision) {
      return cuda::make_cuda_t2s(
          config, [&](const std::string& key, const auto& shape) { return read_floats(scope, config, key, shape); },
          precision, options.window, device);
    });
    why = "refused by its guard";
  }
  if (model) {
    get_logger("models")->info("T2S device=cuda:{} name={} precision={}", device, log_value(cuda::device_name(device)),
                               to_string(model->precision()));
  } else {
    get_logger("models")->warn("T2S stays on the CPU: {}", why);
  }
  return model;
}
#endif

}  // namespace

std::unique_ptr<const TokenModel> make_token_model(const T2SConfig& config, const WeightScope& scope,
                                                   const T2SOptions& options, const DeviceChoice& device) {
  [[maybe_unused]] const std::optional<int> gpu = cuda_device_of(device);
#if defined(SONORANT_CUDA)
  if (gpu) {
    try {
      if (auto model = make_on_gpu(config, scope, options, *gpu)) return model;
    } catch (const cuda::CudaError& e) {
      if (device.kind != DeviceChoice::Kind::automatic) throw ModelError(std::string("T2S on a GPU: ") + e.what());
      get_logger("models")->warn("T2S stays on the CPU: {}", e.what());
    }
  }
#endif
  return std::make_unique<const T2S>(config, scope, options);
}

std::unique_ptr<const TokenModel> make_guarded(const T2SConfig& config, const WeightScope& scope,
                                               const T2SOptions& options, const MakeAt& make) {
  const T2SAnswers full = answer_guard(T2S(config, scope, {T2SPrecision::fp32, options.window}));
  const bool automatic = options.precision == T2SPrecision::automatic;
  std::vector<T2SPrecision> order = {T2SPrecision::fp16, T2SPrecision::bf16};
  if (options.precision == T2SPrecision::bf16) std::swap(order[0], order[1]);
  std::unique_ptr<const TokenModel> best;
  double least = 0;
  for (const T2SPrecision precision : order) {
    std::unique_ptr<const TokenModel> model = make(precision);
    const T2SDrift drift = measure_drift(full, answer_guard(*model, &full));
    const std::string fault = guard_fault(drift);
    if (!fault.empty()) {
      get_logger("models")->warn("T2S precision={} refused by its guard: {} {}", to_string(precision), fault,
                                 to_string(drift));
      continue;
    }
    get_logger("models")->info("T2S precision={} {}", to_string(precision), to_string(drift));
    if (best && drift.divergence >= least) continue;
    best = std::move(model);
    least = drift.divergence;
    if (!automatic) break;
  }
  return best;
}

}  // namespace tts
