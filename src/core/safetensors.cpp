#include "src/core/safetensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <fstream>
#include <limits>
#include <numeric>
#include <optional>
#include <system_error>
#include <utility>

#include <simdjson.h>

#include "src/core/log.h"
#include "src/core/mapped_file.h"
#include "src/core/json_string.h"
#include "src/core/utf8.h"

namespace tts {
namespace {

using Metadata = std::map<std::string, std::string, std::less<>>;

constexpr std::size_t kLengthBytes = 8;
constexpr std::string_view kMetadataKey = "__metadata__";

struct DtypeRow {
  Dtype dtype;
  const char* name;
  std::size_t size;
};
constexpr std::array<DtypeRow, 8> kDtypes = {{
    {Dtype::f64, "F64", 8},
    {Dtype::f32, "F32", 4},
    {Dtype::f16, "F16", 2},
    {Dtype::bf16, "BF16", 2},
    {Dtype::i64, "I64", 8},
    {Dtype::i32, "I32", 4},
    {Dtype::i8, "I8", 1},
    {Dtype::u8, "U8", 1},
}};

const DtypeRow& row_of(Dtype dtype) noexcept {
  for (const DtypeRow& row : kDtypes) {
    if (row.dtype == dtype) return row;
  }
  return kDtypes[1];
}

Error bad(std::string_view label, std::string_view what) {
  return Error{Errc::bad_file, std::string(label) + ": " + std::string(what)};
}

/// Names come from the file: quoted, escaped and cut so that an error stays one readable line.
std::string shown(std::string_view name) {
  constexpr std::size_t kLongest = 120;
  const bool cut = name.size() > kLongest;
  return log_value(name.substr(0, utf8::floor_boundary(name, kLongest))) + (cut ? "..." : "");
}

std::string to_text(std::span<const std::int64_t> shape) {
  std::string out = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) out += (i > 0 ? ", " : "") + std::to_string(shape[i]);
  return out + "]";
}

/// Bytes of a tensor, or nullopt when the product does not fit.
std::optional<std::uint64_t> byte_size(std::span<const std::int64_t> shape, Dtype dtype) {
  std::uint64_t bytes = size_of(dtype);
  for (const std::int64_t dim : shape) {
    if (dim < 0 || __builtin_mul_overflow(bytes, static_cast<std::uint64_t>(dim), &bytes)) return std::nullopt;
  }
  if (bytes > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) return std::nullopt;
  return bytes;
}

/// What the header says of one tensor, types checked, offsets not yet.
struct Entry {
  TensorView view;
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};

Result<Entry> read_entry(std::string_view label, std::string_view name, const simdjson::dom::element& value) {
  const std::string where = "tensor " + shown(name) + ": ";
  simdjson::dom::object fields;
  if (value.get(fields) != simdjson::SUCCESS) return bad(label, where + "wanted an object");
  Entry entry;
  entry.view.name = std::string(name);
  bool has_dtype = false;
  bool has_shape = false;
  bool has_offsets = false;
  for (const auto& [key, field] : fields) {
    bool& seen = key == "dtype" ? has_dtype : key == "shape" ? has_shape : has_offsets;
    if (key != "dtype" && key != "shape" && key != "data_offsets") {
      return bad(label, where + "unknown field " + shown(key));
    }
    if (std::exchange(seen, true)) return bad(label, where + "field " + shown(key) + " twice");
    if (key == "dtype") {
      std::string_view text;
      if (field.get(text) != simdjson::SUCCESS) return bad(label, where + "dtype: wanted a string");
      const auto* row = std::ranges::find_if(kDtypes, [&](const DtypeRow& r) { return r.name == text; });
      if (row == kDtypes.end()) {
        return bad(label, where + "dtype: got " + shown(text) + ", wanted F64, F32, F16, BF16, I64, I32, I8 or U8");
      }
      entry.view.dtype = row->dtype;
      continue;
    }
    simdjson::dom::array numbers;
    if (field.get(numbers) != simdjson::SUCCESS) return bad(label, where + std::string(key) + ": wanted an array");
    const std::size_t n_numbers = numbers.size();
    if (key == "shape" && n_numbers > SafeTensors::kMaxAxes) {
      return bad(label, where + "shape: got " + std::to_string(n_numbers) + " axes, wanted at most " +
                            std::to_string(SafeTensors::kMaxAxes));
    }
    if (key == "data_offsets" && n_numbers != 2) {
      return bad(label, where + "data_offsets: got " + std::to_string(n_numbers) + " numbers, wanted 2");
    }
    std::vector<std::int64_t> values;
    for (const simdjson::dom::element number : numbers) {
      std::int64_t integer = 0;
      if (number.get(integer) != simdjson::SUCCESS || integer < 0) {
        return bad(label, where + std::string(key) + ": wanted integers from 0 to 2^63 - 1");
      }
      values.push_back(integer);
    }
    if (key == "shape") {
      entry.view.shape = std::move(values);
    } else {
      entry.begin = static_cast<std::uint64_t>(values[0]);
      entry.end = static_cast<std::uint64_t>(values[1]);
    }
  }
  if (!has_dtype || !has_shape || !has_offsets) {
    return bad(label, where + "missing field " + (!has_dtype ? "dtype" : !has_shape ? "shape" : "data_offsets"));
  }
  return entry;
}

Result<void> read_metadata(std::string_view label, const simdjson::dom::element& value, Metadata& metadata) {
  simdjson::dom::object fields;
  if (value.get(fields) != simdjson::SUCCESS) return bad(label, "__metadata__: wanted an object of strings");
  for (const auto& [key, field] : fields) {
    std::string_view text;
    if (field.get(text) != simdjson::SUCCESS) return bad(label, "__metadata__: " + shown(key) + ": wanted a string");
    if (!metadata.emplace(std::string(key), std::string(text)).second) {
      return bad(label, "__metadata__: " + shown(key) + " twice");
    }
  }
  return {};
}

/// Checks that the entries, sorted by offset, tile exactly `data` and points them into it.
Result<void> place(std::string_view label, std::vector<Entry>& entries, std::span<const std::byte> data) {
  std::ranges::sort(
      entries, [](const Entry& a, const Entry& b) { return std::pair(a.begin, a.end) < std::pair(b.begin, b.end); });
  std::uint64_t expected = 0;
  for (Entry& entry : entries) {
    const std::string where = "tensor " + shown(entry.view.name) + ": ";
    const std::string got = "got bytes " + std::to_string(entry.begin) + ".." + std::to_string(entry.end);
    if (entry.end < entry.begin || entry.end > data.size()) {
      return bad(label, where + got + ", wanted a range within 0.." + std::to_string(data.size()));
    }
    if (entry.begin != expected) {
      return bad(label, where + got + ", wanted a start at " + std::to_string(expected) +
                            (entry.begin < expected ? " (overlaps another tensor)" : " (gap before it)"));
    }
    const auto bytes = byte_size(entry.view.shape, entry.view.dtype);
    if (!bytes) return bad(label, where + "shape " + to_text(entry.view.shape) + " does not fit in 2^63 - 1 bytes");
    if (*bytes != entry.end - entry.begin) {
      return bad(label, where + "got " + std::to_string(entry.end - entry.begin) + " bytes, wanted " +
                            std::to_string(*bytes) + " for " + to_string(entry.view.dtype) + " " +
                            to_text(entry.view.shape));
    }
    entry.view.data = data.subspan(entry.begin, entry.end - entry.begin);
    expected = entry.end;
  }
  if (expected != data.size()) {
    return bad(label, "got " + std::to_string(data.size()) + " bytes of tensor data, wanted " +
                          std::to_string(expected) + " (file cut off, or bytes after the last tensor)");
  }
  return {};
}

std::uint64_t read_u64(std::span<const std::byte> bytes) noexcept {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < kLengthBytes; ++i) value |= std::to_integer<std::uint64_t>(bytes[i]) << (8 * i);
  return value;
}

