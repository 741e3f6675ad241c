#include "src/core/assert.h"

#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>

namespace tts::detail {

void assertion_failed(const char* expression, const char* file, int line) {
  const std::string what = std::string(file) + ":" + std::to_string(line) + ": broken invariant: " + expression;
#ifdef NDEBUG
  throw std::logic_error(what);
#else
  std::fprintf(stderr, "%s\n", what.c_str());
  std::abort();
#endif
}

}  // namespace tts::detail
