#include "models/semantic_decoder.h"

#include "tests/doctest.h"
#include "tests/models/t2s_reference.h"

namespace tts {
namespace {

T2SConfig tiny_config() {
  T2SConfig config = test::small_t2s_config(2, 32, 2);
  config.max_tokens = 60;
  return config;
}

const std::vector<std::int32_t> kText = {3, 1, 4, 1, 5, 9, 2, 6};
const std::vector<std::int32_t> kPrompt = {27, 18, 28};

std::vector<std::int32_t> all_tokens(SemanticDecoder& decoder) {
  std::vector<std::int32_t> tokens;
  while (const auto token = decoder.next()) tokens.push_back(*token);
  return tokens;
}

std::vector<std::int32_t> generate(const T2S& model, std::uint64_t seed, SemanticDecoder::Options options = {}) {
  SemanticDecoder decoder(model);
  const SeededNoise noise(seed);
  decoder.start(kText, {}, kPrompt, options, noise);
  return all_tokens(decoder);
}

TEST_SUITE("models/semantic_decoder") {
  TEST_CASE("a seed gives the same tokens again, another seed others") {
    const T2S model = test::random_t2s(tiny_config(), 5);
    const std::vector<std::int32_t> first = generate(model, 1);
    CHECK(first.size() >= 11);
    CHECK((generate(model, 1) == first));
    CHECK((generate(model, 2) != first));
  }

  TEST_CASE("decoders that take turns give what each gives alone, and one can be used again") {
    const T2S model = test::random_t2s(tiny_config(), 5);
    SemanticDecoder a(model, 8);  // too small: start grows it
    SemanticDecoder b(model);
    const SeededNoise noise_a(1);
    const SeededNoise noise_b(2);
    a.start(kText, {}, kPrompt, {}, noise_a);
    b.start(kText, {}, kPrompt, {}, noise_b);
    std::vector<std::int32_t> from_a;
    std::vector<std::int32_t> from_b;
    for (bool more = true; more;) {
      const auto x = a.next();
      const auto y = b.next();
      if (x) from_a.push_back(*x);
      if (y) from_b.push_back(*y);
      more = x || y;
    }
    CHECK((from_a == generate(model, 1)));
    CHECK((from_b == generate(model, 2)));
    a.start(kText, {}, kPrompt, {}, noise_b);
    CHECK((all_tokens(a) == from_b));
  }

  TEST_CASE("the limit gives exactly max_tokens; upstream_compat loses the first, only with a prompt") {
    const T2S model = test::random_t2s(tiny_config(), 5);
    SemanticDecoder::Options options;
    options.max_tokens = 7;  // below min_tokens: EOS cannot come first
    const SeededNoise noise(1);
    SemanticDecoder decoder(model);
    decoder.start(kText, {}, kPrompt, options, noise);
    const std::vector<std::int32_t> tokens = all_tokens(decoder);
    CHECK(decoder.reason() == FinishReason::limit);
    CHECK(tokens.size() == 7);
    CHECK(decoder.result().size() == 7);
    CHECK_FALSE(decoder.next());

    options.upstream_compat = true;
    decoder.start(kText, {}, kPrompt, options, noise);
    CHECK((all_tokens(decoder) == tokens));
    REQUIRE(decoder.result().size() == 6);
    CHECK(decoder.result()[0] == tokens[1]);
    decoder.start(kText, {}, {}, options, noise);
    (void)all_tokens(decoder);
    CHECK(decoder.result().size() == 7);
  }

  TEST_CASE("end of speech is not given out and not before min_tokens") {
    const T2SConfig config = tiny_config();
    const auto weights = test::random_t2s_weights(config, 5);
    // EOS far ahead of everything: the bias-free head gets a huge row along the norm's bias direction.
    at::Tensor head = weights->get("model.ar_predict_layer.weight", {41, 32}).clone();
    head[40] = weights->get("model.h.layers.1.norm2.bias", {32}) * 1e4;
    weights->put("model.ar_predict_layer.weight", head);
    weights->put("model.h.layers.1.norm2.weight", at::zeros({32}));
    const T2S model(config, WeightScope(weights)("model"));
    SemanticDecoder decoder(model);
    const SeededNoise noise(1);
    decoder.start(kText, {}, kPrompt, {}, noise);
    const std::vector<std::int32_t> tokens = all_tokens(decoder);
    CHECK(decoder.reason() == FinishReason::eos);
    CHECK(tokens.size() == 11);
    CHECK(decoder.steps() == 12);
    for (const std::int32_t token : tokens) CHECK(token != 40);
    SemanticDecoder::Options options;
    options.sampling.min_tokens = 3;
    decoder.start(kText, {}, kPrompt, options, noise);
    CHECK(all_tokens(decoder).size() == 3);
  }

  TEST_CASE("a start that fails leaves a decoder that can start again") {
    const T2S model = test::random_t2s(tiny_config(), 5);
    SemanticDecoder decoder(model);
    const SeededNoise noise(1);
    CHECK_FALSE(decoder.next());
    CHECK_THROWS_AS(decoder.start({}, {}, kPrompt, {}, noise), std::invalid_argument);
    CHECK_FALSE(decoder.next());
    decoder.start(kText, {}, kPrompt, {}, noise);
    CHECK((all_tokens(decoder) == generate(model, 1)));
  }

  TEST_CASE("the reference's fixed chunks") {
    UpstreamChunker chunker(3);
    CHECK_FALSE(chunker.push(1));
    CHECK_FALSE(chunker.push(2));
    const auto chunk = chunker.push(3);
    REQUIRE(chunk);
    CHECK((chunk->tokens == std::vector<std::int32_t>{1, 2, 3}));
    CHECK_FALSE(chunk->final);
    CHECK(chunker.finish().tokens.empty());
    CHECK(chunker.finish().final);
    (void)chunker.push(4);
    CHECK((chunker.finish().tokens == std::vector<std::int32_t>{4}));
  }

  TEST_CASE("the reference's mute cut repeats the tokens after it") {
    // Token 1 is mute. Window 0 0 1 1 0: the best pair starts at the first mute token, so the cut is after it.
    UpstreamChunker chunker(3, {-1.0F, 1.0F}, 0.0F);
    for (const std::int32_t token : {0, 0, 1, 1}) CHECK_FALSE(chunker.push(token));
    const auto chunk = chunker.push(0);
    REQUIRE(chunk);
    CHECK((chunk->tokens == std::vector<std::int32_t>{0, 0, 1, 1, 0}));
    CHECK((chunker.finish().tokens == std::vector<std::int32_t>{1, 0}));
  }
}

}  // namespace
}  // namespace tts
