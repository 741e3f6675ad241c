#include "src/audio/ogg_opus.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

#include <ogg/ogg.h>

#include "src/audio/pcm.h"

namespace tts {
namespace {

constexpr int kOpusRateHz = 48'000;
constexpr const char* kVendor = "sonorant";

void put_u16(std::vector<std::uint8_t>& out, std::uint16_t value) {
  out.push_back(static_cast<std::uint8_t>(value & 0xFFU));
  out.push_back(static_cast<std::uint8_t>(value >> 8U));
}

void put_u32(std::vector<std::uint8_t>& out, std::uint32_t value) {
  put_u16(out, static_cast<std::uint16_t>(value & 0xFFFFU));
  put_u16(out, static_cast<std::uint16_t>(value >> 16U));
}

void put_text(std::vector<std::uint8_t>& out, const std::string& text) {
  out.insert(out.end(), text.begin(), text.end());
}

bool is_opus_rate(int rate_hz) {
  return rate_hz == 8000 || rate_hz == 12000 || rate_hz == 16000 || rate_hz == 24000 || rate_hz == 48000;
}

}  // namespace

struct OggOpusWriter::Impl {
  struct Stream {
    ogg_stream_state state{};
    explicit Stream(std::uint32_t serial) {
      if (ogg_stream_init(&state, static_cast<int>(serial)) != 0) throw std::runtime_error("libogg: out of memory");
    }
    ~Stream() { ogg_stream_clear(&state); }
    Stream(const Stream&) = delete;
    Stream& operator=(const Stream&) = delete;
  };

  Stream stream;
  int pre_skip;
  int source_rate_hz;
  int page_samples;
  std::vector<std::uint8_t> held;  // the newest packet
  int held_duration = 0;           // 0: none
  std::int64_t granule = 0;        // end of the packets given to libogg, samples at 48 kHz with the pre-skip
  std::int64_t page_start = 0;
  std::int64_t packet_no = 0;

  Impl(std::uint32_t serial, int skip, int rate_hz, int page)
      : stream(serial), pre_skip(skip), source_rate_hz(rate_hz), page_samples(page) {}

  void give(std::span<const std::uint8_t> bytes, std::int64_t granule_position, bool last) {
    ogg_packet packet{};
    packet.packet = const_cast<unsigned char*>(bytes.data());  // libogg copies it
    packet.bytes = static_cast<long>(bytes.size());
    packet.b_o_s = packet_no == 0 ? 1 : 0;
    packet.e_o_s = last ? 1 : 0;
    packet.granulepos = granule_position;
    packet.packetno = packet_no++;
    if (ogg_stream_packetin(&stream.state, &packet) != 0) throw std::runtime_error("libogg: out of memory");
  }

