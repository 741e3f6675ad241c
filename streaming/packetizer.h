#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <vector>

#include "src/audio/opus_encoder.h"
#include "src/audio/resampler.h"
#include "src/core/result.h"
#include "streaming/protocol.h"

namespace tts {

/// One frame of a context's audio, ready for the wire but for its context number.
struct Packet {
  std::uint16_t flags = 0;            ///< kFrameFirst, kFrameLast, kFrameSeam
  std::uint32_t seq = 0;              ///< from 0, no gaps
  std::uint64_t position = 0;         ///< of its first sample, at the announced rate, pre-skip not removed
  std::vector<std::uint8_t> payload;  ///< an Opus packet, or s16le samples
  std::int64_t voice_samples = 0;     ///< samples of the voice that packets up to this one have taken, at its rate
};

/// PCM of a voice to frames of the announced format: resampled as one stream, cut into frames of frame_samples().
///
/// Frames are made one at a time by next(), so that encoding happens where and when they are sent. flush() and finish()
/// pad with silence so that a decoder can play every sample pushed so far; a flush therefore moves what follows by the
/// padding, which start_ms() and end_ms() account for. Decoded sample pre_skip() + n is sample n of the (resampled,
/// padded) stream. One thread at a time.
class Packetizer {
 public:
  /// Errc::unsupported_format for a rate, frame length or bit rate that cannot be had.
  [[nodiscard]] static Result<Packetizer> make(const AudioFormat& format, int voice_rate_hz);

  [[nodiscard]] int frame_samples() const noexcept { return frame_samples_; }
  [[nodiscard]] int pre_skip() const noexcept { return opus_ ? opus_->lookahead_samples() : 0; }

  /// Mono PCM at the voice's rate. `seam`: its first sample begins a sentence.
  void push(std::span<const float> pcm, bool seam);
  /// All of the audio so far can be played once the frames next() has now are sent. Does nothing when that is so
  /// already.
  void flush();
  /// As flush(), and the last frame carries kFrameLast (one more of silence where a flush already sent all). No frame
  /// at all when nothing was ever pushed. Nothing may be pushed afterwards.
  void finish();
  /// True when next() has a frame.
  [[nodiscard]] bool ready() const noexcept { return buffered() >= static_cast<std::size_t>(frame_samples_); }
  /// Precondition: ready(). Errc::internal when the codec fails.
  [[nodiscard]] Result<Packet> next();

  /// When voice sample n (of all pushed) is heard, in ms since the first sample of the context: as the start of
  /// something, after padding inserted at n; as the end, before it. n up to the samples pushed so far.
  [[nodiscard]] double start_ms(std::int64_t voice_sample) const;
  [[nodiscard]] double end_ms(std::int64_t voice_sample) const;
  /// Ends of the audio pushed so far, padding of flushes included.
  [[nodiscard]] double audio_ms() const { return end_ms(voice_samples_); }
  /// What the frames made so far let a client play, in ms, pre-skip removed; never more than audio_ms() once finished.
  [[nodiscard]] double sent_ms() const;
  [[nodiscard]] std::int64_t voice_samples() const noexcept { return voice_samples_; }

 private:
  struct Pad {
    std::int64_t voice_sample = 0;   ///< the padding is heard before this one
    std::int64_t total_samples = 0;  ///< of all padding so far, at the announced rate
  };

  Packetizer(const AudioFormat& format, StreamResampler resampler, std::optional<OpusEncoder> opus, int frame_samples);

  [[nodiscard]] std::size_t buffered() const noexcept { return buffer_.size() - taken_; }
  void append(std::span<const float> pcm);
  void pad(bool last);
  [[nodiscard]] double ms(std::int64_t voice_sample, std::int64_t padding) const;
  [[nodiscard]] std::int64_t padding_after(std::int64_t voice_sample, bool inclusive) const;

  Codec codec_;
  int rate_hz_;
  int frame_samples_;
  StreamResampler resampler_;
  std::optional<OpusEncoder> opus_;

  std::vector<float> buffer_;  ///< at the announced rate, from taken_ on
  std::size_t taken_ = 0;
  std::int64_t position_ = 0;  ///< of buffer_[taken_] in the stream
  std::uint32_t seq_ = 0;
  std::int64_t voice_samples_ = 0;  ///< pushed
  std::int64_t reported_ = 0;       ///< Packet::voice_samples of the latest packet
  std::deque<std::int64_t> seams_;  ///< decoded positions where a sentence begins, not yet in a frame
  std::vector<Pad> pads_;
  bool unplayable_ = false;                    ///< some audio pushed since the last padding
  std::optional<std::int64_t> last_position_;  ///< of the frame that carries kFrameLast
};

}  // namespace tts
