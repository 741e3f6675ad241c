#include "models/t2s.h"

#include <cmath>
#include <numeric>
#include <stdexcept>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "tests/doctest.h"
#include "tests/models/t2s_reference.h"

namespace tts {
namespace {

using test::difference;
using test::random_ids;
using test::random_t2s;
using test::random_t2s_weights;
using test::reference_logits;

/// Heads of 16 columns: whole vectors on some instruction sets, odd on others.
T2SConfig tiny_config() {
  return test::small_t2s_config(3, 48, 3);
}

double difference(std::span<const float> got, const at::Tensor& want) {
  const at::Tensor flat = want.contiguous();
  return difference(got, std::span<const float>(flat.data_ptr<float>(), static_cast<std::size_t>(flat.numel())));
}

TEST_SUITE("models/t2s") {
  TEST_CASE("every instruction set agrees with plain ATen operators, prefill and steps") {
    at::set_num_threads(1);
    for (const Kernels* set : supported_kernels()) {
      CAPTURE(set->name);
      for (const std::int64_t bert_dim : {0, 24}) {
        T2SConfig config = tiny_config();
        config.bert_dim = bert_dim;
        for (const auto& [hidden, heads, head_dim, filter] :  // the last two: as pruning leaves a model
             std::vector<std::array<std::int64_t, 4>>{
                 {48, 3, 0, 0}, {64, 2, 0, 0}, {96, 1, 0, 0}, {64, 3, 16, 100}, {32, 3, 16, 20}}) {
          config.hidden = hidden;
          config.heads = heads;
          config.head_dim = head_dim;
          config.filter = filter;
          CAPTURE(hidden);
          const auto weights = random_t2s_weights(config, 11, hidden == 64 ? at::kHalf : at::kFloat);
          const T2S model(config, WeightScope(weights)("model"), *set);
          const auto phonemes = random_ids(19, 30, 1);
          const auto tokens = random_ids(13, 40, 2);
          at::Tensor bert;
          std::vector<float> features;
          if (bert_dim > 0) {
            bert = at::randn({19, bert_dim});
            features.assign(bert.data_ptr<float>(), bert.data_ptr<float>() + bert.numel());
          }
          const at::Tensor want = reference_logits(config, *weights, phonemes, bert, tokens);
          for (const std::size_t n_prompt : {0, 5}) {
            T2S::State state = model.make_state(1, 64);
            const std::span<const std::int32_t> all(tokens);
            double worst = difference(model.prefill(phonemes, features, all.first(n_prompt), state),
                                      want[static_cast<std::int64_t>(n_prompt)]);
            for (std::size_t i = n_prompt; i < tokens.size(); ++i) {
              worst = std::max(worst, difference(model.step(tokens[i], state), want[static_cast<std::int64_t>(i) + 1]));
            }
            CHECK(worst < 2e-5);
          }
        }
      }
    }
  }

  TEST_CASE("prefilling a prompt equals stepping it token by token") {
    const T2S model = random_t2s(tiny_config(), 3);
    const auto phonemes = random_ids(9, 30, 4);
    const auto prompt = random_ids(17, 40, 5);
    T2S::State whole = model.make_state(1, 32);
    model.prefill(phonemes, {}, prompt, whole);
    for (const std::size_t cut : {0, 1, 8, 16}) {
      CAPTURE(cut);
      T2S::State state = model.make_state(1, 32);
      model.prefill(phonemes, {}, std::span(prompt).first(cut), state);
      for (std::size_t i = cut; i < prompt.size(); ++i) model.step(prompt[i], state);
      CHECK(difference(state.logits(), whole.logits()) < 1e-5);
      CHECK(state.length() == whole.length());
      CHECK(state.position() == 17);
      for (std::int64_t layer = 0; layer < model.config().layers; ++layer) {
        CHECK(difference(state.keys(layer), whole.keys(layer)) < 1e-5);
        CHECK(difference(state.values(layer), whole.values(layer)) < 1e-5);
      }
    }
  }

  TEST_CASE("keeping every hidden row does not change the logits") {
    const T2S model = random_t2s(tiny_config(), 3);
    const auto phonemes = random_ids(9, 30, 4);
    const auto prompt = random_ids(4, 40, 5);
    T2S::State state = model.make_state(1, 32);
    model.prefill(phonemes, {}, prompt, state);
    const std::vector<float> lean(state.logits().begin(), state.logits().end());
    CHECK(state.prefill_hidden().empty());
    state.set_keep_hidden(true);
    model.prefill(phonemes, {}, prompt, state);
    CHECK(state.prefill_hidden().size() == 13 * 48);
    CHECK(difference(state.logits(), lean) < 1e-5);
  }

  TEST_CASE("rows of a batch join, leave and are replaced without touching each other") {
    const T2S model = random_t2s(tiny_config(), 6);
    std::vector<std::vector<std::int32_t>> phonemes;
    std::vector<std::vector<std::int32_t>> tokens;
    for (unsigned i = 0; i < 4; ++i) {
      phonemes.push_back(random_ids(5 + 3 * i, 30, 10 + i));
      tokens.push_back(random_ids(12, 40, 20 + i));
    }
    const auto alone = [&](std::size_t who, std::size_t n) {
      T2S::State state = model.make_state(1, 40);
      model.prefill(phonemes[who], {}, {}, state);
      for (std::size_t i = 0; i < n; ++i) model.step(tokens[who][i], state);
      return std::vector<float>(state.logits().begin(), state.logits().end());
    };
    T2S::State batch = model.make_state(3, 40);
    const auto step = [&](std::vector<std::int64_t> rows, std::vector<std::int32_t> newest) {
      model.step(rows, newest, batch);
    };
    model.prefill(phonemes[0], {}, {}, batch, 0);
    step({0}, {tokens[0][0]});
    model.prefill(phonemes[1], {}, {}, batch, 2);
    step({2, 0}, {tokens[1][0], tokens[0][1]});
    model.prefill(phonemes[2], {}, {}, batch, 1);
    step({0, 1, 2}, {tokens[0][2], tokens[2][0], tokens[1][1]});
    CHECK(difference(batch.logits(0), alone(0, 3)) == 0);
    CHECK(difference(batch.logits(2), alone(1, 2)) == 0);
    model.prefill(phonemes[3], {}, {}, batch, 0);  // takes the place of utterance 0
    step({1, 0}, {tokens[2][1], tokens[3][0]});
    CHECK(difference(batch.logits(0), alone(3, 1)) == 0);
    CHECK(difference(batch.logits(1), alone(2, 2)) == 0);
    CHECK(difference(batch.logits(2), alone(1, 2)) == 0);  // rested
  }

  TEST_CASE("probes give the attention of the newest query") {
    const T2S model = random_t2s(tiny_config(), 7);
    const auto phonemes = random_ids(6, 30, 8);
    T2S::State state = model.make_state(1, 16);
    state.set_attention_probes({{0, 1}, {2, 2}});
    model.prefill(phonemes, {}, {}, state);
    for (std::size_t length = 6; length < 9; ++length) {
      for (const std::size_t probe : {0, 1}) {
        const std::span<const float> weights = state.attention(probe);
        CHECK(weights.size() == length);
        CHECK(std::accumulate(weights.begin(), weights.end(), 0.0) == doctest::Approx(1.0).epsilon(1e-5));
      }
      model.step(static_cast<std::int32_t>(length), state);
    }
    CHECK_THROWS_AS((void)state.attention(2), std::out_of_range);
  }

  TEST_CASE("weights that do not fit are named") {
    const T2SConfig config = tiny_config();
    const auto message_without = [&](const std::string& key, const at::Tensor& instead) {
      const auto whole = random_t2s_weights(config, 1);
      // A source that lacks one tensor, or has it in another shape.
      class Damaged final : public WeightSource {
       public:
        Damaged(std::shared_ptr<const TensorMap> map, std::string key, at::Tensor instead)
            : map_(std::move(map)), key_(std::move(key)) {
          if (instead.defined()) instead_.put(key_, std::move(instead));
        }
        [[nodiscard]] bool has(std::string_view key) const override {
          return key == key_ ? instead_.has(key) : map_->has(key);
        }
        [[nodiscard]] at::Tensor get(const std::string& key, at::IntArrayRef shape) const override {
          return key == key_ ? instead_.get(key, shape) : map_->get(key, shape);
        }

       private:
        std::shared_ptr<const TensorMap> map_;
        std::string key_;
        TensorMap instead_;
      };
      try {
        const T2S model(config, WeightScope(std::make_shared<Damaged>(whole, key, instead))("model"));
      } catch (const ModelError& error) {
        return std::string(error.what());
      }
      return std::string("no error");
    };
    for (const char* key :
         {"model.h.layers.2.linear1.bias", "model.ar_predict_layer.weight", "model.ar_text_position.alpha"}) {
      CAPTURE(key);
      CHECK(message_without(key, at::Tensor()).find(key) != std::string::npos);
    }
    const std::string misshapen = message_without("model.h.layers.0.linear1.weight", at::ones({96, 48}));
    CHECK(misshapen.find("[96, 48]") != std::string::npos);
    CHECK(misshapen.find("[192, 48]") != std::string::npos);
    CHECK(message_without("model.bert_proj.bias", at::Tensor()) == "no error");  // optional at bert_dim 0

    T2SConfig odd = config;
    odd.heads = 5;
    CHECK_THROWS_AS(random_t2s(odd, 1), ModelError);
  }

  TEST_CASE("input that cannot be is refused and the state still works") {
    const T2S model = random_t2s(tiny_config(), 9);
    T2S::State state = model.make_state(2, 8);
    const std::vector<std::int32_t> good = {1, 2, 3};
    const std::vector<std::int32_t> bad = {1, 30};
    const std::vector<std::int32_t> bad_token = {41};
    const std::vector<float> bert(3);
    const std::vector<std::int32_t> tokens = {1, 1};
    const std::vector<std::int64_t> twice = {0, 0};
    CHECK_THROWS_AS(model.prefill({}, {}, {}, state), std::invalid_argument);
    CHECK_THROWS_AS(model.prefill(bad, {}, {}, state), std::invalid_argument);
    CHECK_THROWS_AS(model.prefill(good, {}, bad_token, state), std::invalid_argument);
    CHECK_THROWS_AS(model.prefill(good, bert, {}, state), std::invalid_argument);
    CHECK_THROWS_AS(model.prefill(good, {}, {}, state, 2), std::invalid_argument);
    CHECK_THROWS_AS(model.prefill(random_ids(9, 30, 1), {}, {}, state), std::invalid_argument);
    CHECK_THROWS_AS(model.step(1, state), std::invalid_argument);  // before a prefill
    model.prefill(good, {}, {}, state);
    CHECK_THROWS_AS(model.step(41, state), std::invalid_argument);
    CHECK_THROWS_AS(model.step(-1, state), std::invalid_argument);
    CHECK_THROWS_AS(model.step(twice, tokens, state), std::invalid_argument);
    for (int i = 0; i < 5; ++i) model.step(1, state);
    CHECK_THROWS_AS(model.step(1, state), std::invalid_argument);  // full
    model.prefill(good, {}, {}, state);
    CHECK(std::isfinite(model.step(1, state)[0]));
  }
}

}  // namespace
}  // namespace tts
