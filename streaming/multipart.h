#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "src/core/result.h"

namespace tts {

struct MultipartLimits {
  std::size_t max_parts = 32;
  std::size_t max_header_bytes = 4 * 1024;  ///< of one part
  std::size_t max_field_bytes = 16 * 1024;  ///< of a part without a file name
  std::size_t max_file_bytes = 32U << 20U;  ///< of a part with one
};

struct MultipartPart {
  std::string name;
  std::optional<std::string> file_name;  ///< as sent: never a path to open
  std::string data;
};

/// A multipart/form-data body (RFC 7578), as its bytes come. Holds what the limits allow and no more; the parts are the
/// same however the body is cut. Errors are Errc::bad_message, after which nothing more may be pushed.
class MultipartParser {
 public:
  /// content_type: the request's header field with its boundary. Errc::unsupported_format for another type.
  [[nodiscard]] static Result<MultipartParser> make(std::string_view content_type, const MultipartLimits& limits = {});

  [[nodiscard]] Result<void> push(std::string_view bytes);
  /// The parts, in order. The parser is spent afterwards.
  [[nodiscard]] Result<std::vector<MultipartPart>> finish();

 private:
  enum class State : std::uint8_t { preamble, delimiter, header, body, epilogue };

  MultipartParser(std::string_view boundary, const MultipartLimits& limits);

  /// One step with what waits in buffer_; false when more must come first.
  [[nodiscard]] Result<bool> step();
  [[nodiscard]] Result<void> take_body(std::string_view bytes);
  [[nodiscard]] Result<void> begin_part(std::string_view header);

  MultipartLimits limits_;
  std::string delimiter_;  ///< CR LF, two hyphens, the boundary
  std::string buffer_;     ///< bytes not understood yet: shorter than a part's header and a block
  State state_ = State::preamble;
  std::vector<MultipartPart> parts_;
};

}  // namespace tts
