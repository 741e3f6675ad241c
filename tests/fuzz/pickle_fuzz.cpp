// Any bytes as a pickle: refused or read in bounded time and memory; what is read is within the stated limits.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <unordered_set>
#include <vector>

#include "src/convert/pickle.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using Kind = tts::PickleValue::Kind;
  const auto pickle = tts::Pickle::parse(std::as_bytes(std::span(data, size)), "fuzz");
  if (!pickle) {
    if (pickle.error().detail.empty()) std::abort();
    return 0;
  }
  if (pickle->size() > size) std::abort();
  std::unordered_set<const tts::PickleValue*> seen;
  std::vector<const tts::PickleValue*> open{&pickle->root()};
  std::size_t n_items = 0;
  while (!open.empty()) {
    const tts::PickleValue* value = open.back();
    open.pop_back();
    if (value == nullptr) std::abort();
    if (!seen.insert(value).second) continue;
    n_items += value->items.size();
    if (value->kind == Kind::tensor) {
      if (value->items.size() != 1 || value->items[0]->kind != Kind::storage) std::abort();
      if (value->shape.size() != value->strides.size() || value->offset < 0) std::abort();
    }
    if (value->kind == Kind::dict && value->items.size() % 2 != 0) std::abort();
    (void)value->find("weight");
    open.insert(open.end(), value->items.begin(), value->items.end());
  }
  if (seen.size() > tts::Pickle::kMaxValues || n_items > 4 * tts::Pickle::kMaxItems) std::abort();
  return 0;
}
