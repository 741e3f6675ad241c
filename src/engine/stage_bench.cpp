#include "src/engine/stage_bench.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <stdexcept>
#include <utility>

#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>

#include "models/acoustic_times.h"
#include "models/make_token_model.h"
#include "models/manifest.h"
#include "src/audio/opus_encoder.h"
#include "src/audio/resampler.h"
#include "src/core/utf8.h"
#include "src/engine/solo_stream.h"
#include "src/text/frontend.h"

namespace tts {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kOpusRate = 48'000;
constexpr int kOpusBitrate = 32'000;  // what a client gets that names none
constexpr int kOpusFrame = 960;

double ms_of(const std::function<void()>& work) {
  const auto start = Clock::now();
  work();
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

/// What `work` takes in ms, once it has warmed up: at least 5 times, and as often as fits into a second, 50 times at
/// most.
std::vector<double> repeat(const std::function<void()>& work) {
  work();
  std::vector<double> ms;
  double sum = 0;
  while (ms.size() < 5 || (sum < 1000 && ms.size() < 50)) {
    ms.push_back(ms_of(work));
    sum += ms.back();
  }
  return ms;
}

template <class Function>
std::vector<double> each(std::vector<double> values, Function function) {
  for (double& value : values) value = function(value);
  return values;
}

/// Ids that are all there, of no meaning.
std::vector<std::int32_t> some_ids(std::size_t n, std::int64_t below) {
  std::vector<std::int32_t> ids(n);
  for (std::size_t i = 0; i < n; ++i) ids[i] = static_cast<std::int32_t>(i * 7919 % static_cast<std::size_t>(below));
  return ids;
}

VoiceManifest find_manifest(const std::filesystem::path& voices_dir, const std::string& id) {
  for (const auto& entry : std::filesystem::directory_iterator(voices_dir)) {
    if (!std::filesystem::exists(entry.path() / "manifest.json")) continue;
    auto manifest = load_manifest(entry.path());
    if (manifest && manifest->id == id && !manifest->reference.empty()) return std::move(*manifest);
  }
  throw std::runtime_error("voice: there is no \"" + id + "\" in " + voices_dir.string());
}

}  // namespace

std::vector<StageFigures> measure_stages(const EngineConfig& config, const std::string& voice_id,
                                         const std::string& text, const std::string& lang,
                                         const std::function<void(std::string_view)>& progress,
                                         const std::atomic<bool>& stop) {
  const c10::InferenceMode inference;
  at::set_num_threads(std::max(1, config.threads));
  const VoiceManifest manifest = find_manifest(config.voices_dir, voice_id);
  std::vector<StageFigures> out;
  const auto begins = [&](const std::string& what) {
    if (progress && !stop) progress(what);
    return !stop;
  };

  const TextFrontend frontend(config.text_data_dir);
  FrontendOptions options;
  options.lang = lang;
  options.languages = manifest.languages;
  options.word_separator = manifest.word_separator;
  const auto characters = static_cast<double>(utf8::count_code_points(text));
  if (begins("front end")) {
    const auto ms = repeat([&] { (void)frontend.phonemize(text, options); });
    out.push_back({"front_end", 0, "us/character", each(ms, [&](double t) { return 1000 * t / characters; })});
  }

  if (begins("token model")) {
    const T2SConfig& sizes = manifest.t2s.config;
    const auto t2s = make_token_model(sizes, WeightScope(load_weights(manifest.t2s.file), "model"), config.networks.t2s,
                                      config.networks.device);
    constexpr std::int64_t kRows = 32;
    const auto state = t2s->make_token_state(kRows, 320);
    const auto start = [&](std::span<const std::int32_t> words, std::span<const std::int32_t> before,
                           std::int64_t row) {
      t2s->start_row(words, {}, before, *state, row);
      (void)state->logits(row);  // waits for it
    };
    const auto phonemes = some_ids(150, sizes.phoneme_vocab);
    const auto tokens = some_ids(100, sizes.eos());
    const std::span<const std::int32_t> all(phonemes);
    const std::span<const std::int32_t> prompt(tokens);
    for (const std::size_t positions : {50, 250}) {
      if (!begins("prefill, " + std::to_string(positions) + " positions")) break;
      const std::size_t n_text = positions * 3 / 5;
      const auto ms = repeat([&] { start(all.first(n_text), prompt.first(positions - n_text), 0); });
      out.push_back({"prefill", static_cast<int>(positions), "positions/s",
                     each(ms, [&](double t) { return 1000.0 * static_cast<double>(positions) / t; })});
    }
    for (const std::int64_t rows : {1, 2, 4, 8, 16, 32}) {
      if (!begins("decode step, " + std::to_string(rows) + " rows")) break;
      std::vector<std::int64_t> which;
      for (std::int64_t row = 0; row < rows; ++row) {
        start(all.first(90), prompt.first(60), row);
        which.push_back(row);
      }
      const std::vector<std::int32_t> newest(which.size(), 5);
      std::vector<double> ms;
      const auto step = [&] {
        t2s->step_rows(which, newest, *state);
        (void)state->logits(which.back());
      };
      for (int i = 0; i < 20; ++i) ms.push_back(ms_of(step));
      out.push_back({"decode_step", static_cast<int>(rows), "ms", std::move(ms)});
    }
  }

  if (!begins("acoustic networks")) return out;
  const auto voice = load_voice(manifest.folder, config.networks);
  SegmentRequest request;
  request.phonemes = frontend.phonemize(text, options).phonemes;
  if (request.phonemes.empty()) throw std::runtime_error("text: nothing in it is spoken");
  request.seed = 1;
  std::vector<std::int32_t> tokens;
  {
    const auto stream = voice->begin(request);
    SegmentStream* const self = stream.get();
    stream->prefill();
    while (!stream->finished()) stream->step({&self, 1});
    if (!stream->failure().empty()) throw std::runtime_error(stream->failure());
    tokens.assign(stream->tokens().begin(), stream->tokens().end());
  }
  if (tokens.empty()) throw std::runtime_error("text: the voice has no tokens for it");
  std::vector<float> pcm;
  std::vector<double> encoder, flow, vocoder;
  double total_ms = 0;
  for (int run = -1; run < 10 && !stop && (run < 3 || total_ms < 5000); ++run) {  // the first warms up
    const AcousticTimes times;
    pcm.clear();
    total_ms += ms_of([&] {
      const auto stream = voice->begin(request);
      const std::span<const std::int32_t> all(tokens);
      const auto chunk = static_cast<std::size_t>(std::max(1, config.chunks.max_tokens));
      for (std::size_t at = 0; at < all.size(); at += chunk) {
        const std::size_t n = std::min(chunk, all.size() - at);
        const auto piece = stream->render(all.subspan(at, n), at + n == all.size());
        pcm.insert(pcm.end(), piece.begin(), piece.end());
      }
    });
    if (run < 0) continue;
    const double seconds = static_cast<double>(pcm.size()) / voice->info().rate_hz;
    const auto per_second = [&](std::chrono::nanoseconds time) {
      return std::chrono::duration<double, std::milli>(time).count() / seconds;
    };
    encoder.push_back(per_second(times.encoder));
    flow.push_back(per_second(times.flow));
    vocoder.push_back(per_second(times.vocoder));
  }
  out.push_back({"encoder", 0, "ms/s", std::move(encoder)});
  out.push_back({"flow", 0, "ms/s", std::move(flow)});
  out.push_back({"vocoder", 0, "ms/s", std::move(vocoder)});

  if (!begins("Opus") || pcm.empty()) return out;
  const double seconds = static_cast<double>(pcm.size()) / voice->info().rate_hz;
  const auto ms = repeat([&] {
    const std::vector<float> wire = resample(pcm, voice->info().rate_hz, kOpusRate).value();
    auto encoder48 = OpusEncoder::make(kOpusRate, kOpusBitrate, kOpusFrame).value();
    for (std::size_t at = 0; at + kOpusFrame <= wire.size(); at += kOpusFrame) {
      (void)encoder48.encode(std::span(wire).subspan(at, kOpusFrame)).value();
    }
  });
  out.push_back({"opus", 0, "ms/s", each(ms, [&](double t) { return t / seconds; })});
  return out;
}

}  // namespace tts
