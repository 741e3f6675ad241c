#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace tts {

/// A running checksum of bytes. Movable, used by one thread at a time.
class Digest {
 public:
  [[nodiscard]] static Digest sha256();
  /// Only to recognise files by lists that others keep in MD5; it proves nothing.
  [[nodiscard]] static Digest md5();

  void update(std::span<const std::byte> bytes);
  void update(std::string_view text) { update(std::as_bytes(std::span(text))); }
  /// Lower-case hex digits. The digest is spent afterwards.
  [[nodiscard]] std::string finish();

 private:
  struct Free {
    void operator()(void* context) const noexcept;
  };
  explicit Digest(const void* algorithm);
  std::unique_ptr<void, Free> context_;
};

/// SHA-256 of bytes at hand, as lower-case hex.
[[nodiscard]] std::string sha256_hex(std::span<const std::byte> bytes);

}  // namespace tts
