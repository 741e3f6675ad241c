#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <ATen/Parallel.h>

#include "models/manifest.h"
#include "models/sampling.h"
#include "models/semantic_decoder.h"
#include "models/t2s_guard.h"
#include "src/core/cpu_time.h"
#include "tests/models/t2s_reference.h"

// t2s_bench [LAYERS HIDDEN HEADS | FOLDER] [fp32|bf16|int8|step|shared|drift|window|memory]...
// Times of the text-to-semantic model on one thread, with random weights of these sizes or those of a model folder:
// prefills, and steps of several rows, for every precision this CPU has. "step" times steps of one row only, "shared"
// lets a spare thread help. "drift" tells how far reduced precision is
// from float32 and how many draws it changes, "window" compares windows of attention on a long text, "memory" tells
// what one precision (named beside it) takes.

namespace {

using Clock = std::chrono::steady_clock;

void report(const std::string& what, int repeats, const std::function<void()>& action) {
  action();
  std::vector<double> wall;
  std::vector<double> cpu;
  for (int i = 0; i < repeats; ++i) {
    const auto start = Clock::now();
    const double cpu_start = tts::thread_cpu_seconds();
    action();
    cpu.push_back((tts::thread_cpu_seconds() - cpu_start) * 1e3);
    wall.push_back(std::chrono::duration<double, std::milli>(Clock::now() - start).count());
  }
  std::sort(wall.begin(), wall.end());
  std::sort(cpu.begin(), cpu.end());
  const std::size_t p95 = wall.size() * 95 / 100;
  std::printf("  %-36s wall median %8.3f p95 %8.3f   cpu min %8.3f median %8.3f ms\n", what.c_str(),
              wall[wall.size() / 2], wall[p95], cpu.front(), cpu[cpu.size() / 2]);
}

/// Resident memory, MiB.
double resident() {
  std::ifstream file("/proc/self/statm");
  double pages = 0;
  file >> pages >> pages;
  return pages * 4096 / 1048576;
}

struct Subject {
  tts::T2SConfig config;
  std::function<tts::WeightScope()> weights;
};

void time_model(const tts::T2S& model, const std::string& name, bool only_steps) {
  const tts::T2SConfig& c = model.config();
  std::printf("%s\n", name.c_str());
  const auto phonemes = tts::test::random_ids(150, c.phoneme_vocab, 1);
  const auto prompt = tts::test::random_ids(100, c.vocab - 1, 2);
  const std::span<const std::int32_t> text(phonemes);
  tts::T2S::State state = model.make_state(16, 400);
  if (!only_steps) {
    report("prefill 60 phonemes", 10, [&] { model.prefill(text.first(60), {}, {}, state); });
    report("prefill 150 phonemes + 100 tokens", 10, [&] { model.prefill(phonemes, {}, prompt, state); });
  }
  for (const std::int64_t rows : {1, 2, 4, 8, 16}) {
    if (only_steps && rows > 1) break;
    std::vector<std::int64_t> which;
    for (std::int64_t row = 0; row < rows; ++row) {
      model.prefill(text.first(100), {}, std::span(prompt).first(70), state, row);
      which.push_back(row);
    }
    const std::vector<std::int32_t> tokens(which.size(), 5);
    report("step of " + std::to_string(rows) + " rows at 170..230 positions", only_steps ? 130 : 60,
           [&] { model.step(which, tokens, state); });
  }
}

/// The same draws as float32's, token by token on its history: how many differ.
void tell_drift(const tts::T2S& full, const tts::T2S& low) {
  const tts::T2SAnswers answers = answer_guard(full);
  std::printf("  guard inputs: %s\n", to_string(measure_drift(answers, answer_guard(low, &answers))).c_str());
  const tts::T2SConfig& c = full.config();
  for (const auto& [what, params] :
       std::vector<std::pair<const char*, tts::SamplingParams>>{{"top_k 15, temperature 1", {}},
                                                                {"top_k 5, temperature 0.6", {5, 1.0F, 0.6F, 1.0F, 11}},
                                                                {"greedy", {1, 1.0F, 1.0F, 1.0F, 11}}}) {
    int total = 0;
    int same = 0;
    int best = 0;
    int free_same = 0;
    double divergence = 0;
    for (std::uint32_t i = 0; i < 6; ++i) {
      const auto phonemes = tts::test::random_ids(40, std::min<std::int64_t>(c.phoneme_vocab, 320), 10 + i);
      const tts::SeededNoise noise(i);
      tts::T2S::State a = full.make_state(1, 400);
      tts::T2S::State b = low.make_state(1, 400);
      full.prefill(phonemes, {}, {}, a);
      low.prefill(phonemes, {}, {}, b);
      std::vector<std::int32_t> history;
      std::vector<float> la;
      std::vector<float> lb;
      tts::Sampler sampler;
      bool together = true;
      for (int t = 0; t < 150; ++t) {
        la.assign(a.logits().begin(), a.logits().end());
        lb.assign(b.logits().begin(), b.logits().end());
        const tts::Draw da = sampler.draw(la, history, params, noise, t);
        const std::vector<float> pa(sampler.probabilities().begin(), sampler.probabilities().end());
        const tts::Draw db = sampler.draw(lb, history, params, noise, t);
        for (std::size_t k = 0; k < pa.size(); ++k) {
          if (pa[k] > 0) divergence += 0.5 * std::abs(static_cast<double>(pa[k]) - sampler.probabilities()[k]);
        }
        ++total;
        same += da.token == db.token ? 1 : 0;
        best += da.argmax == db.argmax ? 1 : 0;
        together = together && da.token == db.token;
        free_same += together ? 1 : 0;
        if (da.ends(c.eos())) break;
        history.push_back(da.token);
        full.step(da.token, a);
        low.step(da.token, b);
      }
    }
    std::printf(
        "  %-26s same draw %5.1f %%, same best token %5.1f %%, before the first difference %5.1f %% of %d steps; "
        "probability moved %.4f\n",
        what, 100.0 * same / total, 100.0 * best / total, 100.0 * free_same / total, total, divergence / total);
  }
}

void tell_window(const Subject& subject, tts::T2SPrecision precision) {
  const auto phonemes = tts::test::random_ids(150, subject.config.phoneme_vocab, 1);
  const auto prompt = tts::test::random_ids(100, subject.config.vocab - 1, 2);
  const auto tokens = tts::test::random_ids(1500, subject.config.vocab - 1, 3);
  std::vector<std::vector<float>> full;
  for (const std::int64_t window : {0, 512, 256, 128}) {
    const tts::T2S model(subject.config, subject.weights(), {precision, window});
    const std::int64_t capacity = model.capacity_for(150, 100, 1500);
    tts::T2S::State state = model.make_state(1, capacity);
    model.prefill(phonemes, {}, prompt, state);
    double cosine = 0;
    int best = 0;
    int n = 0;
    double late = 0;
    const auto start = Clock::now();
    double told = 0;
    for (std::size_t t = 0; t < tokens.size(); ++t) {
      if (t == 1400) late = -std::chrono::duration<double, std::milli>(Clock::now() - start).count() + told;
      model.step(tokens[t], state);
      if (t % 50 != 49) continue;
      const auto pause = Clock::now();
      const auto logits = state.logits();
      if (window == 0) {
        full.emplace_back(logits.begin(), logits.end());
      } else {
        const std::vector<float>& other = full[t / 50];
        cosine += tts::test::cosine(other, logits);
        best += std::max_element(other.begin(), other.end()) - other.begin() ==
                        std::max_element(logits.begin(), logits.end()) - logits.begin()
                    ? 1
                    : 0;
        ++n;
      }
      told += std::chrono::duration<double, std::milli>(Clock::now() - pause).count();
    }
    const double all = std::chrono::duration<double, std::milli>(Clock::now() - start).count() - told;
    const double bytes = 2.0 * static_cast<double>(subject.config.layers * subject.config.hidden * capacity) *
                         (model.precision() == tts::T2SPrecision::fp32 ? 4 : 2);
    std::printf("  window %4lld: %.3f ms a token, %.3f over the last 100, cache %.1f MiB",
                static_cast<long long>(window), all / 1500, (late + all) / 100, bytes / 1048576);
    if (n > 0) std::printf("; mean cosine %.5f, same best token %.0f %%", cosine / n, 100.0 * best / n);
    std::printf("\n");
  }
}

}  // namespace

