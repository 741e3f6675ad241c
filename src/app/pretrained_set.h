#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "src/convert/forms.h"

namespace tts {

/// A file of the official pretrained set.
struct PretrainedFile {
  const char* path;         ///< in the repository, and below the models folder
  const char* what;         ///< in words
  std::uint64_t bytes;      ///< about, when sha256 is empty
  const char* sha256;       ///< empty: not known; the server's own is taken
  std::vector<Form> forms;  ///< that need it; empty: all
};

/// The set of GPT-SoVITS' authors, as its README and sources name it. Sizes and checksums were put together from public
/// lists of the published files; files without a checksum here are checked against what the server tells.
[[nodiscard]] const std::vector<PretrainedFile>& pretrained_set();

/// Those that a voice of one of `forms` needs (all when empty), in the order of the set.
[[nodiscard]] std::vector<PretrainedFile> pretrained_for(std::span<const Form> forms);

/// The public home of the set; mirrors have the same paths behind it.
inline constexpr std::string_view kPretrainedHost = "https://huggingface.co";
inline constexpr std::string_view kPretrainedPath = "/lj1995/GPT-SoVITS/resolve/main/";

/// The address below which the files are, from a mirror: a host alone gets kPretrainedPath, an address with a path is
/// taken as it is. Always ends with a slash; nullopt when it is not an HTTP address.
[[nodiscard]] std::optional<std::string> base_url(std::string_view mirror);

}  // namespace tts
