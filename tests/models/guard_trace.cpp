#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>

#include "models/acoustic.h"
#include "models/guarded_decoder.h"
#include "models/manifest.h"
#include "src/audio/wav.h"
#include "src/text/frontend.h"

// guard_trace VOICE TEXT_DATA SENTENCES SEEDS [TEMPERATURE TOP_K [WAV_DIR]]: speaks every line with every seed, without
// and with the guard, in the engine's chunks; one line for each: what the guard met, did, and how long the speech is.
// With WAV_DIR also LINE_SEED_off.wav and LINE_SEED_on.wav. For voices of the starter form.

namespace {

struct Spoken {
  std::vector<float> pcm;
  std::size_t tokens = 0;
  std::int64_t steps = 0;  // draws, those that were thrown away included
  tts::GuardReport report;
};

Spoken speak(const tts::T2S& t2s, const tts::AcousticModel* acoustic, const tts::AcousticModel::Speaker& speaker,
             const std::vector<std::int32_t>& phonemes, const tts::GuardedDecoder::Options& options,
             std::optional<tts::T2S::State::Probe> head) {
  tts::GuardedDecoder decoder(t2s.config(), {{}, phonemes, {}, {}}, options);
  tts::T2S::State state = t2s.make_state(1, decoder.capacity());
  if (head && options.guard) state.set_attention_probes({*head});
  std::unique_ptr<tts::AcousticStream> stream;
  if (acoustic != nullptr) {
    stream = std::make_unique<tts::AcousticStream>(
        acoustic->begin(phonemes, speaker, {.seed = options.seed, .speed = 1.0, .steps = 0}));
  }
  Spoken spoken;
  tts::GuardedDecoder* const one = &decoder;
  const std::int64_t row = 0;
  std::size_t rendered = 0;
  while (!decoder.finished()) {
    tts::GuardedDecoder::feed(t2s, state, {&one, 1}, {&row, 1});
    decoder.draw(state, row);
    if (!stream || (!decoder.finished() && decoder.tokens().size() < rendered + 8)) continue;
    const auto pcm = stream->push(decoder.tokens().subspan(rendered), decoder.finished());
    spoken.pcm.insert(spoken.pcm.end(), pcm.begin(), pcm.end());
    rendered = decoder.tokens().size();
  }
  spoken.steps = decoder.draws();
  spoken.tokens = decoder.tokens().size();
  spoken.report = decoder.report();
  return spoken;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 5) {
    std::fprintf(stderr, "guard_trace VOICE TEXT_DATA SENTENCES SEEDS [TEMPERATURE TOP_K [WAV_DIR]]\n");
    return 2;
  }
  at::set_num_threads(1);
  const c10::InferenceMode inference;
  const auto manifest = tts::load_manifest(argv[1]);
  if (!manifest) {
    std::fprintf(stderr, "%s\n", manifest.error().detail.c_str());
    return 1;
  }
  const tts::TextFrontend frontend(argv[2]);
  const tts::T2S t2s(manifest->t2s.config, tts::WeightScope(tts::load_weights(manifest->t2s.file), "model"));
  const bool sound = argc > 7;
  const tts::AcousticModel acoustic = tts::load_acoustic_model(*manifest);
  const auto speaker = tts::load_speaker(*manifest, acoustic);
  tts::FrontendOptions words;
  words.lang = "en";
  words.languages = manifest->languages;
  words.word_separator = manifest->word_separator;
  const auto calibration = frontend.phonemize("The quick brown fox jumps over the lazy dog by the river.", words);
  const auto head = tts::find_alignment_head(t2s, calibration.phonemes, {},
                                             tts::say(t2s, calibration.phonemes, manifest->t2s.sampling, 120));
  if (head) {
    std::printf("# layer %d head %d follows the text\n", static_cast<int>(head->layer), static_cast<int>(head->head));
  }
  std::ifstream in(argv[3]);
  std::string line;
  for (int index = 0; std::getline(in, line); ++index) {
    const auto phonemes = frontend.phonemize(line, words).phonemes;
    if (phonemes.empty()) {
      std::printf("%d nothing to speak\n", index);
      continue;
    }
    for (int seed = 1; seed <= std::atoi(argv[4]); ++seed) {
      for (const bool guard : {false, true}) {
        tts::GuardedDecoder::Options options;
        options.sampling = manifest->t2s.sampling;
        if (argc > 6) {
          options.sampling.temperature = static_cast<float>(std::atof(argv[5]));
          options.sampling.top_k = std::atoi(argv[6]);
        }
        options.max_tokens = std::min<std::int64_t>(25 + 6 * static_cast<std::int64_t>(phonemes.size()), 1500);
        options.seed = static_cast<std::uint64_t>(seed);
        options.guard = guard;
        options.watched = head.has_value();
        options.first_block = 8;
        const Spoken s = speak(t2s, sound ? &acoustic : nullptr, speaker, phonemes, options, head);
        std::printf("%d %d %s phonemes %zu tokens %zu steps %lld faults %d retries %d resumes %d cuts %d %s\n", index,
                    seed, guard ? "on" : "off", phonemes.size(), s.tokens, static_cast<long long>(s.steps),
                    s.report.faults, s.report.retries, s.report.resumes, s.report.cuts,
                    std::string(to_string(s.report.first)).c_str());
        if (sound) {
          const std::string name =
              std::to_string(index) + "_" + std::to_string(seed) + (guard ? "_on.wav" : "_off.wav");
          const auto bytes = tts::to_wav(s.pcm, static_cast<int>(manifest->sample_rate_hz));
          std::ofstream file(std::filesystem::path(argv[7]) / name, std::ios::binary);
          file.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
        }
      }
    }
  }
  return 0;
}