std::uint16_t read_u16(const std::byte* bytes) noexcept {
  std::uint16_t value = 0;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}

}  // namespace

const char* to_string(Dtype dtype) noexcept {
  return row_of(dtype).name;
}
std::size_t size_of(Dtype dtype) noexcept {
  return row_of(dtype).size;
}

std::int64_t TensorView::numel() const noexcept {
  return std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>());
}

Result<SafeTensors> SafeTensors::open(const std::filesystem::path& file) {
  auto mapping = MappedFile::open(file);
  if (!mapping) return mapping.error();
  auto opened = parse((*mapping)->bytes(), file.string());
  if (opened) opened->mapping_ = *mapping;
  return opened;
}

Result<SafeTensors> SafeTensors::parse(std::span<const std::byte> bytes, std::string_view label) {
  if (bytes.size() < kLengthBytes) {
    return bad(label, "got " + std::to_string(bytes.size()) + " bytes, wanted at least 8 (header length)");
  }
  const std::uint64_t header_size = read_u64(bytes);
  const std::uint64_t room = bytes.size() - kLengthBytes;
  if (header_size > kMaxHeader || header_size > room) {
    return bad(label, "header length: got " + std::to_string(header_size) + ", wanted at most " +
                          std::to_string(std::min(kMaxHeader, room)) + " in a file of " + std::to_string(bytes.size()) +
                          " bytes");
  }
  const auto header = bytes.subspan(kLengthBytes, header_size);
  const auto data = bytes.subspan(kLengthBytes + header_size);

  simdjson::dom::parser parser;
  simdjson::dom::element root;
  const auto parse_error =
      parser.parse(reinterpret_cast<const char*>(header.data()), header.size(), /*realloc_if_needed=*/true).get(root);
  if (parse_error != simdjson::SUCCESS) {
    return bad(label, std::string("header: not valid JSON: ") + simdjson::error_message(parse_error));
  }
  simdjson::dom::object entries_json;
  if (root.get(entries_json) != simdjson::SUCCESS) return bad(label, "header: wanted a JSON object");

  SafeTensors result;
  result.label_ = std::string(label);
  std::vector<Entry> entries;
  bool has_metadata = false;
  for (const auto& [name, value] : entries_json) {
    if (name == kMetadataKey) {
      if (std::exchange(has_metadata, true)) return bad(label, "__metadata__ twice");
      if (auto read = read_metadata(label, value, result.metadata_); !read) return read.error();
      continue;
    }
    if (entries.size() == kMaxTensors) {
      return bad(label, "header: wanted at most " + std::to_string(kMaxTensors) + " tensors");
    }
    auto entry = read_entry(label, name, value);
    if (!entry) return entry.error();
    entries.push_back(std::move(*entry));
  }
  if (auto placed = place(label, entries, data); !placed) return placed.error();

  result.tensors_.reserve(entries.size());
  for (Entry& entry : entries) {
    if (!result.index_.emplace(entry.view.name, result.tensors_.size()).second) {
      return bad(label, "tensor " + shown(entry.view.name) + " twice");
    }
    result.tensors_.push_back(std::move(entry.view));
  }
  return result;
}

