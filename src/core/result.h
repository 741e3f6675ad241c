#pragma once

#include <string>
#include <utility>

#include <boost/system/result.hpp>

namespace tts {

/// What went wrong, in the wire protocol's words (PROTOCOL error codes) plus the two that never reach a client.
enum class Errc {
  bad_message,
  unknown_context,
  context_exists,
  too_many_contexts,
  text_too_long,
  unknown_voice,
  forbidden,
  blocked_text,
  unsupported_format,
  overloaded,
  rate_limited,
  slow_client,
  timeout,
  internal,
  bad_file,    ///< a weight file, manifest, audio file or config that cannot be used
  cancelled,   ///< the caller asked for it
};

/// The protocol's name of a code: "bad_message", ...
[[nodiscard]] const char* to_string(Errc code) noexcept;

struct Error {
  Errc code = Errc::internal;
  std::string detail;      ///< names the field, what was got and what was wanted
  int retry_after_ms = 0;  ///< of overloaded and rate_limited: when to try again; 0: not known
};

[[noreturn]] void throw_exception_from_error(const Error& error, const boost::source_location& where);

/// A value or an Error; never throws unless .value() is called on an error.
template <class T>
using Result = boost::system::result<T, Error>;

}  // namespace tts
