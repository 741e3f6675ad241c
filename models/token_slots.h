#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "models/token_model.h"

namespace tts {

/// How many rows of `row_bytes` to have when `free_bytes` of memory are left: as many as fit in half of it, at least
/// one and at most `most`. The other half is for weights and what the acoustic networks need.
[[nodiscard]] std::int64_t slots_within(std::uint64_t free_bytes, std::uint64_t row_bytes, std::int64_t most);

/// The fixed slots of one model: rows of one state, so that the segments that hold one are decoded together. Taking and
/// giving back is thread-safe; the model must outlive it, and it the slots.
class TokenSlots {
 public:
  /// `count` rows of `capacity` positions. Memory is taken with the first slot, on the CPU touched as rows fill.
  TokenSlots(const TokenModel& model, std::int64_t count, std::int64_t capacity);

  /// A row, given back with this object.
  class Slot {
   public:
    Slot(Slot&& other) noexcept
        : owner_(std::exchange(other.owner_, nullptr)), own_(std::move(other.own_)), row_(other.row_) {}
    Slot& operator=(Slot&&) = delete;
    ~Slot();
    [[nodiscard]] TokenState& state() const { return own_ ? *own_ : *owner_->state_; }
    [[nodiscard]] std::int64_t row() const { return own_ ? 0 : row_; }

   private:
    friend class TokenSlots;
    Slot(TokenSlots* owner, std::unique_ptr<TokenState> own, std::int64_t row)
        : owner_(owner), own_(std::move(own)), row_(row) {}
    TokenSlots* owner_;
    std::unique_ptr<TokenState> own_;  ///< of a text too long for a row
    std::int64_t row_;
  };

  /// Room for `positions`, or nothing while all slots are taken. A text that is longer than a row takes a slot too, and
  /// gets a state of its own.
  [[nodiscard]] std::optional<Slot> take(std::int64_t positions);

  [[nodiscard]] std::int64_t count() const noexcept { return static_cast<std::int64_t>(taken_.size()); }
  [[nodiscard]] std::int64_t free() const;
  /// Held while the state is used: one thread at a time.
  [[nodiscard]] std::unique_lock<std::mutex> exclusive() { return std::unique_lock(use_); }

 private:
  void give_back(std::int64_t row);

  const TokenModel& model_;
  const std::int64_t capacity_;
  mutable std::mutex mutex_;
  std::vector<bool> taken_;
  std::unique_ptr<TokenState> state_;
  std::mutex use_;
};

}  // namespace tts
