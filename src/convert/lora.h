#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "src/core/result.h"
#include "src/core/safetensors.h"

namespace tts {

/// Whether a state dict is that of a LoRA fine-tuning (Hu et al. 2021) as peft saves it: it has pairs
/// "X.lora_A.NAME.weight" [rank, in] and "X.lora_B.NAME.weight" [out, rank], or the same without NAME.
[[nodiscard]] bool is_lora(const std::vector<TensorView>& tensors);

/// A state dict that keeps the tensors that were made for it.
struct MergedTensors {
  std::vector<TensorView> tensors;
  std::vector<std::shared_ptr<const std::vector<float>>> made;
};

/// Lays a LoRA state dict over its base, as peft's merge does: W + (alpha / rank) * B * A, with alpha = rank as
/// upstream trains, so W + B * A; computed in float32 with the product summed in double; the merged tensors are F32.
/// Every other tensor of the LoRA file replaces its namesake. peft's wrappers in names ("base_model.model.",
/// "base_layer.") are taken out. `rank` is what the file says, 0 when it does not. Errors name `label` and the tensor.
[[nodiscard]] Result<MergedTensors> merge_lora(const std::vector<TensorView>& base, const std::vector<TensorView>& lora,
                                               std::int64_t rank, const std::string& label,
                                               const std::function<void(std::size_t)>& progress = {});

}  // namespace tts
