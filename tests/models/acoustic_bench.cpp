// Times the acoustic networks at the starter voice's sizes with random weights, in streaming chunks.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>

#include "models/acoustic.h"
#include "models/acoustic_times.h"
#include "tests/models/random_weights.h"

namespace {

double ms(std::chrono::nanoseconds t) {
  return std::chrono::duration<double, std::milli>(t).count();
}

/// Time this thread ran: what counts on a machine that others use too.
double thread_cpu_ms() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e3 + static_cast<double>(now.tv_nsec) * 1e-6;
}

}  // namespace

int main(int argc, char** argv) {
  const int chunk = argc > 1 ? std::atoi(argv[1]) : 10;
  const int tokens = argc > 2 ? std::atoi(argv[2]) : 125;
  if (chunk < 1 || tokens < 1) {
    std::fprintf(stderr, "usage: acoustic_bench [TOKENS_PER_CHUNK] [TOKENS]    25 tokens are a second\n");
    return 2;
  }
  const c10::InferenceMode inference;
  at::set_num_threads(1);
  at::manual_seed(1);
  const auto weights = std::make_shared<tts::RandomWeights>();
  const tts::AcousticModel model(tts::WeightScope{weights}, tts::AcousticConfig{}, tts::WeightScope{weights},
                                 tts::SourceFilterConfig{});
  const auto speaker = model.make_speaker(at::randn({256}));
  std::vector<std::int32_t> phonemes(40, 7);
  std::vector<std::int32_t> codes(static_cast<std::size_t>(tokens));
  for (std::size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<std::int32_t>(i * 37 % 512);

  for (int round = 0; round < 4; ++round) {  // the first warms up
    const double cpu_start = thread_cpu_ms();
    const auto start = std::chrono::steady_clock::now();
    const tts::AcousticTimes times;
    tts::AcousticStream stream = model.begin(phonemes, speaker, {});
    double first_ms = 0;
    std::size_t samples = 0;
    for (std::size_t at = 0; at < codes.size(); at += static_cast<std::size_t>(chunk)) {
      const std::size_t n = std::min<std::size_t>(static_cast<std::size_t>(chunk), codes.size() - at);
      samples += stream.push({codes.data() + at, n}, at + n == codes.size()).size();
      if (first_ms == 0 && samples > 0) first_ms = ms(std::chrono::steady_clock::now() - start);
    }
    const double cpu = thread_cpu_ms() - cpu_start;
    const double total = ms(std::chrono::steady_clock::now() - start);
    const double audio = static_cast<double>(samples) / tts::AcousticModel::kRateHz * 1000.0;
    std::printf(
        "chunk=%d audio_ms=%.0f cpu_rtf=%.4f wall_rtf=%.4f encoder=%.4f flow=%.4f vocoder=%.4f first_audio_ms=%.1f\n",
        chunk, audio, cpu / audio, total / audio, ms(times.encoder) / audio, ms(times.flow) / audio,
        ms(times.vocoder) / audio, first_ms);
  }
  return 0;
}
