// Times the network that reads Chinese text, at the published size with random weights, on one thread.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <numeric>
#include <vector>

#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>

#include "models/bert.h"
#include "models/bf16_kernels.h"
#include "tests/models/random_weights.h"

int main() {
  const c10::InferenceMode inference;
  at::set_num_threads(1);
  at::manual_seed(1);
  const tts::WeightScope weights(std::make_shared<tts::RandomWeights>());
  const tts::Bf16Kernels* kernels = tts::bf16_kernels();
  for (const tts::Precision precision : {tts::Precision::fp32, tts::Precision::bf16}) {
    if (precision == tts::Precision::bf16 && kernels == nullptr) break;
    const tts::Bert bert(weights.with(precision));
    for (const int characters : {10, 20, 40, 80}) {
      std::vector<std::int32_t> ids(static_cast<std::size_t>(characters + 2));
      std::iota(ids.begin(), ids.end(), 100);
      double best = 1e9;
      for (int round = 0; round < 5; ++round) {
        const auto start = std::chrono::steady_clock::now();
        (void)bert.forward(ids);
        const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start;
        best = std::min(best, took.count());
      }
      std::printf("%-12s %3d characters %8.1f ms\n", precision == tts::Precision::fp32 ? "float32" : kernels->name,
                  characters, best);
    }
  }
  return 0;
}
