#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <exception>
#include <memory>
#include <thread>

namespace tts {

/// One more thread, which shares the work of one at a time of an engine's threads while a processor has nothing else to
/// do: what one utterance must wait for gets done on two processors, and nobody else's work waits for that. Asleep
/// otherwise. Where the work comes from knows nothing of this: it is cut in the same way for one member as for two, so
/// that the results are the same bits.
class SpareThread {
 public:
  /// One of the one or two threads that do a piece of work together.
  class Member {
   public:
    Member() = default;  ///< the only one
    [[nodiscard]] int index() const noexcept { return index_; }
    [[nodiscard]] int count() const noexcept { return count_; }
    /// Returns when all members have come here, what they wrote before is seen then.
    void meet() noexcept {
      if (count_ > 1) owner_->meet(index_);
    }
    /// This member's share of n things: [first, second), in whole units.
    struct Range {
      std::int64_t first = 0, second = 0;
    };
    [[nodiscard]] Range share(std::int64_t n, std::int64_t unit = 1) const noexcept {
      if (count_ == 1) return {0, n};
      const std::int64_t middle = ((n + unit - 1) / unit + 1) / 2 * unit;
      const std::int64_t cut = middle < n ? middle : n;
      return index_ == 0 ? Range{0, cut} : Range{cut, n};
    }

   private:
    friend class SpareThread;
    Member(SpareThread* owner, int index, int count) noexcept : owner_(owner), index_(index), count_(count) {}
    SpareThread* owner_ = nullptr;
    int index_ = 0;
    int count_ = 1;
  };

  /// `processors`: how many may be busy at once. With fewer than two there is no thread, and nothing is ever shared.
  explicit SpareThread(int processors);
  ~SpareThread();
  SpareThread(const SpareThread&) = delete;
  SpareThread& operator=(const SpareThread&) = delete;

  /// While it lives the calling thread counts as busy, and what it does may be shared with this spare thread.
  class Shift {
   public:
    explicit Shift(SpareThread& spare) noexcept;
    ~Shift();
    Shift(const Shift&) = delete;
    Shift& operator=(const Shift&) = delete;
    /// Processor time that the spare thread has spent on this thread's work, in seconds.
    [[nodiscard]] double helped_seconds() const noexcept;

   private:
    SpareThread* before_;
    double helped_before_;
  };

  /// body(Member&) by the calling thread and, when its Shift's spare thread is free and a processor is, by that as
  /// well. All members have returned when this returns; the first exception of one of them is thrown on. A member that
  /// throws has met all others for ever. Within a body of two members a further share() runs alone.
  template <class Body>
  static void share(const Body& body) {
    SpareThread* const spare = current();
    if (spare == nullptr || !spare->invite(&call<Body>, &body)) {
      Member alone;
      body(alone);
      return;
    }
    spare->work(0);
    spare->finish();
  }

 private:
  using Call = void (*)(const void* body, Member& member);
  template <class Body>
  static void call(const void* body, Member& member) {
    (*static_cast<const Body*>(body))(member);
  }

  static SpareThread* current() noexcept;
  bool invite(Call call, const void* body);
  void work(int index) noexcept;
  void finish();
  void meet(int index) noexcept;
  void run();

  enum State : std::uint32_t { idle, invited, joined, stopped };
  struct alignas(64) Seat {
    std::atomic<std::uint32_t> met{0};
    std::exception_ptr fault;
  };

  const int processors_;
  std::atomic<int> busy_{0};        ///< threads with a Shift
  std::atomic<bool> taken_{false};  ///< by the thread whose work is shared
  alignas(64) std::atomic<std::uint32_t> state_{idle};
  std::array<Seat, 2> seats_;
  Call call_ = nullptr;
  const void* body_ = nullptr;
  double helped_ = 0;  ///< processor seconds of the last body
  std::chrono::steady_clock::time_point rests_until_{};
  std::jthread thread_;
};

}  // namespace tts
