#pragma once

#include <filesystem>
#include <optional>

namespace tts {

/// The files that belong to the program.
struct DataPaths {
  std::filesystem::path voices_dir;     ///< a folder per voice
  std::filesystem::path text_data_dir;  ///< dictionary and grapheme-to-phoneme network
  std::filesystem::path web_dir;        ///< the demo page
};

/// From where the program is: in a source tree (models/pretrained, src/text/data, web; the nearest folder above
/// `executable` that holds them), or installed as PREFIX/bin/sonorant (PREFIX/share/sonorant/{voices,text,web}).
/// nullopt when it is neither.
[[nodiscard]] std::optional<DataPaths> find_data(const std::filesystem::path& executable);

/// This program's file; empty when the system does not tell.
[[nodiscard]] std::filesystem::path executable_path();

}  // namespace tts
