#include "src/core/spare_thread.h"

#include <atomic>
#include <cstdint>
#include <numeric>
#include <stdexcept>
#include <thread>
#include <vector>

#include "tests/doctest.h"

using tts::SpareThread;

namespace {

/// Calls until the spare thread came, which on a busy machine may take several times.
template <class Body>
bool share_at_last(SpareThread& spare, const Body& body) {
  const SpareThread::Shift shift(spare);
  for (int i = 0; i < 2000; ++i) {
    int members = 0;
    SpareThread::share([&](SpareThread::Member& m) {
      if (m.index() == 0) members = m.count();
      body(m);
    });
    if (members == 2) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(6));  // it is left alone for a while when it did not come
  }
  return false;
}

/// Each stage needs all of the one before.
std::vector<std::uint32_t> stages(SpareThread::Member& m, std::vector<std::uint32_t>& a,
                                  std::vector<std::uint32_t>& b) {
  const auto n = static_cast<std::int64_t>(a.size());
  for (int stage = 0; stage < 50; ++stage) {
    const auto part = m.share(n, 4);
    for (std::int64_t i = part.first; i < part.second; ++i) {
      b[static_cast<std::size_t>(i)] = a[static_cast<std::size_t>(n - 1 - i)] * 3 + a[static_cast<std::size_t>(i)];
    }
    m.meet();
    for (std::int64_t i = part.first; i < part.second; ++i)
      a[static_cast<std::size_t>(i)] = b[static_cast<std::size_t>(i)];
    m.meet();
  }
  return a;
}

}  // namespace

TEST_SUITE("core/spare_thread") {
  TEST_CASE("two members give what one gives") {
    std::vector<std::uint32_t> alone(37), scratch(37);
    std::iota(alone.begin(), alone.end(), 1U);
    std::vector<std::uint32_t> start = alone;
    SpareThread::share([&](SpareThread::Member& m) {
      CHECK(m.count() == 1);
      stages(m, alone, scratch);
    });
    SpareThread spare(2);
    std::vector<std::uint32_t> both(37);
    CHECK(share_at_last(spare, [&](SpareThread::Member& m) {
      if (m.index() == 0) both = start;
      m.meet();
      stages(m, both, scratch);
    }));
    CHECK(both == alone);
  }

  TEST_CASE("parts cover everything once, in whole units") {
    SpareThread spare(2);
    for (const std::int64_t n : {0, 1, 5, 16, 33, 64}) {
      for (const std::int64_t unit : {1, 2, 16}) {
        std::vector<std::atomic<int>> hit(static_cast<std::size_t>(n));
        std::atomic<bool> whole{true};
        CHECK(share_at_last(spare, [&](SpareThread::Member& m) {
          if (m.index() == 0) {
            for (auto& h : hit) h = 0;
          }
          m.meet();
          const auto part = m.share(n, unit);
          if (part.first % unit != 0 && part.first != n) whole = false;
          for (std::int64_t i = part.first; i < part.second; ++i) ++hit[static_cast<std::size_t>(i)];
        }));
        CHECK(whole);
        for (const auto& h : hit) CHECK(h == 1);
      }
    }
  }

  TEST_CASE("an exception of either member arrives, and the next work is done") {
    SpareThread spare(2);
    for (const int thrower : {0, 1}) {
      const SpareThread::Shift shift(spare);
      bool thrown = false;
      for (int i = 0; i < 2000 && !thrown; ++i) {
        try {
          SpareThread::share([&](SpareThread::Member& m) {
            if (m.count() == 2 && m.index() == thrower) throw std::runtime_error("no");
            m.meet();
          });
          std::this_thread::sleep_for(std::chrono::milliseconds(6));
        } catch (const std::runtime_error&) {
          thrown = true;
        }
      }
      CHECK(thrown);
    }
    CHECK(share_at_last(spare, [](SpareThread::Member& m) { m.meet(); }));
  }

  TEST_CASE("nothing is shared when as many threads are at work as there are processors, or without a shift") {
    SpareThread spare(2);
    const auto members = [] {
      int n = 0;
      SpareThread::share([&](SpareThread::Member& m) {
        if (m.index() == 0) n = m.count();
      });
      return n;
    };
    CHECK(members() == 1);
    const SpareThread::Shift shift(spare);
    std::jthread([&] {
      const SpareThread::Shift other(spare);
      for (int i = 0; i < 20; ++i) CHECK(members() == 1);
    }).join();
    SpareThread none(1);
    std::jthread([&] {
      const SpareThread::Shift other(none);
      CHECK(members() == 1);
    }).join();
  }

  TEST_CASE("several threads take turns with it, and its time is told") {
    SpareThread spare(8);
    std::atomic<std::int64_t> done{0};
    std::atomic<int> helped{0};
    {
      std::vector<std::jthread> threads;
      for (int t = 0; t < 3; ++t) {
        threads.emplace_back([&] {
          for (int i = 0; i < 300; ++i) {
            const SpareThread::Shift shift(spare);
            SpareThread::share([&](SpareThread::Member& m) {
              const auto part = m.share(1000);
              if (m.count() == 2) SpareThread::share([](SpareThread::Member& inner) { CHECK(inner.count() == 1); });
              for (std::int64_t k = part.first; k < part.second; ++k) done.fetch_add(1, std::memory_order_relaxed);
              m.meet();
            });
            if (shift.helped_seconds() > 0) ++helped;
          }
        });
      }
    }
    CHECK(done == 3 * 300 * 1000);
    const SpareThread::Shift shift(spare);
    CHECK(share_at_last(spare, [](SpareThread::Member& m) { m.meet(); }));
    CHECK(shift.helped_seconds() > 0);
  }
}
