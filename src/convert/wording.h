#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

// How messages show what comes from a checkpoint.

namespace tts {

/// A name of the file's, quoted if need be and cut, so that an error stays one readable line.
[[nodiscard]] std::string shown(std::string_view name);

/// "[2, 3]"
[[nodiscard]] std::string to_text(std::span<const std::int64_t> shape);

}  // namespace tts