const TensorView* SafeTensors::find(std::string_view name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &tensors_[found->second];
}

Result<TensorView> SafeTensors::get(std::string_view name) const {
  const TensorView* view = find(name);
  if (view == nullptr) return bad(label_, "tensor " + shown(name) + ": missing");
  return *view;
}

Result<TensorView> SafeTensors::get(std::string_view name, std::span<const std::int64_t> shape) const {
  auto view = get(name);
  if (view && !std::ranges::equal(view->shape, shape)) {
    return bad(label_, "tensor " + shown(name) + ": got shape " + to_text(view->shape) + ", wanted " + to_text(shape));
  }
  return view;
}

float half_to_float(std::uint16_t half) noexcept {
  const std::uint32_t sign = (half & 0x8000U) << 16U;
  const std::uint32_t exponent = (half >> 10U) & 0x1FU;
  const std::uint32_t mantissa = half & 0x3FFU;
  if (exponent == 0) {  // zero and subnormals: mantissa * 2^-24, exact in float
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24F;
    return sign != 0 ? -magnitude : magnitude;
  }
  const std::uint32_t wide = exponent == 0x1FU ? 0xFFU : exponent + (127 - 15);
  return std::bit_cast<float>(sign | (wide << 23U) | (mantissa << 13U));
}

float bfloat16_to_float(std::uint16_t bits) noexcept {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16U);
}

Result<std::vector<float>> to_floats(const TensorView& tensor) {
  const std::size_t n = tensor.data.size() / size_of(tensor.dtype);
  const std::byte* bytes = tensor.data.data();
  std::vector<float> out(n);
  switch (tensor.dtype) {
    case Dtype::f32:
      if (n > 0) std::memcpy(out.data(), bytes, n * sizeof(float));
      return out;
    case Dtype::f64:
      for (std::size_t i = 0; i < n; ++i) {
        double value = 0;
        std::memcpy(&value, bytes + i * sizeof value, sizeof value);
        out[i] = static_cast<float>(value);
      }
      return out;
    case Dtype::f16:
      for (std::size_t i = 0; i < n; ++i) out[i] = half_to_float(read_u16(bytes + 2 * i));
      return out;
    case Dtype::bf16:
      for (std::size_t i = 0; i < n; ++i) out[i] = bfloat16_to_float(read_u16(bytes + 2 * i));
      return out;
    default:
      return bad("tensor " + shown(tensor.name),
                 std::string("got dtype ") + to_string(tensor.dtype) + ", wanted F32, F16, BF16 or F64");
  }
}

