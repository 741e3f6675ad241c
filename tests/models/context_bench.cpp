#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>

#include "models/manifest.h"
#include "models/mel.h"
#include "models/noise.h"
#include "models/prefix_encoder.h"
#include "models/sampling.h"
#include "models/t2s.h"
#include "models/vits_model.h"
#include "models/voice_reference.h"
#include "src/text/frontend.h"

// context_bench window|prefix FOLDER TEXT_DATA_DIR SENTENCES
// What it costs to see less, on real texts: "window" compares windows of attention in the T2S of a voice with full
// attention along speech that full attention drew, one sentence to a segment and several joined; "prefix" compares
// what an encoder of v1, v2 or Pro makes of the last tokens before a block (PrefixPolicy::context) with what it makes
// of all. Prints figures; asserts none.

namespace {

using Clock = std::chrono::steady_clock;

std::vector<std::vector<std::int32_t>> phonemes_of(const tts::VoiceManifest& manifest, const char* data_dir,
                                                   const char* file, std::size_t joined, std::size_t n_texts) {
  const tts::TextFrontend frontend(data_dir);
  tts::FrontendOptions options;
  options.word_separator = manifest.word_separator;
  options.languages = manifest.languages;
  std::ifstream lines(file);
  std::vector<std::vector<std::int32_t>> out;
  std::string line;
  std::string text;
  std::size_t n = 0;
  while (out.size() < n_texts && std::getline(lines, line)) {
    text += line + ' ';
    if (++n % joined != 0) continue;
    out.push_back(frontend.phonemize(text, options).phonemes);
    text.clear();
  }
  return out;
}

std::vector<double> log_softmax(std::span<const float> logits) {
  const double top = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float x : logits) sum += std::exp(x - top);
  std::vector<double> out(logits.size());
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = logits[i] - top - std::log(sum);
  return out;
}

/// What full attention said at each step, and the token it drew.
struct Speech {
  std::vector<std::int32_t> tokens;
  std::vector<std::vector<double>> log_probabilities;
  std::vector<std::int32_t> draws;
};

constexpr std::uint64_t kSeed = 3;

Speech speak(const tts::T2S& model, const std::vector<std::int32_t>& text, const tts::SamplingParams& sampling,
             std::int64_t limit) {
  tts::T2S::State state = model.make_state(1, static_cast<std::int64_t>(text.size()) + limit);
  model.prefill(text, {}, {}, state);
  Speech speech;
  tts::Sampler sampler;
  const tts::SeededNoise noise(kSeed);
  std::vector<float> logits;
  for (std::int64_t step = 0; step < limit; ++step) {
    speech.log_probabilities.push_back(log_softmax(state.logits()));
    logits.assign(state.logits().begin(), state.logits().end());
    const tts::Draw draw = sampler.draw(logits, speech.tokens, sampling, noise, step);
    speech.draws.push_back(draw.token);
    if (draw.ends(model.config().eos())) break;
    speech.tokens.push_back(draw.token);
    model.step(draw.token, state);
  }
  return speech;
}

struct Difference {
  double entropy = 0;      // nats a token that full attention gives the draws
  double with_window = 0;  // and the window
  double divergence = 0;
  int best = 0;
  int draw = 0;
  int n = 0;
};

/// Along `speech`, at the steps from `window` on: before them the window sees all.
void compare(const tts::T2S& model, const std::vector<std::int32_t>& text, const Speech& speech,
             const tts::SamplingParams& sampling, Difference& sum) {
  const auto n = static_cast<std::int64_t>(speech.tokens.size());
  tts::T2S::State state =
      model.make_state(1, model.capacity_for(static_cast<std::int64_t>(text.size()), 0, std::max<std::int64_t>(n, 1)));
  model.prefill(text, {}, {}, state);
  tts::Sampler sampler;
  const tts::SeededNoise noise(kSeed);
  std::vector<float> logits;
  for (std::size_t step = 0; step < speech.draws.size(); ++step) {
    if (step >= static_cast<std::size_t>(model.window())) {
      const std::vector<double> own = log_softmax(state.logits());
      const std::vector<double>& full = speech.log_probabilities[step];
      const auto drawn = static_cast<std::size_t>(speech.draws[step]);
      sum.entropy -= full[drawn];
      sum.with_window -= own[drawn];
      for (std::size_t i = 0; i < own.size(); ++i) sum.divergence += std::exp(full[i]) * (full[i] - own[i]);
      sum.best += std::max_element(full.begin(), full.end()) - full.begin() ==
                          std::max_element(own.begin(), own.end()) - own.begin()
                      ? 1
                      : 0;
      logits.assign(state.logits().begin(), state.logits().end());
      const std::vector<std::int32_t> history(speech.tokens.begin(),
                                              speech.tokens.begin() + static_cast<std::ptrdiff_t>(step));
      sum.draw +=
          sampler.draw(logits, history, sampling, noise, static_cast<std::int64_t>(step)).token == speech.draws[step]
              ? 1
              : 0;
      ++sum.n;
    }
    if (step < speech.tokens.size()) model.step(speech.tokens[step], state);
  }
}

