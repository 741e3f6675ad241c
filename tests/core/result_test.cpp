#include "src/core/result.h"

#include <set>
#include <stdexcept>
#include <string>

#include "src/core/assert.h"
#include "tests/doctest.h"

TEST_SUITE("core/result") {
  TEST_CASE("every code has its own name, and the protocol's") {
    std::set<std::string> names;
    for (int code = 0; code <= static_cast<int>(tts::Errc::cancelled); ++code) {
      names.insert(tts::to_string(static_cast<tts::Errc>(code)));
    }
    CHECK(names.size() == static_cast<std::size_t>(tts::Errc::cancelled) + 1);
    CHECK(std::string(tts::to_string(tts::Errc::too_many_contexts)) == "too_many_contexts");
  }

  TEST_CASE("value() of an error throws with code and detail") {
    const tts::Result<int> result = tts::Error{tts::Errc::bad_file, "weights: cut off"};
    REQUIRE(!result);
    CHECK_THROWS_WITH_AS(static_cast<void>(result.value()), "bad_file: weights: cut off", std::runtime_error);
  }

#ifdef NDEBUG
  TEST_CASE("a broken invariant throws in release and says where") {
    const int got = 3;
    CHECK_NOTHROW(TTS_ASSERT(got == 3));
    CHECK_THROWS_AS(TTS_ASSERT(got == 4), std::logic_error);
  }
#endif
}
