#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "src/core/result.h"
#include "src/engine/synthesizer.h"
#include "streaming/http.h"
#include "streaming/multipart.h"

namespace tts {

/// Who may make and remove voices over HTTP, and how much at once.
struct VoiceUploads {
  bool enabled = false;
  /// Wanted as "Authorization: Bearer TOKEN". Empty: no token, and only requests to this machine under a name of its
  /// own (localhost, 127.0.0.1, [::1]) that no page of another site has sent.
  std::string token;
  std::size_t max_bytes = 32U << 20U;  ///< of a request's body
  int max_at_once = 2;                 ///< being received or worked on; more are refused with 503
};

/// What of a request says who sent it; fields that are not there are empty.
struct RequestOrigin {
  std::string_view host;
  std::string_view origin;
  std::string_view authorization;
};

/// Why this request must not change voices: 401 or 403. nullopt: it may.
[[nodiscard]] std::optional<HttpReply> refuse_change(const VoiceUploads& uploads, const RequestOrigin& from);

/// The fields of POST /v1/voices: model and audio; text, lang, id, name; further recordings as `aux`, any number.
/// Errc::bad_message naming a field that is missing, given twice, not known, or a file where there should be none.
[[nodiscard]] Result<VoiceRequest> to_voice_request(std::vector<MultipartPart> parts);

/// 201, or 200 for a voice that had been made before; otherwise the error as JSON.
[[nodiscard]] HttpReply to_reply(const Result<NewVoice>& made);
/// 204, or the error.
[[nodiscard]] HttpReply to_reply(const Result<void>& removed);

/// The id in "/v1/voices/ID", as it stands there; nullopt for another path.
[[nodiscard]] std::optional<std::string> voice_of_path(std::string_view path);

}  // namespace tts
