#include "models/published.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <c10/core/InferenceMode.h>

#include "models/bf16_kernels.h"
#include "models/frame_stretch.h"
#include "models/layers.h"
#include "models/prefix_encoder.h"
#include "models/semantic_tokenizer.h"
#include "src/core/spare_thread.h"
#include "tests/doctest.h"
#include "tests/models/small_voice.h"

namespace tts {
namespace {

const std::vector<std::int32_t> kPhonemes{7, 90, 33, 120, 300, 18, 64, 5};

std::vector<std::int32_t> tokens(std::size_t n) {
  std::vector<std::int32_t> out;
  for (std::size_t i = 0; i < n; ++i) out.push_back(static_cast<std::int32_t>((i * 29 + i * i) % 64));
  return out;
}

/// Largest difference over the largest value; infinite for different sizes.
double distance(const std::vector<float>& got, const std::vector<float>& want) {
  if (got.size() != want.size()) return INFINITY;
  float worst = 0;
  float largest = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    worst = std::max(worst, std::abs(got[i] - want[i]));
    largest = std::max(largest, std::abs(want[i]));
  }
  return worst / largest;
}

/// Pushes in pieces of `pattern` tokens, the last number repeating; the end comes late, in a push without tokens.
std::vector<float> run(TokenRenderer& renderer, const std::vector<std::int32_t>& all,
                       const std::vector<std::size_t>& pattern, std::size_t* first = nullptr) {
  std::vector<float> out;
  std::size_t at = 0;
  for (std::size_t i = 0; at < all.size(); ++i) {
    const std::size_t n = std::min(pattern[std::min(i, pattern.size() - 1)], all.size() - at);
    const auto part = renderer.push({all.data() + at, n}, false);
    at += n;
    if (first != nullptr && out.empty() && !part.empty()) *first = at;
    out.insert(out.end(), part.begin(), part.end());
  }
  const auto part = renderer.push({}, true);
  out.insert(out.end(), part.begin(), part.end());
  return out;
}

VitsModel small_vits(PublishedConfig config) {
  return {WeightScope(std::make_shared<GeneratedWeights>()), config};
}

CfmModel small_cfm(PublishedConfig config) {
  return {WeightScope(std::make_shared<GeneratedWeights>()), WeightScope(std::make_shared<GeneratedWeights>()), config};
}

CfmModel::Speaker speaker_of(const CfmModel& model) {
  const PreparedReference r = small_reference(model.config(), 1);
  return model.make_speaker(r.references[0], r.mel, r.prompt_tokens, r.prompt_phonemes);
}

at::Tensor noise_of(std::uint64_t seed, std::uint64_t stream, std::int64_t rows, std::int64_t columns) {
  at::Tensor out = at::empty({rows, columns});
  GaussianNoise(seed, stream).fill(0, {out.data_ptr<float>(), static_cast<std::size_t>(out.numel())});
  return out;
}

}  // namespace

