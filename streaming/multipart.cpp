#include "streaming/multipart.h"

#include <algorithm>
#include <utility>

#include "src/core/utf8.h"

namespace tts {
namespace {

constexpr std::size_t kMaxBoundary = 70;  // RFC 2046, sec. 5.1.1
constexpr std::size_t kMaxPadding = 64;   // white space behind a boundary

Error bad(std::string what) {
  return Error{Errc::bad_message, "multipart: " + std::move(what)};
}

char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

bool same_word(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](char x, char y) { return lower(x) == lower(y); });
}

bool is_space(char c) {
  return c == ' ' || c == '\t';
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return text;
}

struct Parameter {
  std::string name;
  std::string value;
};

/// "form-data; name=\"a\"; filename=b" -> the first word and the parameters. nullopt when it is not of this form.
std::optional<std::pair<std::string, std::vector<Parameter>>> read_parameters(std::string_view text) {
  std::pair<std::string, std::vector<Parameter>> out;
  const std::size_t first = std::min(text.find(';'), text.size());
  out.first = trimmed(text.substr(0, first));
  text.remove_prefix(first);
  while (!text.empty()) {
    text.remove_prefix(1);  // the semicolon
    const std::size_t equals = text.find('=');
    if (equals == std::string_view::npos) return trimmed(text).empty() ? std::optional(out) : std::nullopt;
    Parameter parameter{std::string(trimmed(text.substr(0, equals))), {}};
    if (parameter.name.empty() || parameter.name.find(';') != std::string::npos) return std::nullopt;
    text.remove_prefix(equals + 1);
    while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
    if (!text.empty() && text.front() == '"') {
      std::size_t at = 1;
      for (; at < text.size() && text[at] != '"'; ++at) {
        if (text[at] == '\\' && at + 1 < text.size() && (text[at + 1] == '"' || text[at + 1] == '\\')) ++at;
        parameter.value += text[at];
      }
      if (at >= text.size()) return std::nullopt;
      text.remove_prefix(at + 1);
      while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
      if (!text.empty() && text.front() != ';') return std::nullopt;
    } else {
      const std::size_t end = std::min(text.find(';'), text.size());
      parameter.value = trimmed(text.substr(0, end));
      text.remove_prefix(end);
    }
    out.second.push_back(std::move(parameter));
  }
  return out;
}

}  // namespace

MultipartParser::MultipartParser(std::string_view boundary, const MultipartLimits& limits)
    : limits_(limits), delimiter_("\r\n--" + std::string(boundary)), buffer_("\r\n") {}  // the first may stand first

Result<MultipartParser> MultipartParser::make(std::string_view content_type, const MultipartLimits& limits) {
  const auto read = read_parameters(content_type);
  if (!read || !same_word(read->first, "multipart/form-data")) {
    return Error{Errc::unsupported_format, "Content-Type: wanted multipart/form-data with a boundary"};
  }
  constexpr std::string_view kMarks = "'()+_,-./:=? ";
  for (const Parameter& parameter : read->second) {
    if (!same_word(parameter.name, "boundary")) continue;
    const std::string& value = parameter.value;
    const bool fits = std::all_of(value.begin(), value.end(), [&](char c) {
      return (c >= '0' && c <= '9') || (lower(c) >= 'a' && lower(c) <= 'z') || kMarks.find(c) != std::string_view::npos;
    });
    if (value.empty() || value.size() > kMaxBoundary || !fits || value.back() == ' ') break;
    return MultipartParser(value, limits);
  }
  return Error{Errc::unsupported_format, "Content-Type: wanted a boundary of 1 to 70 characters"};
}

Result<void> MultipartParser::push(std::string_view bytes) {
  // In blocks, so that what waits stays small whatever is pushed.
  constexpr std::size_t kBlock = 16 * 1024;
  while (!bytes.empty()) {
    if (state_ == State::epilogue) return {};
    const std::size_t n = std::min(bytes.size(), kBlock);
    buffer_.append(bytes.substr(0, n));
    bytes.remove_prefix(n);
    for (;;) {
      const auto more = step();
      if (!more) return more.error();
      if (!*more) break;
    }
  }
  return {};
}