  void take_pages(std::vector<std::uint8_t>& out, bool flush) {
    ogg_page page{};
    while ((flush ? ogg_stream_flush(&stream.state, &page) : ogg_stream_pageout(&stream.state, &page)) != 0) {
      out.insert(out.end(), page.header, page.header + page.header_len);
      out.insert(out.end(), page.body, page.body + page.body_len);
      page_start = granule;
    }
  }
};

OggOpusWriter::OggOpusWriter(int pre_skip, int source_rate_hz, std::uint32_t serial, int page_samples)
    : impl_(std::make_unique<Impl>(serial, pre_skip, source_rate_hz, page_samples)) {}
OggOpusWriter::~OggOpusWriter() = default;
OggOpusWriter::OggOpusWriter(OggOpusWriter&&) noexcept = default;
OggOpusWriter& OggOpusWriter::operator=(OggOpusWriter&&) noexcept = default;

std::vector<std::uint8_t> OggOpusWriter::header(const std::string& vendor) {
  std::vector<std::uint8_t> out;
  std::vector<std::uint8_t> head;  // RFC 7845 section 5.1
  put_text(head, "OpusHead");
  head.push_back(1);  // version
  head.push_back(1);  // channels
  put_u16(head, static_cast<std::uint16_t>(impl_->pre_skip));
  put_u32(head, static_cast<std::uint32_t>(impl_->source_rate_hz));
  put_u16(head, 0);   // output gain
  head.push_back(0);  // channel mapping family
  impl_->give(head, 0, false);
  impl_->take_pages(out, true);

  std::vector<std::uint8_t> tags;  // section 5.2
  put_text(tags, "OpusTags");
  put_u32(tags, static_cast<std::uint32_t>(vendor.size()));
  put_text(tags, vendor);
  put_u32(tags, 0);  // no comments
  impl_->give(tags, 0, false);
  impl_->take_pages(out, true);
  return out;
}

std::vector<std::uint8_t> OggOpusWriter::packet(std::span<const std::uint8_t> opus, int duration) {
  std::vector<std::uint8_t> out;
  if (impl_->held_duration > 0) {
    impl_->granule += impl_->held_duration;
    impl_->give(impl_->held, impl_->granule, false);
    impl_->take_pages(out, impl_->granule - impl_->page_start >= impl_->page_samples);
  }
  impl_->held.assign(opus.begin(), opus.end());
  impl_->held_duration = duration;
  return out;
}

std::vector<std::uint8_t> OggOpusWriter::finish(std::int64_t audible) {
  std::vector<std::uint8_t> out;
  if (impl_->held_duration == 0) return out;
  // Section 4.4: the last page's position may cut into its packets, but may not go back before the page.
  const std::int64_t end = std::clamp(impl_->pre_skip + audible, impl_->granule, impl_->granule + impl_->held_duration);
  impl_->give(impl_->held, end, true);
  impl_->held_duration = 0;
  impl_->take_pages(out, true);
  return out;
}

OggOpusEncoder::OggOpusEncoder(OpusEncoder encoder, StreamResampler resampler, OggOpusWriter writer)
    : encoder_(std::move(encoder)), resampler_(std::move(resampler)), writer_(std::move(writer)) {}

Result<OggOpusEncoder> OggOpusEncoder::make(int rate_hz, int bitrate_bps, std::uint32_t serial) {
  const int encoder_rate_hz = is_opus_rate(rate_hz) ? rate_hz : kOpusRateHz;
  auto resampler = StreamResampler::make(rate_hz, encoder_rate_hz);
  if (!resampler) return resampler.error();
  auto encoder = OpusEncoder::make(encoder_rate_hz, bitrate_bps, encoder_rate_hz / 50);
  if (!encoder) return encoder.error();
  const int pre_skip = encoder->lookahead_samples() * (kOpusRateHz / encoder_rate_hz);
  return OggOpusEncoder(std::move(*encoder), std::move(*resampler), OggOpusWriter(pre_skip, rate_hz, serial));
}

Result<void> OggOpusEncoder::encode_frames(std::vector<std::uint8_t>& out) {
  const auto frame = static_cast<std::size_t>(encoder_.frame_samples());
  std::size_t at = 0;
  for (; at + frame <= pending_.size(); at += frame) {
    auto packet = encoder_.encode(std::span(pending_).subspan(at, frame));
    if (!packet) return packet.error();
    const auto pages = writer_.packet(*packet, kOpusRateHz / 50);
    out.insert(out.end(), pages.begin(), pages.end());
    ++encoded_frames_;
  }
  pending_.erase(pending_.begin(), pending_.begin() + static_cast<std::ptrdiff_t>(at));
  return {};
}

Result<std::vector<std::uint8_t>> OggOpusEncoder::push(std::span<const float> pcm) {
  std::vector<std::uint8_t> out;
  if (!std::exchange(started_, true)) out = writer_.header(kVendor);
  source_samples_ += static_cast<std::int64_t>(pcm.size());
  const std::vector<float> samples = resampler_.push(pcm);
  pending_.insert(pending_.end(), samples.begin(), samples.end());
  if (auto done = encode_frames(out); !done) return done.error();
  return out;
}

Result<std::vector<std::uint8_t>> OggOpusEncoder::finish() {
  auto out = push({});
  if (!out) return out;
  const std::vector<float> tail = resampler_.finish();
  pending_.insert(pending_.end(), tail.begin(), tail.end());
  const auto frame = static_cast<std::size_t>(encoder_.frame_samples());
  // Silence drives the last samples through the encoder's lookahead.
  const std::size_t wanted = pending_.size() + static_cast<std::size_t>(encoder_.lookahead_samples());
  pending_.resize((wanted + frame - 1) / frame * frame, 0.0F);
  if (auto done = encode_frames(*out); !done) return done.error();
  const auto pages = writer_.finish(scale_samples(source_samples_, resampler_.in_rate_hz(), kOpusRateHz));
  out->insert(out->end(), pages.begin(), pages.end());
  return out;
}

}  // namespace tts