namespace {

/// Length and JSON header of a file of these tensors, padded so that their bytes start 8-byte aligned.
Result<std::string> file_start(TensorList tensors, const Metadata& metadata) {
  constexpr std::string_view kLabel = "new safetensors file";
  std::string header = "{";
  const auto key = [&](std::string_view name) {
    if (header.size() > 1) header += ',';
    append_json_string(header, name);
    header += ':';
  };
  if (!metadata.empty()) {
    key(kMetadataKey);
    header += '{';
    bool first = true;
    for (const auto& [name, value] : metadata) {
      if (!utf8::is_valid(name) || !utf8::is_valid(value)) return bad(kLabel, "metadata is not UTF-8");
      if (!std::exchange(first, false)) header += ',';
      append_json_string(header, name);
      header += ':';
      append_json_string(header, value);
    }
    header += '}';
  }
  std::uint64_t offset = 0;
  std::map<std::string_view, int> names;
  for (const TensorView& tensor : tensors) {
    const std::string where = "tensor " + shown(tensor.name) + ": ";
    if (!utf8::is_valid(tensor.name)) return bad(kLabel, where + "name is not UTF-8");
    if (tensor.name == kMetadataKey) return bad(kLabel, where + "the name is reserved");
    if (!names.emplace(tensor.name, 0).second) return bad(kLabel, where + "twice");
    const auto bytes = byte_size(tensor.shape, tensor.dtype);
    if (!bytes || *bytes != tensor.data.size()) {
      return bad(kLabel, where + "got " + std::to_string(tensor.data.size()) + " bytes, wanted " +
                             (bytes ? std::to_string(*bytes) : std::string("a size that fits")) + " for " +
                             to_string(tensor.dtype) + " " + to_text(tensor.shape));
    }
    key(tensor.name);
    header += "{\"dtype\":\"" + std::string(to_string(tensor.dtype)) + "\",\"shape\":" + to_text(tensor.shape) +
              ",\"data_offsets\":[" + std::to_string(offset) + "," + std::to_string(offset + *bytes) + "]}";
    offset += *bytes;
  }
  header += '}';
  header.append((8 - header.size() % 8) % 8, ' ');

  std::string start;
  start.reserve(kLengthBytes + header.size());
  for (std::size_t i = 0; i < kLengthBytes; ++i) {
    start += static_cast<char>(static_cast<std::uint8_t>(static_cast<std::uint64_t>(header.size()) >> (8 * i)));
  }
  return start + header;
}

}  // namespace

Result<std::vector<std::byte>> to_safetensors(TensorList tensors, const Metadata& metadata) {
  const auto start = file_start(tensors, metadata);
  if (!start) return start.error();
  std::size_t size = start->size();
  for (const TensorView& tensor : tensors) size += tensor.data.size();
  std::vector<std::byte> out;
  out.reserve(size);
  const auto start_bytes = std::as_bytes(std::span(*start));
  out.insert(out.end(), start_bytes.begin(), start_bytes.end());
  for (const TensorView& tensor : tensors) out.insert(out.end(), tensor.data.begin(), tensor.data.end());
  return out;
}

Result<void> write_safetensors(const std::filesystem::path& file, TensorList tensors, const Metadata& metadata,
                               const WriteObserver& observer) {
  const auto start = file_start(tensors, metadata);
  if (!start) return start.error();
  std::filesystem::path part = file;
  part += ".part";
  std::error_code error;
  {
    std::ofstream out(part, std::ios::binary | std::ios::trunc);
    const auto write = [&](std::span<const std::byte> bytes) {
      constexpr std::size_t kBlock = 4U << 20U;
      for (std::size_t at = 0; at < bytes.size() && out; at += kBlock) {
        const auto block = bytes.subspan(at, std::min(kBlock, bytes.size() - at));
        out.write(reinterpret_cast<const char*>(block.data()), static_cast<std::streamsize>(block.size()));
        if (observer) observer(block);
      }
    };
    write(std::as_bytes(std::span(*start)));
    for (const TensorView& tensor : tensors) write(tensor.data);
    out.close();
    if (!out) {
      std::filesystem::remove(part, error);
      return bad(part.string(), "cannot write");
    }
  }
  std::filesystem::rename(part, file, error);
  if (error) return bad(file.string(), "cannot rename into place: " + error.message());
  return {};
}

}  // namespace tts
