#include "src/core/spare_thread.h"

#include <chrono>
#include <limits>

#include "src/core/cpu_time.h"

namespace tts {
namespace {

thread_local SpareThread* current_spare = nullptr;
thread_local double helped_total = 0;

/// How long a thread looks again before it sleeps: about what being woken takes.
constexpr std::chrono::microseconds kLook{40};
/// How long the spare thread gets to come before the work is begun without it: a sleeping processor wakes within this.
constexpr std::chrono::microseconds kPatience{150};
/// After it did not come, how long nobody asks: the machine is busy with what this process does not know of.
constexpr std::chrono::milliseconds kRest{5};
constexpr std::uint32_t kForever = std::numeric_limits<std::uint32_t>::max();

void relax() noexcept {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

/// True as soon as done() is; false when it was not for this long.
template <class Done>
bool look(std::chrono::microseconds time, const Done& done) noexcept {
  constexpr int kBetweenClocks = 32;
  const auto end = std::chrono::steady_clock::now() + time;
  do {
    for (int i = 0; i < kBetweenClocks; ++i) {
      if (done()) return true;
      relax();
    }
  } while (std::chrono::steady_clock::now() < end);
  return done();
}

}  // namespace

SpareThread::SpareThread(int processors) : processors_(processors) {
  if (processors_ > 1) thread_ = std::jthread([this] { run(); });
}

SpareThread::~SpareThread() {
  if (!thread_.joinable()) return;
  state_.store(stopped, std::memory_order_release);
  state_.notify_one();
}

SpareThread* SpareThread::current() noexcept {
  return current_spare;
}

SpareThread::Shift::Shift(SpareThread& spare) noexcept : before_(current_spare), helped_before_(helped_total) {
  spare.busy_.fetch_add(1, std::memory_order_relaxed);
  current_spare = &spare;
}

SpareThread::Shift::~Shift() {
  current_spare->busy_.fetch_sub(1, std::memory_order_relaxed);
  current_spare = before_;
}

double SpareThread::Shift::helped_seconds() const noexcept {
  return helped_total - helped_before_;
}

/// True when the spare thread has come to share this body.
bool SpareThread::invite(Call call, const void* body) {
  if (busy_.load(std::memory_order_relaxed) >= processors_) return false;
  if (taken_.exchange(true, std::memory_order_acquire)) return false;
  if (std::chrono::steady_clock::now() < rests_until_) {
    taken_.store(false, std::memory_order_release);
    return false;
  }
  call_ = call;
  body_ = body;
  for (Seat& seat : seats_) {
    seat.met.store(0, std::memory_order_relaxed);
    seat.fault = nullptr;
  }
  state_.store(invited, std::memory_order_release);
  state_.notify_one();
  const auto has_come = [this] { return state_.load(std::memory_order_acquire) == joined; };
  if (!look(kPatience, has_come)) {
    std::uint32_t expected = invited;
    if (state_.compare_exchange_strong(expected, idle, std::memory_order_acq_rel)) {
      rests_until_ = std::chrono::steady_clock::now() + kRest;
      taken_.store(false, std::memory_order_release);
      return false;
    }
  }
  current_spare = nullptr;  // work within the work is not shared again
  return true;
}

void SpareThread::work(int index) noexcept {
  Member member(this, index, 2);
  Seat& seat = seats_[static_cast<std::size_t>(index)];
  try {
    call_(body_, member);
  } catch (...) {
    seat.fault = std::current_exception();
  }
  seat.met.store(kForever, std::memory_order_release);
  seat.met.notify_one();
}

void SpareThread::finish() {
  current_spare = this;
  const auto is_done = [this] { return state_.load(std::memory_order_acquire) == idle; };
  if (!look(kLook, is_done)) state_.wait(joined, std::memory_order_acquire);
  helped_total += helped_;
  std::exception_ptr fault;
  for (Seat& seat : seats_) {
    if (!fault) fault = seat.fault;
    seat.fault = nullptr;
  }
  taken_.store(false, std::memory_order_release);
  if (fault) std::rethrow_exception(fault);
}

void SpareThread::meet(int index) noexcept {
  std::atomic<std::uint32_t>& mine = seats_[static_cast<std::size_t>(index)].met;
  std::atomic<std::uint32_t>& other = seats_[static_cast<std::size_t>(1 - index)].met;
  const std::uint32_t turn = mine.load(std::memory_order_relaxed) + 1;
  mine.store(turn, std::memory_order_release);
  mine.notify_one();
  const auto has_come = [&] { return other.load(std::memory_order_acquire) >= turn; };
  while (!look(kLook, has_come)) {
    const std::uint32_t seen = other.load(std::memory_order_acquire);
    if (seen < turn) other.wait(seen, std::memory_order_acquire);
  }
}

void SpareThread::run() {
  while (true) {
    const auto is_called = [this] { return state_.load(std::memory_order_acquire) != idle; };
    if (!look(kLook, is_called)) state_.wait(idle, std::memory_order_acquire);
    std::uint32_t expected = invited;
    if (state_.compare_exchange_strong(expected, joined, std::memory_order_acq_rel)) {
      const double start = thread_cpu_seconds();
      work(1);
      helped_ = thread_cpu_seconds() - start;
      expected = joined;
      if (state_.compare_exchange_strong(expected, idle, std::memory_order_acq_rel)) state_.notify_one();
    } else if (expected == stopped) {
      return;
    }
  }
}

}  // namespace tts