void tell_windows(const tts::VoiceManifest& manifest, const char* data_dir, const char* file) {
  const auto weights = tts::load_weights(manifest.t2s.file);
  const tts::T2SConfig& config = manifest.t2s.config;
  for (const std::size_t joined : {1, 4, 12}) {
    const auto texts = phonemes_of(manifest, data_dir, file, joined, 12);
    const tts::T2S full(config, tts::WeightScope(weights, "model"));
    std::vector<Speech> speeches;
    std::size_t tokens = 0;
    std::size_t longest = 0;
    for (const auto& text : texts) {
      const auto limit = std::min<std::int64_t>(config.max_tokens, 25 + 6 * static_cast<std::int64_t>(text.size()));
      speeches.push_back(speak(full, text, manifest.t2s.sampling, limit));
      tokens += speeches.back().tokens.size();
      longest = std::max(longest, speeches.back().tokens.size());
    }
    std::printf("%zu sentences a segment, %zu segments: %zu tokens, the longest %zu\n", joined, texts.size(), tokens,
                longest);
    for (const std::int64_t window : {32, 64, 128, 256, 512}) {
      const tts::T2S model(config, tts::WeightScope(weights, "model"), {tts::T2SPrecision::fp32, window});
      Difference sum;
      for (std::size_t i = 0; i < texts.size(); ++i) {
        compare(model, texts[i], speeches[i], manifest.t2s.sampling, sum);
      }
      if (sum.n == 0) {
        std::printf("  window %3lld: no token sees less\n", static_cast<long long>(window));
        continue;
      }
      std::printf(
          "  window %3lld: %5d tokens see less; of these nats a token %.3f -> %.3f, divergence %.4f, same best %.1f "
          "%%, "
          "same draw %.1f %%\n",
          static_cast<long long>(window), sum.n, sum.entropy / sum.n, sum.with_window / sum.n, sum.divergence / sum.n,
          100.0 * sum.best / sum.n, 100.0 * sum.draw / sum.n);
    }
  }
}

void tell_prefixes(const tts::VoiceManifest& manifest, const char* data_dir, const char* file) {
  const c10::InferenceMode inference;
  const tts::VitsModel model(tts::WeightScope(tts::load_weights(manifest.acoustic.file)), *manifest.published);
  const tts::PreparedReference reference = tts::load_reference(manifest);
  const auto speaker = model.make_speaker(reference.references);
  const tts::MelFrontEnd mel(tts::kMelV4);  // 32 kHz, 10 ms
  const auto texts = phonemes_of(manifest, data_dir, file, 6, 3);
  constexpr std::array<std::int64_t, 6> kContexts{100'000, 25, 50, 100, 200, 300};
  std::vector<std::int32_t> tokens(400);
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    tokens[i] =
        static_cast<std::int32_t>((i * 2654435761U >> 7U) % static_cast<std::uint32_t>(manifest.published->codes));
  }
  const auto encode = [&](const std::vector<std::int32_t>& text, std::int64_t context) {
    tts::PrefixPolicy policy = model.policy();
    policy.context = context;
    return tts::PrefixEncoder(model.front(), text, speaker.front, policy, 1.0).push(tokens, true);
  };
  (void)encode(texts.front(), 25);
  for (const std::int64_t context : kContexts) {
    const auto start = Clock::now();
    (void)encode(texts.front(), context);
    std::printf("  context %6lld tokens: encoder %.0f ms for %zu tokens\n", static_cast<long long>(context),
                std::chrono::duration<double, std::milli>(Clock::now() - start).count(), tokens.size());
    std::fflush(stdout);
  }
  struct Sum {
    double signal = 0, noise = 0, mel = 0, worst = 0;
    std::int64_t cells = 0;
  };
  std::array<Sum, kContexts.size()> sums;
  for (const auto& text : texts) {
    at::Tensor whole;
    at::Tensor whole_mel;
    for (std::size_t c = 0; c < kContexts.size(); ++c) {
      const at::Tensor frames = encode(text, kContexts[c]);
      at::Tensor noise = at::empty_like(frames);
      tts::GaussianNoise(1, tts::VitsModel::kNoiseStream)
          .fill(0, {noise.data_ptr<float>(), static_cast<std::size_t>(noise.numel())});
      const at::Tensor wave = model.decode_frames(frames, speaker, noise);
      const at::Tensor spectrum = mel(wave);
      if (c == 0) {
        whole = wave;
        whole_mel = spectrum;
        continue;
      }
      sums[c].signal += whole.square().sum().item<double>();
      sums[c].noise += (wave - whole).square().sum().item<double>();
      const at::Tensor off = (spectrum - whole_mel).abs() * (20 / std::log(10.0));
      sums[c].mel += off.sum().item<double>();
      sums[c].worst = std::max(sums[c].worst, off.mean(1).max().item<double>());
      sums[c].cells += off.numel();
    }
  }
  for (std::size_t c = 1; c < kContexts.size(); ++c) {
    std::printf(
        "  context %6lld tokens: samples differ %.1f dB below the signal, log mel by %.3f dB, %.2f dB in the worst "
        "frame\n",
        static_cast<long long>(kContexts[c]), 10 * std::log10(sums[c].signal / sums[c].noise),
        sums[c].mel / static_cast<double>(sums[c].cells), sums[c].worst);
  }
}

}  // namespace

int main(int argc, char** argv) {
  at::set_num_threads(1);
  const std::string_view mode = argc == 5 ? argv[1] : "";
  if (mode != "window" && mode != "prefix") {
    std::fprintf(stderr, "usage: context_bench window|prefix FOLDER TEXT_DATA_DIR SENTENCES\n");
    return 2;
  }
  const auto manifest = tts::load_manifest(argv[2]);
  if (!manifest) {
    std::fprintf(stderr, "%s\n", manifest.error().detail.c_str());
    return 1;
  }
  (mode == "window" ? tell_windows : tell_prefixes)(*manifest, argv[3], argv[4]);
  return 0;
}
