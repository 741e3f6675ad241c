#include "src/engine/voice_folders.h"

#include <algorithm>
#include <atomic>
#include <functional>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "models/manifest.h"
#include "src/core/log.h"
#include "src/core/safetensors.h"
#include "src/engine/file_stamp.h"
#include "src/engine/prepare_voice.h"
#include "src/engine/text_features.h"

namespace tts {
namespace {

namespace fs = std::filesystem;

/// The state of everything in a folder of voices that a scan looks at, in any order.
std::uint64_t stamp_of_folders(const fs::path& voices_dir) {
  std::uint64_t sum = 0;
  std::error_code error;
  for (const auto& folder : fs::directory_iterator(voices_dir, error)) {
    if (folder.path().filename().string().starts_with('.')) continue;
    for (const auto& file : fs::directory_iterator(folder.path(), error)) {
      const fs::path path = file.path();
      if (path.extension() == ".json" || path.extension() == ".safetensors") sum += stamp_of(std::span(&path, 1));
    }
  }
  return sum;
}

SafeTensors tensors_of(const fs::path& file) {
  auto tensors = SafeTensors::open(file);
  if (!tensors) throw std::runtime_error(tensors.error().detail);
  return std::move(*tensors);
}

/// Four bytes a number, whatever the file has.
std::uint64_t bytes_in_memory(const SafeTensors& file) {
  std::uint64_t numbers = 0;
  for (const TensorView& tensor : file.tensors()) numbers += static_cast<std::uint64_t>(tensor.numel());
  return 4 * numbers;
}

class VoiceFolders final : public VoiceSource {
 public:
  VoiceFolders(const PrepareConfig& config, std::shared_ptr<const TextFrontend> frontend, const NetworkOptions& options)
      : config_(config), frontend_(std::move(frontend)), models_(options), bert_(options.bert) {}

  bool changed() override {
    if (has_made_) return true;
    const std::uint64_t now = stamp_of_folders(config_.voices_dir);
    const bool stands_still = std::exchange(looked_at_, now) == now;
    return now != scanned_ && stands_still;
  }

  std::vector<VoiceCard> scan(bool strict) override {
    if (!fs::is_directory(config_.voices_dir)) {
      throw std::runtime_error(config_.voices_dir.string() + ": the voices folder does not exist");
    }
    has_made_ = false;
    scanned_ = looked_at_ = stamp_of_folders(config_.voices_dir);
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

  std::shared_ptr<const Voice> load(const VoiceCard& card) override { return load_voice(card.place, models_); }
  SlotFigures slots() const override { return models_.slots(); }
  Result<std::uint64_t> reader_bytes() const override { return text_features_bytes(config_.models_dir, bert_); }
  Result<std::shared_ptr<const TextReader>> load_reader() override {
    return load_text_features(config_.models_dir, bert_);
  }

  Result<NewVoice> add(const VoiceRequest& request, const VoiceProgress& progress) override {
    auto made = prepare_voice(config_, *frontend_, request, progress);
    has_made_ = true;
    return made;
  }
  Result<void> remove(const std::string& id) override {
    auto done = remove_prepared_voice(config_.voices_dir, id);
    has_made_ = true;
    return done;
  }

 private:
  static std::optional<VoiceCard> read(const fs::path& folder) {
    const auto manifest = load_manifest(folder);
    if (!manifest) throw std::runtime_error(manifest.error().detail);
    if (manifest->reference.empty()) return std::nullopt;
    VoiceCard card;
    card.info = {manifest->id, manifest->name, manifest->languages, static_cast<int>(manifest->sample_rate_hz)};
    card.word_separator = manifest->word_separator;
    if (manifest->published) card.bert_dim = manifest->t2s.config.bert_dim;
    card.place = folder.string();
    card.model = network_key(*manifest);
    for (const fs::path& file : {manifest->t2s.file, manifest->acoustic.file, manifest->vocoder.file}) {
      if (!file.empty()) card.model_bytes += bytes_in_memory(tensors_of(file));
    }
    const SafeTensors reference = tensors_of(manifest->reference);
    card.voice_bytes = bytes_in_memory(reference);
    card.is_chinese = card.bert_dim > 0 && reference.find("prompt_bert") != nullptr;
    const fs::path own[] = {folder / "manifest.json", manifest->reference};
    card.version = stamp_of(own) ^ std::hash<std::string>{}(card.model);
    return card;
  }

  const PrepareConfig config_;
  const std::shared_ptr<const TextFrontend> frontend_;
  ModelCache models_;
  const PrecisionChoice bert_;
  std::uint64_t scanned_ = 0;           ///< the state that the last scan saw
  std::uint64_t looked_at_ = 0;         ///< the state that the last changed() saw
  std::atomic<bool> has_made_ = false;  ///< or removed a voice since the last scan
};

}  // namespace

std::unique_ptr<VoiceSource> voice_folders(const PrepareConfig& config, std::shared_ptr<const TextFrontend> frontend,
                                           const NetworkOptions& options) {
  sweep_leftovers(config.voices_dir);
  return std::make_unique<VoiceFolders>(config, std::move(frontend), options);
}

}  // namespace tts
