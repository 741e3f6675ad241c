#include "streaming/packetizer.h"

#include <cmath>
#include <cstdlib>
#include <memory>
#include <numbers>
#include <random>
#include <vector>

#include <opus/opus.h>

#include "src/audio/pcm.h"
#include "tests/doctest.h"

namespace tts {
namespace {

/// A rising tone: it looks like itself at one delay only.
std::vector<float> chirp(int rate_hz, std::size_t samples) {
  std::vector<float> out(samples);
  for (std::size_t i = 0; i < samples; ++i) {
    const double t = static_cast<double>(i) / rate_hz;
    out[i] = static_cast<float>(0.5 * std::sin(2 * std::numbers::pi * (200 * t + 900 * t * t)));
  }
  return out;
}

std::vector<Packet> take(Packetizer& packetizer) {
  std::vector<Packet> out;
  while (packetizer.ready()) {
    auto packet = packetizer.next();
    REQUIRE(packet);
    out.push_back(std::move(*packet));
  }
  return out;
}

void append(std::vector<Packet>& all, std::vector<Packet> more) {
  for (Packet& packet : more) all.push_back(std::move(packet));
}

/// What a client plays: decoded, the pre-skip taken off.
std::vector<float> play(const std::vector<Packet>& packets, const AudioFormat& format, int pre_skip) {
  std::vector<float> out;
  if (format.codec == Codec::pcm_s16le) {
    for (const Packet& packet : packets) {
      const auto pcm = from_s16le(packet.payload);
      out.insert(out.end(), pcm.begin(), pcm.end());
    }
    return out;
  }
  int code = 0;
  const std::unique_ptr<OpusDecoder, void (*)(OpusDecoder*)> decoder(opus_decoder_create(format.rate_hz, 1, &code),
                                                                     opus_decoder_destroy);
  REQUIRE(code == OPUS_OK);
  std::vector<float> frame(5760);
  for (const Packet& packet : packets) {
    const int n = opus_decode_float(decoder.get(), packet.payload.data(),
                                    static_cast<opus_int32>(packet.payload.size()), frame.data(), 5760, 0);
    REQUIRE(n == format.rate_hz / 1000 * format.frame_ms);
    out.insert(out.end(), frame.begin(), frame.begin() + n);
  }
  REQUIRE(out.size() >= static_cast<std::size_t>(pre_skip));
  out.erase(out.begin(), out.begin() + pre_skip);
  return out;
}

/// The delay of `heard` against `made` in samples at which they agree best, and how well (1: the same).
std::pair<int, double> alignment(const std::vector<float>& made, const std::vector<float>& heard, int range) {
  std::pair<int, double> best{0, -1};
  for (int delay = -range; delay <= range; ++delay) {
    double dot = 0;
    double a = 0;
    double b = 0;
    for (std::size_t i = 0; i < made.size(); ++i) {
      const auto j = static_cast<std::ptrdiff_t>(i) + delay;
      if (j < 0 || j >= static_cast<std::ptrdiff_t>(heard.size())) continue;
      const double y = heard[static_cast<std::size_t>(j)];
      dot += made[i] * y;
      a += static_cast<double>(made[i]) * made[i];
      b += y * y;
    }
    const double score = dot / std::sqrt(a * b + 1e-12);
    if (score > best.second) best = {delay, score};
  }
  return best;
}

/// The speech layer of Opus has delays of its own, a fraction of a sample at its inner rate: 0.1 ms in all.
int tolerance(const AudioFormat& format) {
  return format.codec == Codec::opus ? format.rate_hz / 10'000 : 0;
}

}  // namespace

TEST_SUITE("streaming/packetizer") {
  TEST_CASE("a client hears every sample, aligned, in every format") {
    for (const Codec codec : {Codec::opus, Codec::pcm_s16le}) {
      for (const int rate_hz : kAudioRatesHz) {
        for (const int frame_ms : kFrameMs) {
          AudioFormat format{codec, rate_hz, std::nullopt, frame_ms};
          CAPTURE(to_string(codec));
          CAPTURE(rate_hz);
          CAPTURE(frame_ms);
          auto packetizer = Packetizer::make(format, 24'000);
          REQUIRE(packetizer);
          CHECK(packetizer->frame_samples() == rate_hz / 1000 * frame_ms);
          CHECK((packetizer->pre_skip() > 0) == (codec == Codec::opus));
          const std::vector<float> voice = chirp(24'000, 24'000 + 137);
          packetizer->push(voice, true);
          auto packets = take(*packetizer);
          packetizer->finish();
          append(packets, take(*packetizer));

          const std::vector<float> made =
              chirp(rate_hz, static_cast<std::size_t>(scale_samples(24'137, 24'000, rate_hz)));
          const std::vector<float> heard = play(packets, format, packetizer->pre_skip());
          CHECK(heard.size() >= made.size());
          CHECK(heard.size() < made.size() + static_cast<std::size_t>(packetizer->frame_samples()) + 1);
          const auto [delay, score] = alignment(made, heard, 400);
          CHECK(std::abs(delay) <= tolerance(format));
          CHECK(score > (codec == Codec::opus ? 0.97 : 0.999));
          // The end too, which is what a missing flush of the codec would lose.
          const auto tail = static_cast<std::ptrdiff_t>(made.size() / 20);
          const std::vector<float> made_tail(made.end() - tail, made.end());
          const std::vector<float> heard_tail(heard.begin() + static_cast<std::ptrdiff_t>(made.size()) - tail,
                                              heard.end());
          const auto [tail_delay, tail_score] = alignment(made_tail, heard_tail, tolerance(format));
          CHECK(tail_score > 0.9);
          CHECK(packetizer->audio_ms() == doctest::Approx(24'137 / 24.0));
          CHECK(packetizer->sent_ms() == doctest::Approx(24'137 / 24.0));
        }
      }
    }
  }

  TEST_CASE("sequence, position and flags") {
    for (const Codec codec : {Codec::opus, Codec::pcm_s16le}) {
      auto packetizer = Packetizer::make(AudioFormat{codec, 48'000, std::nullopt, 20}, 24'000);
      REQUIRE(packetizer);
      std::vector<Packet> packets;
      const std::vector<float> half(12'000, 0.1F);
      packetizer->push(half, true);  // 0.5 s
      append(packets, take(*packetizer));
      packetizer->push(half, true);
      append(packets, take(*packetizer));
      packetizer->push({}, true);  // a sentence whose first samples come later
      packetizer->push(half, false);
      append(packets, take(*packetizer));
      packetizer->finish();
      append(packets, take(*packetizer));
      std::vector<std::uint32_t> seams;
      std::int64_t last_taken = 0;
      for (std::size_t i = 0; i < packets.size(); ++i) {
        CHECK(packets[i].seq == i);
        CHECK(packets[i].position == i * 960);
        CHECK(((packets[i].flags & kFrameFirst) != 0) == (i == 0));
        CHECK(((packets[i].flags & kFrameLast) != 0) == (i + 1 == packets.size()));
        if ((packets[i].flags & kFrameSeam) != 0) seams.push_back(packets[i].seq);
        CHECK(packets[i].voice_samples >= last_taken);
        CHECK(packets[i].voice_samples <= static_cast<std::int64_t>((i + 1) * 480));
        last_taken = packets[i].voice_samples;
      }
      CHECK(last_taken == 36'000);
      CHECK(seams == std::vector<std::uint32_t>{0, 25, 50});
    }
  }

  TEST_CASE("the chunking of the voice does not change the packets") {
    const std::vector<float> voice = chirp(24'000, 30'011);
    const auto packets_of = [&voice](std::size_t chunk) {
      auto packetizer = Packetizer::make(AudioFormat{}, 24'000);
      REQUIRE(packetizer);
      std::vector<Packet> packets;
      for (std::size_t at = 0; at < voice.size(); at += chunk) {
        packetizer->push(std::span(voice).subspan(at, std::min(chunk, voice.size() - at)), at == 0);
        append(packets, take(*packetizer));
      }
      packetizer->finish();
      append(packets, take(*packetizer));
      return packets;
    };
    const auto whole = packets_of(voice.size());
    for (const std::size_t chunk : {1U, 77U, 480U, 9600U}) {
      const auto other = packets_of(chunk);
      REQUIRE(other.size() == whole.size());
      for (std::size_t i = 0; i < whole.size(); ++i) {
        CHECK(other[i].payload == whole[i].payload);
        CHECK(other[i].flags == whole[i].flags);
      }
    }
  }

  TEST_CASE("a flush lets everything be heard at once and shifts what follows by a known time") {
    for (const Codec codec : {Codec::opus, Codec::pcm_s16le}) {
      CAPTURE(to_string(codec));
      const AudioFormat format{codec, 48'000, std::nullopt, 20};
      auto packetizer = Packetizer::make(format, 24'000);
      REQUIRE(packetizer);
      const std::vector<float> voice = chirp(24'000, 10'000);
      packetizer->push(voice, true);
      packetizer->flush();
      packetizer->flush();  // nothing more to do
      std::vector<Packet> packets = take(*packetizer);
      CHECK(packets.back().voice_samples == 10'000);
      const std::vector<float> made = chirp(48'000, 20'000);
      std::vector<float> heard = play(packets, format, packetizer->pre_skip());
      CHECK(heard.size() >= made.size());
      CHECK(packetizer->sent_ms() >= packetizer->end_ms(10'000));

      packetizer->push(voice, true);
      append(packets, take(*packetizer));
      packetizer->finish();
      append(packets, take(*packetizer));
      heard = play(packets, format, packetizer->pre_skip());
      const double start_ms = packetizer->start_ms(10'000);
      CHECK(packetizer->end_ms(10'000) == doctest::Approx(10'000 / 24.0));
      CHECK(start_ms > packetizer->end_ms(10'000));
      CHECK(start_ms < packetizer->end_ms(10'000) + 20 + 7);
      CHECK(packetizer->audio_ms() == doctest::Approx(start_ms + 10'000 / 24.0));
      const auto from = static_cast<std::ptrdiff_t>(std::lround(start_ms * 48));
      const auto [delay, score] = alignment(made, std::vector<float>(heard.begin() + from, heard.end()), 200);
      CHECK(std::abs(delay) <= tolerance(format));
      CHECK(score > 0.97);
      CHECK((packets.back().flags & kFrameLast) != 0);
    }
  }

  TEST_CASE("after a flush, finish has a last frame of silence; without audio there is no frame") {
    auto packetizer = Packetizer::make(AudioFormat{}, 24'000);
    REQUIRE(packetizer);
    packetizer->push(chirp(24'000, 5'000), true);
    packetizer->flush();
    const auto packets = take(*packetizer);
    const double audio_ms = packetizer->audio_ms();
    packetizer->finish();
    const auto last = take(*packetizer);
    REQUIRE(last.size() == 1);
    CHECK(last[0].flags == kFrameLast);
    CHECK(last[0].seq == packets.size());
    CHECK(packetizer->audio_ms() == audio_ms);

    auto silent = Packetizer::make(AudioFormat{}, 24'000);
    REQUIRE(silent);
    silent->push({}, true);
    silent->flush();
    silent->finish();
    CHECK_FALSE(silent->ready());
    CHECK(silent->audio_ms() == 0);
  }

  TEST_CASE("formats that cannot be had are refused") {
    const auto code = [](const AudioFormat& format, int voice_rate_hz) {
      const auto made = Packetizer::make(format, voice_rate_hz);
      return made ? std::string("made") : std::string(to_string(made.error().code));
    };
    CHECK(code(AudioFormat{}, 24'000) == "made");
    CHECK(code(AudioFormat{Codec::opus, 44'100, std::nullopt, 20}, 24'000) == "unsupported_format");
    CHECK(code(AudioFormat{Codec::opus, 48'000, std::nullopt, 25}, 24'000) == "unsupported_format");
    CHECK(code(AudioFormat{Codec::opus, 48'000, 100, 20}, 24'000) == "unsupported_format");
    CHECK(code(AudioFormat{}, 0) == "unsupported_format");
  }
}

}  // namespace tts
