// Times the acoustic half of a voice of the forms v1, v2 and Pro, block by block as a live stream takes it.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <vector>

#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>

#include "models/manifest.h"
#include "models/vits_model.h"
#include "models/voice_reference.h"

namespace {

using Clock = std::chrono::steady_clock;

double ms_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

/// Of all threads of this process.
double cpu_ms() {
  timespec now{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e3 + static_cast<double>(now.tv_nsec) * 1e-6;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: vits_bench VOICE_FOLDER [TOKENS] [ROUNDS] [fp32|bf16]    25 tokens are a second\n");
    return 2;
  }
  const c10::InferenceMode inference;
  at::set_num_threads(1);
  const int n_tokens = argc > 2 ? std::atoi(argv[2]) : 112;
  const int rounds = argc > 3 ? std::atoi(argv[3]) : 5;
  const bool bf16 = argc <= 4 || std::string_view(argv[4]) == "bf16";
  const auto manifest = tts::load_manifest(argv[1]);
  if (!manifest || !manifest->published) {
    std::fprintf(stderr, "%s: no voice of a published form\n", argv[1]);
    return 1;
  }
  const tts::WeightScope weights(tts::load_weights(manifest->acoustic.file));
  const tts::VitsModel model(weights.with(bf16 ? tts::Precision::bf16 : tts::Precision::fp32), *manifest->published);
  const auto speaker = model.make_speaker(tts::load_reference(*manifest).references);
  const std::vector<std::int32_t> phonemes(61, 7);
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(n_tokens));
  for (std::size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<std::int32_t>(i * 37 % 512);

  for (int round = 0; round < rounds; ++round) {
    const auto start = Clock::now();
    const double cpu_start = cpu_ms();
    const auto stream = model.begin(phonemes, speaker, {});
    std::printf("text %.1f ms;", ms_since(start));
    std::size_t samples = 0;
    std::int64_t given = 0;
    while (given < n_tokens) {
      const std::int64_t n = std::min<std::int64_t>(n_tokens - given, model.policy().useful(given, 1));
      const auto push = Clock::now();
      const std::size_t made =
          stream->push({tokens.data() + given, static_cast<std::size_t>(n)}, given + n == n_tokens).size();
      given += n;
      samples += made;
      std::printf(" %lld: %.1f ms %zu;", static_cast<long long>(given), ms_since(push), made);
    }
    const double audio_ms = static_cast<double>(samples) * 1000 / static_cast<double>(manifest->sample_rate_hz);
    std::printf("\n  audio %.0f ms, wall RTF %.4f, processor %.4f\n", audio_ms, ms_since(start) / audio_ms,
                (cpu_ms() - cpu_start) / audio_ms);
  }
  return 0;
}
