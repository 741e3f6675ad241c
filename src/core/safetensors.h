#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "src/core/result.h"

namespace tts {

class MappedFile;

/// Element types of the safetensors format that weights may use.
enum class Dtype { f64, f32, f16, bf16, i64, i32, i8, u8 };

/// The format's name of a type: "F32", ...
[[nodiscard]] const char* to_string(Dtype dtype) noexcept;
/// Bytes of one element.
[[nodiscard]] std::size_t size_of(Dtype dtype) noexcept;

/// One tensor inside an open file. `data` is row-major, little-endian, and lives as long as the SafeTensors it came
/// from. Its address is not necessarily aligned to the element: copy with memcpy.
struct TensorView {
  std::string name;
  Dtype dtype = Dtype::f32;
  std::vector<std::int64_t> shape;  ///< empty: a scalar
  std::span<const std::byte> data;  ///< exactly numel() * size_of(dtype) bytes

  [[nodiscard]] std::int64_t numel() const noexcept;
};

/// Reads the safetensors format (8-byte little-endian header length, JSON header, tensor bytes) and believes nothing of
/// it: header length, JSON types, names, dtypes, shapes (no negative or overflowing product) and offsets are checked,
/// and the tensors must tile the data area without overlap or gap. Errors are Errc::bad_file and name file, tensor, got
/// and wanted. Const after opening; safe to read from any thread.
class SafeTensors {
 public:
  /// Longest accepted header, bytes.
  static constexpr std::uint64_t kMaxHeader = 16U << 20U;
  /// Most tensors, and most axes of one.
  static constexpr std::size_t kMaxTensors = 65536;
  static constexpr std::size_t kMaxAxes = 16;

  /// Maps the file into memory; pages come in when they are first read. Do not change the file while it is open.
  [[nodiscard]] static Result<SafeTensors> open(const std::filesystem::path& file);
  /// Reads from memory that must outlive the result. `label` names it in errors.
  [[nodiscard]] static Result<SafeTensors> parse(std::span<const std::byte> bytes, std::string_view label);

  /// nullptr when there is no such tensor.
  [[nodiscard]] const TensorView* find(std::string_view name) const;
  /// Errc::bad_file naming the file and the missing tensor.
  [[nodiscard]] Result<TensorView> get(std::string_view name) const;
  /// get(), then a check of the shape.
  [[nodiscard]] Result<TensorView> get(std::string_view name, std::span<const std::int64_t> shape) const;

  /// In the order of their bytes in the file.
  [[nodiscard]] const std::vector<TensorView>& tensors() const noexcept { return tensors_; }
  /// The strings of the header's __metadata__.
  [[nodiscard]] const std::map<std::string, std::string, std::less<>>& metadata() const noexcept { return metadata_; }
  /// The file (or the label) for error messages.
  [[nodiscard]] const std::string& label() const noexcept { return label_; }

 private:
  SafeTensors() = default;

  std::string label_;
  std::shared_ptr<const MappedFile> mapping_;
  std::vector<TensorView> tensors_;
  std::map<std::string, std::size_t, std::less<>> index_;
  std::map<std::string, std::string, std::less<>> metadata_;
};

/// A new f32 vector of a tensor of dtype F32, F16, BF16 or F64; Errc::bad_file for other types.
[[nodiscard]] Result<std::vector<float>> to_floats(const TensorView& tensor);

/// IEEE half to float, exact.
[[nodiscard]] float half_to_float(std::uint16_t half) noexcept;
/// bfloat16 to float, exact.
[[nodiscard]] float bfloat16_to_float(std::uint16_t bits) noexcept;

/// What write_safetensors and to_safetensors take; `data` must hold exactly numel() * size_of(dtype) bytes.
using TensorList = std::span<const TensorView>;

/// The bytes of a safetensors file: tensors in the given order, header padded so that data starts 8-byte aligned.
/// Errc::bad_file on a name used twice, a reserved name ("__metadata__") or data of the wrong size.
[[nodiscard]] Result<std::vector<std::byte>> to_safetensors(
    TensorList tensors, const std::map<std::string, std::string, std::less<>>& metadata = {});

/// Hears the bytes of a file as they are written, in order, in blocks of at most 4 MiB.
using WriteObserver = std::function<void(std::span<const std::byte> block)>;

/// Writes a file beside `file` and renames it over, so that a reader sees the old file or the new one, never a part.
[[nodiscard]] Result<void> write_safetensors(const std::filesystem::path& file, TensorList tensors,
                                             const std::map<std::string, std::string, std::less<>>& metadata = {},
                                             const WriteObserver& observer = {});

}  // namespace tts
