#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <utility>
#include <vector>

#include "src/engine/voice.h"

namespace tts {

/// A segment spoken alone and on one thread, without the engine: for warming up, tools and tests.
class SoloStream {
 public:
  explicit SoloStream(std::unique_ptr<SegmentStream> stream) : stream_(std::move(stream)) {
    if (!stream_) throw std::runtime_error("every slot of the voice's model is taken");
  }

  /// Decodes up to `count` tokens; returns how many. Fewer than asked means finished().
  int decode(int count) {
    if (!std::exchange(started_, true)) stream_->prefill();
    const std::size_t before = stream_->tokens().size();
    SegmentStream* const self = stream_.get();
    while (!stream_->finished() && stream_->tokens().size() < before + static_cast<std::size_t>(std::max(0, count))) {
      stream_->step({&self, 1});
      if (!stream_->failure().empty()) throw std::runtime_error(stream_->failure());
    }
    return static_cast<int>(stream_->tokens().size() - before);
  }
  [[nodiscard]] int useful(int count) const { return stream_->useful(given_, count); }
  [[nodiscard]] bool finished() const { return stream_->finished(); }
  /// All samples of the tokens so far that were not returned before.
  [[nodiscard]] std::vector<float> render() {
    if (closed_) return {};
    closed_ = stream_->finished();
    const auto tokens = stream_->tokens().subspan(static_cast<std::size_t>(given_));
    given_ += static_cast<std::int64_t>(tokens.size());
    return stream_->render(tokens, closed_);
  }

 private:
  std::unique_ptr<SegmentStream> stream_;
  std::int64_t given_ = 0;
  bool started_ = false;
  bool closed_ = false;
};

}  // namespace tts
