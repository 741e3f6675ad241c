#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "src/core/result.h"

namespace tts {

/// One file to be had over HTTP.
struct Download {
  std::vector<std::string> urls;  ///< tried in this order
  std::filesystem::path to;
  std::uint64_t bytes = 0;  ///< 0: not known
  std::string sha256;       ///< lower-case hex; empty: not known
};

struct FetchOptions {
  int attempts = 5;                             ///< per URL; one that brought bytes does not count
  std::chrono::milliseconds first_wait{1'000};  ///< before the second attempt, doubled for each further one
  long low_speed_bytes = 1'000;  ///< a connection slower than this for low_speed_s is given up and resumed
  long low_speed_s = 30;
  std::string user_agent = "sonorant";
};

/// How a file that was fetched is known to be right.
enum class Proof {
  listed,  ///< its SHA-256 is the one asked for
  server,  ///< its SHA-256 is the one the server tells of it
  size,    ///< only its size is what the server says
};

struct Fetched {
  std::string sha256;
  std::uint64_t bytes = 0;
  Proof proof = Proof::size;
};

/// Hears how many bytes are there, of how many (0: not known yet).
using FetchProgress = std::function<void(std::uint64_t done, std::uint64_t total)>;

/// Brings one file over HTTP or HTTPS. What has come stays in "<to>.part" with what identifies it beside it
/// ("<to>.part.id"), so that an interrupted transfer goes on where it stopped, also in a later run, if the server still
/// has the same file. The file appears under its name by a rename after its checksum was found right. Redirections are
/// followed, but not from HTTPS to HTTP.
///
/// SHA-256: `sha256` of the request, else what the server tells (X-Linked-ETag or an ETag of 64 hex digits, as Hugging
/// Face and its mirrors give for large files). Errors are Errc::bad_file with one sentence that names URL and reason; a
/// part that cannot be right is removed.
[[nodiscard]] Result<Fetched> fetch(const Download& download, const FetchOptions& options,
                                    const FetchProgress& progress = {});

/// The bytes a further fetch of `to` would not bring again.
[[nodiscard]] std::uint64_t bytes_there(const std::filesystem::path& to);

/// A path of a URL with everything but letters, digits and -._~/ escaped (RFC 3986, sec. 2.1).
[[nodiscard]] std::string escaped_path(std::string_view path);

}  // namespace tts
