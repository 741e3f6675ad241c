#include "src/core/log.h"

#include <string>

#include "tests/doctest.h"

TEST_SUITE("core/log") {
  TEST_CASE("one logger per module, its level follows the configuration, later ones included") {
    const tts::Logger first = tts::get_logger("test-a");
    CHECK(first == tts::get_logger("test-a"));
    CHECK(first != tts::get_logger("test-b"));
    REQUIRE(tts::set_log_level("error"));
    CHECK(!first->should_log(spdlog::level::warn));
    CHECK(!tts::get_logger("test-late")->should_log(spdlog::level::warn));
    CHECK(first->should_log(spdlog::level::err));
    REQUIRE(tts::set_log_level("info"));
    CHECK(first->should_log(spdlog::level::warn));
  }

  TEST_CASE("an unknown level is refused and named, and changes nothing") {
    const auto result = tts::set_log_level("loud\n");
    REQUIRE(!result);
    CHECK(result.error().detail.find("\"loud\\n\"") != std::string::npos);
    CHECK(tts::get_logger("test-a")->should_log(spdlog::level::info));
  }

  TEST_CASE("values cannot forge a line or a key") {
    CHECK(tts::log_value("en-US") == "en-US");
    CHECK(tts::log_value("") == "\"\"");
    CHECK(tts::log_value("a=b") == "\"a=b\"");
    CHECK(tts::log_value("x\nlevel=error") == "\"x\\nlevel=error\"");
    CHECK(tts::log_value("q\"\\\x1b") == "\"q\\\"\\\\\\x1b\"");
  }
}
