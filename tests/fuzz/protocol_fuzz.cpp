// Client messages of any bytes: parsed or refused, never more; a refusal is a message the server can send, and text is
// text that a feed can take.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string_view>

#include "src/core/utf8.h"
#include "streaming/protocol.h"
#include "streaming/text_feed.h"

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static tts::MessageParser parser;
  const std::string_view json(reinterpret_cast<const char*>(data), size);
  const auto parsed = parser.parse(json);
  if (const auto* refused = std::get_if<tts::RefusedMessage>(&parsed)) {
    require(!refused->error.detail.empty());
    require(tts::utf8::is_valid(to_json(tts::ErrorMessage{refused->ctx, refused->error, {}})));
  } else if (const auto* text = std::get_if<tts::TextMessage>(&std::get<tts::ClientMessage>(parsed))) {
    tts::TextFeed feed{tts::FeedOptions{}};
    static_cast<void>(feed.push(text->text, {}));
    static_cast<void>(feed.end());
    require(tts::utf8::is_valid(feed.text()));
  }
  if (const auto header = tts::decode_header(std::span(data, size))) {
    const auto again = tts::encode_header(*header);
    require(std::equal(again.begin(), again.end(), data));
  }
  return 0;
}
