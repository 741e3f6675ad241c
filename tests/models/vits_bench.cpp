// Times the acoustic half of a voice of the forms v1, v2 and Pro, block by block as a live stream takes it.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <vector>

#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>

#include "models/acoustic_guard.h"
#include "models/manifest.h"
#include "models/vits_model.h"
#include "models/voice_reference.h"
#include "src/core/cpu_time.h"
#include "src/core/spare_thread.h"

namespace {

using Clock = std::chrono::steady_clock;

double ms_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

struct Subject {
  const tts::VitsModel& model;
  const tts::VitsModel::Speaker& speaker;
  const std::vector<std::int32_t>& tokens;
};

/// Says all of it, and how long each block took when told to.
std::vector<float> speak(const Subject& subject, bool tell) {
  const std::vector<std::int32_t> phonemes(61, 7);
  const auto n_tokens = static_cast<std::int64_t>(subject.tokens.size());
  const auto start = Clock::now();
  const auto stream = subject.model.begin(phonemes, subject.speaker, {});
  if (tell) std::printf("text %.1f ms;", ms_since(start));
  std::vector<float> wave;
  std::int64_t given = 0;
  while (given < n_tokens) {
    const auto& policy = subject.model.policy();
    const std::int64_t n = std::min(n_tokens - given, policy.lookahead ? policy.useful(given, 1) : n_tokens);
    const auto push = Clock::now();
    const auto made = stream->push({subject.tokens.data() + given, static_cast<std::size_t>(n)}, given + n == n_tokens);
    given += n;
    wave.insert(wave.end(), made.begin(), made.end());
    if (tell) std::printf(" %lld: %.1f ms %zu;", static_cast<long long>(given), ms_since(push), made.size());
  }
  return wave;
}

/// How far the first block is from what it would be, had the flow seen all it depends on, and how far that is from
/// upstream's, where every token is known before.
void tell_ahead(const tts::WeightScope& weights, const tts::VoiceManifest& manifest,
                const std::vector<std::int32_t>& tokens) {
  const auto first = [&](std::int64_t n_tokens, std::int64_t ahead, bool patient) {
    tts::PublishedConfig config = *manifest.published;
    config.flow_ahead = ahead;
    config.first_tokens = n_tokens;
    if (patient) config.lookahead.reset();
    const tts::VitsModel model(weights, config);
    return speak({model, model.make_speaker(tts::load_reference(manifest).references), tokens}, false);
  };
  for (const std::int64_t ahead : {0, 4, 8, 12, 16, 24, 32}) {
    const std::int64_t n_tokens = ahead / 2 + 10;
    const auto got = first(n_tokens, ahead, false);
    const auto exact = first(n_tokens, 1000, false);
    const auto whole = first(n_tokens, 1000, true);
    // The samples whose latents were shaped with the first block, and the last 0.16 s of them.
    const auto end = static_cast<std::size_t>(2 * n_tokens - ahead) * 640;
    const auto part = [&](const std::vector<float>& wave, std::size_t from) {
      return std::vector<float>(wave.begin() + static_cast<std::ptrdiff_t>(from),
                                wave.begin() + static_cast<std::ptrdiff_t>(end));
    };
    const std::size_t late = end - 8 * 640;
    std::printf(
        "ahead %2lld: first block of %lld tokens, 0.4 s from full sight: %s; its last 0.16 s: %s; the last 0.16 s of "
        "full "
        "sight from all tokens known: %s\n",
        static_cast<long long>(ahead), static_cast<long long>(n_tokens),
        to_string(tts::acoustic_drift(part(exact, 0), part(got, 0))).c_str(),
        to_string(tts::acoustic_drift(part(exact, late), part(got, late))).c_str(),
        to_string(tts::acoustic_drift(part(whole, late), part(exact, late))).c_str());
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr,
                 "usage: vits_bench VOICE_FOLDER [TOKENS] [ROUNDS] [fp32|shared|ahead]    25 tokens are a second\n");
    return 2;
  }
  const c10::InferenceMode inference;
  at::set_num_threads(1);
  const int n_tokens = argc > 2 ? std::atoi(argv[2]) : 112;
  const int rounds = argc > 3 ? std::atoi(argv[3]) : 5;
  const std::string_view how = argc > 4 ? argv[4] : "";
  const auto manifest = tts::load_manifest(argv[1]);
  if (!manifest || !manifest->published) {
    std::fprintf(stderr, "%s: no voice of a published form\n", argv[1]);
    return 1;
  }
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(n_tokens));
  for (std::size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<std::int32_t>(i * 37 % 512);
  const tts::WeightScope plain(tts::load_weights(manifest->acoustic.file));
  const tts::WeightScope weights = plain.with(how == "fp32" ? tts::Precision::fp32 : tts::Precision::bf16);
  if (how == "ahead") {
    tell_ahead(weights, *manifest, tokens);
    return 0;
  }
  const tts::VitsModel model(weights, *manifest->published);
  const auto speaker = model.make_speaker(tts::load_reference(*manifest).references);
  tts::SpareThread spare(how == "shared" ? 2 : 1);
  for (int round = 0; round < rounds; ++round) {
    const tts::SpareThread::Shift shift(spare);
    const auto start = Clock::now();
    const double cpu_start = tts::process_cpu_seconds();
    const std::vector<float> wave = speak({model, speaker, tokens}, true);
    const double audio_ms = static_cast<double>(wave.size()) * 1000 / static_cast<double>(manifest->sample_rate_hz);
    std::printf("\n  audio %.0f ms, wall RTF %.4f, processor %.4f\n", audio_ms, ms_since(start) / audio_ms,
                (tts::process_cpu_seconds() - cpu_start) * 1000 / audio_ms);
  }
  return 0;
}
