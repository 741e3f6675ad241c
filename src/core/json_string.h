#pragma once

#include <string>
#include <string_view>

namespace tts {

/// Appends text as a JSON string (RFC 8259, section 7), quotes included. What is not UTF-8 is replaced by U+FFFD.
void append_json_string(std::string& out, std::string_view text);

/// Text as a JSON string, quotes included.
[[nodiscard]] std::string json_string(std::string_view text);

}  // namespace tts