int main(int argc, char** argv) {
  at::set_num_threads(1);
  Subject subject;
  subject.config.layers = 6;
  subject.config.hidden = 256;
  subject.config.heads = 4;
  subject.config.bert_dim = 0;
  int next = 1;
  if (argc > 3 && std::atoi(argv[1]) > 0) {
    subject.config.layers = std::atoi(argv[1]);
    subject.config.hidden = std::atoi(argv[2]);
    subject.config.heads = std::atoi(argv[3]);
    next = 4;
  } else if (argc > 1 && std::filesystem::is_directory(argv[1])) {
    const auto manifest = tts::load_manifest(argv[1]);
    if (!manifest) {
      std::fprintf(stderr, "%s\n", manifest.error().detail.c_str());
      return 1;
    }
    subject.config = manifest->t2s.config;
    subject.weights = [file = manifest->t2s.file] { return tts::WeightScope(tts::load_weights(file), "model"); };
    next = 2;
  }
  if (!subject.weights) {
    const auto map = tts::test::random_t2s_weights(subject.config, 1);
    subject.weights = [map] { return tts::WeightScope(map, "model"); };
  }
  std::vector<std::string> what(argv + next, argv + argc);
  const auto has = [&](const char* name) { return std::find(what.begin(), what.end(), name) != what.end(); };
  std::vector<tts::T2SPrecision> precisions;
  for (const auto p : {tts::T2SPrecision::fp32, tts::T2SPrecision::bf16, tts::T2SPrecision::int8}) {
    if (has(to_string(p))) precisions.push_back(p);
  }
  if (precisions.empty()) precisions = {tts::T2SPrecision::fp32, tts::T2SPrecision::bf16, tts::T2SPrecision::int8};
  std::printf("%lld x %lld, %lld heads\n", static_cast<long long>(subject.config.layers),
              static_cast<long long>(subject.config.hidden), static_cast<long long>(subject.config.heads));
  if (has("memory")) {
    const double before = resident();
    const auto start = Clock::now();
    const tts::T2S model(subject.config, subject.weights(), {precisions.front(), 0});
    const double ms = std::chrono::duration<double, std::milli>(Clock::now() - start).count();
    std::printf("  %s: resident %.0f MiB more than before, loaded in %.0f ms\n", to_string(model.precision()),
                resident() - before, ms);
    return 0;
  }
  if (has("window")) {
    tell_window(subject, precisions.front());
    return 0;
  }
  if (has("drift")) {
    const tts::T2S full(subject.config, subject.weights());
    for (const auto p : {tts::T2SPrecision::bf16, tts::T2SPrecision::int8}) {
      const tts::T2S low(subject.config, subject.weights(), {p, 0});
      std::printf("%s asked, %s taken\n", to_string(p), to_string(low.precision()));
      tell_drift(full, low);
    }
    return 0;
  }
  // "shared": with a second thread where the model lets it help.
  tts::SpareThread spare(has("shared") ? 2 : 1);
  const tts::SpareThread::Shift shift(spare);
  for (const auto precision : precisions) {
    if (precision == tts::T2SPrecision::fp32) {
      for (const tts::Kernels* set : tts::supported_kernels()) {
        if (set != &tts::kernels() && !has("all")) continue;
        time_model(tts::T2S(subject.config, subject.weights(), *set), std::string("fp32 ") + set->name, has("step"));
      }
      continue;
    }
    for (const tts::LowKernels* set : tts::supported_low_kernels()) {
      if (set != &tts::low_kernels() && !has("all")) continue;
      const tts::T2S model(subject.config, subject.weights(), {precision, 0}, *set);
      time_model(model, std::string(to_string(model.precision())) + " " + set->name, has("step"));
    }
  }
  return 0;
}
