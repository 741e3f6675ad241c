#pragma once

namespace tts::detail {

/// Aborts in debug builds; throws std::logic_error naming the expression and the place in release builds.
[[noreturn]] void assertion_failed(const char* expression, const char* file, int line);

}  // namespace tts::detail

/// A broken invariant of ours, never a bad input (those are a Result). The expression is always evaluated.
#define TTS_ASSERT(expression) \
  ((expression) ? static_cast<void>(0) : ::tts::detail::assertion_failed(#expression, __FILE__, __LINE__))
