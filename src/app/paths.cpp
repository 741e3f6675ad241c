#include "src/app/paths.h"

#include <system_error>

namespace tts {

namespace fs = std::filesystem;

std::optional<DataPaths> find_data(const fs::path& executable) {
  std::error_code ignored;
  for (fs::path folder = executable.parent_path(); !folder.empty(); folder = folder.parent_path()) {
    if (fs::is_directory(folder / "src" / "text" / "data", ignored) && fs::is_directory(folder / "models", ignored)) {
      return DataPaths{folder / "models" / "pretrained", folder / "src" / "text" / "data", folder / "web"};
    }
    const fs::path shared = folder / "share" / "sonorant";
    if (fs::is_directory(shared / "text", ignored)) {
      return DataPaths{shared / "voices", shared / "text", shared / "web"};
    }
    if (folder == folder.root_path()) break;
  }
  return std::nullopt;
}

fs::path executable_path() {
  std::error_code error;
  return fs::read_symlink("/proc/self/exe", error);
}

}  // namespace tts
