#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace tts::house {

/// What the file at `path` (from the project folder, e.g. "src/core/log.h") does against the layering of
/// src/ARCHITECTURE.md, one sentence per include; empty when nothing. Looks at #include lines only.
[[nodiscard]] std::vector<std::string> include_faults(std::string_view path, std::string_view content);

/// The same for a module's CMakeLists.txt and the tts:: targets it names.
[[nodiscard]] std::vector<std::string> link_faults(std::string_view path, std::string_view content);

}  // namespace tts::house
