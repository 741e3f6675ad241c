#include "src/core/bounded_queue.h"

#include <atomic>
#include <memory>
#include <numeric>
#include <thread>
#include <vector>

#include "tests/doctest.h"

using tts::BoundedQueue;

TEST_SUITE("core/bounded_queue") {
  TEST_CASE("try_push refuses when full and leaves the value to the caller") {
    BoundedQueue<std::unique_ptr<int>> queue(2);
    CHECK(queue.try_push(std::make_unique<int>(1)));
    CHECK(queue.try_push(std::make_unique<int>(2)));
    auto third = std::make_unique<int>(3);
    CHECK(!queue.try_push(std::move(third)));
    REQUIRE(third != nullptr);
    CHECK(**queue.try_pop() == 1);
    CHECK(queue.try_push(std::move(third)));
    CHECK(**queue.try_pop() == 2);
    CHECK(**queue.try_pop() == 3);
    CHECK(!queue.try_pop());
  }

  TEST_CASE("push_latest drops the oldest and says so") {
    BoundedQueue<int> queue(2);
    CHECK(queue.push_latest(1) == 0);
    CHECK(queue.push_latest(2) == 0);
    CHECK(queue.push_latest(3) == 1);
    CHECK(queue.size() == 2);
    CHECK(queue.try_pop() == 2);
    CHECK(queue.try_pop() == 3);
  }

  TEST_CASE("after close nothing goes in, what is left comes out, then nullopt") {
    BoundedQueue<int> queue(2);
    CHECK(queue.try_push(7));
    queue.close();
    queue.close();
    CHECK(queue.closed());
    CHECK(!queue.try_push(8));
    CHECK(!queue.push(8, {}));
    CHECK(queue.push_latest(8) == 0);
    CHECK(queue.pop({}) == 7);
    CHECK(!queue.pop({}));
  }

  TEST_CASE("a stop request wakes a waiting consumer and a waiting producer") {
    BoundedQueue<int> empty(1);
    BoundedQueue<int> full(1);
    REQUIRE(full.try_push(1));
    std::atomic<int> woken = 0;
    {
      std::jthread consumer([&](std::stop_token stop) { woken += empty.pop(stop).has_value() ? 0 : 1; });
      std::jthread producer([&](std::stop_token stop) { woken += full.push(2, stop) ? 0 : 1; });
    }  // a jthread asks for the stop, then joins
    CHECK(woken == 2);
    CHECK(full.size() == 1);
  }

  TEST_CASE("an element that is there is handed out although a stop was requested") {
    std::stop_source source;
    source.request_stop();
    BoundedQueue<int> queue(1);
    REQUIRE(queue.try_push(5));
    CHECK(queue.pop(source.get_token()) == 5);
    CHECK(!queue.pop(source.get_token()));
    CHECK(queue.push(6, source.get_token()));  // there is room: no wait, no refusal
    CHECK(!queue.push(7, source.get_token()));
  }

  TEST_CASE("many producers and consumers: every element arrives once, and the bound holds") {
    constexpr int kThreads = 4;
    constexpr int kEach = 2000;
    BoundedQueue<int> queue(3);
    std::atomic<long> sum = 0;
    std::atomic<int> count = 0;
    std::atomic<bool> over = false;
    {
      std::vector<std::jthread> consumers;
      for (int t = 0; t < kThreads; ++t) {
        consumers.emplace_back([&] {
          while (auto value = queue.pop({})) {
            sum += *value;
            ++count;
            if (queue.size() > queue.capacity()) over = true;
          }
        });
      }
      {
        std::vector<std::jthread> producers;
        for (int t = 0; t < kThreads; ++t) {
          producers.emplace_back([&, t] {
            for (int i = 0; i < kEach; ++i) static_cast<void>(queue.push(t * kEach + i, {}));
          });
        }
      }
      queue.close();
    }
    const long n = long{kThreads} * kEach;
    CHECK(count == n);
    CHECK(sum == n * (n - 1) / 2);
    CHECK(!over);
  }
}
