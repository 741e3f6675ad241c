#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "src/convert/forms.h"
#include "src/convert/zip.h"
#include "src/core/safetensors.h"

namespace tts::testing {

/// Writes pickles opcode by opcode (protocol 2).
class PickleWriter {
 public:
  std::string bytes = "\x80\x02";

  PickleWriter& raw(std::string_view text) {
    bytes += text;
    return *this;
  }
  PickleWriter& little(std::uint64_t value, int n) {
    for (int i = 0; i < n; ++i) bytes += static_cast<char>(static_cast<unsigned char>(value >> (8 * i)));
    return *this;
  }
  PickleWriter& text(std::string_view value) { return raw("X").little(value.size(), 4).raw(value); }
  PickleWriter& integer(std::int64_t value) {
    return value >= 0 && value < 256 ? raw("K").little(static_cast<std::uint64_t>(value), 1)
                                     : raw("\x8a\x08").little(static_cast<std::uint64_t>(value), 8);
  }
  PickleWriter& global(std::string_view module, std::string_view name) {
    return raw("c").raw(module).raw("\n").raw(name).raw("\n");
  }
  PickleWriter& integers(const std::vector<std::int64_t>& values) {
    raw("(");
    for (const std::int64_t value : values) integer(value);
    return raw("t");
  }
};

struct TestTensor {
  Dtype dtype = Dtype::f32;
  std::vector<std::int64_t> shape;
  std::string data;
};
using TestState = std::vector<std::pair<std::string, TestTensor>>;

inline std::size_t count(const std::vector<std::int64_t>& shape) {
  std::size_t n = 1;
  for (const std::int64_t size : shape) n *= static_cast<std::size_t>(size);
  return n;
}

/// Finite numbers of small size that depend on the name alone.
inline TestTensor make_tensor(std::string_view name, const std::vector<std::int64_t>& shape, Dtype dtype) {
  std::uint64_t seed = 1469598103934665603U;
  for (const char c : name) seed = (seed ^ static_cast<unsigned char>(c)) * 1099511628211U;
  TestTensor tensor{dtype, shape, {}};
  const std::size_t n = count(shape);
  tensor.data.reserve(n * size_of(dtype));
  for (std::size_t i = 0; i < n; ++i) {
    seed = seed * 6364136223846793005U + 1442695040888963407U;
    const auto high = static_cast<std::uint32_t>(seed >> 32U);
    if (dtype == Dtype::f16) {  // sign, exponents 8 to 15, mantissa: 2^-7 to 2
      const auto bits = static_cast<std::uint16_t>((high & 0x83FFU) | (((high >> 10U & 7U) + 8) << 10U));
      tensor.data.append(reinterpret_cast<const char*>(&bits), 2);
    } else if (dtype == Dtype::bf16) {
      const auto bits = static_cast<std::uint16_t>((high & 0x807FU) | (0x78U << 7U));
      tensor.data.append(reinterpret_cast<const char*>(&bits), 2);
    } else {
      const float value = static_cast<float>(static_cast<std::int32_t>(high)) / 2147483648.0F;
      tensor.data.append(reinterpret_cast<const char*>(&value), 4);
    }
  }
  return tensor;
}

/// All that a network wants; what weight norm may split is split when `is_split`.
inline TestState make_state(const WantedTensors& wanted, Dtype dtype, bool is_split) {
  TestState state;
  for (const WantedTensor& want : wanted) {
    if (!want.may_be_split || !is_split) {
      state.emplace_back(want.key, make_tensor(want.key, want.shape, dtype));
      continue;
    }
    std::vector<std::int64_t> gain(want.shape.size(), 1);
    gain[0] = want.shape[0];
    if (want.key.find("pos_conv_embed") != std::string::npos) gain = {1, 1, want.shape[2]};
    state.emplace_back(want.key + "_g", make_tensor(want.key + "_g", gain, dtype));
    state.emplace_back(want.key + "_v", make_tensor(want.key + "_v", want.shape, dtype));
  }
  return state;
}

inline TestTensor& find(TestState& state, std::string_view name) {
  for (auto& [key, tensor] : state) {
    if (key == name) return tensor;
  }
  throw std::runtime_error("no tensor " + std::string(name));
}
inline void drop(TestState& state, std::string_view name) {
  std::erase_if(state, [&](const auto& item) { return item.first == name; });
}

struct ZipOptions {
  bool is_zip64 = false;
  std::uint16_t method = 0;
  std::uint16_t flags = 0;
  std::string comment{};
};

/// A zip archive of stored entries, as torch writes it but for the padding.
inline std::string zip_bytes(const std::vector<std::pair<std::string, std::string>>& entries,
                             const ZipOptions& options = {}) {
  PickleWriter out;
  out.bytes.clear();
  PickleWriter directory;
  directory.bytes.clear();
  for (const auto& [name, data] : entries) {
    const std::uint64_t offset = out.bytes.size();
    const std::uint32_t crc = crc32(std::as_bytes(std::span(data)));
    const std::uint64_t small = options.is_zip64 ? 0xFFFFFFFFU : data.size();
    out.raw("PK\x03\x04").little(20, 2).little(options.flags, 2).little(options.method, 2).little(0, 4);
    out.little(crc, 4).little(data.size(), 4).little(data.size(), 4).little(name.size(), 2).little(0, 2).raw(name);
    out.raw(data);
    directory.raw("PK\x01\x02").little(20, 2).little(20, 2).little(options.flags, 2).little(options.method, 2);
    directory.little(0, 4).little(crc, 4).little(small, 4).little(small, 4).little(name.size(), 2);
    directory.little(options.is_zip64 ? 28 : 0, 2).little(0, 2).little(0, 2).little(0, 2).little(0, 4);
    directory.little(options.is_zip64 ? 0xFFFFFFFFU : offset, 4).raw(name);
    if (options.is_zip64) {
      directory.little(1, 2).little(24, 2).little(data.size(), 8).little(data.size(), 8).little(offset, 8);
    }
  }
  const std::uint64_t begin = out.bytes.size();
  out.raw(directory.bytes);
  const std::uint64_t end = out.bytes.size();
  if (options.is_zip64) {
    out.raw("PK\x06\x06").little(44, 8).little(45, 2).little(45, 2).little(0, 4).little(0, 4);
    out.little(entries.size(), 8).little(entries.size(), 8).little(end - begin, 8).little(begin, 8);
    out.raw("PK\x06\x07").little(0, 4).little(end, 8).little(1, 4);
  }
  const std::uint64_t n = options.is_zip64 ? 0xFFFF : entries.size();
  out.raw("PK\x05\x06").little(0, 4).little(n, 2).little(n, 2);
  out.little(options.is_zip64 ? 0xFFFFFFFFU : end - begin, 4).little(options.is_zip64 ? 0xFFFFFFFFU : begin, 4);
  out.little(options.comment.size(), 2).raw(options.comment);
  return out.bytes;
}

struct TorchOptions {
  std::string state_key = "weight";           ///< empty: the state dict is all there is
  std::string mark;                           ///< over the first two bytes
  bool has_hparams = false;                   ///< config.model as utils.HParams, as upstream's s2 training saves it
  std::map<std::string, std::int64_t> model;  ///< config.model
  std::string version;                        ///< config.model.version
  bool is_lightning = false;                  ///< config under hyper_parameters, with a path in it
  std::int64_t lora_rank = 0;
  ZipOptions zip;
};

inline const char* storage_name(Dtype dtype) {
  switch (dtype) {
    case Dtype::f16:
      return "HalfStorage";
    case Dtype::bf16:
      return "BFloat16Storage";
    case Dtype::f64:
      return "DoubleStorage";
    case Dtype::i64:
      return "LongStorage";
    default:
      return "FloatStorage";
  }
}

/// Pushes the tensor of storage `key`, dense.
inline void write_tensor(PickleWriter& out, const TestTensor& tensor, const std::string& key) {
  std::vector<std::int64_t> strides(tensor.shape.size());
  std::int64_t dense = 1;
  for (std::size_t i = strides.size(); i-- > 0; dense *= tensor.shape[i]) strides[i] = dense;
  out.global("torch._utils", "_rebuild_tensor_v2").raw("(");
  out.raw("(").text("storage").global("torch", storage_name(tensor.dtype)).text(key).text("cpu");
  out.integer(static_cast<std::int64_t>(count(tensor.shape))).raw("tQ");
  out.integer(0).integers(tensor.shape).integers(strides).raw("\x89").global("collections", "OrderedDict").raw(")RtR");
}

inline void write_config(PickleWriter& out, const TorchOptions& options) {
  const auto begin = [&] { options.has_hparams ? out.global("utils", "HParams").raw(")\x81}(") : out.raw("}("); };
  const auto end = [&] { options.has_hparams ? out.raw("ub") : out.raw("u"); };
  begin();
  out.text("model");
  begin();
  for (const auto& [key, value] : options.model) out.text(key).integer(value);
  if (!options.version.empty()) out.text("version").text(options.version);
  out.text("p_dropout").raw(std::string_view("G\x3f\xb9\x99\x99\x99\x99\x99\x9a", 9));
  end();
  out.text("data").raw("}(").text("max_sec").integer(54).raw("u");
  end();
}

/// The file torch.save would write for such a checkpoint.
inline std::string torch_bytes(const TestState& state, const TorchOptions& options = {}) {
  PickleWriter out;
  std::vector<std::pair<std::string, std::string>> entries(1);
  const auto write_state = [&] {
    out.global("collections", "OrderedDict").raw(")R(");
    for (const auto& [name, tensor] : state) {
      const std::string key = std::to_string(entries.size() - 1);
      out.text(name);
      write_tensor(out, tensor, key);
      entries.emplace_back("archive/data/" + key, tensor.data);
    }
    out.raw("u");
    // What Module.state_dict() hangs on its dicts.
    out.raw("}(").text("_metadata").global("collections", "OrderedDict").raw(")Rub");
  };
  if (options.state_key.empty()) {
    write_state();
  } else {
    out.raw("}(").text(options.state_key);
    write_state();
    out.text("info").text("GPT-e15");
    if (options.is_lightning) {
      out.text("hyper_parameters").raw("}(").text("output_dir");
      out.global("pathlib", "PosixPath").raw("(").text("/").text("logs").raw("tR").text("config");
      write_config(out, options);
      out.raw("u");
    } else if (!options.model.empty() || !options.version.empty()) {
      out.text("config");
      write_config(out, options);
    }
    if (options.lora_rank > 0) out.text("lora_rank").integer(options.lora_rank);
    out.raw("u");
  }
  out.raw(".");
  entries[0] = {"archive/data.pkl", out.bytes};
  entries.emplace_back("archive/version", "3\n");
  entries.emplace_back("archive/byteorder", "little");
  std::string bytes = zip_bytes(entries, options.zip);
  if (!options.mark.empty()) bytes.replace(0, 2, options.mark);
  return bytes;
}

}  // namespace tts::testing
