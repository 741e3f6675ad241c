#include <algorithm>
#include <stdexcept>
#include <string>
#include <utility>

#include <ATen/Parallel.h>

#include "src/core/log.h"
#include "src/engine/engine.h"

namespace tts {
namespace {

/// One short sentence through every stage: libraries initialise themselves and memory is touched before a user waits.
void warm_up(const Voice& voice, const TextFrontend& frontend) {
  FrontendOptions options;
  options.word_separator = voice.word_separator();
  SegmentRequest request;
  request.phonemes = frontend.phonemize("Ready when you are.", options).phonemes;
  if (request.phonemes.empty()) return;
  const auto stream = voice.begin(request);
  while (!stream->finished()) {
    (void)stream->decode(12);
    (void)stream->render();
  }
}

}  // namespace

std::unique_ptr<Synthesizer> make_engine(const EngineConfig& config) {
  // Each engine thread computes alone; parallelism comes from stages and utterances (a spinning OpenMP team on two cores
  // loses to any other process that wants one of them).
  at::set_num_threads(std::max(1, config.threads));
  namespace fs = std::filesystem;
  if (!fs::is_directory(config.voices_dir)) {
    throw std::runtime_error(config.voices_dir.string() + ": the voices folder does not exist");
  }
  std::vector<fs::path> folders;
  for (const auto& entry : fs::directory_iterator(config.voices_dir)) {
    if (entry.is_directory() && fs::exists(entry.path() / "manifest.json")) folders.push_back(entry.path());
  }
  if (folders.empty()) {
    throw std::runtime_error(config.voices_dir.string() + ": no voice found (a voice is a subfolder with a manifest.json)");
  }
  std::sort(folders.begin(), folders.end());
  const auto frontend = std::make_shared<TextFrontend>(config.text_data_dir);
  std::vector<std::shared_ptr<const Voice>> voices;
  ModelCache models;
  for (const fs::path& folder : folders) {
    if (!is_voice_folder(folder)) {
      get_logger("engine")->info("model without a voice folder={}", log_value(folder.string()));
      continue;
    }
    voices.push_back(load_voice(folder, &models));
    warm_up(*voices.back(), *frontend);
    get_logger("engine")->info("voice loaded id={} folder={}", voices.back()->info().id, log_value(folder.string()));
  }
  if (voices.empty()) {
    throw std::runtime_error(config.voices_dir.string() + ": no voice found, only models without a reference");
  }
  return make_engine(config, std::move(voices), [frontend](std::string_view text, const FrontendOptions& options) {
    return frontend->phonemize(text, options);
  });
}

}  // namespace tts
