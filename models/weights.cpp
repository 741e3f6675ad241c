#include "models/weights.h"

#include <cstring>
#include <utility>
#include <vector>

#include <ATen/ATen.h>

#include "src/core/safetensors.h"

namespace tts {

std::string to_string(at::IntArrayRef shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (i > 0) text += ", ";
    text += std::to_string(shape[i]);
  }
  return text + "]";
}

namespace {

[[noreturn]] void throw_missing(const std::string& key, at::IntArrayRef wanted) {
  throw ModelError("tensor " + key + " is missing (wanted shape " + to_string(wanted) + ")");
}

void check_sizes(const std::string& key, at::IntArrayRef got, at::IntArrayRef wanted) {
  if (got != wanted) {
    throw ModelError("tensor " + key + " has shape " + to_string(got) + ", wanted " + to_string(wanted));
  }
}

/// float16, bfloat16 and float64 to float32.
at::Tensor widened(const at::Tensor& tensor) {
  const at::ScalarType type = tensor.scalar_type();
  return (at::isFloatingType(type) && type != at::kFloat ? tensor.to(at::kFloat) : tensor).contiguous();
}

}  // namespace

void TensorMap::put(std::string key, at::Tensor tensor) {
  tensors_.insert_or_assign(std::move(key), widened(tensor));
}

bool TensorMap::has(std::string_view key) const {
  return tensors_.count(std::string(key)) > 0;
}

at::Tensor TensorMap::get(const std::string& key, at::IntArrayRef shape) const {
  const auto found = tensors_.find(key);
  if (found == tensors_.end()) throw_missing(key, shape);
  check_sizes(key, found->second.sizes(), shape);
  return found->second;
}

namespace {

at::ScalarType to_scalar_type(Dtype dtype) {
  switch (dtype) {
    case Dtype::f64:
      return at::kDouble;
    case Dtype::f32:
      return at::kFloat;
    case Dtype::f16:
      return at::kHalf;
    case Dtype::bf16:
      return at::kBFloat16;
    case Dtype::i64:
      return at::kLong;
    case Dtype::i32:
      return at::kInt;
    case Dtype::i8:
      return at::kChar;
    case Dtype::u8:
      return at::kByte;
  }
  throw ModelError("unknown element type");
}

/// Tensors read from the file each time.
class MappedWeights final : public WeightSource {
 public:
  explicit MappedWeights(SafeTensors file) : file_(std::move(file)) {}

  [[nodiscard]] bool has(std::string_view key) const override { return file_.find(key) != nullptr; }
  [[nodiscard]] at::Tensor get(const std::string& key, at::IntArrayRef shape) const override {
    const TensorView* view = file_.find(key);
    if (view == nullptr) throw_missing(key, shape);
    check_sizes(key, view->shape, shape);
    const at::Tensor tensor = at::empty(view->shape, to_scalar_type(view->dtype));
    if (!view->data.empty()) std::memcpy(tensor.data_ptr(), view->data.data(), view->data.size());
    return widened(tensor);
  }

 private:
  const SafeTensors file_;
};

}  // namespace

std::shared_ptr<const WeightSource> load_weights(const std::filesystem::path& path) {
  Result<SafeTensors> file = SafeTensors::open(path);
  if (!file) throw ModelError(file.error().detail);
  return std::make_shared<MappedWeights>(std::move(*file));
}

WeightScope::WeightScope(std::shared_ptr<const WeightSource> source, std::string prefix, Precision precision)
    : source_(std::move(source)), prefix_(std::move(prefix)), precision_(precision) {}

std::string WeightScope::key(std::string_view name) const {
  if (prefix_.empty()) return std::string(name);
  if (name.empty()) return prefix_;
  return prefix_ + "." + std::string(name);
}

WeightScope WeightScope::operator()(std::string_view name) const {
  return WeightScope(source_, key(name), precision_);
}

WeightScope WeightScope::operator()(std::string_view name, std::int64_t index) const {
  return WeightScope(source_, key(std::string(name) + "." + std::to_string(index)), precision_);
}

at::Tensor WeightScope::get(std::string_view name, at::IntArrayRef shape) const {
  return source_->get(key(name), shape);
}

bool WeightScope::has(std::string_view name) const {
  return source_->has(key(name));
}

at::Tensor fold_weight_norm(const WeightScope& scope, std::string_view name, at::IntArrayRef shape) {
  const std::string base = name.empty() ? std::string() : std::string(name) + ".";
  if (!scope.has(base + "weight_v") && scope.has(base + "weight")) return scope.get(base + "weight", shape);
  const at::Tensor v = scope.get(base + "weight_v", shape);
  std::vector<std::int64_t> g_shape(shape.size(), 1);
  g_shape[0] = shape[0];
  const at::Tensor g = scope.get(base + "weight_g", g_shape);
  const at::Tensor norm = v.reshape({shape[0], -1}).norm(2, {1}).reshape(g_shape);
  return (v * (g / norm)).contiguous();
}

}  // namespace tts
