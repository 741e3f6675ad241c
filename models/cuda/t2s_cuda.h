#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "models/token_model.h"

// The T2S on a CUDA device. Free of CUDA's and of libtorch's headers.

#if !defined(TTS_CUDA_NAMESPACE)
#define TTS_CUDA_NAMESPACE cuda
#endif

namespace tts::TTS_CUDA_NAMESPACE {

/// What the device or its driver refused: "CUDA: 26 GB of keys and values: out of memory".
class CudaError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Devices of this machine that the kernels run on (compute capability 8.0 and newer); 0 without a driver.
[[nodiscard]] int device_count();
/// "NVIDIA H200".
[[nodiscard]] std::string device_name(int device);

/// Bytes of a device that nobody has.
[[nodiscard]] std::uint64_t free_memory(int device);

/// Why a model of these sizes cannot be on a device, or "".
[[nodiscard]] std::string unfit(const T2SConfig& config);

/// A tensor of the checkpoint by its key after "model.", float32. Throws ModelError.
using ReadTensor = std::function<std::vector<float>(const std::string& key, std::vector<std::int64_t> shape)>;

/// The weights on the device, as numbers of `precision` (bf16 or fp16), sums in float32. Keys and values have that
/// precision too; layer norms, softmax and the residual are float32.
///
/// A decode step is one CUDA graph, made when a batch of its size (a power of two) is first stepped, and one wait for
/// the device, whose kernels write the logits and the watched attention to the host's memory themselves. A prefill runs
/// beside the steps of other rows, in a stream of its own, and is waited for when its logits are asked for.
///
/// Its states throw CudaError when the device has not the memory or fails; what else is on the device goes on where
/// the driver lets it. `overlap`: a kernel may begin while the one before it ends, where the device knows that.
[[nodiscard]] std::unique_ptr<const TokenModel> make_cuda_t2s(const T2SConfig& config, const ReadTensor& read,
                                                              T2SPrecision precision, std::int64_t window, int device,
                                                              bool overlap = true);

}  // namespace tts::TTS_CUDA_NAMESPACE
