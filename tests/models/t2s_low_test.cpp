#include <cmath>
#include <functional>
#include <random>
#include <stdexcept>

#include <ATen/ATen.h>

#include "models/t2s.h"
#include "models/t2s_guard.h"
#include "tests/doctest.h"
#include "tests/models/t2s_reference.h"

// The T2S at reduced precision, its guard, and windows of attention.

namespace tts {
namespace {

using test::random_ids;
using test::random_t2s_weights;
using test::reference_logits;

T2SConfig small_config() {
  return test::small_t2s_config(3, 64, 2);
}

struct Variant {
  std::string name;
  std::function<T2S(const WeightScope&)> make;
};

/// Every precision on every instruction set of this CPU.
std::vector<Variant> variants(const T2SConfig& config) {
  std::vector<Variant> all;
  for (const Kernels* set : supported_kernels()) {
    all.push_back({std::string("fp32 ") + set->name,
                   [config, set](const WeightScope& scope) { return T2S(config, scope, *set); }});
  }
  for (const LowKernels* set : supported_low_kernels()) {
    for (const T2SPrecision precision : {T2SPrecision::bf16, T2SPrecision::int8}) {
      all.push_back(
          {std::string(to_string(precision)) + " " + set->name, [config, set, precision](const WeightScope& scope) {
             T2S model(config, scope, {precision, 0}, *set);
             REQUIRE(model.precision() == precision);
             return model;
           }});
    }
  }
  return all;
}

double cosine(std::span<const float> a, const at::Tensor& b) {
  const at::Tensor flat = b.contiguous();
  return test::cosine(a, {flat.data_ptr<float>(), static_cast<std::size_t>(flat.numel())});
}

/// Every precision on every instruction set against plain ATen operators, prefill and steps.
void near_plain_float32(const T2SConfig& config) {
  const auto weights = random_t2s_weights(config, 11);
  const auto phonemes = random_ids(19, 30, 1);
  const auto tokens = random_ids(23, 40, 2);
  const at::Tensor want = reference_logits(config, *weights, phonemes, {}, tokens);
  for (const Variant& variant : variants(config)) {
    CAPTURE(variant.name);
    const T2S model = variant.make(WeightScope(weights)("model"));
    const double least = model.precision() == T2SPrecision::fp32   ? 0.999999
                         : model.precision() == T2SPrecision::bf16 ? 0.9995
                                                                   : 0.995;
    for (const std::size_t n_prompt : {0, 7, 23}) {
      T2S::State state = model.make_state(1, 64);
      const std::span<const std::int32_t> all(tokens);
      double worst =
          cosine(model.prefill(phonemes, {}, all.first(n_prompt), state), want[static_cast<std::int64_t>(n_prompt)]);
      for (std::size_t i = n_prompt; i < tokens.size(); ++i) {
        worst = std::min(worst, cosine(model.step(tokens[i], state), want[static_cast<std::int64_t>(i) + 1]));
      }
      CHECK(worst > least);
    }
  }
}

TEST_SUITE("models/t2s_low") {
  TEST_CASE("precisions are known by their names") {
    for (const T2SPrecision p :
         {T2SPrecision::automatic, T2SPrecision::fp32, T2SPrecision::bf16, T2SPrecision::int8, T2SPrecision::fp16}) {
      CHECK(t2s_precision_of(to_string(p)) == p);
    }
    CHECK_FALSE(t2s_precision_of("fp8"));
  }

  TEST_CASE("reduced precision stays near plain float32, prefill and steps, on every instruction set") {
    near_plain_float32(small_config());
  }

  TEST_CASE("so it does with pruned heads and feed-forward widths") {
    T2SConfig config = small_config();
    config.heads = 3;
    config.head_dim = 16;
    config.filter = 100;
    near_plain_float32(config);
  }

  TEST_CASE("a row's logits are the same bits alone and among up to eight others, whoever is stepped") {
    const T2SConfig config = small_config();
    const auto weights = random_t2s_weights(config, 12);
    constexpr std::size_t kRows = 9;
    for (const Variant& variant : variants(config)) {
      CAPTURE(variant.name);
      const T2S model = variant.make(WeightScope(weights)("model"));
      std::vector<std::vector<std::int32_t>> phonemes;
      std::vector<std::vector<std::int32_t>> tokens;
      std::vector<std::vector<std::vector<float>>> alone(kRows);
      for (unsigned r = 0; r < kRows; ++r) {
        phonemes.push_back(random_ids(4 + 3 * r, 30, 10 + r));
        tokens.push_back(random_ids(20, 40, 30 + r));
        T2S::State state = model.make_state(1, 80);
        const auto keep = [&](std::span<const float> logits) { alone[r].emplace_back(logits.begin(), logits.end()); };
        keep(model.prefill(phonemes[r], {}, std::span(tokens[r]).first(r % 3), state));
        for (std::size_t i = r % 3; i < tokens[r].size(); ++i) keep(model.step(tokens[r][i], state));
      }
      T2S::State state = model.make_state(kRows, 80);
      std::vector<std::size_t> done(kRows, 0);
      for (std::size_t r = 0; r < kRows; ++r) {
        (void)model.prefill(phonemes[r], {}, std::span(tokens[r]).first(r % 3), state, static_cast<std::int64_t>(r));
      }
      std::mt19937 random(3);
      int different = 0;
      for (int turn = 0; turn < 27; ++turn) {
        std::vector<std::int64_t> rows;
        std::vector<std::int32_t> newest;
        const std::size_t wanted = static_cast<std::size_t>(turn) % kRows + 1;
        const std::size_t first = random() % kRows;
        for (std::size_t i = 0; i < kRows && rows.size() < wanted; ++i) {
          const std::size_t r = (first + 2 * i) % kRows;
          if (r % 3 + done[r] >= tokens[r].size()) continue;
          rows.push_back(static_cast<std::int64_t>(r));
          newest.push_back(tokens[r][r % 3 + done[r]]);
          ++done[r];
        }
        if (rows.empty()) break;
        model.step(rows, newest, state);
        for (std::size_t r = 0; r < kRows; ++r) {
          const auto logits = state.logits(static_cast<std::int64_t>(r));
          different += std::equal(logits.begin(), logits.end(), alone[r][done[r]].begin()) ? 0 : 1;
        }
      }
      CHECK(different == 0);
    }
  }

  TEST_CASE("a row's bytes are those of its keys and values") {
    T2SConfig config = small_config();
    config.head_dim = 16;
    const auto weights = random_t2s_weights(config, 3);
    for (const Variant& variant : variants(config)) {
      CAPTURE(variant.name);
      const T2S model = variant.make(WeightScope(weights)("model"));
      const bool low = model.precision() != T2SPrecision::fp32;
      const std::uint64_t of_position = 3ULL * 32 * 2 * (low ? 2 : 4);
      CHECK(model.row_bytes(2048) == 2048 * of_position);
      CHECK(model.row_bytes(2047) == (low ? 2048 : 2047) * of_position);  // whole blocks
    }
  }

  TEST_CASE("a spare thread changes no bit, of a prefill, of steps of one row and of several, nor of what probes see") {
    T2SConfig config = small_config();
    config.layers = 6;  // of int8: large enough for steps to be shared
    config.hidden = 512;
    config.heads = 16;
    const auto map = random_t2s_weights(config, 3);
    for (const T2SPrecision precision : {T2SPrecision::bf16, T2SPrecision::int8}) {
      CAPTURE(to_string(precision));
      const T2S model(config, WeightScope(map, "model"), {precision, 0});
      const auto text = random_ids(75, 30, 1);
      const auto prompt = random_ids(31, 40, 2);
      struct Seen {
        std::vector<float> logits, attention;
        bool helped_prefill = false, helped_step = false;
      };
      const auto speak = [&](SpareThread& spare) {
        Seen seen;
        const SpareThread::Shift shift(spare);
        T2S::State state = model.make_state(3, 150);
        state.set_attention_probes({{1, 3}, {5, 14}});
        const auto keep = [&] {
          for (const std::int64_t row : {0, 1, 2}) {
            seen.logits.insert(seen.logits.end(), state.logits(row).begin(), state.logits(row).end());
            for (const std::size_t probe : {0U, 1U}) {
              const auto weights = state.attention(probe, row);
              seen.attention.insert(seen.attention.end(), weights.begin(), weights.end());
            }
          }
        };
        for (const std::int64_t row : {0, 1, 2}) {
          model.prefill(std::span(text).subspan(static_cast<std::size_t>(row)), {}, prompt, state, row);
        }
        seen.helped_prefill = shift.helped_seconds() > 0;
        keep();
        const double before = shift.helped_seconds();
        for (std::int32_t i = 0; i < 6; ++i) {
          model.step(i, state);
          model.step(std::vector<std::int64_t>{0, 1, 2}, std::vector<std::int32_t>{i, i + 1, i + 2}, state);
          keep();
        }
        seen.helped_step = shift.helped_seconds() > before;
        return seen;
      };
      SpareThread none(1);
      const Seen alone = speak(none);
      CHECK_FALSE((alone.helped_prefill || alone.helped_step));
      SpareThread spare(2);
      Seen shared = speak(spare);
      for (int i = 0; i < 100 && !(shared.helped_prefill && shared.helped_step); ++i) shared = speak(spare);
      CHECK(shared.helped_prefill);
      CHECK(shared.helped_step);
      CHECK(shared.logits == alone.logits);
      CHECK(shared.attention == alone.attention);
    }
  }

  TEST_CASE("a row that held a NaN serves the next utterance as if new") {
    T2SConfig config = small_config();
    config.bert_dim = 4;
    const auto weights = random_t2s_weights(config, 13);
    const auto phonemes = random_ids(9, 30, 4);
    std::vector<float> bad(36, NAN);
    for (const Variant& variant : variants(config)) {
      CAPTURE(variant.name);
      const T2S model = variant.make(WeightScope(weights)("model"));
      T2S::State fresh = model.make_state(1, 40);
      T2S::State state = model.make_state(2, 40);
      (void)model.prefill(phonemes, {}, {}, fresh);
      CHECK(std::isnan(model.prefill(phonemes, bad, {}, state)[0]));  // and does not pass for speech
      CHECK(std::isnan(model.step(3, state)[0]));
      (void)model.prefill(phonemes, {}, {}, state);
      for (std::int32_t token = 0; token < 5; ++token) {
        const auto want = model.step(token, fresh);
        const auto got = model.step(token, state);
        CHECK(std::equal(got.begin(), got.end(), want.begin()));
      }
    }
  }

  TEST_CASE("a window sees text, prompt and the newest tokens, in memory that does not grow") {
    const T2SConfig config = small_config();
    const auto weights = random_t2s_weights(config, 14);
    const auto phonemes = random_ids(11, 30, 5);
    const auto tokens = random_ids(60, 40, 6);
    for (const T2SPrecision precision : {T2SPrecision::fp32, T2SPrecision::bf16, T2SPrecision::int8}) {
      CAPTURE(to_string(precision));
      for (const std::int64_t window : {1, 7, 16}) {
        CAPTURE(window);
        const T2S model(config, WeightScope(weights)("model"), {precision, window});
        REQUIRE(model.precision() == precision);
        const std::int64_t n_prompt = 5;
        const at::Tensor want = reference_logits(config, *weights, phonemes, {}, tokens, n_prompt, window);
        CHECK(model.capacity_for(11, n_prompt, 55) == 16 + window);
        T2S::State state = model.make_state(1, model.capacity_for(11, n_prompt, 55));
        (void)model.prefill(phonemes, {}, std::span(tokens).first(5), state);
        double worst = 1;
        for (std::size_t i = 5; i < tokens.size(); ++i) {
          worst = std::min(worst, cosine(model.step(tokens[i], state), want[static_cast<std::int64_t>(i) + 1]));
        }
        CHECK(worst > (precision == T2SPrecision::fp32 ? 0.999999 : 0.99));
        CHECK(state.cached() == 16 + window);
        CHECK(state.length() == 71);
        CHECK(state.position() == 60);
      }
      const T2S full(config, WeightScope(weights)("model"), {precision, 0});
      const T2S wide(config, WeightScope(weights)("model"), {precision, 60});
      T2S::State a = full.make_state(1, 80);
      T2S::State b = wide.make_state(1, 80);
      (void)full.prefill(phonemes, {}, {}, a);
      (void)wide.prefill(phonemes, {}, {}, b);
      int different = 0;
      for (const std::int32_t token : tokens) {
        const auto want = full.step(token, a);
        different += std::equal(want.begin(), want.end(), wide.step(token, b).begin()) ? 0 : 1;
      }
      CHECK(different == 0);  // a window that nothing leaves is no window
    }
    CHECK_THROWS_AS(T2S(config, WeightScope(weights)("model"), {T2SPrecision::fp32, -1}), std::invalid_argument);
  }

  TEST_CASE("probes tell the attention at reduced precision too") {
    const T2SConfig config = small_config();
    const auto weights = random_t2s_weights(config, 15);
    const auto phonemes = random_ids(6, 30, 8);
    const T2S full(config, WeightScope(weights)("model"));
    const T2S low(config, WeightScope(weights)("model"), {T2SPrecision::bf16, 0});
    T2S::State a = full.make_state(1, 16);
    T2S::State b = low.make_state(1, 16);
    for (T2S::State* state : {&a, &b}) state->set_attention_probes({{0, 1}, {2, 0}});
    (void)full.prefill(phonemes, {}, {}, a);
    (void)low.prefill(phonemes, {}, {}, b);
    for (std::int32_t token = 0; token < 4; ++token) {
      for (const std::size_t probe : {0, 1}) {
        const auto want = a.attention(probe);
        const auto got = b.attention(probe);
        REQUIRE(want.size() == got.size());
        for (std::size_t t = 0; t < want.size(); ++t) CHECK(std::abs(want[t] - got[t]) < 0.02);
      }
      (void)full.step(token, a);
      (void)low.step(token, b);
    }
    CHECK_THROWS_AS((void)b.keys(0), std::logic_error);
  }

  TEST_CASE("the guard takes int8 where it holds, bf16 where activations have outliers, float32 where weights do") {
    const T2SConfig config = small_config();
    const auto asked = [&](const std::shared_ptr<TensorMap>& weights, T2SPrecision precision) {
      return T2S(config, WeightScope(weights)("model"), {precision, 0}).precision();
    };
    CHECK(asked(random_t2s_weights(config, 16), T2SPrecision::int8) == T2SPrecision::int8);

    // Some inner values 300 times as large, and weights that undo it: the same function, too coarse for one scale a
    // row.
    const auto channel = random_t2s_weights(config, 16);
    for (const char* layer : {"0", "1", "2"}) {
      const std::string at = std::string("model.h.layers.") + layer + ".";
      channel->get(at + "linear1.weight", {256, 64}).narrow(0, 0, 8).mul_(300);
      channel->get(at + "linear1.bias", {256}).narrow(0, 0, 8).mul_(300);
      channel->get(at + "linear2.weight", {64, 256}).narrow(1, 0, 8).div_(300);
    }
    const bool bf16_is_there = low_kernels().fast_half;
    CHECK(asked(channel, T2SPrecision::int8) == (bf16_is_there ? T2SPrecision::bf16 : T2SPrecision::fp32));
    CHECK(asked(channel, T2SPrecision::bf16) == T2SPrecision::bf16);

    // The same large number in every logit's weights: no draw depends on it, and bf16 keeps little beside it.
    const auto rows = random_t2s_weights(config, 16);
    rows->get("model.ar_predict_layer.weight", {41, 64}).add_(200);
    CHECK(asked(rows, T2SPrecision::int8) == T2SPrecision::fp32);
    CHECK(asked(rows, T2SPrecision::bf16) == T2SPrecision::fp32);
    CHECK(asked(rows, T2SPrecision::automatic) == T2SPrecision::fp32);

    const auto broken = random_t2s_weights(config, 16);
    broken->get("model.h.layers.1.norm1.bias", {64})[0].fill_(NAN);
    CHECK(asked(broken, T2SPrecision::bf16) == T2SPrecision::fp32);
  }

  TEST_CASE("the guard's answers depend on the weights alone, and its bounds on nothing a draw does not see") {
    const T2SConfig config = small_config();
    const T2S model(config, WeightScope(random_t2s_weights(config, 17))("model"));
    const T2SAnswers answers = answer_guard(model);
    CHECK(answers.tokens == answer_guard(model).tokens);
    CHECK(answers.logits.size() == 3 * (kGuardTokens - kGuardPrompt) * 41);
    T2SAnswers other = answers;
    for (float& v : other.logits) v += 3.0F;
    CHECK(guard_fault(measure_drift(answers, other)).empty());
    CHECK(measure_drift(answers, other).top5 == doctest::Approx(1.0));
    for (std::size_t i = 0; i < other.logits.size(); i += 41) other.logits[i] += 20.0F;
    CHECK(guard_fault(measure_drift(answers, other)).find("cosine") != std::string::npos);
    other.logits[7] = INFINITY;
    CHECK_FALSE(guard_fault(measure_drift(answers, other)).empty());
  }

  TEST_CASE("heads that no kernel of reduced precision takes leave the model at float32") {
    T2SConfig config = small_config();
    config.hidden = 48;
    config.heads = 2;
    const auto weights = random_t2s_weights(config, 18);
    CHECK(T2S(config, WeightScope(weights)("model"), {T2SPrecision::int8, 0}).precision() == T2SPrecision::fp32);
  }
}

}  // namespace
}  // namespace tts
