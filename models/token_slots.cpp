#include "models/token_slots.h"

#include <algorithm>

#include "src/core/assert.h"

namespace tts {

std::int64_t slots_within(std::uint64_t free_bytes, std::uint64_t row_bytes, std::int64_t most) {
  const std::uint64_t fit = free_bytes / 2 / std::max<std::uint64_t>(1, row_bytes);
  return static_cast<std::int64_t>(
      std::clamp<std::uint64_t>(fit, 1, static_cast<std::uint64_t>(std::max<std::int64_t>(1, most))));
}

TokenSlots::TokenSlots(const TokenModel& model, std::int64_t count, std::int64_t capacity)
    : model_(model), capacity_(capacity), taken_(static_cast<std::size_t>(std::max<std::int64_t>(1, count))) {}

TokenSlots::Slot::~Slot() {
  if (owner_ != nullptr) owner_->give_back(row_);
}

std::optional<TokenSlots::Slot> TokenSlots::take(std::int64_t positions) {
  const std::lock_guard lock(mutex_);
  const auto found = std::find(taken_.begin(), taken_.end(), false);
  if (found == taken_.end()) return std::nullopt;
  std::unique_ptr<TokenState> own;
  if (positions > capacity_) {
    own = model_.make_token_state(1, positions);
  } else if (!state_) {
    state_ = model_.make_token_state(count(), capacity_);
  }
  *found = true;
  return Slot(this, std::move(own), found - taken_.begin());
}

std::int64_t TokenSlots::free() const {
  const std::lock_guard lock(mutex_);
  return std::count(taken_.begin(), taken_.end(), false);
}

void TokenSlots::give_back(std::int64_t row) {
  const std::lock_guard lock(mutex_);
  TTS_ASSERT(taken_[static_cast<std::size_t>(row)]);
  taken_[static_cast<std::size_t>(row)] = false;
}

}  // namespace tts
