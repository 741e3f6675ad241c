#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

namespace tts {

/// Bytes of memory that this process can still take: what the kernel calls available, or less where a control group it
/// is in (version 1 or 2) has less left of its limit; cached files that are not in use count as free there. Nothing
/// when the system does not say. `root`: where /proc and /sys are, for tests.
[[nodiscard]] std::optional<std::uint64_t> available_memory(const std::filesystem::path& root = "/");

}  // namespace tts
