#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <vector>

#include "src/core/result.h"
#include "src/text/frontend.h"

namespace tts {

class BertFeatures;

/// What published T2S models are told of Chinese text beside its phonemes: rows of BERT, from the models folder that
/// PrepareConfig describes. The network is loaded when it is first wanted, and stays. Thread-safe; reads one text at a
/// time.
class TextFeatures {
 public:
  explicit TextFeatures(std::filesystem::path models_dir);
  ~TextFeatures();
  TextFeatures(const TextFeatures&) = delete;
  TextFeatures& operator=(const TextFeatures&) = delete;

  /// Loads the network now, so that no text has to wait for it. Errc::bad_file when it is missing or broken.
  Result<void> load();

  /// [phonemes, dim] row-major; empty when nothing of `spoken` is Chinese. Errc::bad_file when the network is missing,
  /// broken, or of another width than `dim`.
  [[nodiscard]] Result<std::vector<float>> rows(const Phonemized& spoken, std::int64_t dim);

 private:
  Result<void> load_locked();

  const std::filesystem::path models_dir_;
  std::mutex mutex_;
  std::unique_ptr<const BertFeatures> bert_;
};

}  // namespace tts
