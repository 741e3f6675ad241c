// Times and compares the flow matching of v3 and v4 with random weights, one thread. Asserts nothing.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>

#include "models/cfm_model.h"

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Any tensor, with values of a trained network's order of magnitude that are exact halves, as those of checkpoints.
class RandomWeights final : public tts::WeightSource {
 public:
  bool has(std::string_view key) const override { return !key.ends_with("weight_v"); }
  at::Tensor get(const std::string& key, at::IntArrayRef shape) const override {
    at::Tensor t = at::randn(shape);
    if (shape.size() < 2) {
      t = t * 0.05 + (key.ends_with("weight") || key.ends_with("gamma") ? 1.0 : 0.0);
    } else {
      t = t / std::sqrt(static_cast<double>(t.numel()) / static_cast<double>(shape[0]));
    }
    return t.to(at::kHalf).to(at::kFloat);
  }
};

double resident_mb() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmRSS:")) return std::atof(line.c_str() + 6) / 1024.0;
  }
  return 0.0;
}

tts::PublishedConfig sizes(tts::ModelForm form, bool small) {
  tts::PublishedConfig c = tts::published_config(form);
  if (!small) return c;
  c.feature_dim = c.dit.text_dim = 128;
  c.wns_layers = 2;
  c.dit.dim = 256;
  c.dit.heads = 4;
  c.dit.depth = 6;
  c.dit.text_layers = 2;
  c.vocoder_channels = form == tts::ModelForm::v3 ? 192 : 128;
  return c;
}

/// One call of the network, and what a window costs besides.
void time_windows(const tts::PublishedConfig& config, const std::vector<std::int64_t>& frames,
                  tts::Precision precision) {
  const tts::Dit dit(tts::WeightScope(std::make_shared<RandomWeights>(), "cfm.estimator", precision), config.dit);
  std::printf("resident %.0f MB\n", resident_mb());
  auto start = Clock::now();
  const auto plan = tts::make_flow_plan(dit, config.flow);
  std::printf("plan of %zu calls: %.1f ms\n", plan.calls.size(), 1e3 * seconds_since(start));
  for (const std::int64_t n : frames) {
    const at::Tensor mu = at::randn({1, n, config.dit.text_dim});
    const at::Tensor x = at::randn({1, n, config.dit.mel});
    start = Clock::now();
    const at::Tensor text = dit.text(mu);
    const auto window = dit.window(at::zeros_like(x), text);
    const double fixed = seconds_since(start);
    double best = 1e9;
    start = Clock::now();
    for (int i = 0; i < 20 && (i < 2 || seconds_since(start) < 2.0); ++i) {
      const auto once = Clock::now();
      (void)dit.velocity(x, window, plan.calls[0]);
      best = std::min(best, seconds_since(once));
    }
    const double multiplies =
        static_cast<double>(n) *
        (static_cast<double>(config.dit.depth) * 8.0 * static_cast<double>(config.dit.dim * config.dit.dim) + 4.06e6 +
         2.0 * static_cast<double>(config.dit.depth * n * config.dit.dim));
    std::printf("%5lld frames: call %8.1f ms, %6.1f GFLOP/s; text and window once %6.1f ms\n",
                static_cast<long long>(n), 1e3 * best, 2e-9 * multiplies / best, 1e3 * fixed);
    std::fflush(stdout);
  }
}

/// Distance of the mel to that of 32 Euler steps, by calls of the network.
void compare_schedules(const tts::PublishedConfig& config, std::int64_t n) {
  const tts::Dit dit(tts::WeightScope(std::make_shared<RandomWeights>(), "cfm.estimator"), config.dit);
  const std::int64_t n_prompt = n / 3;
  const at::Tensor mu = at::randn({1, n, config.dit.text_dim});
  const at::Tensor prompt = at::rand({1, n_prompt, config.dit.mel}) * 2 - 1;
  const at::Tensor noise = at::randn({1, n, config.dit.mel});
  const auto mel = [&](const tts::FlowSchedule& schedule) {
    return sample_flow(dit, mu, prompt, noise, make_flow_plan(dit, schedule)).narrow(1, n_prompt, n - n_prompt);
  };
  const at::Tensor want = mel({.steps = 32});
  std::printf("calls solver    grid       mean |difference| / spread   in dB of log mel\n");
  for (const int calls : {16, 8, 4, 2}) {
    for (const auto solver : {tts::FlowSolver::euler, tts::FlowSolver::midpoint, tts::FlowSolver::heun}) {
      for (const char* grid : {"uniform", "sway:-0.5", "cosine"}) {
        const int steps = solver == tts::FlowSolver::euler ? calls : calls / 2;
        const at::Tensor got = mel({.steps = steps, .solver = solver, .grid = tts::parse_flow_grid(grid).value()});
        const double mean = (got - want).abs().mean().item<double>();
        std::printf("%5d %-9s %-10s %10.4f                %8.2f\n", calls, tts::to_string(solver).c_str(), grid,
                    mean / want.std().item<double>(), mean * 7.0 * 8.685889638);
        std::fflush(stdout);
      }
    }
  }
}

