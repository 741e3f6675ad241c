// Times the windows of the acoustic networks of v2 in full size, with weights made in place, on any device:
// milliseconds of a call, and how many live streams that is enough for, for growing batches. Prints JSON; asserts
// nothing.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>

#include "models/vits_windows.h"

namespace {

/// Any tensor, with values of a trained network's order of magnitude.
class RandomWeights final : public tts::WeightSource {
 public:
  bool has(std::string_view key) const override { return !key.ends_with("weight_v"); }
  at::Tensor get(const std::string& key, at::IntArrayRef shape) const override {
    if (shape.size() < 2) return key.ends_with("weight") ? at::ones(shape) : at::zeros(shape);
    std::int64_t fan_in = 1;
    for (std::size_t i = 1; i < shape.size(); ++i) fan_in *= shape[i];
    return at::randn(shape) / std::sqrt(static_cast<double>(fan_in));
  }
};

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

}  // namespace

int main(int argc, char** argv) {
  std::string device = "cpu";
  std::string type = "fp32";
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
    } else if (arg == "--max-batch") {
      most = std::atoll(value);
    } else if (arg == "--runs") {
      runs = std::atoi(value);
    } else {
      ok = false;
    }
  }
  ok = ok && most >= 1 && runs >= 1 && (type == "fp32" || type == "fp16" || type == "bf16");
  if (!ok) {
    std::fprintf(stderr,
                 "usage: window_bench [--device cpu|cuda] [--type fp32|fp16|bf16] [--max-batch N] [--runs N]\n");
    return 2;
  }
  const c10::InferenceMode inference;
  at::set_num_threads(1);
  at::manual_seed(1);
  tts::VitsWindows::Options options;
  options.placement.device = at::Device(device);
  options.placement.type = type == "fp16" ? at::kHalf : type == "bf16" ? at::kBFloat16 : at::kFloat;
  options.max_batch = most;
  using Part = tts::VitsWindows::Part;
  try {
    const tts::PublishedConfig config = tts::published_config(tts::ModelForm::v2);
    const tts::VitsWindows model(tts::WeightScope(std::make_shared<RandomWeights>()), config, options);
    std::printf("{\"device\": \"%s\", \"type\": \"%s\", \"threads\": 1, \"calls\": [", device.c_str(), type.c_str());
    bool first = true;
    for (std::int64_t batch = 1; batch <= most; batch *= 2) {
      double sum = 0;
      for (const auto& [part, name] :
           {std::pair(Part::encoder, "encoder"), std::pair(Part::flow, "flow"), std::pair(Part::decoder, "decoder")}) {
        for (int i = 0; i < 4; ++i) model.run_part(part, batch);  // warms up; on CUDA the third one is captured
        const double ms = median_ms(runs, [&] { model.run_part(part, batch); });
        sum += ms;
        std::printf("%s\n  {\"part\": \"%s\", \"batch\": %lld, \"width\": %lld, \"ms\": %.3f, \"ms_per_window\": %.3f}",
                    first ? "" : ",", name, static_cast<long long>(batch), static_cast<long long>(model.widest(part)),
                    ms, ms / static_cast<double>(batch));
        std::fflush(stdout);
        first = false;
      }
      // Such a window is a chunk of 40 tokens: 1.6 s of speech.
      std::printf(",\n  {\"part\": \"all\", \"batch\": %lld, \"ms\": %.3f, \"rtf_per_stream\": %.5f}",
                  static_cast<long long>(batch), sum, sum / 1600.0 / static_cast<double>(batch));
      std::fflush(stdout);
    }
    std::printf("\n]}\n");
  } catch (const std::exception& e) {
    std::fprintf(stderr, "window_bench: %s\n", e.what());
    return 1;
  }
  return 0;
}
