#include "src/core/json_string.h"

#include <cstdio>

#include "src/core/utf8.h"

namespace tts {

void append_json_string(std::string& out, std::string_view text) {
  static constexpr char kHex[] = "0123456789abcdef";
  const std::string repaired = utf8::is_valid(text) ? std::string() : utf8::to_valid(text);
  out += '"';
  for (const char c : repaired.empty() ? text : std::string_view(repaired)) {
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) {
          out += "\\u00";
          out += kHex[(c >> 4) & 0xF];
          out += kHex[c & 0xF];
        } else {
          out += c;
        }
    }
  }
  out += '"';
}

std::string json_string(std::string_view text) {
  std::string out;
  append_json_string(out, text);
  return out;
}

JsonObject& JsonObject::raw(std::string_view name, std::string_view json) {
  if (text_.size() > 1) text_ += ", ";
  append_json_string(text_, name);
  text_ += ": ";
  text_ += json;
  return *this;
}

JsonObject& JsonObject::real(std::string_view name, double value) {
  char digits[32];
  std::snprintf(digits, sizeof digits, "%.4g", value);
  return raw(name, digits);
}

}  // namespace tts
