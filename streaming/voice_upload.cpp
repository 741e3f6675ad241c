#include "streaming/voice_upload.h"

#include <algorithm>
#include <array>
#include <utility>

#include "streaming/protocol.h"

namespace tts {
namespace {

/// The name in "localhost:8080" or "[::1]:8080".
std::string_view name_of(std::string_view host) {
  if (host.starts_with('[')) return host.substr(0, std::min(host.find(']'), host.size() - 1) + 1);
  return host.substr(0, host.find(':'));
}

bool same(std::string_view a, std::string_view b) {
  unsigned different = a.size() == b.size() ? 0 : 1;  // in a time that tells nothing of the token
  for (std::size_t i = 0; i < a.size(); ++i) {
    different |= static_cast<unsigned char>(a[i]) ^ static_cast<unsigned char>(b.empty() ? 0 : b[i % b.size()]);
  }
  return different == 0;
}

int status_of(Errc code) {
  switch (code) {
    case Errc::bad_message:
    case Errc::text_too_long:
      return 400;
    case Errc::forbidden:
      return 403;
    case Errc::unknown_voice:
      return 404;
    case Errc::unsupported_format:
      return 415;
    case Errc::bad_file:
      return 422;
    case Errc::overloaded:
    case Errc::rate_limited:
      return 503;
    default:
      return 500;
  }
}

HttpReply refusal(const Error& error) {
  return http_error(status_of(error.code), to_string(error.code), error.detail);
}

Error bad_field(const std::string& name, const char* what) {
  return Error{Errc::bad_message, "field \"" + name + "\": " + what};
}

}  // namespace

std::optional<HttpReply> refuse_change(const VoiceUploads& uploads, const RequestOrigin& from) {
  if (!uploads.enabled) {
    return http_error(403, to_string(Errc::forbidden),
                      "this server takes no voices: it listens for others and has no server.upload_token");
  }
  if (!uploads.token.empty()) {
    constexpr std::string_view kBearer = "Bearer ";
    const bool is_bearer = from.authorization.starts_with(kBearer);
    if (is_bearer && same(from.authorization.substr(kBearer.size()), uploads.token)) return std::nullopt;
    HttpReply reply = http_error(401, to_string(Errc::forbidden), "wanted the server's token as Authorization: Bearer");
    reply.headers.emplace_back("WWW-Authenticate", "Bearer");
    return reply;
  }
  static constexpr std::array<std::string_view, 3> kOwnNames{"localhost", "127.0.0.1", "[::1]"};
  const bool is_own = std::find(kOwnNames.begin(), kOwnNames.end(), name_of(from.host)) != kOwnNames.end();
  const bool same_origin = from.origin.empty() || from.origin == "http://" + std::string(from.host);
  if (is_own && same_origin) return std::nullopt;
  return http_error(403, to_string(Errc::forbidden), "voices are taken from this machine and its own pages only");
}

Result<VoiceRequest> to_voice_request(std::vector<MultipartPart> parts) {
  VoiceRequest request;
  std::vector<std::string> seen;
  const auto file = [](MultipartPart& part, const std::string& name) {
    return Recording{name, std::vector<std::uint8_t>(part.data.begin(), part.data.end())};
  };
  for (MultipartPart& part : parts) {
    if (part.name == "aux") {
      request.more.push_back(file(part, "aux " + std::to_string(request.more.size() + 1)));
      part.data = {};
      continue;
    }
    if (std::find(seen.begin(), seen.end(), part.name) != seen.end()) return bad_field(part.name, "given twice");
    seen.push_back(part.name);
    if (part.name == "audio") {
      request.reference = file(part, "audio");
      part.data = {};
      continue;
    }
    const std::array<std::pair<const char*, std::string*>, 5> texts{{{"model", &request.model},
                                                                     {"id", &request.id},
                                                                     {"name", &request.name},
                                                                     {"lang", &request.lang},
                                                                     {"text", &request.text}}};
    const auto* known = std::find_if(texts.begin(), texts.end(), [&](const auto& t) { return part.name == t.first; });
    if (known == texts.end()) return bad_field(part.name, "not known");
    if (part.file_name) return bad_field(part.name, "got a file, wanted text");
    *known->second = std::move(part.data);
  }
  if (request.model.empty()) return bad_field("model", "missing");
  if (request.reference.bytes.empty()) return bad_field("audio", "missing");
  if (request.lang.empty()) request.lang = "auto";
  return request;
}

HttpReply to_reply(const Result<NewVoice>& made) {
  if (!made) return refusal(made.error());
  return HttpReply{made->existed ? 200 : 201, "application/json", to_json(*made), {{"Cache-Control", "no-store"}}};
}

HttpReply to_reply(const Result<void>& removed) {
  if (!removed) return refusal(removed.error());
  return HttpReply{204, "", "", {}};
}

std::optional<std::string> voice_of_path(std::string_view path) {
  constexpr std::string_view kVoices = "/v1/voices/";
  if (!path.starts_with(kVoices) || path.size() == kVoices.size()) return std::nullopt;
  return std::string(path.substr(kVoices.size()));  // ids have nothing to decode
}

}  // namespace tts