TEST_SUITE("models/published") {
  TEST_CASE("forms have names, rates and sizes of their own") {
    for (const ModelForm form :
         {ModelForm::v1, ModelForm::v2, ModelForm::v2pro, ModelForm::v2proplus, ModelForm::v3, ModelForm::v4}) {
      CHECK(parse_model_form(to_string(form)) == form);
      const PublishedConfig c = published_config(form);
      std::int64_t hop = 1;
      for (const std::int64_t rate : c.upsample_rates) hop *= rate;
      CHECK(hop == (form == ModelForm::v3 ? 256 : form == ModelForm::v4 ? 480 : 640));
    }
    CHECK(!parse_model_form("v5"));
    CHECK(published_config(ModelForm::v2proplus).decoder_channels == 768);
  }

  TEST_CASE("HiFi-GAN in any chunking equals the whole, and tells when samples are certain") {
    const c10::InferenceMode inference;
    HifiganConfig config;
    config.in = 8;
    config.channels = 32;
    config.rates = {10, 8, 2, 2, 2};
    config.kernels = {16, 16, 8, 2, 2};
    config.condition = 6;
    config.out_bias = false;
    const Hifigan decoder(WeightScope(std::make_shared<GeneratedWeights>()), config);
    const at::Tensor frames = at::randn({61, 8});
    const at::Tensor condition = at::randn({6});
    const at::Tensor whole =
        decoder.forward(frames.t().unsqueeze(0).contiguous(), condition.view({1, -1, 1})).view({-1});
    for (const std::int64_t chunk : {1, 4, 13, 61}) {
      CAPTURE(chunk);
      Hifigan::State state = decoder.initial_state(condition);
      std::vector<at::Tensor> parts;
      std::int64_t given = 0;
      std::int64_t made = 0;
      for (; given < 61; given += chunk) {
        const std::int64_t n = std::min(chunk, 61 - given);
        parts.push_back(decoder.step(frames.narrow(0, given, n), state, false));
        made += parts.back().size(0);
        CHECK(made == decoder.certain_samples(given + n));
      }
      parts.push_back(decoder.step(frames.narrow(0, 0, 0), state, true));
      const at::Tensor joined = at::cat(parts);
      REQUIRE(joined.sizes() == whole.sizes());
      CHECK((joined - whole).abs().max().item<double>() < 1e-5 * whole.abs().max().item<double>());
      CHECK_THROWS_AS((void)decoder.step(frames, state, true), ModelError);
    }
    CHECK(decoder.certain_samples(11) == 0);
    CHECK(decoder.certain_samples(13) > 0);
  }

  TEST_CASE("a spare thread changes no bit of what HiFi-GAN says in bf16, whole or in pieces") {
    const c10::InferenceMode inference;
    HifiganConfig config;
    config.in = 8;
    config.channels = 64;
    config.rates = {10, 8};
    config.kernels = {16, 16};
    const Hifigan decoder(WeightScope(std::make_shared<GeneratedWeights>()).with(Precision::bf16), config);
    if (bf16_kernels() == nullptr) return;
    REQUIRE(decoder.is_bf16());
    const at::Tensor frames = at::randn({61, 8});
    for (const std::int64_t chunk : {13, 61}) {
      CAPTURE(chunk);
      double helped = 0;
      const auto speak = [&](SpareThread& spare) {
        const SpareThread::Shift shift(spare);
        Hifigan::State state = decoder.initial_state();
        std::vector<at::Tensor> parts;
        for (std::int64_t at = 0; at < 61; at += chunk) {
          const std::int64_t n = std::min(chunk, 61 - at);
          parts.push_back(decoder.step(frames.narrow(0, at, n), state, at + n == 61));
        }
        helped = shift.helped_seconds();
        return at::cat(parts);
      };
      SpareThread none(1);
      const at::Tensor alone = speak(none);
      CHECK(helped == 0);
      SpareThread spare(2);
      at::Tensor shared = speak(spare);
      for (int i = 0; i < 100 && helped == 0; ++i) shared = speak(spare);  // a busy machine has none to spare
      CHECK(helped > 0);
      CHECK(at::equal(shared, alone));
    }
  }

  TEST_CASE("a change of speed in a stream keeps upstream's length and nearly its frames") {
    const at::Tensor frames = at::cumsum(at::randn({90, 3}), 0);
    for (const double speed : {0.5, 0.9, 1.0, 1.3, 2.0}) {
      CAPTURE(speed);
      const std::int64_t n = frames_at_speed(90, speed);
      const at::Tensor whole = speed == 1.0 ? frames : resize_linear(frames, n);
      at::Tensor first;
      for (const std::int64_t chunk : {1, 7, 90}) {
        CAPTURE(chunk);
        FrameStretch stretch(speed);
        std::vector<at::Tensor> parts;
        for (std::int64_t at = 0; at < 90; at += chunk) {
          parts.push_back(stretch.push(frames.narrow(0, at, std::min(chunk, 90 - at)), false));
        }
        parts.push_back(stretch.push(frames.narrow(0, 0, 0), true));
        const at::Tensor joined = at::cat(parts);
        REQUIRE(joined.size(0) == n);
        if (!first.defined()) first = joined;
        CHECK(at::equal(joined, first));
      }
      CHECK((first.narrow(0, 0, n / 2) - whole.narrow(0, 0, n / 2)).abs().max().item<double>() < 3.0);
    }
  }

  TEST_CASE("blocks grow up to their limit and settle once their lookahead is there") {
    PrefixPolicy policy;
    CHECK(policy.block_end(0) == 20);
    CHECK(policy.block_end(1) == 28);
    CHECK(policy.block_end(2) == 40);
    CHECK(policy.settled(27) == 0);
    CHECK(policy.settled(28) == 20);
    CHECK(policy.settled(35) == 20);
    CHECK(policy.settled(36) == 28);
    CHECK(policy.useful(0, 10) == 28);
    CHECK(policy.useful(0, 38) == 36);
    CHECK(policy.useful(28, 1) == 8);
    CHECK(policy.useful(29, 20) == 19);
    for (std::int64_t i = 8; i < 20; ++i) CHECK(policy.block_end(i + 1) - policy.block_end(i) == 40);
    policy.lookahead = std::nullopt;
    CHECK(policy.settled(1000) == 0);
    CHECK(policy.useful(5, 17) == 17);
  }

  TEST_CASE("v1, v2 and Pro: any chunking gives the same samples; awaited whole they are those of one pass") {
    const c10::InferenceMode inference;
    for (const ModelForm form : {ModelForm::v1, ModelForm::v2, ModelForm::v2pro}) {
      for (const double speed : {1.0, 1.3}) {
        CAPTURE(to_string(form));
        CAPTURE(speed);
        const auto all = tokens(70);
        const AcousticOptions options{.seed = 11, .speed = speed, .steps = 0};
        PublishedConfig config = small_config(form);
        const VitsModel model = small_vits(config);
        const auto speaker = model.make_speaker(small_reference(config, 2).references);
        const auto want = run(*model.begin(kPhonemes, speaker, options), all, {all.size()});
        CHECK(want.size() == static_cast<std::size_t>(frames_at_speed(140, speed) * 640));
        std::size_t first = 0;
        CHECK(distance(run(*model.begin(kPhonemes, speaker, options), all, {1}, &first), want) < 1e-4);
        if (speed == 1.0) CHECK(first == static_cast<std::size_t>(*model.first_audio_tokens()));
        CHECK(distance(run(*model.begin(kPhonemes, speaker, options), all, {31, 2, 9}), want) < 1e-4);

        config.lookahead = std::nullopt;
        const VitsModel patient = small_vits(config);
        const auto noise = noise_of(11, VitsModel::kNoiseStream, frames_at_speed(140, speed), config.hidden);
        const at::Tensor whole = patient.decode(to_index(all), to_index(kPhonemes), speaker, speed, noise);
        const std::vector<float> pass(whole.data_ptr<float>(), whole.data_ptr<float>() + whole.numel());
        CHECK(distance(run(*patient.begin(kPhonemes, speaker, options), all, {8}), pass) < 1e-4);
        CHECK(!patient.first_audio_tokens());
        CHECK(distance(want, pass) < 2.0);  // the same speech, but for what the lookahead does not see
        CHECK(distance(want, pass) > 1e-4);
      }
    }
  }

  TEST_CASE("v2 whose first block sees less ahead sounds sooner, in any chunking alike, and no different later on") {
    const c10::InferenceMode inference;
    PublishedConfig config = small_config(ModelForm::v2);
    const VitsModel far = small_vits(config);
    config.flow_ahead = 2;
    const VitsModel near = small_vits(config);
    REQUIRE(far.flow_ahead(1) > 2);
    CHECK(near.flow_ahead(1) == 2);
    CHECK(near.flow_ahead(2) == std::min<std::int64_t>(10, far.flow_ahead(1)));
    CHECK(near.flow_ahead(100) == far.flow_ahead(1));
    CHECK(*near.first_audio_tokens() < *far.first_audio_tokens());
    const auto speaker = near.make_speaker(small_reference(config, 1).references);
    const auto all = tokens(70);
    for (const double speed : {1.0, 0.8}) {
      const AcousticOptions options{.seed = 11, .speed = speed, .steps = 0};
      const auto want = run(*near.begin(kPhonemes, speaker, options), all, {all.size()});
      std::size_t first = 0;
      CHECK(distance(run(*near.begin(kPhonemes, speaker, options), all, {1}, &first), want) < 1e-4);
      if (speed == 1.0) CHECK(first == static_cast<std::size_t>(*near.first_audio_tokens()));
      CHECK(distance(run(*near.begin(kPhonemes, speaker, options), all, {31, 2, 9}), want) < 1e-4);
    }
    // With the same blocks, only what the flow shaped early differs.
    config.first_tokens = near.policy().first;
    config.flow_ahead = 1000;
    const VitsModel exact = small_vits(config);
    const auto want = run(*exact.begin(kPhonemes, speaker, {}), all, {all.size()});
    const auto got = run(*near.begin(kPhonemes, speaker, {}), all, {all.size()});
    REQUIRE(got.size() == want.size());
    CHECK(distance(got, want) > 1e-4);
    const std::size_t late = want.size() / 2;
    CHECK(distance({got.begin() + static_cast<std::ptrdiff_t>(late), got.end()},
                   {want.begin() + static_cast<std::ptrdiff_t>(late), want.end()}) == 0);
  }

  TEST_CASE("v3 and v4: any chunking gives the same samples") {
    const c10::InferenceMode inference;
    for (const ModelForm form : {ModelForm::v3, ModelForm::v4}) {
      for (const double speed : {1.0, 0.9}) {
        CAPTURE(to_string(form));
        CAPTURE(speed);
        const auto all = tokens(75);
        const AcousticOptions options{.seed = 3, .speed = speed, .steps = 0};
        const CfmModel model = small_cfm(small_config(form));
        const auto speaker = speaker_of(model);
        const auto want = run(*model.begin(kPhonemes, speaker, options), all, {all.size()});
        const double rate = form == ModelForm::v3 ? 1.875 : 2.0;
        const auto frames = static_cast<std::int64_t>(static_cast<double>(frames_at_speed(150, speed)) * rate);
        CHECK(want.size() == static_cast<std::size_t>(frames * model.hop_samples()));
        std::size_t first = 0;
        CHECK(distance(run(*model.begin(kPhonemes, speaker, options), all, {1}, &first), want) < 1e-4);
        if (speed == 1.0) CHECK(first == static_cast<std::size_t>(*model.first_audio_tokens()));
        CHECK(distance(run(*model.begin(kPhonemes, speaker, options), all, {20, 3, 11}), want) < 1e-4);
        PublishedConfig config = small_config(form);
        config.lookahead = std::nullopt;
        const CfmModel patient = small_cfm(config);
        CHECK(run(*patient.begin(kPhonemes, speaker, options), all, {8}).size() == want.size());
      }
    }
  }

  TEST_CASE("no token, one token and a token outside the codebook") {
    const c10::InferenceMode inference;
    const VitsModel vits = small_vits(small_config(ModelForm::v2));
    const auto vits_speaker = vits.make_speaker(small_reference(vits.config(), 1).references);
    const CfmModel cfm = small_cfm(small_config(ModelForm::v4));
    const auto cfm_speaker = speaker_of(cfm);
    const std::vector<std::function<std::unique_ptr<TokenRenderer>()>> makers{
        [&] { return vits.begin(kPhonemes, vits_speaker, {}); }, [&] { return cfm.begin(kPhonemes, cfm_speaker, {}); }};
    for (const auto& make : makers) {
      CHECK(make()->push({}, true).empty());
      const std::vector<std::int32_t> one{3};
      CHECK(!make()->push(one, true).empty());
      const std::vector<std::int32_t> bad{64};
      CHECK_THROWS_AS((void)make()->push(bad, false), ModelError);
      const auto renderer = make();
      (void)renderer->push(one, true);
      CHECK_THROWS_AS((void)renderer->push(one, true), ModelError);
    }
    CHECK_THROWS_AS((void)vits.begin({}, vits_speaker, {}), ModelError);
    CHECK_THROWS_AS((void)vits.begin(std::vector<std::int32_t>{732}, vits_speaker, {}), ModelError);
    CHECK_THROWS_AS((void)vits.begin(kPhonemes, vits_speaker, {.seed = 0, .speed = 3.0, .steps = 0}), ModelError);
    CHECK_THROWS_AS((void)vits.make_speaker({}), ModelError);
  }

  TEST_CASE("several recordings are averaged, in Pro each after its own activation") {
    const c10::InferenceMode inference;
    for (const ModelForm form : {ModelForm::v2, ModelForm::v2pro}) {
      const VitsModel model = small_vits(small_config(form));
      const auto both = small_reference(model.config(), 2).references;
      const auto ge = [&](std::span<const SovitsFront::Reference> r) { return model.make_speaker(r).front.ge; };
      const at::Tensor mean = (ge(std::span(both).first(1)) + ge(std::span(both).last(1))) / 2;
      CHECK(at::allclose(ge(both), mean, 1e-5, 1e-6));
    }
  }

  TEST_CASE("features become the nearest codes of their projection, two frames a token") {
    const auto weights = std::make_shared<GeneratedWeights>();
    const SemanticTokenizer tokenizer(WeightScope(weights), {.codes = 64, .dim = 16, .repeat = 2}, 16);
    const at::Tensor features = at::randn({13, 16});
    const at::Tensor got = tokenizer.encode(features);
    const at::Tensor projected = at::conv1d(features.t().unsqueeze(0), weights->get("ssl_proj.weight", {16, 16, 2}),
                                            weights->get("ssl_proj.bias", {16}), 2)
                                     .squeeze(0)
                                     .t();
    const at::Tensor codes = weights->get("quantizer.vq.layers.0._codebook.embed", {64, 16});
    CHECK(at::equal(got, at::argmin(at::cdist(projected, codes), 1)));
  }
}

}  // namespace tts