/// A whole stream: tokens in groups of eight, as they come from the T2S.
void stream(const tts::PublishedConfig& config, std::int64_t prompt_frames, std::size_t n_tokens,
            tts::Precision precision) {
  const tts::WeightScope weights(std::make_shared<RandomWeights>(), {}, precision);
  const tts::CfmModel model(weights, weights, config);
  tts::SovitsFront::Reference reference;
  reference.spectrogram = at::rand({250, 1025});
  std::vector<std::int32_t> tokens(std::max<std::size_t>(n_tokens, 140));
  for (std::size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<std::int32_t>(i * 37 % 1024);
  const std::vector<std::int32_t> phonemes(40, 7);
  const auto speaker =
      model.make_speaker(reference, at::randn({500, config.dit.mel}) - 5, std::span(tokens).first(140), phonemes);
  std::printf("resident %.0f MB, first audio at token %lld\n", resident_mb(),
              static_cast<long long>(model.first_audio_tokens().value_or(0)));
  const auto renderer = model.begin(phonemes, speaker, {.seed = 1, .prompt_frames = prompt_frames});
  const double rate = static_cast<double>(tts::sample_rate_hz(config.form));
  double spent = 0;
  double made = 0;
  for (std::size_t at = 0; at < n_tokens;) {
    const std::size_t n = std::min<std::size_t>(at == 0 ? 28 : 8, n_tokens - at);
    const auto start = Clock::now();
    const auto wave = renderer->push(std::span(tokens).subspan(at, n), at + n == n_tokens);
    const double took = seconds_since(start);
    at += n;
    spent += took;
    made += static_cast<double>(wave.size()) / rate;
    if (!wave.empty()) {
      std::printf("token %4zu: %6.2f s of audio in %7.2f s (RTF %5.2f), together %6.2f s in %7.2f s\n", at,
                  static_cast<double>(wave.size()) / rate, took, took * rate / static_cast<double>(wave.size()), made,
                  spent);
      std::fflush(stdout);
    }
  }
  std::printf("RTF %.2f, resident %.0f MB\n", spent / made, resident_mb());
}

}  // namespace

int main(int argc, char** argv) {
  const auto form = argc > 2 ? tts::parse_model_form(argv[2]) : std::nullopt;
  if (!form || !tts::uses_flow_matching(*form)) {
    std::fprintf(
        stderr,
        "usage: flow_bench call v3|v4 FRAMES.. [bf16]    one call of the network on windows of so many frames\n"
        "       flow_bench schedules v3|v4 FRAMES [small]  distance to 32 Euler steps by schedule\n"
        "       flow_bench stream v3|v4 STEPS PROMPT_FRAMES TOKENS [bf16] [small]\n");
    return 2;
  }
  const bool small = std::strcmp(argv[argc - 1], "small") == 0;
  const bool bf16 = std::strcmp(argv[argc - (small ? 2 : 1)], "bf16") == 0;
  const auto precision = bf16 ? tts::Precision::bf16 : tts::Precision::fp32;
  tts::PublishedConfig config = sizes(*form, small);
  std::vector<std::int64_t> numbers;
  for (int i = 3; i < argc - (small ? 1 : 0) - (bf16 ? 1 : 0); ++i) numbers.push_back(std::max(1, std::atoi(argv[i])));
  const c10::InferenceMode inference;
  at::set_num_threads(1);
  at::manual_seed(1);
  const std::string what = argv[1];
  if (what == "call") {
    time_windows(config, numbers, precision);
  } else if (what == "schedules" && numbers.size() == 1) {
    compare_schedules(config, numbers[0]);
  } else if (what == "stream" && numbers.size() == 3) {
    config.flow.steps = static_cast<int>(numbers[0]);
    stream(config, numbers[1], static_cast<std::size_t>(numbers[2]), precision);
  } else {
    std::fprintf(stderr, "flow_bench: got arguments that are none of the above\n");
    return 2;
  }
  return 0;
}
