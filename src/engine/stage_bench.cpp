#include "src/engine/stage_bench.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <iterator>
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

std::vector<StageFigures> measure_tokens(const EngineConfig& config, const VoiceManifest& manifest,
                                         const std::function<bool(const std::string&)>& begins) {
  const T2SConfig& sizes = manifest.t2s.config;
  const auto t2s = make_token_model(sizes, WeightScope(load_weights(manifest.t2s.file), "model"), config.networks.t2s,
                                    config.networks.device);
  constexpr std::int64_t kRows = 32;
  const auto state = t2s->make_token_state(kRows, 320);
  const auto phonemes = some_ids(150, sizes.phoneme_vocab);
  const auto tokens = some_ids(100, sizes.eos());
  const auto start = [&](std::size_t n_text, std::size_t n_prompt, std::int64_t row) {
    t2s->start_row(std::span(phonemes).first(n_text), {}, std::span(tokens).first(n_prompt), *state, row);
    (void)state->logits(row);  // waits for it
  };
  std::vector<StageFigures> out;
  for (const std::size_t positions : {50, 250}) {
    if (!begins("prefill, " + std::to_string(positions) + " positions")) return out;
    const std::size_t n_text = positions * 3 / 5;
    const auto ms = repeat([&] { start(n_text, positions - n_text, 0); });
    out.push_back({"prefill", static_cast<int>(positions), "positions/s",
                   each(ms, [&](double t) { return 1000.0 * static_cast<double>(positions) / t; })});
  }
  for (const std::int64_t rows : {1, 2, 4, 8, 16, 32}) {
    if (!begins("decode step, " + std::to_string(rows) + " rows")) return out;
    std::vector<std::int64_t> which;
    for (std::int64_t row = 0; row < rows; ++row) {
      start(90, 60, row);
      which.push_back(row);
    }
    const std::vector<std::int32_t> newest(which.size(), 5);
    std::vector<double> ms;
    for (int i = 0; i < 20; ++i) {
      ms.push_back(ms_of([&] {
        t2s->step_rows(which, newest, *state);
        (void)state->logits(which.back());
      }));
    }
    out.push_back({"decode_step", static_cast<int>(rows), "ms", std::move(ms)});
  }
  return out;
}

/// All tokens of a segment.
std::vector<std::int32_t> draw(const Voice& voice, const SegmentRequest& request) {
  const auto stream = voice.begin(request);
  SegmentStream* const self = stream.get();
  stream->prefill();
  while (!stream->finished()) stream->step({&self, 1});
  if (!stream->failure().empty()) throw std::runtime_error(stream->failure());
  if (stream->tokens().empty()) throw std::runtime_error("text: the voice has no tokens for it");
  return {stream->tokens().begin(), stream->tokens().end()};
}

/// Its samples are left in `pcm`.
std::vector<StageFigures> measure_sound(const Voice& voice, const SegmentRequest& request, int chunk_tokens,
                                        const std::atomic<bool>& stop, std::vector<float>& pcm) {
  const std::vector<std::int32_t> tokens = draw(voice, request);
  const auto chunk = static_cast<std::size_t>(std::max(1, chunk_tokens));
  std::vector<double> encoder, flow, vocoder;
  double total_ms = 0;
  for (int run = -1; run < 10 && !stop && (run < 3 || total_ms < 5000); ++run) {  // the first warms up
    const AcousticTimes times;
    pcm.clear();
    total_ms += ms_of([&] {
      const auto stream = voice.begin(request);
      const std::span<const std::int32_t> all(tokens);
      for (std::size_t at = 0; at < all.size(); at += chunk) {
        const std::size_t n = std::min(chunk, all.size() - at);
        const auto piece = stream->render(all.subspan(at, n), at + n == all.size());
        pcm.insert(pcm.end(), piece.begin(), piece.end());
      }
    });
    if (run < 0) continue;
    const double seconds = static_cast<double>(pcm.size()) / voice.info().rate_hz;
    const auto per_second = [&](std::chrono::nanoseconds time) {
      return std::chrono::duration<double, std::milli>(time).count() / seconds;
    };
    encoder.push_back(per_second(times.encoder));
    flow.push_back(per_second(times.flow));
    vocoder.push_back(per_second(times.vocoder));
  }
  return {{"encoder", 0, "ms/s", std::move(encoder)},
          {"flow", 0, "ms/s", std::move(flow)},
          {"vocoder", 0, "ms/s", std::move(vocoder)}};
}

StageFigures measure_opus(std::span<const float> pcm, int rate_hz) {
  const double seconds = static_cast<double>(pcm.size()) / rate_hz;
  const auto ms = repeat([&] {
    const std::vector<float> wire = resample(pcm, rate_hz, kOpusRate).value();
    auto encoder = OpusEncoder::make(kOpusRate, kOpusBitrate, kOpusFrame).value();
    for (std::size_t at = 0; at + kOpusFrame <= wire.size(); at += kOpusFrame) {
      (void)encoder.encode(std::span(wire).subspan(at, kOpusFrame)).value();
    }
  });
  return {"opus", 0, "ms/s", each(ms, [&](double t) { return t / seconds; })};
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
  const auto add = [&](std::vector<StageFigures> figures) {
    std::move(figures.begin(), figures.end(), std::back_inserter(out));
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
  if (begins("token model")) add(measure_tokens(config, manifest, begins));

  if (!begins("acoustic networks")) return out;
  const auto voice = load_voice(manifest.folder, config.networks);
  SegmentRequest request;
  request.phonemes = frontend.phonemize(text, options).phonemes;
  if (request.phonemes.empty()) throw std::runtime_error("text: nothing in it is spoken");
  request.seed = 1;
  std::vector<float> pcm;
  add(measure_sound(*voice, request, config.chunks.max_tokens, stop, pcm));

  if (begins("Opus") && !pcm.empty()) out.push_back(measure_opus(pcm, voice->info().rate_hz));
  return out;
}

}  // namespace tts
