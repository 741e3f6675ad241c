// Any bytes as a weight file: refused or read, and what is read stays inside the bytes given.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>

#include "src/core/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  const auto tensors = tts::SafeTensors::parse(bytes, "fuzz");
  if (!tensors) {
    if (tensors.error().detail.empty()) std::abort();
    return 0;
  }
  std::size_t total = 0;
  for (const tts::TensorView& view : tensors->tensors()) {
    if (view.data.size() != static_cast<std::size_t>(view.numel()) * tts::size_of(view.dtype)) std::abort();
    if (tensors->find(view.name) != &view) std::abort();
    total += view.data.size();
    // Reads every byte of a float tensor, which AddressSanitizer checks.
    const auto floats = tts::to_floats(view);
    if (floats && floats->size() != static_cast<std::size_t>(view.numel())) std::abort();
  }
  if (total > size) std::abort();
  // What was read can be written, and read again to the same tensors.
  const auto again = tts::to_safetensors(tensors->tensors(), tensors->metadata());
  if (!again) std::abort();
  const auto reread = tts::SafeTensors::parse(*again, "again");
  if (!reread || reread->tensors().size() != tensors->tensors().size()) std::abort();
  return 0;
}
