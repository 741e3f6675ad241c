#include "src/core/result.h"

#include <stdexcept>

namespace tts {

const char* to_string(Errc code) noexcept {
  switch (code) {
    case Errc::bad_message:
      return "bad_message";
    case Errc::unknown_context:
      return "unknown_context";
    case Errc::context_exists:
      return "context_exists";
    case Errc::too_many_contexts:
      return "too_many_contexts";
    case Errc::text_too_long:
      return "text_too_long";
    case Errc::unknown_voice:
      return "unknown_voice";
    case Errc::forbidden:
      return "forbidden";
    case Errc::blocked_text:
      return "blocked_text";
    case Errc::unsupported_format:
      return "unsupported_format";
    case Errc::overloaded:
      return "overloaded";
    case Errc::rate_limited:
      return "rate_limited";
    case Errc::slow_client:
      return "slow_client";
    case Errc::timeout:
      return "timeout";
    case Errc::internal:
      return "internal";
    case Errc::bad_file:
      return "bad_file";
    case Errc::cancelled:
      return "cancelled";
  }
  return "internal";
}

void throw_exception_from_error(const Error& error, const boost::source_location& /*where*/) {
  throw std::runtime_error(std::string(to_string(error.code)) + ": " + error.detail);
}

}  // namespace tts
