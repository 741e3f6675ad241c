// Any bytes as a checkpoint: refused or read, and every tensor that comes out has the bytes its shape says, all of them
// readable and together no more than the file twice over.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>

#include "src/convert/checkpoint.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  auto checkpoint = tts::Checkpoint::parse(std::as_bytes(std::span(data, size)), "fuzz");
  if (!checkpoint) {
    if (checkpoint.error().detail.empty()) std::abort();
    return 0;
  }
  (void)checkpoint->check();
  const tts::PickleValue& root = checkpoint->root();
  std::size_t total = 0;
  for (const tts::PickleValue* dict : {&root, root.find("weight"), root.find("state_dict"), root.find("model")}) {
    if (dict == nullptr) continue;
    const auto tensors = checkpoint->tensors(*dict);
    if (!tensors) continue;
    for (const tts::TensorView& view : *tensors) {
      if (view.data.size() != static_cast<std::size_t>(view.numel()) * tts::size_of(view.dtype)) std::abort();
      total += view.data.size();
      const auto floats = tts::to_floats(view);
      if (floats && floats->size() != static_cast<std::size_t>(view.numel())) std::abort();
    }
  }
  if (total > 2 * size) std::abort();
  return 0;
}
