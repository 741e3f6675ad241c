#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "streaming/voice_upload.h"

// The first line is the Content-Type, the rest the body; the parts must be the same for every cut.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const std::size_t line = std::min(input.find('\n'), input.size());
  const std::string_view body = input.substr(std::min(line + 1, input.size()));
  tts::MultipartLimits limits;
  limits.max_parts = 4;
  limits.max_header_bytes = 64;
  limits.max_field_bytes = 32;
  limits.max_file_bytes = 48;
  const auto parse = [&](std::size_t step) -> tts::Result<std::vector<tts::MultipartPart>> {
    auto parser = tts::MultipartParser::make(input.substr(0, line), limits);
    if (!parser) return parser.error();
    for (std::size_t at = 0; at < body.size(); at += step) {
      if (auto done = parser->push(body.substr(at, step)); !done) return done.error();
    }
    return parser->finish();
  };
  const auto whole = parse(size + 1);
  for (const std::size_t step : {std::size_t{1}, std::size_t{3}, std::size_t{1} + size % 61}) {
    const auto cut = parse(step);
    if (cut.has_value() != whole.has_value()) std::abort();
    if (!cut) continue;
    const auto same = [](const tts::MultipartPart& a, const tts::MultipartPart& b) {
      return a.name == b.name && a.file_name == b.file_name && a.data == b.data;
    };
    if (!std::equal(cut->begin(), cut->end(), whole->begin(), whole->end(), same)) std::abort();
  }
  if (!whole) return 0;
  if (whole->size() > limits.max_parts) std::abort();
  for (const tts::MultipartPart& part : *whole) {
    if (part.data.size() > (part.file_name ? limits.max_file_bytes : limits.max_field_bytes)) std::abort();
  }
  (void)tts::to_voice_request(*whole);
  return 0;
}
