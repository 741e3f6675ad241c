#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <vector>

#include <ATen/Parallel.h>

#include "models/sampling.h"
#include "models/semantic_decoder.h"
#include "tests/models/t2s_reference.h"

// t2s_bench [LAYERS HIDDEN HEADS]: times of the text-to-semantic model with random weights, one thread: first with
// weights that need float32, then with weights that are exact halves.

namespace {

using Clock = std::chrono::steady_clock;

/// Time this thread ran: what counts on a machine that others use too.
double thread_cpu_ms() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e3 + static_cast<double>(now.tv_nsec) * 1e-6;
}

void report(const char* what, int repeats, const std::function<void()>& action) {
  action();
  std::vector<double> wall;
  std::vector<double> cpu;
  for (int i = 0; i < repeats; ++i) {
    const auto start = Clock::now();
    const double cpu_start = thread_cpu_ms();
    action();
    cpu.push_back(thread_cpu_ms() - cpu_start);
    wall.push_back(std::chrono::duration<double, std::milli>(Clock::now() - start).count());
  }
  std::sort(wall.begin(), wall.end());
  std::sort(cpu.begin(), cpu.end());
  const std::size_t p95 = wall.size() * 95 / 100;
  std::printf("  %-34s wall median %8.3f p95 %8.3f   cpu min %8.3f median %8.3f ms\n", what, wall[wall.size() / 2],
              wall[p95], cpu.front(), cpu[cpu.size() / 2]);
}

void run(const tts::T2SConfig& config, const std::shared_ptr<tts::TensorMap>& weights, bool half) {
  const std::vector<std::int32_t> phonemes(60, 7);
  const std::vector<std::int32_t> prompt(40, 3);
  for (const tts::Kernels* set : tts::supported_kernels()) {
    const tts::T2S model(config, tts::WeightScope(weights)("model"), *set);
    std::printf("%lld x %lld, %lld heads, %s, %s\n", static_cast<long long>(config.layers),
                static_cast<long long>(config.hidden), static_cast<long long>(config.heads), set->name,
                half ? "halves" : "float32");
    tts::T2S::State state = model.make_state(8, 2000);
    report("prefill 60 phonemes", 20, [&] { model.prefill(phonemes, {}, {}, state); });
    report("prefill 60 phonemes + 40 tokens", 20, [&] { model.prefill(phonemes, {}, prompt, state); });
    report("step at 100..300 positions", 200, [&] { model.step(5, state); });
    for (const std::int64_t rows : {4, 8}) {
      std::vector<std::int64_t> which;
      for (std::int64_t row = 0; row < rows; ++row) {
        model.prefill(phonemes, {}, prompt, state, row);
        which.push_back(row);
      }
      const std::vector<std::int32_t> tokens(which.size(), 5);
      report(rows == 4 ? "step of 4 rows" : "step of 8 rows", 100, [&] { model.step(which, tokens, state); });
    }
    tts::Sampler sampler;
    tts::SamplingParams params;
    const tts::SeededNoise noise(1);
    std::vector<float> logits;
    std::int64_t step = 0;
    report("sampling, top_k 15", 200, [&] {
      logits.assign(state.logits().begin(), state.logits().end());
      (void)sampler.draw(logits, prompt, params, noise, step++);
    });
  }
}

}  // namespace

int main(int argc, char** argv) {
  at::set_num_threads(1);
  tts::T2SConfig config;
  config.layers = argc > 3 ? std::atoi(argv[1]) : 6;
  config.hidden = argc > 3 ? std::atoi(argv[2]) : 256;
  config.heads = argc > 3 ? std::atoi(argv[3]) : 4;
  config.bert_dim = 0;
  for (const bool half : {false, true}) {
    const auto weights = tts::test::random_t2s_weights(config, 1, half ? at::kHalf : at::kFloat);
    run(config, weights, half);
  }
  return 0;
}
