#include "models/device_call.h"

#include <utility>

#if defined(SONORANT_TORCH_CUDA)
#include <ATen/Context.h>
#endif
#include <ATen/ops/zeros.h>
#include <c10/core/InferenceMode.h>
#include <c10/util/Exception.h>

#include "src/core/log.h"

namespace tts {
namespace {

class CpuCall final : public DeviceCall {
 public:
  CpuCall(const std::vector<DeviceInput>& inputs, DeviceFunction function) : function_(std::move(function)) {
    for (const DeviceInput& input : inputs) inputs_.push_back(at::zeros(input.shape, input.type));
  }
  at::Tensor run() override {
    const c10::InferenceMode inference;
    try {
      return function_(inputs_).contiguous();
    } catch (const c10::OutOfMemoryError& e) {
      throw DeviceOutOfMemory("out of memory");
    }
  }

 private:
  const DeviceFunction function_;
};

class CpuLane final : public DeviceLane {
 public:
  std::unique_ptr<DeviceCall> make_call(const std::vector<DeviceInput>& inputs, DeviceFunction function,
                                        bool /*recurring*/) override {
    return std::make_unique<CpuCall>(inputs, std::move(function));
  }
};

}  // namespace

bool has_device(at::Device device) {
#if defined(SONORANT_TORCH_CUDA)
  if (device.is_cuda()) return at::hasCUDA();
#endif
  return device.is_cpu();
}

std::unique_ptr<DeviceLane> make_device_lane(at::Device device) {
  if (device.is_cpu()) return std::make_unique<CpuLane>();
#if defined(SONORANT_TORCH_CUDA)
  if (device.is_cuda()) return make_cuda_lane(device);
#endif
  throw ModelError("device " + device.str() + ": this build has no support for it");
}

#if defined(SONORANT_TORCH_CUDA)
void log_uncaptured(const char* why) {
  get_logger("models")->warn("a call is not captured as a CUDA graph what={}", log_value(why));
}
#endif

DeviceCall& DeviceLanes::Held::recurring(const Key& key, const std::vector<DeviceInput>& inputs,
                                         const DeviceFunction& function) {
  std::unique_ptr<DeviceCall>& call = lane_->calls[key];
  if (!call) call = lane_->lane->make_call(inputs, function, true);
  return *call;
}

std::unique_ptr<DeviceLanes::Lane> DeviceLanes::take() {
  std::unique_lock lock(mutex_);
  free_.wait(lock, [&] { return !idle_.empty() || made_ < most_; });
  if (!idle_.empty()) {
    std::unique_ptr<Lane> lane = std::move(idle_.back());
    idle_.pop_back();
    return lane;
  }
  ++made_;
  lock.unlock();
  try {
    auto lane = std::make_unique<Lane>();
    lane->lane = make_(device_);
    return lane;
  } catch (...) {
    lock.lock();
    --made_;
    free_.notify_one();
    throw;
  }
}

void DeviceLanes::give(std::unique_ptr<Lane> lane) {
  {
    const std::lock_guard lock(mutex_);
    idle_.push_back(std::move(lane));
  }
  free_.notify_one();
}

}  // namespace tts
