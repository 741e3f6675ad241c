#include "tests/parity/ar_common.h"

// ar_streaming.json: the reference's chunking of the tokens while they are generated.

namespace tts::parity {
namespace {

Json to_json(const UpstreamChunker::Chunk& chunk) {
  return {{"tokens", chunk.tokens.empty() ? Json() : Json(chunk.tokens)}, {"final", chunk.final}};
}

const Registration kStreaming("ar_streaming", [](const Fixture& fixture, Report& report) {
  for_each_case(fixture, report, [&](const Json& c, CaseReport& check) {
    const T2S model = make_t2s(c);
    const Json& inputs = c.at("inputs");
    const T2SInput input = make_t2s_input(inputs);
    const std::vector<std::int32_t> prompt =
        inputs.at("prompts").is_null() ? std::vector<std::int32_t>() : to_tokens(make_input(inputs.at("prompts")));

    const auto chunk_length = c.at("chunk_length").get<std::int64_t>();
    UpstreamChunker chunker(chunk_length);
    if (!c.at("mute_token").is_null()) {
      const std::vector<float> similarity = token_similarity(model, c.at("mute_token").get<std::int32_t>());
      double worst = 0;
      for (std::size_t t = 0; t < similarity.size(); ++t) {
        worst = std::max(worst, std::abs(similarity[t] - c.at("mute_similarity").at(t).get<double>()));
      }
      check.error("mute_similarity", worst, 1e-5);
      chunker = UpstreamChunker(chunk_length, similarity, c.at("chunk_split_threshold").get<float>());
    }

    SemanticDecoder::Options options;
    options.sampling = to_sampling(c.at("sampling"));
    options.max_tokens = max_tokens(c.at("sampling"));
    const FixtureNoise noise(c.at("noise"));
    SemanticDecoder decoder(model);
    decoder.start(input.phonemes, input.bert, prompt, options, noise);
    std::vector<std::int32_t> sampled;
    Json chunks = Json::array();
    while (const std::optional<std::int32_t> token = decoder.next()) {
      sampled.push_back(*token);
      const bool last = static_cast<std::int64_t>(decoder.tokens().size()) == options.max_tokens;
      if (const auto chunk = chunker.push(*token, last)) chunks.push_back(to_json(*chunk));
    }
    chunks.push_back(to_json(chunker.finish()));
    const bool by_eos = decoder.reason() == FinishReason::eos;
    if (by_eos) sampled.push_back(decoder.last_draw().token);
    check.same("sampled_tokens", sampled == to_tokens(c.at("sampled_tokens")));
    check.same("stopped_by_eos", by_eos == c.at("stopped_by_eos").get<bool>());
    check.same("chunks", chunks == c.at("chunks"));
  });
});

}  // namespace
}  // namespace tts::parity
