#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include <ATen/Context.h>
#include <ATen/cuda/CUDAContext.h>
#include <ATen/cuda/CUDAGraph.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <c10/core/InferenceMode.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <c10/util/Exception.h>

#include "models/device_call.h"

namespace tts {
namespace {

/// Runs before a call is captured: libraries choose their algorithms and take their workspaces in them.
constexpr int kWarmUps = 2;

/// Two captures at a time would meet in the allocator.
std::mutex& capture_mutex() {
  static std::mutex mutex;
  return mutex;
}

class CudaCall final : public DeviceCall {
 public:
  CudaCall(c10::cuda::CUDAStream stream, at::cuda::MempoolId_t pool, const std::vector<DeviceInput>& inputs,
           DeviceFunction function, bool recurring)
      : stream_(stream), pool_(pool), function_(std::move(function)), recurring_(recurring) {
    const c10::InferenceMode inference;
    const c10::cuda::CUDAStreamGuard guard(stream_);
    guarded([&] {
      for (const DeviceInput& input : inputs) {
        inputs_.push_back(at::zeros(input.shape, at::TensorOptions(input.type).pinned_memory(true)));
        on_device_.push_back(at::zeros(input.shape, at::TensorOptions(input.type).device(stream_.device())));
      }
    });
  }

  at::Tensor run() override {
    const c10::InferenceMode inference;
    const c10::cuda::CUDAStreamGuard guard(stream_);
    guarded([&] {
      for (std::size_t i = 0; i < inputs_.size(); ++i) on_device_[i].copy_(inputs_[i], true);
      if (recurring_ && !graph_ && ++runs_ > kWarmUps) capture();
      if (graph_) {
        graph_->replay();
        bring_back(captured_);
      } else {
        bring_back(function_(on_device_));
      }
      stream_.synchronize();
    });
    return on_host_;
  }

 private:
  template <class Work>
  void guarded(const Work& work) {
    try {
      work();
    } catch (const c10::OutOfMemoryError&) {
      c10::cuda::CUDACachingAllocator::emptyCache();
      throw DeviceOutOfMemory("out of memory on " + stream_.device().str());
    }
  }

  void capture() {
    const std::lock_guard lock(capture_mutex());
    (void)function_(on_device_);  // libraries' handles belong to threads: this one's must not be made while capturing
    stream_.synchronize();
    graph_.emplace();
    graph_->capture_begin(pool_, cudaStreamCaptureModeThreadLocal);
    try {
      captured_ = function_(on_device_);
      graph_->capture_end();
    } catch (const std::exception& e) {
      try {
        graph_->capture_end();
      } catch (const std::exception&) {  // says again that it failed
      }
      graph_.reset();
      captured_ = at::Tensor();
      recurring_ = false;
      log_uncaptured(e.what());
    }
  }

  /// The one copy back.
  void bring_back(const at::Tensor& result) {
    if (!on_host_.defined()) {
      on_host_ = at::empty(result.sizes(), at::TensorOptions(result.scalar_type()).pinned_memory(true));
    }
    on_host_.copy_(result, true);
  }

  const c10::cuda::CUDAStream stream_;
  const at::cuda::MempoolId_t pool_;
  const DeviceFunction function_;
  bool recurring_;
  int runs_ = 0;
  std::vector<at::Tensor> on_device_;
  std::optional<at::cuda::CUDAGraph> graph_;
  at::Tensor captured_;  ///< its result, in the memory of the graphs
  at::Tensor on_host_;
};

class CudaLane final : public DeviceLane {
 public:
  explicit CudaLane(at::Device device)
      : stream_(c10::cuda::getStreamFromPool(false, device.index())), pool_(at::cuda::graph_pool_handle()) {
    at::globalContext().setBenchmarkCuDNN(true);  // shapes are few and come again
  }
  std::unique_ptr<DeviceCall> make_call(const std::vector<DeviceInput>& inputs, DeviceFunction function,
                                        bool recurring) override {
    return std::make_unique<CudaCall>(stream_, pool_, inputs, std::move(function), recurring);
  }

 private:
  const c10::cuda::CUDAStream stream_;  ///< does not wait for the default stream, nor that for it
  const at::cuda::MempoolId_t pool_;
};

}  // namespace

std::unique_ptr<DeviceLane> make_cuda_lane(at::Device device) {
  if (!at::hasCUDA()) throw ModelError("device " + device.str() + ": libtorch finds no GPU");
  return std::make_unique<CudaLane>(device);
}

}  // namespace tts
