#pragma once

#include <chrono>
#include <utility>

namespace tts {

/// Where the time of the acoustic networks goes, for measurements: all that this thread works while the object lives.
/// The newest one of a thread counts.
class AcousticTimes {
 public:
  using Part = std::chrono::nanoseconds AcousticTimes::*;

  AcousticTimes() : outer_(std::exchange(watching_, this)) {}
  ~AcousticTimes() { watching_ = outer_; }
  AcousticTimes(const AcousticTimes&) = delete;
  AcousticTimes& operator=(const AcousticTimes&) = delete;

  std::chrono::nanoseconds encoder{0};  ///< tokens and text to what the flow is given
  std::chrono::nanoseconds flow{0};
  std::chrono::nanoseconds vocoder{0};

  /// Of this thread; null when nobody measures.
  [[nodiscard]] static AcousticTimes* watching() { return watching_; }

 private:
  static inline thread_local AcousticTimes* watching_ = nullptr;
  AcousticTimes* outer_;
};

/// Adds the time of its life to one part.
class AcousticWork {
 public:
  explicit AcousticWork(AcousticTimes::Part part) : times_(AcousticTimes::watching()), part_(part) {
    if (times_ != nullptr) start_ = std::chrono::steady_clock::now();
  }
  ~AcousticWork() {
    if (times_ != nullptr) times_->*part_ += std::chrono::steady_clock::now() - start_;
  }
  AcousticWork(const AcousticWork&) = delete;
  AcousticWork& operator=(const AcousticWork&) = delete;

 private:
  AcousticTimes* const times_;
  const AcousticTimes::Part part_;
  std::chrono::steady_clock::time_point start_;
};

}  // namespace tts
