#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "src/core/result.h"

struct OpusEncoder;  // libopus

namespace tts {

/// One mono Opus stream: a frame of PCM in, a packet out, in order.
/// Voice signal hint, complexity 5 (0.16 ms CPU per 20 ms frame), variable bit rate.
/// One thread at a time. The first lookahead_samples() that a decoder puts out come before the first sample of the
/// input; to hear the last input sample, feed lookahead_samples() of silence after it.
class OpusEncoder {
 public:
  /// rate_hz 8000, 12000, 16000, 24000 or 48000; bitrate_bps 6000 .. 510000; frame_samples 2.5, 5, 10, 20, 40 or 60 ms.
  /// Errc::unsupported_format otherwise.
  [[nodiscard]] static Result<OpusEncoder> make(int rate_hz, int bitrate_bps, int frame_samples);

  /// The encoder's delay in samples at rate_hz(): the pre-skip, at that rate.
  [[nodiscard]] int lookahead_samples() const noexcept { return lookahead_samples_; }
  [[nodiscard]] int frame_samples() const noexcept { return frame_samples_; }
  [[nodiscard]] int rate_hz() const noexcept { return rate_hz_; }

  /// `frame` holds exactly frame_samples() samples in [-1, 1]. Errc::internal otherwise, or when libopus refuses.
  [[nodiscard]] Result<std::vector<std::uint8_t>> encode(std::span<const float> frame);

 private:
  struct EncoderFree {
    void operator()(::OpusEncoder* encoder) const noexcept;
  };
  using EncoderHandle = std::unique_ptr<::OpusEncoder, EncoderFree>;

  OpusEncoder(EncoderHandle encoder, int rate_hz, int frame_samples, int lookahead_samples) noexcept;

  EncoderHandle encoder_;
  int rate_hz_;
  int frame_samples_;
  int lookahead_samples_;
};

}  // namespace tts
