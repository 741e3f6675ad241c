#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>

#include <ATen/core/Tensor.h>

#include "models/model_error.h"

namespace tts {

/// How the products of a network are computed. bf16: weights and what they are multiplied with rounded to bfloat16,
/// sums in float32, for the layers that have such a form; needs bf16_kernels() (models/bf16_kernels.h).
enum class Precision { fp32, bf16 };

/// Where a model's tensors come from, looked up by full key. Implementations: TensorMap below, and the parity
/// runner's generator, which makes a tensor from its key and shape.
class WeightSource {
 public:
  virtual ~WeightSource() = default;
  [[nodiscard]] virtual bool has(std::string_view key) const = 0;
  /// The tensor `key`: CPU, contiguous, float32 (integer tensors keep their type).
  /// Throws ModelError when it is missing or its shape is not `shape`.
  [[nodiscard]] virtual at::Tensor get(const std::string& key, at::IntArrayRef shape) const = 0;
};

/// Tensors held by name. float16, bfloat16 and float64 become float32 once, when they are put in.
class TensorMap final : public WeightSource {
 public:
  TensorMap() = default;
  /// Replaces a tensor of the same name. The tensor is shared, not copied, when no conversion is needed.
  void put(std::string key, at::Tensor tensor);
  [[nodiscard]] bool has(std::string_view key) const override;
  [[nodiscard]] at::Tensor get(const std::string& key, at::IntArrayRef shape) const override;
  [[nodiscard]] std::size_t size() const noexcept { return tensors_.size(); }

 private:
  std::unordered_map<std::string, at::Tensor> tensors_;
};

/// Opens a safetensors file. It stays mapped while the source lives; a tensor is read, and widened to float32, each
/// time it is asked for, so that nothing but what the layers keep takes memory. Throws ModelError naming the path and
/// the fault.
[[nodiscard]] std::shared_ptr<const WeightSource> load_weights(const std::filesystem::path& path);

/// A view of a source under a key prefix: scope("enc_p").get("proj.weight", {384, 192, 1}) reads
/// "enc_p.proj.weight". Cheap to copy; shares the source.
class WeightScope {
 public:
  explicit WeightScope(std::shared_ptr<const WeightSource> source, std::string prefix = {},
                       Precision precision = Precision::fp32);

  /// The scope one name deeper; `name` may hold dots ("h.layers").
  [[nodiscard]] WeightScope operator()(std::string_view name) const;
  [[nodiscard]] WeightScope operator()(std::string_view name, std::int64_t index) const;  ///< "name.3"

  /// The same scope for layers of this precision; scopes made of it have it too.
  [[nodiscard]] WeightScope with(Precision precision) const { return WeightScope(source_, prefix_, precision); }
  /// What layers that have a choice are to be packed for.
  [[nodiscard]] Precision precision() const { return precision_; }

  /// Throws ModelError naming the full key.
  [[nodiscard]] at::Tensor get(std::string_view name, at::IntArrayRef shape) const;
  [[nodiscard]] bool has(std::string_view name) const;
  /// The full key of `name` ("" gives the prefix itself), for messages.
  [[nodiscard]] std::string key(std::string_view name) const;

 private:
  std::shared_ptr<const WeightSource> source_;
  std::string prefix_;  ///< without the trailing dot
  Precision precision_;
};

/// Folds weight norm: W = v * g / ||v||, the 2-norm over all axes but 0 (Salimans & Kingma 2016, eq. 2), from
/// "<name>.weight_v" [shape] and "<name>.weight_g" [shape[0], 1, ...]. Where the file has a plain "<name>.weight"
/// instead (already folded), that is returned. For a transposed convolution axis 0 is the input channel.
[[nodiscard]] at::Tensor fold_weight_norm(const WeightScope& scope, std::string_view name, at::IntArrayRef shape);

/// "[3, 4]", for messages.
[[nodiscard]] std::string to_string(at::IntArrayRef shape);

}  // namespace tts
