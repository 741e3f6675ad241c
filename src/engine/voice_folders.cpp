#include "src/engine/voice_folders.h"

#include <algorithm>
#include <atomic>
#include <initializer_list>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "models/manifest.h"
#include "src/core/log.h"
#include "src/core/safetensors.h"
#include "src/engine/prepare_voice.h"

namespace tts {
namespace {

namespace fs = std::filesystem;

std::int64_t ticks(const fs::path& path) {
  std::error_code error;
  const auto time = fs::last_write_time(path, error);
  return error ? -1 : static_cast<std::int64_t>(time.time_since_epoch().count());
}

/// What a file's tensors take in memory: four bytes a number, whatever the file has.
std::uint64_t bytes_in_memory(const fs::path& file) {
  const auto tensors = SafeTensors::open(file);
  if (!tensors) throw std::runtime_error(tensors.error().detail);
  std::uint64_t numbers = 0;
  for (const TensorView& tensor : tensors->tensors()) numbers += static_cast<std::uint64_t>(tensor.numel());
  return 4 * numbers;
}

class VoiceFolders final : public VoiceSource {
 public:
  VoiceFolders(const fs::path& voices_dir, const fs::path& models_dir, std::shared_ptr<const TextFrontend> frontend,
               std::shared_ptr<TextFeatures> features)
      : config_{voices_dir, models_dir}, frontend_(std::move(frontend)), features_(std::move(features)) {}

  bool changed() override { return ticks(config_.voices_dir) != seen_; }

  std::vector<VoiceCard> scan(bool strict) override {
    if (!fs::is_directory(config_.voices_dir)) {
      throw std::runtime_error(config_.voices_dir.string() + ": the voices folder does not exist");
    }
    seen_ = ticks(config_.voices_dir);
    std::vector<fs::path> folders;
    for (const auto& entry : fs::directory_iterator(config_.voices_dir)) {
      if (entry.path().filename().string().starts_with('.')) continue;  // being made, or removed
      if (entry.is_directory() && fs::exists(entry.path() / "manifest.json")) folders.push_back(entry.path());
    }
    if (strict && folders.empty()) {
      throw std::runtime_error(config_.voices_dir.string() +
                               ": no voice found (a voice is a subfolder with a manifest.json)");
    }
    std::sort(folders.begin(), folders.end());
    std::vector<VoiceCard> cards;
    for (const fs::path& folder : folders) {
      try {
        if (auto card = read(folder)) {
          cards.push_back(std::move(*card));
        } else {
          get_logger("engine")->debug("model without a voice folder={}", log_value(folder.string()));
        }
      } catch (const std::exception& failure) {
        if (strict) throw;
        get_logger("engine")->error("voice passed over folder={} what={}", log_value(folder.string()),
                                    log_value(failure.what()));
      }
    }
    return cards;
  }

  std::shared_ptr<const Voice> load(const VoiceCard& card) override {
    auto voice = load_voice(card.place, &models_);
    if (card.bert_dim > 0 && made_of_chinese(card)) {
      if (const auto loaded = features_->load(); !loaded) {
        get_logger("engine")->warn("Chinese will be spoken without text features voice={} what={}", card.info.id,
                                   log_value(loaded.error().detail));
      }
    }
    return voice;
  }

  Result<NewVoice> add(const VoiceRequest& request, const VoiceProgress& progress) override {
    auto made = prepare_voice(config_, *frontend_, request, progress);
    seen_ = -2;  // a folder's time may be too coarse to tell
    return made;
  }
  Result<void> remove(const std::string& id) override {
    auto done = remove_prepared_voice(config_.voices_dir, id);
    seen_ = -2;
    return done;
  }

 private:
  static bool made_of_chinese(const VoiceCard& card) {
    const auto manifest = load_manifest(card.place);
    if (!manifest) return false;
    const auto reference = SafeTensors::open(manifest->reference);
    return reference && reference->find("prompt_bert") != nullptr;
  }

  static std::optional<VoiceCard> read(const fs::path& folder) {
    const auto manifest = load_manifest(folder);
    if (!manifest) throw std::runtime_error(manifest.error().detail);
    if (manifest->reference.empty()) return std::nullopt;
    VoiceCard card;
    card.info = {manifest->id, manifest->name, manifest->languages, static_cast<int>(manifest->sample_rate_hz)};
    card.word_separator = manifest->word_separator;
    if (manifest->published) card.bert_dim = manifest->t2s.config.bert_dim;
    card.place = folder.string();
    card.model = fs::weakly_canonical(manifest->network_folder()).string();
    for (const fs::path& file : {manifest->t2s.file, manifest->acoustic.file, manifest->vocoder.file}) {
      if (!file.empty()) card.model_bytes += bytes_in_memory(file);
    }
    card.voice_bytes = bytes_in_memory(manifest->reference);
    card.version = ticks(folder / "manifest.json");
    return card;
  }

  const PrepareConfig config_;
  const std::shared_ptr<const TextFrontend> frontend_;
  const std::shared_ptr<TextFeatures> features_;
  ModelCache models_;
  std::atomic<std::int64_t> seen_{-2};
};

}  // namespace

std::unique_ptr<VoiceSource> voice_folders(const fs::path& voices_dir, const fs::path& models_dir,
                                           std::shared_ptr<const TextFrontend> frontend,
                                           std::shared_ptr<TextFeatures> features) {
  return std::make_unique<VoiceFolders>(voices_dir, models_dir, std::move(frontend), std::move(features));
}

}  // namespace tts
