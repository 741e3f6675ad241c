#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace tts::utf8 {

/// True when `text` is well-formed UTF-8 (Unicode 15, table 3-7): no overlong forms, no surrogates, nothing above
/// U+10FFFF, no cut-off sequence.
[[nodiscard]] bool is_valid(std::string_view text) noexcept;

/// Bytes of the longest well-formed prefix of `text`; text.size() when all of it is.
[[nodiscard]] std::size_t valid_prefix(std::string_view text) noexcept;

/// Number of code points. For text that is not well-formed, every byte that is not a continuation byte counts as one.
[[nodiscard]] std::size_t count_code_points(std::string_view text) noexcept;

/// Byte offset of the `n`th code point (0-based); text.size() when there are not so many.
[[nodiscard]] std::size_t byte_offset(std::string_view text, std::size_t n_code_points) noexcept;

/// The largest offset <= `max_bytes` that does not stand inside a code point; text.size() when that is less.
/// text.substr(0, floor_boundary(text, n)) never cuts a character of well-formed text in two.
[[nodiscard]] std::size_t floor_boundary(std::string_view text, std::size_t max_bytes) noexcept;

/// A copy in which every ill-formed byte sequence is replaced by U+FFFD (one per maximal subpart, as browsers do).
[[nodiscard]] std::string to_valid(std::string_view text);

/// Appends the UTF-8 of `c`, at most U+10FFFF. A surrogate gives its three bytes, which is not well-formed: for code
/// that keeps the halves of a pair apart until both are there.
void append(std::string& out, char32_t c);

}  // namespace tts::utf8
