#include "streaming/packetizer.h"

#include <algorithm>
#include <string>
#include <utility>

#include "src/audio/pcm.h"
#include "src/core/assert.h"

namespace tts {
namespace {

int default_bitrate_bps(int rate_hz) noexcept {
  return rate_hz >= 24'000 ? 32'000 : 24'000;
}

}  // namespace

Packetizer::Packetizer(const AudioFormat& format, StreamResampler resampler, std::optional<OpusEncoder> opus,
                       int frame_samples)
    : codec_(format.codec),
      rate_hz_(format.rate_hz),
      frame_samples_(frame_samples),
      resampler_(std::move(resampler)),
      opus_(std::move(opus)) {}

Result<Packetizer> Packetizer::make(const AudioFormat& format, int voice_rate_hz) {
  const auto known = [](const auto& list, int value) {
    return std::find(list.begin(), list.end(), value) != list.end();
  };
  if (!known(kAudioRatesHz, format.rate_hz)) {
    return Error{Errc::unsupported_format, "format.rate: got " + std::to_string(format.rate_hz)};
  }
  if (!known(kFrameMs, format.frame_ms)) {
    return Error{Errc::unsupported_format, "format.frame_ms: got " + std::to_string(format.frame_ms)};
  }
  auto resampler = StreamResampler::make(voice_rate_hz, format.rate_hz);
  if (!resampler) return resampler.error();
  const int frame_samples = format.rate_hz / 1000 * format.frame_ms;
  std::optional<OpusEncoder> opus;
  if (format.codec == Codec::opus) {
    const int bitrate_bps = format.bitrate_bps.value_or(default_bitrate_bps(format.rate_hz));
    auto encoder = OpusEncoder::make(format.rate_hz, bitrate_bps, frame_samples);
    if (!encoder) return encoder.error();
    opus = std::move(*encoder);
  }
  return Packetizer(format, std::move(*resampler), std::move(opus), frame_samples);
}

void Packetizer::append(std::span<const float> pcm) {
  // The front is dropped only when it outweighs what is kept, so each sample moves at most once on average.
  if (taken_ > buffer_.size() - taken_) {
    buffer_.erase(buffer_.begin(), buffer_.begin() + static_cast<std::ptrdiff_t>(taken_));
    taken_ = 0;
  }
  buffer_.insert(buffer_.end(), pcm.begin(), pcm.end());
}

void Packetizer::push(std::span<const float> pcm, bool seam) {
  TTS_ASSERT(!last_position_);
  if (seam) {
    const std::int64_t padding = padding_after(voice_samples_, true);
    const std::int64_t start = scale_samples(voice_samples_, resampler_.in_rate_hz(), rate_hz_);
    const std::int64_t at = start + padding + pre_skip();
    if (seams_.empty() || seams_.back() != at) seams_.push_back(at);
  }
  if (pcm.empty()) return;
  voice_samples_ += static_cast<std::int64_t>(pcm.size());
  unplayable_ = true;
  append(resampler_.push(pcm));
}

void Packetizer::pad(bool last) {
  append(resampler_.finish());
  const auto total = position_ + static_cast<std::int64_t>(buffered());
  const std::int64_t wanted = total + pre_skip();
  const std::int64_t frames = (wanted + frame_samples_ - 1) / frame_samples_;
  const std::int64_t padding = frames * frame_samples_ - total;
  append(std::vector<float>(static_cast<std::size_t>(padding), 0.0F));
  if (!last) pads_.push_back(Pad{voice_samples_, (pads_.empty() ? 0 : pads_.back().total_samples) + padding});
  unplayable_ = false;
}

void Packetizer::flush() {
  if (unplayable_) pad(false);
}

void Packetizer::finish() {
  if (last_position_ || voice_samples_ == 0) return;
  if (unplayable_) pad(true);
  // A flush sent everything and no frame is left to carry the flag.
  if (!ready()) append(std::vector<float>(static_cast<std::size_t>(frame_samples_), 0.0F));
  last_position_ = position_ + static_cast<std::int64_t>(buffered()) - frame_samples_;
}

Result<Packet> Packetizer::next() {
  TTS_ASSERT(ready());
  const std::span<const float> frame(buffer_.data() + taken_, static_cast<std::size_t>(frame_samples_));
  Packet packet;
  if (opus_) {
    auto payload = opus_->encode(frame);
    if (!payload) return payload.error();
    packet.payload = std::move(*payload);
  } else {
    packet.payload = to_s16le(frame);
  }
  packet.seq = seq_++;
  packet.position = static_cast<std::uint64_t>(position_);
  if (packet.seq == 0) packet.flags |= kFrameFirst;
  if (last_position_ && position_ == *last_position_) packet.flags |= kFrameLast;
  const std::int64_t end = position_ + frame_samples_;
  while (!seams_.empty() && seams_.front() < end) {
    packet.flags |= kFrameSeam;
    seams_.pop_front();
  }
  taken_ += static_cast<std::size_t>(frame_samples_);
  position_ = end;
  if (!ready() && !unplayable_) {
    packet.voice_samples = voice_samples_;  // all that is left is padding
  } else {
    const std::int64_t padding = pads_.empty() ? 0 : pads_.back().total_samples;
    const double voice = static_cast<double>(end - padding) * resampler_.in_rate_hz() / rate_hz_;
    packet.voice_samples = std::clamp<std::int64_t>(static_cast<std::int64_t>(voice), reported_, voice_samples_);
  }
  reported_ = packet.voice_samples;
  return packet;
}

std::int64_t Packetizer::padding_after(std::int64_t voice_sample, bool inclusive) const {
  for (auto pad = pads_.rbegin(); pad != pads_.rend(); ++pad) {
    if (pad->voice_sample < voice_sample || (inclusive && pad->voice_sample == voice_sample)) return pad->total_samples;
  }
  return 0;
}

double Packetizer::ms(std::int64_t voice_sample, std::int64_t padding) const {
  return 1000.0 *
         (static_cast<double>(voice_sample) / resampler_.in_rate_hz() + static_cast<double>(padding) / rate_hz_);
}

double Packetizer::start_ms(std::int64_t voice_sample) const {
  return ms(voice_sample, padding_after(voice_sample, true));
}

double Packetizer::end_ms(std::int64_t voice_sample) const {
  return ms(voice_sample, padding_after(voice_sample, false));
}

double Packetizer::sent_ms() const {
  const std::int64_t playable = std::max<std::int64_t>(position_ - pre_skip(), 0);
  const double ms = 1000.0 * static_cast<double>(playable) / rate_hz_;
  return last_position_ ? std::min(ms, audio_ms()) : ms;
}

}  // namespace tts
