#include "src/audio/opus_encoder.h"

#include <cmath>
#include <memory>
#include <vector>

#include <opus/opus.h>

#include "tests/audio/signals.h"
#include "tests/doctest.h"

TEST_SUITE("audio/opus_encoder") {
  using namespace tts::testing;
  using tts::Errc;

  struct DecoderFree {
    void operator()(OpusDecoder* decoder) const noexcept { opus_decoder_destroy(decoder); }
  };

  // Frames, then silence for the lookahead; decoded, with the pre-skip removed.
  std::vector<float> round_trip(const std::vector<float>& pcm, int rate_hz, int bitrate_bps) {
    auto encoder = tts::OpusEncoder::make(rate_hz, bitrate_bps, rate_hz / 50).value();
    const std::unique_ptr<OpusDecoder, DecoderFree> decoder(opus_decoder_create(rate_hz, 1, nullptr));
    const auto frame = static_cast<std::size_t>(encoder.frame_samples());
    std::vector<float> padded = pcm;
    padded.resize((pcm.size() + static_cast<std::size_t>(encoder.lookahead_samples()) + frame - 1) / frame * frame);
    std::vector<float> out;
    std::vector<float> block(frame);
    for (std::size_t at = 0; at < padded.size(); at += frame) {
      const auto packet = encoder.encode(std::span(padded).subspan(at, frame)).value();
      REQUIRE(packet.size() > 0);
      REQUIRE(packet.size() <= 4000);
      const int n = opus_decode_float(decoder.get(), packet.data(), static_cast<opus_int32>(packet.size()),
                                      block.data(), static_cast<int>(frame), 0);
      REQUIRE(n == static_cast<int>(frame));
      out.insert(out.end(), block.begin(), block.end());
    }
    out.erase(out.begin(), out.begin() + encoder.lookahead_samples());
    out.resize(pcm.size());
    return out;
  }

  double correlation(const std::vector<float>& a, const std::vector<float>& b, std::ptrdiff_t shift) {
    double ab = 0;
    double aa = 0;
    double bb = 0;
    for (std::size_t i = 1000; i + 1000 < a.size(); ++i) {
      const double x = a[i];
      const double y = b[static_cast<std::size_t>(static_cast<std::ptrdiff_t>(i) + shift)];
      ab += x * y;
      aa += x * x;
      bb += y * y;
    }
    return ab / std::sqrt(aa * bb);
  }

  TEST_CASE("what is decoded after the pre-skip is the input, in place") {
    for (const int rate_hz : {48000, 24000, 16000}) {
      CAPTURE(rate_hz);
      const std::vector<float> pcm = speech_like(static_cast<std::size_t>(rate_hz), rate_hz, 9);
      const std::vector<float> out = round_trip(pcm, rate_hz, 64000);
      const double in_place = correlation(pcm, out, 0);
      CHECK(in_place > 0.9);  // a lossy codec, whose voice mode also turns phases
      for (const std::ptrdiff_t shift : {-rate_hz / 1000, rate_hz / 1000})
        CHECK(correlation(pcm, out, shift) < in_place);
    }
  }

  TEST_CASE("the lookahead is announced") {
    CHECK(tts::OpusEncoder::make(48000, 32000, 960)->lookahead_samples() == 312);
    CHECK(tts::OpusEncoder::make(24000, 32000, 480)->lookahead_samples() == 156);
  }

  TEST_CASE("the bit rate is kept") {
    const std::vector<float> pcm = speech_like(48000 * 4, 48000, 2);
    for (const int bitrate_bps : {16000, 32000, 64000}) {
      auto encoder = tts::OpusEncoder::make(48000, bitrate_bps, 960).value();
      std::size_t bytes = 0;
      for (std::size_t at = 0; at + 960 <= pcm.size(); at += 960) {
        bytes += encoder.encode(std::span(pcm).subspan(at, 960)).value().size();
      }
      CAPTURE(bitrate_bps);
      CHECK(static_cast<double>(bytes) * 8 / 4 < 1.3 * bitrate_bps);
    }
  }

  TEST_CASE("what Opus cannot do is refused") {
    CHECK(tts::OpusEncoder::make(44100, 32000, 882).error().code == Errc::unsupported_format);
    CHECK(tts::OpusEncoder::make(48000, 5999, 960).error().code == Errc::unsupported_format);
    CHECK(tts::OpusEncoder::make(48000, 510001, 960).error().code == Errc::unsupported_format);
    CHECK(tts::OpusEncoder::make(48000, 32000, 961).error().code == Errc::unsupported_format);
    CHECK(tts::OpusEncoder::make(48000, 32000, 0).error().code == Errc::unsupported_format);
    auto encoder = tts::OpusEncoder::make(48000, 32000, 960).value();
    CHECK(encoder.encode(std::vector<float>(959)).error().code == Errc::internal);
    CHECK(encoder.encode(std::vector<float>(960)).has_value());
  }
}
