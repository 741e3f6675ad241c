#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <functional>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

#include <ATen/Parallel.h>

#include "models/cuda/t2s_cuda.h"
#include "models/sampling.h"
#include "models/t2s.h"
#include "models/t2s_guard.h"
#include "tests/models/t2s_reference.h"

// t2s_gpu_bench [--small] [--steps N] [--precision fp16|bf16] [--no-overlap] [parity|rows|steps|long|prefill|memory]...
// The T2S on the first GPU, in the published size with generated weights (--small: a tiny one, for sanitizers): whether
// it says what the float32 path on the CPU says, and what it takes. JSON to standard output; exits with 1 when a check
// failed. Without names: all.

namespace {

using Clock = std::chrono::steady_clock;
using tts::T2SPrecision;
using tts::TokenModel;
using tts::TokenState;
using tts::test::cosine;
using tts::test::random_ids;

double ms_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

struct Choice {
  bool small = false;
  bool overlap = true;
  int steps = 200;
  std::optional<T2SPrecision> precision;
  std::vector<std::string> parts;

  [[nodiscard]] bool has(const char* part) const {
    return parts.empty() || std::find(parts.begin(), parts.end(), part) != parts.end();
  }
};

bool all_passed = true;

/// One field of the JSON, and whether what it says is as it should be.
class Json {
 public:
  void open(const std::string& key) {
    begin(key);
    text_ += '{';
    first_ = true;
  }
  void close() {
    text_ += '}';
    first_ = false;
  }
  void put(const std::string& key, double value) {
    begin(key);
    std::array<char, 40> digits{};
    std::snprintf(digits.data(), digits.size(), "%.6g", std::isfinite(value) ? value : -1.0);
    text_ += digits.data();
  }
  void put(const std::string& key, const std::string& value) {
    begin(key);
    text_ += '"' + value + '"';
  }
  void check(const std::string& key, bool passed) {
    begin(key);
    text_ += passed ? "true" : "false";
    all_passed = all_passed && passed;
  }
  [[nodiscard]] const std::string& text() const { return text_; }

 private:
  void begin(const std::string& key) {
    if (!first_) text_ += ',';
    first_ = false;
    if (!key.empty()) text_ += "\n\"" + key + "\":";
  }
  std::string text_;
  bool first_ = true;
};

void put_spread(Json& json, const std::string& key, std::vector<double> values) {
  std::sort(values.begin(), values.end());
  json.open(key);
  json.put("p50", values[values.size() / 2]);
  json.put("p95", values[values.size() * 95 / 100]);
  json.put("min", values.front());
  json.put("n", static_cast<double>(values.size()));
  json.close();
}

std::size_t best(std::span<const float> row) {
  return static_cast<std::size_t>(std::max_element(row.begin(), row.end()) - row.begin());
}

struct Subject {
  tts::T2SConfig config;
  std::shared_ptr<tts::TensorMap> map;

