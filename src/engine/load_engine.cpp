#include <algorithm>
#include <memory>
#include <set>
#include <stdexcept>
#include <string>

#include <ATen/Parallel.h>

#include "src/core/log.h"
#include "src/engine/engine.h"
#include "src/engine/solo_stream.h"
#include "src/engine/voice_folders.h"

namespace tts {
namespace {

/// One short sentence through every stage: libraries initialise themselves and memory is touched before a user waits.
void warm_up(const Voice& voice, const TextFrontend& frontend) {
  FrontendOptions options;
  options.word_separator = voice.word_separator();
  options.languages = voice.info().langs;
  SegmentRequest request;
  request.phonemes = frontend.phonemize("Ready when you are.", options).phonemes;
  if (request.phonemes.empty()) return;
  SoloStream stream(voice.begin(request));
  while (!stream.finished()) {
    (void)stream.decode(12);
    (void)stream.render();
  }
}

}  // namespace

std::unique_ptr<Synthesizer> make_engine(const EngineConfig& config) {
  // Each engine thread computes alone; parallelism comes from stages and utterances (a spinning OpenMP team on two
  // cores loses to any other process that wants one of them).
  at::set_num_threads(std::max(1, config.threads));
  const auto frontend = std::make_shared<const TextFrontend>(config.text_data_dir);
  auto library = std::make_shared<VoiceLibrary>(
      voice_folders({config.voices_dir, config.models_dir, config.fit_rounds}, frontend, config.networks),
      config.memory_bytes);
  const LighterVoices& lighter = config.admission.lighter_voices;
  if (auto checked = check_lighter_voices(lighter, library->voices()); !checked) {
    throw std::runtime_error(checked.error().detail);  // before anything is loaded
  }
  std::set<std::string> wanted;  // the voice of the configuration and those that may have to stand in for it
  for (int steps = most_steps(lighter); steps >= 0; --steps)
    wanted.insert(lighter_voice(lighter, config.preload, steps));
  for (const VoiceInfo& info : library->voices()) {
    const auto card = library->find(info.id);
    if (config.preload == "none" || (config.preload != "all" && !wanted.contains(info.id))) continue;
    if (!library->fits(*card)) {
      get_logger("engine")->info("voice left for later: no room id={}", info.id);
      continue;
    }
    auto voice = library->load(*card);
    if (!voice) throw std::runtime_error(voice.error().detail);
    warm_up(**voice, *frontend);
  }
  const auto phonemize = [frontend](std::string_view text, const FrontendOptions& options) {
    return frontend->phonemize(text, options);
  };
  const auto text_rows = [library](const Phonemized& spoken, std::int64_t dim) {
    return library->text_rows(spoken, dim);
  };
  return make_engine(config, library, phonemize, text_rows);
}

}  // namespace tts
