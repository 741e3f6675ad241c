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
