#include "models/semantic_encoder.h"

#include <algorithm>
#include <vector>

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include "tests/doctest.h"
#include "tests/models/tiny_acoustic.h"

namespace tts {
namespace {

constexpr std::int64_t kFrames = 61;

/// The tiny voice's encoder, frames, phonemes and a speaker.
struct Encoded {
  explicit Encoded(Precision precision = Precision::fp32, bool windowed = true)
      : config([&] {
          SemanticEncoderConfig c = testing::tiny_acoustic_config().encoder();
          if (!windowed) c.window.reset();
          return c;
        }()),
        encoder(testing::tiny_acoustic_weights()("acoustic")("enc_p").with(precision), config),
        frames(at::randn({kFrames, config.features})),
        text(encoder.encode_text(at::arange(9))),
        ge(at::randn({config.cross_hidden})),
        whole(encoder.encode(frames, text, ge)) {}

  c10::InferenceMode inference;
  SemanticEncoderConfig config;
  SemanticEncoder encoder;
  at::Tensor frames;
  SemanticEncoder::Text text;
  at::Tensor ge, whole;
};

/// All frames in pieces of `size`; with `late_end` the end comes by itself.
at::Tensor in_pieces(const Encoded& e, std::int64_t size, bool late_end) {
  SemanticEncoder::State state = e.encoder.initial_state();
  std::vector<at::Tensor> out;
  for (std::int64_t first = 0; first < kFrames; first += size) {
    const std::int64_t n = std::min(size, kFrames - first);
    const bool last = first + n == kFrames && !late_end;
    out.push_back(e.encoder.step(e.frames.narrow(0, first, n), e.text, e.ge, state, last));
  }
  if (late_end) out.push_back(e.encoder.step(e.frames.narrow(0, 0, 0), e.text, e.ge, state, true));
  return at::cat(out);
}

TEST_SUITE("models/semantic_encoder") {
  TEST_CASE("frames in any pieces give the bits of the whole") {
    for (const Precision precision : {Precision::fp32, Precision::bf16}) {
      const Encoded e(precision);
      for (const std::int64_t size : {1, 2, 3, 7, 20, 60, 61}) {
        CAPTURE(size);
        for (const bool late_end : {false, true}) CHECK(at::equal(in_pieces(e, size, late_end), e.whole));
      }
    }
  }

  TEST_CASE("a frame comes out once its lookahead is there") {
    const Encoded e;
    const std::int64_t lookahead = e.encoder.lookahead().value();
    CHECK(lookahead == 3 * (1 + 2));  // layers of frames, of each the window's right side and two convolutions
    SemanticEncoder::State state = e.encoder.initial_state();
    std::int64_t out = 0;
    for (std::int64_t i = 0; i < kFrames; ++i) {
      out += e.encoder.step(e.frames.narrow(0, i, 1), e.text, e.ge, state, false).size(0);
      CHECK(out == std::max<std::int64_t>(0, i + 1 - lookahead));
    }
  }

  TEST_CASE("without an attention window all frames come at the end") {
    const Encoded e(Precision::fp32, false);
    CHECK_FALSE(e.encoder.lookahead().has_value());
    for (const std::int64_t size : {7, 61}) CHECK(at::equal(in_pieces(e, size, false), e.whole));
    SemanticEncoder::State state = e.encoder.initial_state();
    CHECK(e.encoder.step(e.frames, e.text, e.ge, state, false).size(0) == 0);
  }

  TEST_CASE("a stream without frames gives none") {
    for (const bool windowed : {true, false}) {
      const Encoded e(Precision::fp32, windowed);
      SemanticEncoder::State state = e.encoder.initial_state();
      CHECK(e.encoder.step(e.frames.narrow(0, 0, 0), e.text, e.ge, state, true).size(0) == 0);
    }
  }
}

}  // namespace
}  // namespace tts
