#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <mutex>
#include <optional>
#include <stop_token>
#include <utility>

#include "src/core/assert.h"

namespace tts {

/// First in, first out, between any number of producers and consumers, never longer than its capacity.
///
/// What full means is the producer's choice, made by the verb:
///   try_push    refuses (admission: answer `overloaded`)
///   push        waits for room (only threads that may wait: never an engine thread, never an I/O strand)
///   push_latest drops the oldest element (logs, meters)
///
/// After close() nothing more goes in; consumers still get what is left, then nullopt.
template <class T>
class BoundedQueue {
 public:
  /// Capacity >= 1, in elements.
  explicit BoundedQueue(std::size_t capacity) : capacity_(capacity) { TTS_ASSERT(capacity >= 1); }
  BoundedQueue(const BoundedQueue&) = delete;
  BoundedQueue& operator=(const BoundedQueue&) = delete;

  /// False, and `value` untouched, when full or closed.
  [[nodiscard]] bool try_push(T&& value) {
    {
      const std::lock_guard lock(mutex_);
      if (closed_ || items_.size() >= capacity_) return false;
      items_.push_back(std::move(value));
    }
    not_empty_.notify_one();
    return true;
  }

  /// Waits for room. False, and `value` untouched, when closed or stopped.
  [[nodiscard]] bool push(T&& value, std::stop_token stop) {
    {
      std::unique_lock lock(mutex_);
      not_full_.wait(lock, std::move(stop), [this] { return closed_ || items_.size() < capacity_; });
      if (closed_ || items_.size() >= capacity_) return false;
      items_.push_back(std::move(value));
    }
    not_empty_.notify_one();
    return true;
  }

  /// Always takes `value` unless closed; returns how many old elements were dropped for it (0 or 1).
  std::size_t push_latest(T&& value) {
    std::optional<T> dropped;  // destroyed outside the lock
    {
      const std::lock_guard lock(mutex_);
      if (closed_) return 0;
      if (items_.size() >= capacity_) {
        dropped.emplace(std::move(items_.front()));
        items_.pop_front();
      }
      items_.push_back(std::move(value));
    }
    not_empty_.notify_one();
    return dropped ? 1 : 0;
  }

  /// Waits for an element. nullopt when stopped, or when closed and empty. An element that is there is handed out even
  /// when stop was requested.
  [[nodiscard]] std::optional<T> pop(std::stop_token stop) {
    std::unique_lock lock(mutex_);
    not_empty_.wait(lock, std::move(stop), [this] { return closed_ || !items_.empty(); });
    return take(std::move(lock));
  }

  /// nullopt when there is nothing now.
  [[nodiscard]] std::optional<T> try_pop() { return take(std::unique_lock(mutex_)); }

  /// Wakes everybody; idempotent.
  void close() {
    {
      const std::lock_guard lock(mutex_);
      closed_ = true;
    }
    not_empty_.notify_all();
    not_full_.notify_all();
  }

  [[nodiscard]] std::size_t size() const {
    const std::lock_guard lock(mutex_);
    return items_.size();
  }
  [[nodiscard]] bool closed() const {
    const std::lock_guard lock(mutex_);
    return closed_;
  }
  [[nodiscard]] std::size_t capacity() const noexcept { return capacity_; }

 private:
  std::optional<T> take(std::unique_lock<std::mutex> lock) {
    if (items_.empty()) return std::nullopt;
    std::optional<T> value(std::move(items_.front()));
    items_.pop_front();
    lock.unlock();
    not_full_.notify_one();
    return value;
  }

  const std::size_t capacity_;
  mutable std::mutex mutex_;
  std::condition_variable_any not_empty_;
  std::condition_variable_any not_full_;
  std::deque<T> items_;
  bool closed_ = false;
};

}  // namespace tts
