// Text of any bytes, cut in any way: the segments are those of the whole, within their bounds, valid and in order.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "src/core/utf8.h"
#include "streaming/text_feed.h"

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

}  // namespace

// Byte 0: length of the pieces; byte 1: limits; the rest is text.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  const std::size_t piece = data[0] % 16 + 1;
  tts::FeedOptions options;
  options.min_chars = data[1] % 16;
  options.max_chars = 20 + data[1];
  const std::string_view text(reinterpret_cast<const char*>(data) + 2, size - 2);

  const auto run = [&options, text](std::size_t length) {
    tts::TextFeed feed(options);
    std::vector<tts::TextSegment> all;
    const auto append = [&all](std::vector<tts::TextSegment> more) {
      for (auto& segment : more) all.push_back(std::move(segment));
    };
    for (std::size_t at = 0; at < text.size(); at += length) append(feed.push(text.substr(at, length), {}));
    append(feed.end());
    std::size_t last = 0;
    for (const auto& segment : all) {
      require(!segment.text.empty() && tts::utf8::is_valid(segment.text));
      require(segment.in_start >= last && segment.in_end > segment.in_start);
      require(tts::utf8::count_code_points(segment.text) == segment.in_end - segment.in_start);
      require(segment.in_end - segment.in_start <= static_cast<std::size_t>(options.max_chars) * 6 + 32);
      last = segment.in_end;
    }
    require(last <= feed.size() && tts::utf8::count_code_points(feed.text()) == feed.size());
    return all;
  };
  const auto whole = run(text.empty() ? 1 : text.size());
  const auto pieces = run(piece);
  require(whole.size() == pieces.size());
  for (std::size_t i = 0; i < whole.size(); ++i) {
    require(whole[i].text == pieces[i].text && whole[i].in_start == pieces[i].in_start);
  }
  return 0;
}
