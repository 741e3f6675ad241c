#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "src/convert/pickle.h"
#include "src/convert/zip.h"
#include "src/core/mapped_file.h"
#include "src/core/result.h"
#include "src/core/safetensors.h"

namespace tts {

/// A file that torch saved: the zip form of torch >= 1.6, also with upstream's version mark in place of the zip's first
/// two bytes, and the older form of pickles in a row. Nothing of it is executed (src/convert/pickle.h), nothing is
/// inflated (src/convert/zip.h). Tensors are views into the mapped file unless their elements do not lie in a row.
class Checkpoint {
 public:
  [[nodiscard]] static Result<Checkpoint> open(const std::filesystem::path& file);
  /// From memory that must outlive the result. `label` names it in errors.
  [[nodiscard]] static Result<Checkpoint> parse(std::span<const std::byte> bytes, std::string_view label);

  [[nodiscard]] const PickleValue& root() const noexcept { return pickle_->root(); }
  /// Upstream's mark: the two digits that stand where a zip says "PK". Empty when it says that.
  [[nodiscard]] const std::string& mark() const noexcept { return mark_; }
  /// MD5 of the first 8192 bytes of the file, by which upstream knows its own pretrained files.
  [[nodiscard]] const std::string& head_md5() const noexcept { return head_md5_; }
  [[nodiscard]] const std::string& label() const noexcept { return label_; }

  /// The tensors among the values of a dict with text keys; values of other kinds are passed over, of equal keys the
  /// last counts. Their views live as long as this object. Errc::bad_file naming file, tensor and fault.
  [[nodiscard]] Result<std::vector<TensorView>> tensors(const PickleValue& dict);

  /// Compares each part of the file that tensors use with its checksum in the archive (the old form has none).
  /// `progress` hears the bytes of each part when it is done. Errc::bad_file naming file and part.
  [[nodiscard]] Result<void> check(const std::function<void(std::size_t)>& progress = {}) const;

 private:
  Checkpoint() = default;
  Result<void> read(std::span<const std::byte> bytes);
  Result<void> read_old_form(std::span<const std::byte> bytes);
  Result<TensorView> view(const std::string& name, const PickleValue& tensor);

  std::string label_;
  std::string mark_;
  std::string head_md5_;
  std::shared_ptr<const MappedFile> mapping_;
  std::optional<ZipArchive> archive_;
  std::string folder_;  ///< of the entries, with its slash
  std::map<std::string, std::span<const std::byte>, std::less<>> old_storages_;
  std::optional<Pickle> pickle_;
  std::vector<std::shared_ptr<const std::vector<std::byte>>> copies_;
  std::size_t budget_ = 0;  ///< bytes of tensors that may still be handed out
};

}  // namespace tts
