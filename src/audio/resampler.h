#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "src/core/result.h"

struct soxr;  // libsoxr

namespace tts {

/// Mono PCM from one rate to another, in chunks of any size (libsoxr, linear phase, no delay in the output: its
/// sample 0 is the input's sample 0). Equal rates copy. n samples in give scale_samples(n, in, out) out.
/// One thread at a time.
class StreamResampler {
 public:
  /// Rates 1000 .. 768000. Errc::unsupported_format otherwise.
  [[nodiscard]] static Result<StreamResampler> make(int in_rate_hz, int out_rate_hz);

  /// What of the output is ready; may be empty. Throws std::runtime_error only when libsoxr fails (out of memory).
  [[nodiscard]] std::vector<float> push(std::span<const float> pcm);
  /// The rest. The resampler then starts anew with the next push().
  [[nodiscard]] std::vector<float> finish();

  [[nodiscard]] int in_rate_hz() const noexcept { return in_rate_hz_; }
  [[nodiscard]] int out_rate_hz() const noexcept { return out_rate_hz_; }

 private:
  struct SoxrFree {
    void operator()(soxr* handle) const noexcept;
  };
  using SoxrHandle = std::unique_ptr<soxr, SoxrFree>;

  StreamResampler(SoxrHandle soxr, int in_rate_hz, int out_rate_hz) noexcept;

  SoxrHandle soxr_;  ///< null when the rates are equal
  int in_rate_hz_;
  int out_rate_hz_;
  std::int64_t taken_ = 0;  ///< samples in
  std::int64_t given_ = 0;  ///< samples out
};

/// All of `pcm` at another rate. Errors as StreamResampler::make.
[[nodiscard]] Result<std::vector<float>> resample(std::span<const float> pcm, int in_rate_hz, int out_rate_hz);

}  // namespace tts
