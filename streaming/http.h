#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "src/engine/synthesizer.h"
#include "streaming/metrics.h"

namespace tts {

/// What of an HTTP request the routes look at.
struct HttpRequest {
  std::string method;  ///< "GET"
  std::string target;  ///< path and query, percent-encoded, as it came
  std::string if_none_match;
};

struct HttpReply {
  int status = 200;
  std::string content_type;  ///< empty: no body
  std::string body;
  std::vector<std::pair<std::string, std::string>> headers;  ///< besides type and length
};

/// What the routes answer from. References outlive the calls.
struct HttpBackend {
  const std::filesystem::path& web_dir;
  const Synthesizer& synthesizer;
  const ServerMetrics& metrics;
  bool draining = false;
};

/// GET and HEAD of /healthz, /readyz, /metrics, /v1/voices, / (index.html), /overlay (overlay.html) and the files of
/// web_dir; what changes voices is in streaming/voice_upload.h. Errors are JSON: {"error": {"code", "message"}}. Reads
/// files from disk; does not throw for missing ones.
[[nodiscard]] HttpReply handle_http(const HttpRequest& request, const HttpBackend& backend);

/// An error reply as handle_http gives it.
[[nodiscard]] HttpReply http_error(int status, std::string_view code, std::string_view message);

/// The file below `dir` that an URL path such as "/js/app.js" names: decoded; empty when it would leave `dir` (by "..",
/// by a link, by an encoded slash), is hidden (".git") or is no regular file.
[[nodiscard]] std::filesystem::path resolve_web_path(const std::filesystem::path& dir, std::string_view url_path);

/// By the file's extension; application/octet-stream otherwise.
[[nodiscard]] std::string_view content_type_of(const std::filesystem::path& file);

}  // namespace tts
