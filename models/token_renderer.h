#pragma once

#include <cstdint>
#include <exception>
#include <optional>
#include <span>
#include <vector>

#include "src/core/result.h"

namespace tts {

/// Streams of equal groups can be rendered in one call.
struct RenderGroup {
  const void* networks = nullptr;  ///< null: this stream is rendered alone
  std::int64_t bucket = 0;         ///< of lengths that go well together

  friend bool operator==(const RenderGroup&, const RenderGroup&) = default;
};

/// One stream's part of a call that renders several.
template <class Stream>
struct RenderJob {
  Stream* stream = nullptr;
  std::span<const std::int32_t> tokens;
  bool last = false;
  std::vector<float> samples{};    ///< what push() would have returned,
  std::optional<Error> failure{};  ///< or why this stream cannot go on

  void fail(Errc code, const char* what) {
    samples.clear();
    failure = Error{code, what};
  }
};

/// Does `work` for every job that has not failed; what it throws is that job's failure.
template <class Stream, class Work>
void for_each_job(std::span<RenderJob<Stream>> jobs, const Work& work) {
  for (RenderJob<Stream>& job : jobs) {
    if (job.failure) continue;
    try {
      work(job);
    } catch (const std::exception& e) {
      job.fail(Errc::internal, e.what());
    }
  }
}

/// The acoustic half of one segment, whatever the form of the voice: semantic tokens in, samples out, in a stream.
/// Holds its own state; the model it came from must outlive it. One thread at a time.
class TokenRenderer {
 public:
  using Job = RenderJob<TokenRenderer>;

  virtual ~TokenRenderer() = default;
  /// Takes the next tokens and returns all samples that are certain now and were not returned before. With `last`, also
  /// the rest; nothing may follow. How the tokens are cut into calls has no influence on the samples (up to float32
  /// rounding). Throws ModelError on a token outside the codebook or a push after the last.
  [[nodiscard]] virtual std::vector<float> push(std::span<const std::int32_t> tokens, bool last) = 0;

  /// Where a push() of so many tokens belongs.
  [[nodiscard]] virtual RenderGroup group(std::int64_t /*n_tokens*/, bool /*last*/) const { return {}; }
  /// Does the push() of every job, at once: of this stream and others of its group(), all distinct. A job that cannot
  /// be done has a failure, and the others are not touched by it (up to float32 rounding): what a stream sounds like
  /// does not depend on its company. Throws only what is nobody's in particular.
  virtual void push_together(std::span<Job> jobs) {
    for_each_job(jobs, [](Job& job) { job.samples = job.stream->push(job.tokens, job.last); });
  }
};

}  // namespace tts
