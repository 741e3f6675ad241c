// Times the acoustic networks in windows of a published form in full size, with weights made in place, on any device:
// milliseconds of calls (v1, v2, Pro) and of chunks of live streams, for growing batches. Prints JSON; asserts nothing.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>

#include "models/cfm_windows.h"
#include "models/vits_windows.h"
#include "tests/models/random_weights.h"

namespace {

double median_ms(int runs, const std::function<void()>& work) {
  std::vector<double> times;
  for (int i = 0; i < runs; ++i) {
    const auto start = std::chrono::steady_clock::now();
    work();
    times.push_back(std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count());
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

/// Prints objects of a list.
class List {
 public:
  template <class... Values>
  void add(const char* format, Values... values) {
    std::printf("%s\n  ", first_ ? "" : ",");
    std::printf(format, values...);
    std::fflush(stdout);
    first_ = false;
  }

 private:
  bool first_ = true;
};

constexpr std::int64_t kChunk = 40;  // tokens: 1.6 s of speech

std::vector<std::int32_t> ids(std::int64_t count, std::int64_t inventory) {
  std::vector<std::int32_t> out;
  for (std::int64_t i = 0; i < count; ++i) out.push_back(static_cast<std::int32_t>((i * 37 + 11) % inventory));
  return out;
}

/// Chunks of as many streams in one push, once the streams are on their way.
template <class Model, class Speaker>
void time_streams(const Model& model, const Speaker& speaker, std::int64_t most, int runs, List& list) {
  const std::vector<std::int32_t> tokens = ids(kChunk, model.config().codes);
  for (std::int64_t n = 1; n <= most; n *= 2) {
    std::vector<std::unique_ptr<tts::TokenRenderer>> streams;
    std::vector<tts::TokenRenderer::Job> jobs;
    for (std::int64_t i = 0; i < n; ++i) {
      tts::AcousticOptions options;
      options.seed = static_cast<std::uint64_t>(i);
      streams.push_back(model.begin(ids(60, model.config().phonemes), speaker, options));
      jobs.push_back({.stream = streams.back().get(), .tokens = tokens, .last = false});
    }
    std::size_t samples = 0;
    const auto push = [&] {
      streams[0]->push_together(jobs);
      samples = 0;
      for (tts::TokenRenderer::Job& job : jobs) {
        if (job.failure) throw tts::ModelError(job.failure->detail);
        samples += job.samples.size();
        job.samples.clear();
      }
    };
    for (int i = 0; i < 6; ++i) push();  // the first blocks; warms up
    const double ms = median_ms(runs, push);
    list.add("{\"part\": \"streams\", \"batch\": %lld, \"ms\": %.3f, \"samples\": %lld, \"rtf_per_stream\": %.5f}",
             static_cast<long long>(n), ms, static_cast<long long>(samples),
             ms / (40.0 * static_cast<double>(kChunk)) / static_cast<double>(n));
  }
}

}  // namespace

int main(int argc, char** argv) {
  std::string device = "cpu";
  std::string type = "fp32";
  std::string form = "v2";
  std::int64_t most = 64;
  int runs = 10;
  bool ok = true;
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i];
    const char* value = i + 1 < argc ? argv[++i] : nullptr;
    ok = ok && value != nullptr;
    if (!ok) break;
    if (arg == "--device") {
      device = value;
    } else if (arg == "--type") {
      type = value;
    } else if (arg == "--form") {
      form = value;
    } else if (arg == "--max-batch") {
      most = std::atoll(value);
    } else if (arg == "--runs") {
      runs = std::atoi(value);
    } else {
      ok = false;
    }
  }
  ok = ok && most >= 1 && runs >= 1 && tts::parse_model_form(form) &&
       (type == "fp32" || type == "fp16" || type == "bf16");
  if (!ok) {
    std::fprintf(
        stderr,
        "usage: window_bench [--form v2] [--device cpu|cuda] [--type fp32|fp16|bf16] [--max-batch N] [--runs N]\n");
    return 2;
  }
  const c10::InferenceMode inference;
  at::set_num_threads(1);
  at::manual_seed(1);
  tts::WindowOptions options;
  options.placement.device = at::Device(device);
  options.placement.type = type == "fp16" ? at::kHalf : type == "bf16" ? at::kBFloat16 : at::kFloat;
  options.max_batch = most;
  using Part = tts::VitsWindows::Part;
  try {
    const tts::WeightScope weights(std::make_shared<tts::RandomWeights>());
    const tts::PublishedConfig config = tts::published_config(*tts::parse_model_form(form));
    tts::SovitsFront::Reference reference;
    reference.spectrogram = at::rand({120, config.ref_bins});
    if (config.speaker_dim > 0) reference.embedding = at::randn({config.speaker_dim});
    std::printf("{\"device\": \"%s\", \"type\": \"%s\", \"form\": \"%s\", \"calls\": [", device.c_str(), type.c_str(),
                form.c_str());
    List list;
    if (tts::uses_flow_matching(config.form)) {
      const tts::CfmWindows model(weights, weights, config, options);
      const auto prompt = ids(100, config.codes);
      time_streams(model, model.make_speaker(reference, at::randn({400, config.dit.mel}) - 5.0, prompt, ids(60, 300)),
                   most, runs, list);
    } else {
      const tts::VitsWindows model(weights, config, options);
      for (std::int64_t batch = 1; batch <= most; batch *= 2) {
        for (const auto& [part, name] : {std::pair(Part::encoder, "encoder"), std::pair(Part::flow, "flow"),
                                         std::pair(Part::decoder, "decoder")}) {
          for (int i = 0; i < 4; ++i) model.run_part(part, batch);  // warms up; on CUDA the third one is captured
          const double ms = median_ms(runs, [&] { model.run_part(part, batch); });
          list.add("{\"part\": \"%s\", \"batch\": %lld, \"width\": %lld, \"ms\": %.3f, \"ms_per_window\": %.3f}", name,
                   static_cast<long long>(batch), static_cast<long long>(model.widest(part)), ms,
                   ms / static_cast<double>(batch));
        }
      }
      time_streams(model, model.make_speaker(std::span(&reference, 1)), most, runs, list);
    }
    std::printf("\n]}\n");
  } catch (const std::exception& e) {
    std::fprintf(stderr, "window_bench: %s\n", e.what());
    return 1;
  }
  return 0;
}
