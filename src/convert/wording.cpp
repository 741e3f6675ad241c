#include "src/convert/wording.h"

#include "src/core/log.h"
#include "src/core/utf8.h"

namespace tts {

std::string shown(std::string_view name) {
  return log_value(name.substr(0, utf8::floor_boundary(name, 120)));
}

std::string to_text(std::span<const std::int64_t> shape) {
  std::string out = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) out += (i > 0 ? ", " : "") + std::to_string(shape[i]);
  return out + "]";
}

}  // namespace tts
