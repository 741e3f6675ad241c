#pragma once

#include <cstdint>
#include <filesystem>
#include <span>

namespace tts {

/// A number for the state of these files: another one once any of them was written to, replaced, brought or taken away.
/// Looks at names, sizes, times and places on disk, not at contents; cheap.
[[nodiscard]] std::uint64_t stamp_of(std::span<const std::filesystem::path> files);

}  // namespace tts
