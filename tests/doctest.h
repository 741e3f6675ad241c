#pragma once

// doctest, made safe beside libtorch: c10's logging redefines CHECK, after which tests count no assertions and a
// failure aborts the run. Include this, never doctest itself. Works without libtorch too.
#if __has_include(<c10/util/Logging.h>) && !defined(SONORANT_NO_TORCH)
#include <c10/util/Logging.h>
#endif
#undef CHECK
#undef CHECK_EQ
#undef CHECK_NE
#undef CHECK_LT
#undef CHECK_LE
#undef CHECK_GT
#undef CHECK_GE

#include <doctest/doctest.h>

#include "src/core/result.h"

/// CHECK(result) prints the error; the value need not be printable.
namespace doctest {
template <class T>
struct StringMaker<boost::system::result<T, tts::Error>> {
  static String convert(const boost::system::result<T, tts::Error>& result) {
    if (result.has_value()) return "a value";
    return (std::string(tts::to_string(result.error().code)) + ": " + result.error().detail).c_str();
  }
};
}  // namespace doctest
