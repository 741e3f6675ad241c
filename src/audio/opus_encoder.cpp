#include "src/audio/opus_encoder.h"

#include <string>
#include <utility>

#include <opus/opus.h>

namespace tts {
namespace {

constexpr int kComplexity = 5;
constexpr std::size_t kMaxPacketBytes = 4000;  // opus_encode's recommended buffer

Error opus_error(const char* what, int code) {
  return Error{Errc::internal, std::string(what) + ": " + opus_strerror(code)};
}

bool is_frame_length(int samples, int rate_hz) {
  for (const int tenths_ms : {25, 50, 100, 200, 400, 600}) {
    if (samples == rate_hz / 100 * tenths_ms / 100) return true;
  }
  return false;
}

}  // namespace

void OpusEncoder::EncoderFree::operator()(::OpusEncoder* encoder) const noexcept {
  opus_encoder_destroy(encoder);
}

OpusEncoder::OpusEncoder(EncoderHandle encoder, int rate_hz, int frame_samples, int lookahead_samples) noexcept
    : encoder_(std::move(encoder)),
      rate_hz_(rate_hz),
      frame_samples_(frame_samples),
      lookahead_samples_(lookahead_samples) {}

Result<OpusEncoder> OpusEncoder::make(int rate_hz, int bitrate_bps, int frame_samples) {
  if (rate_hz != 8000 && rate_hz != 12000 && rate_hz != 16000 && rate_hz != 24000 && rate_hz != 48000) {
    return Error{Errc::unsupported_format,
                 "rate: got " + std::to_string(rate_hz) + ", want 8000, 12000, 16000, 24000 or 48000"};
  }
  if (bitrate_bps < 6000 || bitrate_bps > 510000) {
    return Error{Errc::unsupported_format, "bitrate: got " + std::to_string(bitrate_bps) + ", want 6000 to 510000"};
  }
  if (!is_frame_length(frame_samples, rate_hz)) {
    return Error{Errc::unsupported_format, "frame: got " + std::to_string(frame_samples) + " samples at " +
                                               std::to_string(rate_hz) + " Hz, want 2.5, 5, 10, 20, 40 or 60 ms"};
  }
  int code = OPUS_OK;
  EncoderHandle encoder(opus_encoder_create(rate_hz, 1, OPUS_APPLICATION_VOIP, &code));
  if (!encoder) return opus_error("opus_encoder_create", code);
  for (const int set : {opus_encoder_ctl(encoder.get(), OPUS_SET_BITRATE(bitrate_bps)),
                        opus_encoder_ctl(encoder.get(), OPUS_SET_COMPLEXITY(kComplexity)),
                        opus_encoder_ctl(encoder.get(), OPUS_SET_SIGNAL(OPUS_SIGNAL_VOICE))}) {
    if (set != OPUS_OK) return opus_error("opus_encoder_ctl", set);
  }
  opus_int32 lookahead = 0;
  code = opus_encoder_ctl(encoder.get(), OPUS_GET_LOOKAHEAD(&lookahead));
  if (code != OPUS_OK) return opus_error("OPUS_GET_LOOKAHEAD", code);
  return OpusEncoder(std::move(encoder), rate_hz, frame_samples, lookahead);
}

Result<std::vector<std::uint8_t>> OpusEncoder::encode(std::span<const float> frame) {
  if (frame.size() != static_cast<std::size_t>(frame_samples_)) {
    return Error{Errc::internal, "Opus frame: got " + std::to_string(frame.size()) + " samples, want " +
                                     std::to_string(frame_samples_)};
  }
  std::vector<std::uint8_t> packet(kMaxPacketBytes);
  const opus_int32 bytes = opus_encode_float(encoder_.get(), frame.data(), frame_samples_, packet.data(),
                                             static_cast<opus_int32>(packet.size()));
  if (bytes < 0) return opus_error("opus_encode_float", bytes);
  packet.resize(static_cast<std::size_t>(bytes));
  packet.shrink_to_fit();
  return packet;
}

}  // namespace tts
