#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace tts {

/// Appends text as a JSON string (RFC 8259, section 7), quotes included. What is not UTF-8 is replaced by U+FFFD.
void append_json_string(std::string& out, std::string_view text);

/// Text as a JSON string, quotes included.
[[nodiscard]] std::string json_string(std::string_view text);

/// A JSON object, written member by member.
class JsonObject {
 public:
  /// `json`: a value that is JSON already.
  JsonObject& raw(std::string_view name, std::string_view json);
  JsonObject& text(std::string_view name, std::string_view value) { return raw(name, json_string(value)); }
  JsonObject& integer(std::string_view name, std::int64_t value) { return raw(name, std::to_string(value)); }
  /// Four significant digits.
  JsonObject& real(std::string_view name, double value);
  JsonObject& flag(std::string_view name, bool value) { return raw(name, value ? "true" : "false"); }
  [[nodiscard]] std::string done() const { return text_ + "}"; }

 private:
  std::string text_ = "{";
};

}  // namespace tts
