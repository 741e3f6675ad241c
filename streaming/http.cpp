#include "streaming/http.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <fstream>
#include <iterator>
#include <optional>
#include <system_error>

#include "src/core/json_string.h"
#include "streaming/protocol.h"

namespace tts {
namespace {

namespace fs = std::filesystem;

constexpr std::uintmax_t kMaxFileBytes = 32 << 20;

// The page runs its own scripts, WebAssembly and worklets, talks to stream servers, and loads nothing from elsewhere.
constexpr std::string_view kContentSecurityPolicy =
    "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; connect-src 'self' ws: wss:; "
    "style-src 'self'; img-src 'self' data:; object-src 'none'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'";

std::optional<std::string> percent_decode(std::string_view text) {
  const auto digit = [](char c) -> int {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
  };
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    if (i + 2 >= text.size()) return std::nullopt;
    const int high = digit(text[i + 1]);
    const int low = digit(text[i + 2]);
    if (high < 0 || low < 0) return std::nullopt;
    out += static_cast<char>(high * 16 + low);
    i += 2;
  }
  return out;
}

std::string fnv1a_hex(std::string_view bytes) {
  std::uint64_t hash = 0xcbf29ce484222325ULL;
  for (const char c : bytes) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
  static constexpr char kHex[] = "0123456789abcdef";
  std::string out;
  for (int shift = 60; shift >= 0; shift -= 4) out += kHex[(hash >> shift) & 0xF];
  return out;
}

HttpReply plain(int status, std::string body) {
  return HttpReply{status, "text/plain; charset=utf-8", std::move(body), {{"Cache-Control", "no-store"}}};
}

HttpReply serve_file(const HttpRequest& request, const HttpBackend& backend, std::string_view url_path) {
  const fs::path file = resolve_web_path(backend.web_dir, url_path);
  std::error_code error;
  if (file.empty() || fs::file_size(file, error) > kMaxFileBytes || error) {
    return http_error(404, "not_found", "no such page");
  }
  std::ifstream in(file, std::ios::binary);
  std::string body((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  if (!in && !in.eof()) return http_error(404, "not_found", "no such page");

  HttpReply reply;
  const std::string etag = '"' + fnv1a_hex(body) + '"';
  reply.headers = {{"ETag", etag},
                   {"Cache-Control", "no-cache"},
                   {"Content-Security-Policy", std::string(kContentSecurityPolicy)},
                   {"Referrer-Policy", "no-referrer"}};
  if (request.if_none_match.find(etag) != std::string::npos) {
    reply.status = 304;
    return reply;
  }
  reply.content_type = content_type_of(file);
  reply.body = std::move(body);
  return reply;
}

}  // namespace

HttpReply http_error(int status, std::string_view code, std::string_view message) {
  std::string body = "{\"error\":{\"code\":";
  body.append(json_string(code)).append(",\"message\":").append(json_string(message)).append("}}");
  return HttpReply{status, "application/json", std::move(body), {{"Cache-Control", "no-store"}}};
}

fs::path resolve_web_path(const fs::path& dir, std::string_view url_path) {
  const auto decoded = percent_decode(url_path);
  if (!decoded || decoded->empty() || decoded->front() != '/') return {};
  if (decoded->find('\0') != std::string::npos || decoded->find('\\') != std::string::npos) return {};
  fs::path relative;
  std::string_view rest = std::string_view(*decoded).substr(1);
  while (!rest.empty()) {
    const std::size_t slash = std::min(rest.find('/'), rest.size());
    const std::string_view part = rest.substr(0, slash);
    if (part.empty() || part.front() == '.') return {};  // "", ".", "..", ".hidden"
    relative /= part;
    rest.remove_prefix(std::min(slash + 1, rest.size()));
  }
  if (relative.empty() || decoded->back() == '/') return {};

  std::error_code error;
  const fs::path root = fs::canonical(dir, error);
  if (error) return {};
  const fs::path file = fs::canonical(root / relative, error);  // links resolved
  if (error || !fs::is_regular_file(file, error) || error) return {};
  const auto [end, ignored] = std::mismatch(root.begin(), root.end(), file.begin(), file.end());
  return end == root.end() ? file : fs::path();
}

std::string_view content_type_of(const fs::path& file) {
  static constexpr std::array<std::pair<std::string_view, std::string_view>, 16> kTypes{{
      {".html", "text/html; charset=utf-8"},
      {".js", "text/javascript; charset=utf-8"},
      {".mjs", "text/javascript; charset=utf-8"},
      {".css", "text/css; charset=utf-8"},
      {".json", "application/json"},
      {".map", "application/json"},
      {".wasm", "application/wasm"},
      {".svg", "image/svg+xml"},
      {".png", "image/png"},
      {".ico", "image/x-icon"},
      {".webp", "image/webp"},
      {".woff2", "font/woff2"},
      {".txt", "text/plain; charset=utf-8"},
      {".md", "text/plain; charset=utf-8"},
      {".wav", "audio/wav"},
      {".opus", "audio/ogg"},
  }};
  const std::string extension = file.extension().string();
  for (const auto& [known, type] : kTypes) {
    if (extension == known) return type;
  }
  return "application/octet-stream";
}

HttpReply handle_http(const HttpRequest& request, const HttpBackend& backend) {
  const std::string_view target = request.target;
  const std::string_view path = target.substr(0, target.find_first_of("?#"));
  if (request.method != "GET" && request.method != "HEAD") {
    if (path == "/v1/audio/speech" || path == "/tts") {
      return http_error(404, "not_found", "this endpoint is not offered; use the WebSocket at /v1/stream");
    }
    HttpReply reply = http_error(405, "method_not_allowed", "only GET and HEAD are answered here");
    reply.headers.emplace_back("Allow", "GET, HEAD");
    return reply;
  }
  if (path == "/healthz") return plain(200, "ok\n");
  if (path == "/readyz") {
    if (backend.draining) return plain(503, "draining\n");
    return backend.synthesizer.ready() ? plain(200, "ready\n") : plain(503, "warming up\n");
  }
  if (path == "/metrics") {
    const bool ready = backend.synthesizer.ready() && !backend.draining;
    static const std::unique_ptr<GpuReader> gpus = GpuReader::open();
    return HttpReply{200,
                     "text/plain; version=0.0.4; charset=utf-8",
                     to_prometheus(backend.metrics, backend.synthesizer.stats(), ready,
                                   gpus ? gpus->read() : std::vector<GpuFigures>{}),
                     {{"Cache-Control", "no-store"}}};
  }
  if (path == "/v1/voices") {
    return HttpReply{200, "application/json", to_json(backend.synthesizer.voices()), {{"Cache-Control", "no-store"}}};
  }
  if (path == "/v1/stream") {
    HttpReply reply = http_error(426, "upgrade_required", "this is a WebSocket endpoint");
    reply.headers.emplace_back("Upgrade", "websocket");
    return reply;
  }
  if (path == "/v1/audio/speech" || path == "/tts") {
    return http_error(404, "not_found", "this endpoint is not offered; use the WebSocket at /v1/stream");
  }
  if (path == "/") return serve_file(request, backend, "/index.html");
  if (path == "/overlay") return serve_file(request, backend, "/overlay.html");
  return serve_file(request, backend, path);
}

}  // namespace tts
