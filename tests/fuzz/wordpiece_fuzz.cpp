// Any bytes as text, or as a vocabulary and then a text: tokens are in order, in range and known.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "src/core/utf8.h"
#include "src/text/wordpiece.h"

namespace {

void check(const tts::WordPiece& tokenizer, std::string_view text) {
  const std::size_t length = tts::utf8::count_code_points(tts::utf8::to_valid(text));
  std::size_t begin = 0;
  for (const tts::WordPiece::Token& token : tokenizer.encode(text)) {
    if (token.begin < begin || token.end <= token.begin || token.end > length) std::abort();
    if (token.id < 0 || token.id > tokenizer.max_id()) std::abort();
    begin = token.begin;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const tts::WordPiece fixed =
      tts::WordPiece::from_lines("[UNK]\n[CLS]\n[SEP]\n你\n好\n##好\nhel\n##lo\ne\n##e\nα\n##σ\n,\n。").value();
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  check(fixed, bytes);
  const std::size_t cut = bytes.find('\0');
  if (cut == std::string_view::npos) return 0;
  tts::WordPieceOptions options;
  options.max_word = 1 + size % 64;
  options.lowercase = size % 2 == 0;
  options.split_chinese = size % 3 != 0;
  const tts::Result<tts::WordPiece> own = tts::WordPiece::from_lines(bytes.substr(0, cut), options);
  if (own.has_value()) check(*own, bytes.substr(cut + 1));
  return 0;
}
