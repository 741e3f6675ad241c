#pragma once

#include <stdexcept>

namespace tts {

/// A model that cannot be built: a tensor is missing, has another shape, or the file is unusable.
/// The message names the tensor, what was got and what was wanted.
class ModelError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

}  // namespace tts
