#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include "models/model_error.h"

namespace tts {

/// There was no room for a call on its device.
class DeviceOutOfMemory : public ModelError {
  using ModelError::ModelError;
};

/// A network, or a part of one: tensors on the device in, one tensor on the device out. Its work must depend on shapes
/// alone: no branch on values, no read-back.
using DeviceFunction = std::function<at::Tensor(const std::vector<at::Tensor>& inputs)>;

struct DeviceInput {
  std::vector<std::int64_t> shape;
  at::ScalarType type = at::kFloat;
};

/// A function for inputs of fixed shapes, with the host's side of it. On the CPU it is simply called; on CUDA inputs go
/// up from pinned memory, a captured graph runs, and the result comes back in one copy. One thread at a time.
class DeviceCall {
 public:
  virtual ~DeviceCall() = default;
  /// Host tensors that run() reads, to be filled.
  [[nodiscard]] const std::vector<at::Tensor>& inputs() const { return inputs_; }
  /// What the function makes of them, on the host, contiguous; the caller may keep it until the next run(). Throws
  /// DeviceOutOfMemory, or what the function throws.
  [[nodiscard]] virtual at::Tensor run() = 0;

 protected:
  std::vector<at::Tensor> inputs_;
};

/// Where calls of one thread go: on CUDA a stream of its own and the memory that its graphs share.
class DeviceLane {
 public:
  virtual ~DeviceLane() = default;
  /// `recurring`: worth being captured.
  [[nodiscard]] virtual std::unique_ptr<DeviceCall> make_call(const std::vector<DeviceInput>& inputs,
                                                              DeviceFunction function, bool recurring) = 0;
};

/// Whether this build and this machine can make calls there.
[[nodiscard]] bool has_device(at::Device device);
/// Throws ModelError for a device that this build knows nothing of.
[[nodiscard]] std::unique_ptr<DeviceLane> make_device_lane(at::Device device);
using MakeDeviceLane = std::function<std::unique_ptr<DeviceLane>(at::Device)>;

/// The lanes of a model, and the calls made ready in each. Thread-safe.
class DeviceLanes {
 public:
  /// most: lanes at once; who finds none waits.
  DeviceLanes(at::Device device, std::size_t most, MakeDeviceLane make = make_device_lane)
      : device_(device), most_(most), make_(std::move(make)) {}

  using Key = std::vector<std::int64_t>;
  struct Lane {
    std::unique_ptr<DeviceLane> lane;
    std::map<Key, std::unique_ptr<DeviceCall>> calls;
  };
  /// One lane while it is held.
  class Held {
   public:
    explicit Held(DeviceLanes& lanes) : lanes_(lanes), lane_(lanes.take()) {}
    ~Held() { lanes_.give(std::move(lane_)); }
    Held(const Held&) = delete;
    Held& operator=(const Held&) = delete;
    /// The call of this key, made when it is asked for first.
    [[nodiscard]] DeviceCall& recurring(const Key& key, const std::vector<DeviceInput>& inputs,
                                        const DeviceFunction& function);
    /// A call that is not kept.
    [[nodiscard]] std::unique_ptr<DeviceCall> once(const std::vector<DeviceInput>& inputs,
                                                   const DeviceFunction& function) {
      return lane_->lane->make_call(inputs, function, false);
    }

   private:
    DeviceLanes& lanes_;
    std::unique_ptr<Lane> lane_;
  };

 private:
  std::unique_ptr<Lane> take();
  void give(std::unique_ptr<Lane> lane);

  const at::Device device_;
  const std::size_t most_;
  const MakeDeviceLane make_;
  std::mutex mutex_;
  std::condition_variable free_;
  std::vector<std::unique_ptr<Lane>> idle_;
  std::size_t made_ = 0;
};

#if defined(SONORANT_TORCH_CUDA)
/// Of models/device_call_cuda.cpp, which is built where libtorch knows CUDA.
[[nodiscard]] std::unique_ptr<DeviceLane> make_cuda_lane(at::Device device);
/// Says in the log that a call goes on without a graph.
void log_uncaptured(const char* why);
#endif

}  // namespace tts
