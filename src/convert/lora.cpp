#include "src/convert/lora.h"

#include <algorithm>
#include <map>
#include <optional>
#include <string_view>
#include <utility>

#include "src/convert/wording.h"
#include "src/core/log.h"

namespace tts {
namespace {

constexpr std::string_view kA = ".lora_A.";
constexpr std::string_view kB = ".lora_B.";

std::string without(std::string text, std::string_view part) {
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at)) text.erase(at, part.size());
  return text;
}

/// The name a tensor has when nothing is wrapped.
std::string plain_name(const std::string& name) {
  return without(without(name, "base_model.model."), "base_layer.");
}

/// "X.weight" for the A or B of X; nullopt for another tensor.
std::optional<std::string> target_of(const std::string& name, std::string_view part) {
  const std::size_t at = name.find(part);
  if (at == std::string::npos || !name.ends_with("weight")) return std::nullopt;
  return plain_name(name.substr(0, at)) + ".weight";
}

}  // namespace

bool is_lora(const std::vector<TensorView>& tensors) {
  return std::ranges::any_of(tensors, [](const TensorView& tensor) { return target_of(tensor.name, kA).has_value(); });
}

Result<MergedTensors> merge_lora(const std::vector<TensorView>& base, const std::vector<TensorView>& lora,
                                 std::int64_t rank, const std::string& label,
                                 const std::function<void(std::size_t)>& progress) {
  const auto bad = [&](const std::string& what) { return Error{Errc::bad_file, label + ": " + what}; };
  struct Pair {
    const TensorView* a = nullptr;
    const TensorView* b = nullptr;
  };
  std::map<std::string, Pair> pairs;
  MergedTensors merged;
  std::map<std::string, std::size_t> index;
  for (const TensorView& tensor : base) {
    index.emplace(tensor.name, merged.tensors.size());
    merged.tensors.push_back(tensor);
  }
  for (const TensorView& tensor : lora) {
    if (const auto target = target_of(tensor.name, kA)) {
      if (std::exchange(pairs[*target].a, &tensor) != nullptr) return bad("two adapters for " + log_value(*target));
      continue;
    }
    if (const auto target = target_of(tensor.name, kB)) {
      if (std::exchange(pairs[*target].b, &tensor) != nullptr) return bad("two adapters for " + log_value(*target));
      continue;
    }
    TensorView plain = tensor;
    plain.name = plain_name(tensor.name);
    const auto [found, is_new] = index.emplace(plain.name, merged.tensors.size());
    if (is_new) {
      merged.tensors.push_back(std::move(plain));
      continue;
    }
    TensorView& old = merged.tensors[found->second];
    if (old.shape != plain.shape) {
      return bad("tensor " + log_value(tensor.name) + ": got shape " + to_text(plain.shape) + ", wanted the base's " +
                 to_text(old.shape));
    }
    old = std::move(plain);
  }
  for (const auto& [target, pair] : pairs) {
    const std::string where = "adapter of " + log_value(target) + ": ";
    if (pair.a == nullptr || pair.b == nullptr) return bad(where + "only one of A and B is there");
    const auto found = index.find(target);
    if (found == index.end()) return bad(where + "the base has no such tensor");
    TensorView& weight = merged.tensors[found->second];
    const auto& a = pair.a->shape;
    const auto& b = pair.b->shape;
    if (weight.shape.size() != 2 || a.size() != 2 || b.size() != 2 || a[0] != b[1] || b[0] != weight.shape[0] ||
        a[1] != weight.shape[1] || (rank != 0 && a[0] != rank)) {
      return bad(where + "got A " + to_text(a) + " and B " + to_text(b) + ", wanted rank " +
                 (rank != 0 ? std::to_string(rank) : std::string("equal in both")) + " and a product of " +
                 to_text(weight.shape));
    }
    auto w = to_floats(weight);
    const auto wide_a = to_floats(*pair.a);
    const auto wide_b = to_floats(*pair.b);
    if (!w) return bad(w.error().detail);
    if (!wide_a) return bad(wide_a.error().detail);
    if (!wide_b) return bad(wide_b.error().detail);
    const auto n_out = static_cast<std::size_t>(b[0]);
    const auto n_in = static_cast<std::size_t>(a[1]);
    const auto r = static_cast<std::size_t>(a[0]);
    std::vector<double> row(n_in);
    for (std::size_t o = 0; o < n_out; ++o) {
      std::ranges::fill(row, 0.0);
      for (std::size_t k = 0; k < r; ++k) {
        const double factor = (*wide_b)[o * r + k];
        const float* from = wide_a->data() + k * n_in;
        for (std::size_t i = 0; i < n_in; ++i) row[i] += factor * from[i];
      }
      for (std::size_t i = 0; i < n_in; ++i) (*w)[o * n_in + i] += static_cast<float>(row[i]);
    }
    auto made = std::make_shared<const std::vector<float>>(std::move(*w));
    weight.dtype = Dtype::f32;
    weight.data = std::as_bytes(std::span(*made));
    merged.made.push_back(std::move(made));
    if (progress) progress(weight.data.size());
  }
  return merged;
}

}  // namespace tts