Result<bool> MultipartParser::step() {
  switch (state_) {
    case State::preamble:
    case State::body: {
      const std::size_t found = buffer_.find(delimiter_);
      // Without a delimiter all but what may be its beginning is content.
      const std::size_t content =
          found != std::string::npos ? found : buffer_.size() - std::min(buffer_.size(), delimiter_.size() - 1);
      if (state_ == State::body) {
        if (auto done = take_body(std::string_view(buffer_).substr(0, content)); !done) return done.error();
      } else if (content > limits_.max_header_bytes) {
        return bad("no boundary where the body begins");
      }
      if (found == std::string::npos) {
        if (state_ == State::body) buffer_.erase(0, content);
        return false;
      }
      buffer_.erase(0, found + delimiter_.size());
      state_ = State::delimiter;
      return true;
    }
    case State::delimiter: {
      if (buffer_.starts_with("--")) {
        state_ = State::epilogue;
        buffer_.clear();
        return false;
      }
      const std::size_t end = buffer_.find("\r\n");
      const std::size_t seen = std::min(end, buffer_.size());
      std::string_view padding = std::string_view(buffer_).substr(0, seen);
      if (end == std::string::npos && !padding.empty() && (padding.back() == '\r' || padding == "-")) {
        padding.remove_suffix(1);  // its other half is to come
      }
      if (!trimmed(padding).empty() || padding.size() > kMaxPadding) return bad("a boundary is followed by other text");
      if (end == std::string::npos) return false;
      if (parts_.size() >= limits_.max_parts) {
        return bad("more than " + std::to_string(limits_.max_parts) + " parts");
      }
      buffer_.erase(0, end);  // the line's end stays: every line of the header has one before it
      state_ = State::header;
      return true;
    }
    case State::header: {
      const std::size_t end = buffer_.find("\r\n\r\n");
      const std::size_t seen =
          end != std::string::npos ? end : buffer_.size() - std::min<std::size_t>(buffer_.size(), 3);
      if (seen > limits_.max_header_bytes + 2) {
        return bad("the header of a part is longer than " + std::to_string(limits_.max_header_bytes) + " bytes");
      }
      if (end == std::string::npos) return false;
      if (auto done = begin_part(std::string_view(buffer_).substr(0, end)); !done) return done.error();
      buffer_.erase(0, end + 4);
      state_ = State::body;
      return true;
    }
    case State::epilogue:
      buffer_.clear();
      return false;
  }
  return false;
}

Result<void> MultipartParser::take_body(std::string_view bytes) {
  MultipartPart& part = parts_.back();
  const std::size_t limit = part.file_name ? limits_.max_file_bytes : limits_.max_field_bytes;
  if (part.data.size() + bytes.size() > limit) {
    return Error{Errc::text_too_long, "part \"" + part.name + "\": longer than " + std::to_string(limit) + " bytes"};
  }
  part.data.append(bytes);
  return {};
}

Result<void> MultipartParser::begin_part(std::string_view header) {
  MultipartPart part;
  bool has_name = false;
  while (!header.empty()) {
    if (!header.starts_with("\r\n")) return bad("a part's header is misshapen");
    header.remove_prefix(2);
    const std::size_t end = std::min(header.find("\r\n"), header.size());
    const std::string_view line = header.substr(0, end);
    header.remove_prefix(end);
    const std::size_t colon = line.find(':');
    if (line.empty() || colon == std::string_view::npos) return bad("a part's header is misshapen");
    const std::string_view field = trimmed(line.substr(0, colon));
    const std::string_view value = trimmed(line.substr(colon + 1));
    if (same_word(field, "content-transfer-encoding")) {
      if (!same_word(value, "binary") && !same_word(value, "8bit") && !same_word(value, "7bit")) {
        return bad("Content-Transfer-Encoding is not taken");
      }
    }
    if (!same_word(field, "content-disposition")) continue;
    const auto read = read_parameters(value);
    if (!read || !same_word(read->first, "form-data")) return bad("Content-Disposition: wanted form-data; name=\"..\"");
    for (const Parameter& parameter : read->second) {
      if (same_word(parameter.name, "name")) {
        if (std::exchange(has_name, true)) return bad("Content-Disposition: two names");
        part.name = parameter.value;
      }
      if (same_word(parameter.name, "filename")) part.file_name = parameter.value;
    }
  }
  if (!has_name || part.name.empty()) return bad("a part without a name");
  if (!utf8::is_valid(part.name)) return bad("a part's name is not UTF-8");
  parts_.push_back(std::move(part));
  return {};
}

Result<std::vector<MultipartPart>> MultipartParser::finish() {
  if (state_ != State::epilogue) return bad("it ends before its last boundary");
  return std::move(parts_);
}

}  // namespace tts
