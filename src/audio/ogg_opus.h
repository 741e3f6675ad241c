#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "src/audio/opus_encoder.h"
#include "src/audio/resampler.h"
#include "src/core/result.h"

namespace tts {

/// Opus packets to an Ogg Opus stream (RFC 7845), mono, channel mapping 0. Each call returns the bytes of the pages
/// that are complete; written one after another they are a playable file or HTTP body.
/// The last packet is kept back until finish(), because it carries the end of the stream.
class OggOpusWriter {
 public:
  /// `pre_skip` in samples at 48 kHz (what players leave out at the start); `source_rate_hz` is informative;
  /// pages are closed every `page_samples` at 48 kHz (a live stream wants short ones).
  OggOpusWriter(int pre_skip, int source_rate_hz, std::uint32_t serial, int page_samples = 9600);
  ~OggOpusWriter();
  OggOpusWriter(OggOpusWriter&&) noexcept;
  OggOpusWriter& operator=(OggOpusWriter&&) noexcept;

  /// OpusHead and OpusTags, each on its own page. Call once, first.
  [[nodiscard]] std::vector<std::uint8_t> header(const std::string& vendor);
  /// `duration` in samples at 48 kHz (960 for 20 ms).
  [[nodiscard]] std::vector<std::uint8_t> packet(std::span<const std::uint8_t> opus, int duration);
  /// Ends the stream. `audible` is the number of samples at 48 kHz after the pre-skip; players cut the rest.
  [[nodiscard]] std::vector<std::uint8_t> finish(std::int64_t audible);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// PCM of any rate, in chunks of any size, to an Ogg Opus stream with exactly that duration (to 1/48000 s).
/// Encodes at `rate_hz` if Opus knows it, else at 48 kHz after resampling; 20 ms packets.
class OggOpusEncoder {
 public:
  /// Errors as OpusEncoder::make and StreamResampler::make.
  [[nodiscard]] static Result<OggOpusEncoder> make(int rate_hz, int bitrate_bps, std::uint32_t serial = 1);

  /// Bytes to append to the file; the first call returns the header too.
  [[nodiscard]] Result<std::vector<std::uint8_t>> push(std::span<const float> pcm);
  [[nodiscard]] Result<std::vector<std::uint8_t>> finish();

 private:
  OggOpusEncoder(OpusEncoder encoder, StreamResampler resampler, OggOpusWriter writer);
  Result<void> encode_frames(std::vector<std::uint8_t>& out);

  OpusEncoder encoder_;
  StreamResampler resampler_;
  OggOpusWriter writer_;
  std::vector<float> pending_;  ///< at the encoder's rate, less than a frame between calls
  std::int64_t encoded_frames_ = 0;
  std::int64_t source_samples_ = 0;  ///< at the source's rate
  bool started_ = false;
};

}  // namespace tts
