#include <algorithm>
#include <cmath>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include <ATen/ATen.h>

#include "models/make_token_model.h"
#include "models/t2s.h"
#include "models/t2s_guard.h"
#include "models/token_slots.h"
#include "tests/doctest.h"
#include "tests/models/t2s_reference.h"

// The CUDA source itself, compiled for the CPU.
#include "tests/models/cuda_emulation.h"
// clang-format off
#include "models/cuda/t2s_cuda.cu"
// clang-format on

namespace tts {
namespace {

using cuda_emulation::CudaError;
using cuda_emulation::Machine;
using cuda_emulation::machine;
using cuda_emulation::make_cuda_t2s;
using test::cosine;
using test::difference;
using test::random_ids;
using test::random_t2s_weights;

T2SConfig small_config(std::int64_t hidden = 128, std::int64_t heads = 4) {
  return test::small_t2s_config(2, hidden, heads);
}

std::unique_ptr<const TokenModel> on_gpu(const T2SConfig& config, const std::shared_ptr<TensorMap>& weights,
                                         T2SPrecision precision = T2SPrecision::bf16, std::int64_t window = 0) {
  return make_cuda_t2s(config, test::reader_of(weights), precision, window, 0);
}

std::vector<float> copy(std::span<const float> values) {
  return {values.begin(), values.end()};
}

void step(const TokenModel& model, TokenState& state, std::vector<std::int64_t> rows,
          std::vector<std::int32_t> tokens) {
  model.step_rows(rows, tokens, state);
}

/// Every test begins with a machine as new, and leaves nothing on it.
struct FreshMachine {
  FreshMachine() { machine = Machine{}; }
  ~FreshMachine() { CHECK(machine.used == 0); }
};

TEST_SUITE("models/t2s_cuda") {
  TEST_CASE("the kernels agree with the plain path, prefill and steps, in every shape and precision") {
    const FreshMachine fresh;
    struct Shape {
      std::int64_t hidden, heads, head_dim, filter, bert_dim;
    };
    for (const Shape& shape : std::vector<Shape>{{128, 4, 0, 0, 128}, {128, 8, 0, 96, 0}, {256, 3, 64, 160, 0}}) {
      for (const T2SPrecision precision : {T2SPrecision::bf16, T2SPrecision::fp16}) {
        if (precision == T2SPrecision::bf16 && shape.hidden != 128) continue;
        T2SConfig config = small_config(shape.hidden, shape.heads);
        config.head_dim = shape.head_dim;
        config.filter = shape.filter;
        config.bert_dim = shape.bert_dim;
        CAPTURE(shape.hidden);
        CAPTURE(shape.heads);
        CAPTURE(to_string(precision));
        const auto weights = random_t2s_weights(config, 11);
        const T2S full(config, WeightScope(weights)("model"));
        const auto model = on_gpu(config, weights, precision);
        const auto phonemes = random_ids(19, 30, 1);
        const auto tokens = random_ids(8, 40, 2);
        std::vector<float> bert(19 * static_cast<std::size_t>(shape.bert_dim));
        std::mt19937 random(3);
        for (float& v : bert) v = static_cast<float>(std::normal_distribution<double>()(random));
        const double least = precision == T2SPrecision::bf16 ? 0.9995 : 0.999995;
        for (const std::size_t n_prompt : {0, 5}) {
          const auto want = full.make_token_state(1, 40);
          const auto got = model->make_token_state(1, 40);
          const auto prompt = std::span(tokens).first(n_prompt);
          full.start_row(phonemes, bert, prompt, *want, 0);
          model->start_row(phonemes, bert, prompt, *got, 0);
          double worst = cosine(got->logits(), want->logits());
          for (std::size_t i = n_prompt; i < tokens.size(); ++i) {
            step(full, *want, {0}, {tokens[i]});
            step(*model, *got, {0}, {tokens[i]});
            worst = std::min(worst, cosine(got->logits(), want->logits()));
          }
          CHECK(worst > least);
        }
      }
    }
  }

  TEST_CASE("a row's numbers are the same bits alone and among any others") {
    const FreshMachine fresh;
    T2SConfig config = small_config();
    config.filter = 256;
    const auto weights = random_t2s_weights(config, 6);
    const auto model = on_gpu(config, weights);
    constexpr std::size_t kMost = 35;
    std::vector<std::vector<std::int32_t>> phonemes;
    std::vector<std::vector<std::int32_t>> tokens;
    for (unsigned i = 0; i < kMost; ++i) {
      phonemes.push_back(random_ids(3 + i % 19, 30, 10 + i));
      tokens.push_back(random_ids(4, 40, 90 + i));
    }
    const auto alone = [&](std::size_t who, std::size_t n) {
      const auto state = model->make_token_state(1, 64);
      model->start_row(phonemes[who], {}, {}, *state, 0);
      for (std::size_t i = 0; i < n; ++i) step(*model, *state, {0}, {tokens[who][i]});
      return copy(state->logits());
    };
    // Both kinds of linear layer, full batches and filled-up ones; rows in any order.
    for (const std::size_t n : {std::size_t{5}, kMost}) {
      CAPTURE(n);
      const auto state = model->make_token_state(static_cast<std::int64_t>(n), 64);
      std::vector<std::int64_t> rows(n);
      for (std::size_t i = 0; i < n; ++i) {
        rows[i] = static_cast<std::int64_t>(n - 1 - i);
        model->start_row(phonemes[i], {}, {}, *state, rows[i]);
      }
      for (std::size_t t = 0; t < 2; ++t) {  // one without and one with the graph
        std::vector<std::int32_t> newest;
        for (std::size_t i = 0; i < n; ++i) newest.push_back(tokens[i][t]);
        step(*model, *state, rows, newest);
      }
      for (const std::size_t who : {std::size_t{0}, n / 2, n - 1}) {
        CHECK(difference(state->logits(rows[who]), alone(who, 2)) == 0);
      }
    }
  }

  TEST_CASE("rows join, rest, leave and are replaced without touching each other") {
    const FreshMachine fresh;
    const T2SConfig config = small_config();
    const auto model = on_gpu(config, random_t2s_weights(config, 6), T2SPrecision::fp16);
    const auto phonemes = random_ids(14, 30, 1);
    const auto tokens = random_ids(12, 40, 2);
    const auto text = [&](std::size_t n) { return std::span(phonemes).first(n); };
    const auto alone = [&](std::size_t n_text, std::vector<std::int32_t> said) {
      const auto state = model->make_token_state(1, 40);
      model->start_row(text(n_text), {}, {}, *state, 0);
      for (const std::int32_t token : said) step(*model, *state, {0}, {token});
      return copy(state->logits());
    };
    const auto state = model->make_token_state(3, 40);
    model->start_row(text(5), {}, {}, *state, 0);
    step(*model, *state, {0}, {tokens[0]});
    model->start_row(text(8), {}, {}, *state, 2);  // not waited for
    step(*model, *state, {0}, {tokens[1]});
    CHECK(difference(state->logits(2), alone(8, {})) == 0);
    step(*model, *state, {2, 0}, {tokens[2], tokens[3]});
    model->start_row(text(14), {}, {}, *state, 0);  // takes the place of another
    model->start_row(text(11), {}, {}, *state, 1);
    step(*model, *state, {1, 0}, {tokens[4], tokens[5]});
    CHECK(difference(state->logits(0), alone(14, {tokens[5]})) == 0);
    CHECK(difference(state->logits(1), alone(11, {tokens[4]})) == 0);
    CHECK(difference(state->logits(2), alone(8, {tokens[2]})) == 0);  // rested
  }

  TEST_CASE("prefilling a prompt is stepping it token by token, over many chunks of positions") {
    const FreshMachine fresh;
    T2SConfig config = small_config(128, 2);  // heads of 64: chunks of 32 positions, for four or sixteen warps
    config.layers = 1;
    config.filter = 64;
    const auto weights = random_t2s_weights(config, 3);
    const auto model = on_gpu(config, weights, T2SPrecision::fp16);
    const T2S full(config, WeightScope(weights)("model"));
    const auto phonemes = random_ids(140, 30, 4);
    const auto prompt = random_ids(420, 40, 5);
    const auto whole = model->make_token_state(1, 600);
    const auto steps = model->make_token_state(1, 600);
    const auto want = full.make_token_state(1, 600);
    model->start_row(phonemes, {}, prompt, *whole, 0);
    full.start_row(phonemes, {}, prompt, *want, 0);
    CHECK(cosine(whole->logits(), want->logits()) > 0.99999);
    model->start_row(phonemes, {}, std::span(prompt).first(416), *steps, 0);
    for (std::size_t i = 416; i < prompt.size(); ++i) step(*model, *steps, {0}, {prompt[i]});
    CHECK(cosine(steps->logits(), whole->logits()) > 0.999999);
  }

  TEST_CASE("a window of attention gives what the plain path gives") {
    const FreshMachine fresh;
    const T2SConfig config = small_config();
    const auto weights = random_t2s_weights(config, 8);
    const auto model = on_gpu(config, weights, T2SPrecision::fp16, 4);
    const T2S full(config, WeightScope(weights)("model"), T2SOptions{T2SPrecision::fp32, 4});
    const auto phonemes = random_ids(7, 30, 4);
    const auto tokens = random_ids(14, 40, 5);
    const auto got = model->make_token_state(1, model->capacity_for(7, 3, 14));
    const auto want = full.make_token_state(1, full.capacity_for(7, 3, 14));
    CHECK(got->capacity() == 14);
    model->start_row(phonemes, {}, std::span(tokens).first(3), *got, 0);
    full.start_row(phonemes, {}, std::span(tokens).first(3), *want, 0);
    double worst = 1;
    for (std::size_t i = 3; i < tokens.size(); ++i) {
      step(*model, *got, {0}, {tokens[i]});
      step(full, *want, {0}, {tokens[i]});
      worst = std::min(worst, cosine(got->logits(), want->logits()));
    }
    CHECK(worst > 0.99999);
  }

  TEST_CASE("probes give the attention to the text, of steps and of a prefill's last position") {
    const FreshMachine fresh;
    const T2SConfig config = small_config();
    const auto weights = random_t2s_weights(config, 7);
    const auto model = on_gpu(config, weights, T2SPrecision::fp16);
    const T2S full(config, WeightScope(weights)("model"));
    const auto phonemes = random_ids(6, 30, 8);
    const auto tokens = random_ids(5, 40, 9);
    const auto got = model->make_token_state(2, 16);
    const auto want = full.make_token_state(2, 16);
    model->start_row(phonemes, {}, {}, *got, 0);
    step(*model, *got, {0}, {1});
    CHECK_THROWS_AS((void)got->attention(0, 0), std::out_of_range);
    for (TokenState* state : {got.get(), want.get()}) state->set_attention_probes({{0, 1}, {1, 3}});
    model->start_row(phonemes, {}, std::span(tokens).first(2), *got, 1);
    full.start_row(phonemes, {}, std::span(tokens).first(2), *want, 1);
    for (std::size_t i = 2;; ++i) {
      for (const std::size_t probe : {0, 1}) {
        const auto weights_got = got->attention(probe, 1);
        REQUIRE(weights_got.size() == 6);
        CHECK(difference(weights_got, want->attention(probe, 1).first(6)) < 2e-3);
      }
      if (i == tokens.size()) break;
      step(*model, *got, {1}, {tokens[i]});
      step(full, *want, {1}, {tokens[i]});
    }
    CHECK_THROWS_AS((void)got->attention(2, 1), std::out_of_range);
  }

  TEST_CASE("devices that know no overlap of kernels, or not in graphs, give the same bits") {
    const FreshMachine fresh;
    const T2SConfig config = small_config();
    const auto weights = random_t2s_weights(config, 7);
    const auto phonemes = random_ids(9, 30, 8);
    std::vector<std::vector<float>> logits;
    for (const int kind : {0, 1, 2}) {
      machine.overlap = kind != 1;
      machine.graphs_overlap = kind != 2;
      const auto model = on_gpu(config, weights);
      const auto state = model->make_token_state(1, 16);
      model->start_row(phonemes, {}, {}, *state, 0);
      for (const std::int32_t token : {1, 2, 3}) step(*model, *state, {0}, {token});
      logits.push_back(copy(state->logits()));
    }
    CHECK(difference(logits[0], logits[1]) == 0);
    CHECK(difference(logits[0], logits[2]) == 0);
  }

  TEST_CASE("a step is one graph and one wait, a graph for each size of batch") {
    const FreshMachine fresh;
    const T2SConfig config = small_config();
    const auto model = on_gpu(config, random_t2s_weights(config, 7));
    const auto state = model->make_token_state(5, 16);
    for (std::int64_t row = 0; row < 5; ++row) {
      model->start_row(random_ids(4, 30, 1), {}, {}, *state, row);
      (void)state->logits(row);
    }
    machine.syncs = 0;
    for (int i = 0; i < 2; ++i) {  // the first step of a size makes its graph
      step(*model, *state, {0, 1, 2}, {1, 2, 3});
      step(*model, *state, {4}, {1});
      step(*model, *state, {0, 1, 2, 3, 4}, {1, 2, 3, 4, 5});
      step(*model, *state, {4, 0, 1, 2}, {1, 2, 3, 4});
    }
    CHECK(machine.graphs == 3);
    CHECK(machine.launches == 5);
    CHECK(machine.syncs == 8);
  }

  TEST_CASE("a NaN in one row stays in it") {
    const FreshMachine fresh;
    const T2SConfig config = small_config();
    const auto weights = random_t2s_weights(config, 7);
    at::Tensor embedding = weights->get("model.ar_audio_embedding.word_embeddings.weight", {41, 128});
    embedding[7].fill_(NAN);
    const auto model = on_gpu(config, weights);
    const auto state = model->make_token_state(2, 16);
    for (const std::int64_t row : {0, 1}) model->start_row(random_ids(4, 30, 1), {}, {}, *state, row);
    step(*model, *state, {0, 1}, {7, 3});
    CHECK(std::isnan(state->logits(0)[0]));
    for (const float v : state->logits(1)) CHECK(std::isfinite(v));
  }

  TEST_CASE("memory that is not there is told, and what is there goes on") {
    const FreshMachine fresh;
    const T2SConfig config = small_config();
    const auto weights = random_t2s_weights(config, 7);
    const auto model = on_gpu(config, weights);
    const auto state = model->make_token_state(1, 16);
    model->start_row(random_ids(4, 30, 1), {}, {}, *state, 0);
    const std::size_t before = machine.used;
    machine.memory = machine.used + (std::size_t{8} << 20U);
    CHECK(model->row_bytes(1024) == std::size_t{1} << 20U);  // 2 layers x 128 columns x 2 x 2 bytes a position
    CHECK(model->device_memory() == std::size_t{8} << 20U);
    std::string message;
    try {
      (void)model->make_token_state(64, 1024);
    } catch (const CudaError& e) {
      message = e.what();
    }
    CHECK(message.find("64 MiB of keys and values: out of memory") != std::string::npos);
    CHECK(machine.used == before);  // nothing was lost on the way
    TokenSlots slots(*model, 7, 1024);
    {
      const auto slot = slots.take(1000);
      REQUIRE(slot);
      CHECK(slot->state().rows() == 7);
      CHECK_THROWS_AS((void)slots.take(5000), CudaError);  // a text of its own memory
      CHECK(slots.free() == 6);
    }
    step(*model, *state, {0}, {3});
    CHECK(std::isfinite(state->logits(0)[0]));
    machine.memory = machine.used;
    CHECK_THROWS_AS((void)on_gpu(config, weights), CudaError);
  }

  TEST_CASE("a device that fails fails the step, and the program lives") {
    const FreshMachine fresh;
    const T2SConfig config = small_config();
    const auto model = on_gpu(config, random_t2s_weights(config, 7));
    const auto state = model->make_token_state(1, 16);
    model->start_row(random_ids(4, 30, 1), {}, {}, *state, 0);
    step(*model, *state, {0}, {3});
    machine.fail_launch_in = 2;
    step(*model, *state, {0}, {3});
    CHECK_THROWS_WITH_AS(step(*model, *state, {0}, {3}), doctest::Contains("a decode step"), CudaError);
  }

  TEST_CASE("input that cannot be is refused and the state still works") {
    const FreshMachine fresh;
    const T2SConfig config = small_config();
    const auto model = on_gpu(config, random_t2s_weights(config, 9));
    const auto state = model->make_token_state(2, 8);
    const std::vector<std::int32_t> good = {1, 2, 3};
    const auto start = [&](std::vector<std::int32_t> phonemes, std::vector<float> bert,
                           std::vector<std::int32_t> prompt,
                           std::int64_t row) { model->start_row(phonemes, bert, prompt, *state, row); };
    CHECK_THROWS_AS(start({}, {}, {}, 0), std::invalid_argument);
    CHECK_THROWS_AS(start({1, 30}, {}, {}, 0), std::invalid_argument);
    CHECK_THROWS_AS(start({1, -1}, {}, {}, 0), std::invalid_argument);
    CHECK_THROWS_AS(start(good, {}, {41}, 0), std::invalid_argument);
    CHECK_THROWS_AS(start(good, {1.0F}, {}, 0), std::invalid_argument);
    CHECK_THROWS_AS(start(random_ids(9, 30, 1), {}, {}, 0), std::invalid_argument);
    CHECK_THROWS_AS(start(good, {}, {}, 2), std::out_of_range);
    CHECK_THROWS_AS(step(*model, *state, {0}, {1}), std::invalid_argument);  // no prefill
    start(good, {}, {}, 0);
    CHECK_THROWS_AS(step(*model, *state, {0, 0}, {1, 1}), std::invalid_argument);
    CHECK_THROWS_AS(step(*model, *state, {0}, {41}), std::invalid_argument);
    CHECK_THROWS_AS(step(*model, *state, {0, 1}, {1}), std::invalid_argument);
    CHECK_THROWS_AS((void)state->logits(2), std::out_of_range);
    for (int i = 0; i < 5; ++i) step(*model, *state, {0}, {1});
    CHECK_THROWS_AS(step(*model, *state, {0}, {1}), std::invalid_argument);  // full
    start(good, {}, {}, 0);
    step(*model, *state, {0}, {1});
    CHECK(std::isfinite(state->logits(0)[0]));
  }

  TEST_CASE("sizes that the kernels have no form for are named") {
    T2SConfig config = small_config();
    CHECK(cuda_emulation::unfit(config).empty());
    CHECK(cuda_emulation::unfit(T2SConfig{}).empty());
    config.hidden = 192;
    CHECK(cuda_emulation::unfit(config).find("192") != std::string::npos);
    config = small_config(128, 1);
    CHECK(cuda_emulation::unfit(config).find("128") != std::string::npos);
    config = small_config();
    config.head_dim = 24;
    CHECK(cuda_emulation::unfit(config).find("24") != std::string::npos);
    config = small_config();
    config.filter = 100;
    CHECK(cuda_emulation::unfit(config).find("100") != std::string::npos);
    config = small_config();
    config.bert_dim = 60;
    CHECK(cuda_emulation::unfit(config).find("60") != std::string::npos);
    CHECK_THROWS_AS(on_gpu(config, random_t2s_weights(config, 1)), std::invalid_argument);
  }

  TEST_CASE("the guard takes the precision that is nearer, the one asked for, or none") {
    const FreshMachine fresh;
    T2SConfig config = small_config();
    config.layers = 1;
    config.phoneme_vocab = 512;
    config.vocab = 101;
    config.filter = 128;
    const auto weights = random_t2s_weights(config, 16);
    const WeightScope scope = WeightScope(weights)("model");
    std::vector<T2SPrecision> made;
    const MakeAt make = [&](T2SPrecision precision) {
      made.push_back(precision);
      return on_gpu(config, weights, precision);
    };
    const auto asked = [&](T2SPrecision precision) {
      made.clear();
      const auto model = make_guarded(config, scope, {precision, 0}, make);
      return model ? model->precision() : T2SPrecision::fp32;
    };
    CHECK(asked(T2SPrecision::automatic) == T2SPrecision::fp16);
    CHECK(made.size() == 2);
    CHECK(asked(T2SPrecision::bf16) == T2SPrecision::bf16);
    CHECK(made.size() == 1);
    // Larger than a half can be: bfloat16 alone stays near.
    weights->put("model.h.layers.0.linear1.weight", weights->get("model.h.layers.0.linear1.weight", {128, 128}) * 1e5);
    weights->put("model.h.layers.0.linear1.bias", weights->get("model.h.layers.0.linear1.bias", {128}) * 1e5);
    weights->put("model.h.layers.0.linear2.weight", weights->get("model.h.layers.0.linear2.weight", {128, 128}) / 1e5);
    CHECK(asked(T2SPrecision::fp16) == T2SPrecision::bf16);
    const MakeAt other = [&](T2SPrecision precision) {
      return on_gpu(config, random_t2s_weights(config, 17), precision);
    };
    CHECK(make_guarded(config, scope, {T2SPrecision::automatic, 0}, other) == nullptr);
  }
}

}  // namespace
}  // namespace tts