  [[nodiscard]] tts::WeightScope scope() const { return tts::WeightScope(map, "model"); }
  [[nodiscard]] std::unique_ptr<const TokenModel> on_gpu(T2SPrecision precision, bool overlap) const {
    return tts::cuda::make_cuda_t2s(config, tts::test::reader_of(map), precision, 0, 0, overlap);
  }
};

/// Float32's own tokens, told to both: how near the answers are, text after text.
void tell_parity(Json& json, const Subject& subject, const Choice& choice, const TokenModel& model,
                 const tts::T2S& full, const tts::T2SAnswers& answers) {
  const tts::T2SDrift drift = measure_drift(answers, answer_guard(model, &answers));
  json.open("guard");
  json.put("cosine", drift.cosine);
  json.put("largest", drift.largest);
  json.put("divergence", drift.divergence);
  json.put("top1", drift.top1);
  json.put("top5", drift.top5);
  json.check("passed", guard_fault(drift).empty());
  json.close();

  double least = 1;
  int same_best = 0;
  int same_draw = 0;
  int total = 0;
  double attention = 0;
  const int n_steps = std::min(choice.steps, 150);
  for (std::uint32_t i = 0; i < (choice.small ? 1U : 3U); ++i) {
    const auto phonemes = random_ids(40 + 30 * i, std::min<std::int64_t>(subject.config.phoneme_vocab, 320), 10 + i);
    const auto prompt = random_ids(60 * i, subject.config.vocab - 1, 20 + i);
    const std::int64_t dim = subject.config.bert_dim;
    std::vector<float> bert;
    if (i == 2) {
      const at::Tensor features = at::randn({static_cast<std::int64_t>(phonemes.size()), dim});
      bert.assign(features.data_ptr<float>(), features.data_ptr<float>() + features.numel());
    }
    const auto a = full.make_token_state(1, 600);
    const auto b = model.make_token_state(1, 600);
    for (TokenState* state : {a.get(), b.get()}) {
      state->set_attention_probes({{0, 1}, {subject.config.layers - 1, subject.config.heads - 1}});
    }
    full.start_row(phonemes, bert, prompt, *a, 0);
    model.start_row(phonemes, bert, prompt, *b, 0);
    tts::Sampler sampler;
    const tts::SeededNoise noise(i);
    std::vector<std::int32_t> history;
    std::vector<float> logits;
    const std::int64_t only = 0;
    for (int t = 0; t < n_steps; ++t) {
      least = std::min(least, cosine(a->logits(), b->logits()));
      same_best += best(a->logits()) == best(b->logits()) ? 1 : 0;
      for (const std::size_t probe : {0, 1}) {
        const auto got = b->attention(probe);
        const auto want = a->attention(probe);
        for (std::size_t k = 0; k < phonemes.size(); ++k) {
          attention = std::max(attention, static_cast<double>(std::abs(got[k] - want[k])));
        }
      }
      logits.assign(a->logits().begin(), a->logits().end());
      const tts::Draw draw = sampler.draw(logits, history, {}, noise, t);
      logits.assign(b->logits().begin(), b->logits().end());
      same_draw += sampler.draw(logits, history, {}, noise, t).token == draw.token ? 1 : 0;
      ++total;
      const std::int32_t token = draw.ends(subject.config.eos()) ? 0 : draw.token;
      history.push_back(token);
      full.step_rows({&only, 1}, {&token, 1}, *a);
      model.step_rows({&only, 1}, {&token, 1}, *b);
    }
  }
  json.open("parity");
  json.put("steps", total);
  json.put("least_cosine", least);
  json.put("same_best", static_cast<double>(same_best) / total);
  json.put("same_draw", static_cast<double>(same_draw) / total);
  json.put("largest_attention_difference", attention);
  json.check("passed", least > 0.995 && attention < 0.02);
  json.close();
}

std::int64_t fill(const TokenModel& model, TokenState& state, std::int64_t rows, std::int64_t positions) {
  const auto n_text = static_cast<std::size_t>(std::min<std::int64_t>(100, positions / 2));
  const auto prompt = random_ids(static_cast<std::size_t>(positions) - n_text, model.config().vocab - 1, 2);
  for (std::int64_t row = 0; row < rows; ++row) {
    // Texts of their own length: batches are never of equal rows.
    const std::size_t n = n_text - static_cast<std::size_t>(row % 7);
    model.start_row(random_ids(n, model.config().phoneme_vocab, static_cast<std::uint32_t>(row)), {}, prompt, state,
                    row);
    (void)state.logits(row);
  }
  return rows;
}

/// The same row alone and among others, bit for bit.
void tell_rows(Json& json, const Choice& choice, const TokenModel& model) {
  const std::int64_t most = choice.small ? 34 : 256;
  const auto batch = model.make_token_state(most, 256);
  fill(model, *batch, most, 160);
  const auto tokens = random_ids(static_cast<std::size_t>(most), model.config().vocab - 1, 5);
  std::vector<std::int64_t> rows(static_cast<std::size_t>(most));
  std::iota(rows.begin(), rows.end(), 0);
  for (int t = 0; t < 4; ++t) model.step_rows(rows, tokens, *batch);
  bool same = true;
  for (const std::int64_t n : {std::int64_t{1}, std::int64_t{3}, std::int64_t{16}, std::int64_t{17}, most / 2}) {
    const auto few = model.make_token_state(most, 256);
    fill(model, *few, n, 160);
    const auto which = std::span(rows).first(static_cast<std::size_t>(n));
    for (int t = 0; t < 4; ++t) {
      model.step_rows(which, std::span(tokens).first(static_cast<std::size_t>(n)), *few);
    }
    for (const std::int64_t row : which) {
      const auto a = few->logits(row);
      const auto b = batch->logits(row);
      same = same && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
    }
  }
  json.check("rows_are_the_same_bits_in_any_batch", same);
}

void tell_steps(Json& json, const Choice& choice, const TokenModel& model, std::int64_t positions,
                const std::vector<std::int64_t>& batches) {
  const std::int64_t most = *std::max_element(batches.begin(), batches.end());
  const auto state = model.make_token_state(most, positions + 16 + 4 * choice.steps);
  fill(model, *state, most, positions);
  for (const std::int64_t n : batches) {
    std::vector<std::int64_t> rows(static_cast<std::size_t>(n));
    std::iota(rows.begin(), rows.end(), 0);
    std::vector<std::int32_t> tokens(rows.size(), 5);
    // Each batch from the same length on.
    for (const std::int64_t row : rows) {
      model.start_row(random_ids(60, model.config().phoneme_vocab, 1), {},
                      random_ids(static_cast<std::size_t>(positions) - 60, model.config().vocab - 1, 2), *state, row);
    }
    const auto start = Clock::now();
    model.step_rows(rows, tokens, *state);
    const double first = ms_since(start);
    for (int t = 0; t < 5; ++t) model.step_rows(rows, tokens, *state);
    std::vector<double> took;
    for (int t = 0; t < choice.steps; ++t) {
      const auto from = Clock::now();
      model.step_rows(rows, tokens, *state);
      took.push_back(ms_since(from));
    }
    // With what the program does besides: each row's draw.
    tts::Sampler sampler;
    const tts::SeededNoise noise(1);
    std::vector<float> logits;
    std::vector<std::vector<std::int32_t>> histories(rows.size());
    const auto drawing = Clock::now();
    for (int t = 0; t < choice.steps; ++t) {
      for (std::size_t i = 0; i < rows.size(); ++i) {
        const auto raw = state->logits(rows[i]);
        logits.assign(raw.begin(), raw.end());
        tts::SamplingParams params;
        params.min_tokens = choice.steps + 1;
        tokens[i] = sampler.draw(logits, histories[i], params, noise, t).token;
        histories[i].push_back(tokens[i]);
      }
      model.step_rows(rows, tokens, *state);
    }
    const double with_draws = ms_since(drawing) / choice.steps;
    json.open(std::to_string(n));
    json.put("rows", static_cast<double>(n));
    json.put("positions", static_cast<double>(positions));
    json.put("first_step_ms", first);
    const double mean = std::accumulate(took.begin(), took.end(), 0.0) / static_cast<double>(took.size());
    put_spread(json, "step_ms", took);
    json.put("tokens_per_second", 1000.0 * static_cast<double>(n) / mean);
    json.put("tokens_per_second_with_draws", 1000.0 * static_cast<double>(n) / with_draws);
    json.close();
  }
}

void tell_prefill(Json& json, const Choice& choice, const TokenModel& model) {
  const auto state = model.make_token_state(2, choice.small ? 300 : 2100);
  model.start_row(random_ids(60, model.config().phoneme_vocab, 1), {}, random_ids(200, model.config().vocab - 1, 2),
                  *state, 1);
  (void)state->logits(1);
  const std::vector<std::int64_t> other = {1};
  const std::vector<std::int32_t> token = {5};
  for (const std::int64_t n :
       choice.small ? std::vector<std::int64_t>{40} : std::vector<std::int64_t>{60, 250, 500, 1000, 2000}) {
    const auto phonemes =
        random_ids(static_cast<std::size_t>(std::min<std::int64_t>(n, 150)), model.config().phoneme_vocab, 3);
    const auto prompt = random_ids(static_cast<std::size_t>(n) - phonemes.size(), model.config().vocab - 1, 4);
    std::vector<double> enqueue;
    std::vector<double> whole;
    std::vector<double> beside;
    for (int i = 0; i < (choice.small ? 2 : 10); ++i) {
      auto start = Clock::now();
      model.start_row(phonemes, {}, prompt, *state, 0);
      enqueue.push_back(ms_since(start));
      (void)state->logits(0);
      whole.push_back(ms_since(start));
      model.start_row(phonemes, {}, prompt, *state, 0);
      start = Clock::now();
      model.step_rows(other, token, *state);
      beside.push_back(ms_since(start));
      (void)state->logits(0);
    }
    json.open(std::to_string(n));
    put_spread(json, "enqueue_ms", enqueue);
    put_spread(json, "whole_ms", whole);
    put_spread(json, "step_of_another_row_beside_ms", beside);
    json.close();
  }
}

int run(const Choice& choice) {
  at::set_num_threads(1);
  Subject subject;
  if (choice.small) {
    subject.config.layers = 2;
    subject.config.hidden = 128;
    subject.config.heads = 4;
    subject.config.bert_dim = 128;
  }
  subject.map = tts::test::random_t2s_weights(subject.config, 1, at::kHalf);
  Json json;
  json.open("");
  if (tts::cuda::device_count() == 0) {
    std::fprintf(stderr, "t2s_gpu_bench: no GPU that its driver and these kernels know\n");
    return 2;
  }
  json.put("schema", std::string("sonorant.t2s_gpu/1"));
  json.put("device", tts::cuda::device_name(0));
  json.put("layers", static_cast<double>(subject.config.layers));
  json.put("hidden", static_cast<double>(subject.config.hidden));
  std::optional<tts::T2S> full;
  std::optional<tts::T2SAnswers> answers;
  if (choice.has("parity")) {
    full.emplace(subject.config, subject.scope());
    answers = answer_guard(*full);
  }
  for (const T2SPrecision precision : {T2SPrecision::fp16, T2SPrecision::bf16}) {
    if (choice.precision && *choice.precision != precision) continue;
    json.open(to_string(precision));
    const std::uint64_t before = tts::cuda::free_memory(0);
    const auto start = Clock::now();
    const auto model = subject.on_gpu(precision, choice.overlap);
    json.put("load_ms", ms_since(start));
    json.put("weights_mb", static_cast<double>(before - tts::cuda::free_memory(0)) / 1e6);
    if (choice.has("parity")) tell_parity(json, subject, choice, *model, *full, *answers);
    if (choice.has("rows")) tell_rows(json, choice, *model);
    if (choice.has("steps")) {
      json.open("steps");
      tell_steps(json, choice, *model, 200,
                 choice.small ? std::vector<std::int64_t>{1, 2, 40}
                              : std::vector<std::int64_t>{1, 2, 4, 8, 16, 32, 64, 128, 256});
      json.close();
    }
    if (choice.has("long") && !choice.small) {
      for (const std::int64_t positions : {1000, 2000}) {
        json.open("steps_at_" + std::to_string(positions));
        tell_steps(json, choice, *model, positions, {1, 16, 64});
        json.close();
      }
    }
    if (choice.has("prefill")) {
      json.open("prefill");
      tell_prefill(json, choice, *model);
      json.close();
    }
    if (choice.has("memory")) {
      json.open("memory");
      json.put("free_mb", static_cast<double>(tts::cuda::free_memory(0)) / 1e6);
      json.put("row_of_2048_mb", static_cast<double>(model->row_bytes(2048)) / 1e6);
      bool refused = false;
      try {
        (void)model->make_token_state(1'000'000, 4000);
      } catch (const tts::cuda::CudaError& e) {
        refused = std::string(e.what()).find("out of memory") != std::string::npos;
      }
      json.check("too_much_is_refused", refused);
      const auto state = model->make_token_state(1, 64);
      fill(*model, *state, 1, 40);
      json.check("and_work_goes_on", std::isfinite(state->logits(0)[0]));
      json.close();
    }
    json.close();
  }
  json.check("passed", all_passed);
  json.close();
  std::printf("%s\n", json.text().c_str());
  return all_passed ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  Choice choice;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--small") {
      choice.small = true;
      choice.steps = std::min(choice.steps, 5);
    } else if (word == "--no-overlap") {
      choice.overlap = false;
    } else if (word == "--steps" && i + 1 < argc) {
      choice.steps = std::max(1, std::atoi(argv[++i]));
    } else if (word == "--precision" && i + 1 < argc) {
      choice.precision = tts::t2s_precision_of(argv[++i]);
    } else {
      choice.parts.push_back(word);
    }
  }
  try {
    return run(choice);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "t2s_gpu_bench: %s\n", e.what());
    return 1;
  }
}
