#include "models/token_slots.h"

#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "tests/doctest.h"
#include "tests/models/t2s_reference.h"

namespace tts {
namespace {

T2S make_model() {
  return test::random_t2s(test::small_t2s_config(2, 32, 2), 3);
}

}  // namespace

TEST_SUITE("models/token_slots") {
  TEST_CASE("all slots can be taken, then none, and what is given back can be taken again") {
    const T2S model = make_model();
    TokenSlots slots(model, 3, 40);
    CHECK(slots.free() == 3);
    std::vector<std::optional<TokenSlots::Slot>> taken(3);
    std::set<std::int64_t> rows;
    for (auto& slot : taken) {
      slot.emplace(std::move(*slots.take(40)));
      rows.insert(slot->row());
      CHECK(&slot->state() == &taken.front()->state());  // rows of one state, to be decoded together
    }
    CHECK(rows == std::set<std::int64_t>{0, 1, 2});
    CHECK(slots.free() == 0);
    CHECK(!slots.take(1));
    CHECK(!slots.take(1000));
    taken[1].reset();
    CHECK(slots.free() == 1);
    const auto again = slots.take(5);
    REQUIRE(again);
    CHECK(again->row() == 1);
    CHECK(slots.free() == 0);
  }

  TEST_CASE("a slot that is moved is given back once") {
    const T2S model = make_model();
    TokenSlots slots(model, 2, 40);
    {
      auto one = slots.take(10);
      REQUIRE(one);
      const TokenSlots::Slot moved = std::move(*one);
      one.reset();
      CHECK(slots.free() == 1);
      CHECK(moved.row() == 0);
    }
    CHECK(slots.free() == 2);
  }

  TEST_CASE("a text longer than a row has a slot and a state of its own") {
    const T2S model = make_model();
    TokenSlots slots(model, 2, 40);
    const auto small = slots.take(40);
    REQUIRE(small);
    {
      const auto large = slots.take(41);
      REQUIRE(large);
      CHECK(slots.free() == 0);
      CHECK(!slots.take(41));
      CHECK(&large->state() != &small->state());
      CHECK(large->row() == 0);
      CHECK(large->state().capacity() >= 41);
      CHECK(small->state().capacity() >= 40);
    }
    CHECK(slots.free() == 1);
  }

  TEST_CASE("as many slots as half of the memory that is left has room for") {
    CHECK(slots_within(6'400, 100, 32) == 32);
    CHECK(slots_within(6'399, 100, 32) == 31);
    CHECK(slots_within(1'000, 100, 32) == 5);
    CHECK(slots_within(0, 100, 32) == 1);  // one always: memory is touched as it fills
    CHECK(slots_within(~std::uint64_t{0}, 1, 4) == 4);
    CHECK(slots_within(1'000, 0, 7) == 7);
    CHECK(slots_within(1'000, 100, 0) == 1);
  }
}

}  // namespace tts
