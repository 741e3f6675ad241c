#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

namespace tts {

/// Rows of a stream by their absolute index, of which only the latest are kept: [begin, end). Rows before the stream's
/// start have negative indices and are zero.
template <class T>
class RowWindow {
 public:
  RowWindow() = default;
  /// Starts with `past` zero rows: begin = -past, end = 0.
  RowWindow(std::int64_t channels, std::int64_t past)
      : channels_(channels), base_(-past), begin_(-past), rows_(static_cast<std::size_t>(past * channels), T{}) {}

  [[nodiscard]] std::int64_t channels() const { return channels_; }
  [[nodiscard]] std::int64_t begin() const { return begin_; }
  [[nodiscard]] std::int64_t end() const { return end_; }
  [[nodiscard]] T* row(std::int64_t index) { return rows_.data() + (index - base_) * channels_; }
  [[nodiscard]] const T* row(std::int64_t index) const { return rows_.data() + (index - base_) * channels_; }

  /// Adds n rows, to be written by the caller; returns the first.
  T* append(std::int64_t n) {
    if (const auto needed = static_cast<std::size_t>((end_ + n - base_) * channels_); needed > rows_.size()) {
      std::memmove(rows_.data(), row(begin_), static_cast<std::size_t>((end_ - begin_) * channels_) * sizeof(T));
      base_ = begin_;
      reserve(end_ + n);
    }
    end_ += n;
    return row(end_ - n);
  }
  /// Makes n rows behind the last readable. They are zero when asked for, and no part of the window.
  void pad(std::int64_t n) {
    reserve(end_ + n);
    std::fill_n(row(end_), n * channels_, T{});
  }
  /// Rows before `index` will not be asked for again.
  void drop_before(std::int64_t index) { begin_ = std::max(begin_, std::min(index, end_)); }

 private:
  void reserve(std::int64_t end) {
    rows_.resize(std::max(rows_.size(), static_cast<std::size_t>((end - base_) * channels_)));
  }

  std::int64_t channels_ = 0;
  std::int64_t base_ = 0;  ///< index of the first row of rows_
  std::int64_t begin_ = 0;
  std::int64_t end_ = 0;
  std::vector<T> rows_;
};

}  // namespace tts
