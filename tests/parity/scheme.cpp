#include "tests/parity/scheme.h"

#include <cmath>
#include <utility>

#include <ATen/ATen.h>

namespace tts::parity {
namespace {

bool ends_with(std::string_view text, std::string_view tail) {
  return text.ends_with(tail);
}

std::string_view last_component(std::string_view key) {
  const std::size_t dot = key.rfind('.');
  return dot == std::string_view::npos ? key : key.substr(dot + 1);
}

std::int64_t product(at::IntArrayRef shape, std::size_t from) {
  std::int64_t n = 1;
  for (std::size_t i = from; i < shape.size(); ++i) n *= shape[i];
  return n;
}

}  // namespace

std::uint64_t fnv1a64(std::string_view name) noexcept {
  std::uint64_t hash = 0xCBF29CE484222325ULL;
  for (const char c : name) {
    hash ^= static_cast<unsigned char>(c);
    hash *= 0x100000001B3ULL;
  }
  return hash;
}

std::uint64_t raw_at(std::uint64_t hash, std::uint64_t index) noexcept {
  std::uint64_t z = hash + (index + 1) * 0x9E3779B97F4A7C15ULL;
  z = (z ^ (z >> 30U)) * 0xBF58476D1CE4E5B9ULL;
  z = (z ^ (z >> 27U)) * 0x94D049BB133111EBULL;
  return z ^ (z >> 31U);
}

double uniform_at(std::uint64_t hash, std::uint64_t index) noexcept {
  return static_cast<double>(raw_at(hash, index) >> 40U) / 16777216.0;
}

double signed_at(std::uint64_t hash, std::uint64_t index) noexcept {
  return 2.0 * uniform_at(hash, index) - 1.0;
}

bool matches(std::string_view glob, std::string_view text) noexcept {
  std::size_t g = 0;
  std::size_t t = 0;
  std::size_t star = std::string_view::npos;
  std::size_t resume = 0;
  while (t < text.size()) {
    if (g < glob.size() && glob[g] == '*') {
      star = g++;
      resume = t;
    } else if (g < glob.size() && glob[g] == text[t]) {
      ++g;
      ++t;
    } else if (star != std::string_view::npos) {
      g = star + 1;
      t = ++resume;
    } else {
      return false;
    }
  }
  while (g < glob.size() && glob[g] == '*') ++g;
  return g == glob.size();
}

SchemeSource::SchemeSource(std::string weight_prefix, std::vector<Gain> gains)
    : prefix_(std::move(weight_prefix)), gains_(std::move(gains)) {}

SchemeSource::SchemeSource(const Json& fixture_case) : prefix_(fixture_case.value("weight_prefix", std::string())) {
  if (!fixture_case.contains("config")) return;
  const Json& config = fixture_case.at("config");
  if (!config.is_object() || !config.contains("weight_gain")) return;
  for (const Json& gain : config.at("weight_gain")) {
    gains_.push_back({gain.at("glob").get<std::string>(), static_cast<float>(gain.at("factor").get<double>())});
  }
}

bool SchemeSource::has(std::string_view key) const {
  for (const std::string& glob : absent_) {
    if (matches(glob, key)) return false;
  }
  return true;
}

at::Tensor SchemeSource::get(const std::string& key, at::IntArrayRef shape) const {
  if (!has(key)) throw ModelError("tensor " + key + " is missing (wanted shape " + to_string(shape) + ")");
  if (ends_with(key, "weight_v")) v_shapes_[key] = shape.vec();
  at::Tensor tensor = generate(key, shape);
  for (const Gain& gain : gains_) {
    if (matches(gain.glob, key)) tensor.mul_(gain.factor);
  }
  return tensor;
}

at::Tensor SchemeSource::generate(const std::string& key, at::IntArrayRef shape) const {
  if (ends_with(key, ".inited")) return at::ones(shape, at::kFloat);
  if (ends_with(key, ".num_batches_tracked") || ends_with(key, "rotary_embed.inv_freq") ||
      ends_with(key, ".upsample.filter") || ends_with(key, ".lowpass.filter")) {
    throw ModelError("tensor " + key + " is not generated: it is computed or unused");
  }
  at::Tensor tensor = at::empty(shape, at::kFloat);
  float* out = tensor.data_ptr<float>();
  const auto n = static_cast<std::uint64_t>(tensor.numel());
  const std::uint64_t hash = fnv1a64(prefix_ + key);

  if (ends_with(key, "weight_g")) {
    const std::string v_key = key.substr(0, key.size() - 1) + "v";
    const auto v_shape = v_shapes_.find(v_key);
    if (v_shape == v_shapes_.end() || v_shape->second.size() != shape.size()) {
      throw ModelError("tensor " + key + " was asked for before " + v_key);
    }
    std::vector<std::int64_t> summed;
    for (std::size_t axis = 0; axis < shape.size(); ++axis) {
      if (shape[axis] == 1) summed.push_back(static_cast<std::int64_t>(axis));
    }
    const at::Tensor v = generate(v_key, v_shape->second).to(at::kDouble);
    const at::Tensor norm = summed.empty() ? v.abs() : v.mul(v).sum(summed, /*keepdim=*/true).sqrt();
    if (norm.sizes() != shape) throw ModelError("tensor " + key + " does not fit " + v_key);
    const at::Tensor flat = norm.contiguous();
    const double* norms = flat.data_ptr<double>();
    for (std::uint64_t i = 0; i < n; ++i) out[i] = static_cast<float>(norms[i] * (1.0 + 0.1 * signed_at(hash, i)));
    return tensor;
  }
  if (shape.size() >= 2) {
    const double scale = 1.0 / std::sqrt(static_cast<double>(product(shape, 1)));
    for (std::uint64_t i = 0; i < n; ++i) out[i] = static_cast<float>(signed_at(hash, i) * scale);
    return tensor;
  }
  const std::string_view last = last_component(key);
  const bool one_d = shape.size() == 1;
  if (one_d && last == "running_var") {
    for (std::uint64_t i = 0; i < n; ++i) out[i] = static_cast<float>(1.0 + 0.1 * uniform_at(hash, i));
  } else if (one_d && (last == "gamma" || (ends_with(key, "weight") && !ends_with(key, "prelu.weight")))) {
    for (std::uint64_t i = 0; i < n; ++i) out[i] = static_cast<float>(1.0 + 0.1 * signed_at(hash, i));
  } else {
    for (std::uint64_t i = 0; i < n; ++i) out[i] = static_cast<float>(0.05 * signed_at(hash, i));
  }
  return tensor;
}

at::Tensor make_input(const Json& description) {
  const std::vector<std::int64_t> shape = to_int64s(description.at("shape"));
  const std::uint64_t hash = fnv1a64(description.at("name").get<std::string>());
  const std::string kind = description.at("kind").get<std::string>();
  if (kind == "int") {
    const auto mod = description.at("mod").get<std::uint64_t>();
    const auto plus = description.value("plus", std::int64_t{0});
    at::Tensor tensor = at::empty(shape, at::kLong);
    auto* out = tensor.data_ptr<std::int64_t>();
    for (std::int64_t i = 0; i < tensor.numel(); ++i) {
      out[i] = static_cast<std::int64_t>(raw_at(hash, static_cast<std::uint64_t>(i)) % mod) + plus;
    }
    return tensor;
  }
  if (kind != "float") throw std::runtime_error("input " + description.dump() + " has an unknown kind");
  const double scale = description.at("scale").get<double>();
  at::Tensor tensor = at::empty(shape, at::kFloat);
  auto* out = tensor.data_ptr<float>();
  for (std::int64_t i = 0; i < tensor.numel(); ++i) {
    out[i] = static_cast<float>(signed_at(hash, static_cast<std::uint64_t>(i)) * scale);
  }
  if (description.contains("zero_cols")) {
    const std::vector<std::int64_t> columns = to_int64s(description.at("zero_cols"));
    tensor.narrow(1, columns.at(0), columns.at(1) - columns.at(0)).zero_();
  }
  return tensor;
}

std::vector<float> exponential_noise(std::string_view name, std::int64_t n) {
  const std::uint64_t hash = fnv1a64(name);
  std::vector<float> q(static_cast<std::size_t>(n));
  for (std::size_t i = 0; i < q.size(); ++i) {
    q[i] = static_cast<float>(-std::log(uniform_at(hash, i) + 1.0 / 33554432.0));
  }
  return q;
}

std::vector<std::int64_t> to_int64s(const Json& array) {
  return array.get<std::vector<std::int64_t>>();
}

}  // namespace tts::parity
