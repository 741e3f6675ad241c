#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "src/core/result.h"
#include "src/core/safetensors.h"

namespace tts {

/// One value of a pickle. Owned by its Pickle; values may be shared, and a hostile file may make them contain
/// themselves, so walk them by known keys only.
struct PickleValue {
  enum class Kind { none, boolean, integer, real, text, bytes, tuple, list, dict, global, storage, tensor };

  Kind kind = Kind::none;
  bool has_attributes = false;  ///< a dict that stands for an object of a configuration class
  std::int64_t integer = 0;     ///< boolean, integer; storage: number of elements
  double real = 0;
  std::string text;                       ///< text, bytes; global: "module.name"; storage: its key
  Dtype dtype = Dtype::f32;               ///< storage
  std::vector<const PickleValue*> items;  ///< tuple, list; dict: key, value, key, value ..; tensor: its storage
  std::int64_t offset = 0;                ///< tensor, in elements of its storage
  std::vector<std::int64_t> shape;        ///< tensor
  std::vector<std::int64_t> strides;      ///< tensor, in elements; as many as axes, none negative

  /// The value of a dict under a text key: the last one given, as in Python. nullptr when there is none, or no dict.
  [[nodiscard]] const PickleValue* find(std::string_view key) const;
};

/// Reads Python pickles of checkpoints without executing anything: a machine for the opcodes that build plain values
/// (None, numbers, strings, tuples, lists, dicts, tensors), with a list of the names that a pickle may refer to:
///
///   collections.OrderedDict, builtins.dict                                       dicts
///   torch._utils._rebuild_tensor_v2, _rebuild_parameter; torch.*Storage          tensors
///   torch.Size                                                                   a tuple
///   utils.HParams, pytorch_lightning.utilities.parsing.AttributeDict             dicts (configurations)
///   pathlib.PosixPath, WindowsPath, and their Pure forms                         texts
///
/// Any other name is refused with the name in the error, before anything is done with it; so is every opcode that is
/// not known. Bounded: kMaxBytes of pickle, kMaxValues values, kMaxItems in all containers together. The machine does
/// not recurse.
class Pickle {
 public:
  static constexpr std::size_t kMaxBytes = 64U << 20U;
  static constexpr std::size_t kMaxValues = 1U << 20U;
  static constexpr std::size_t kMaxItems = 4U << 20U;
  static constexpr std::size_t kMaxAxes = 8;

  /// Reads one pickle from the start of `bytes`, which need not live on. Errc::bad_file "<label>: at byte N: ..".
  [[nodiscard]] static Result<Pickle> parse(std::span<const std::byte> bytes, std::string_view label);

  [[nodiscard]] const PickleValue& root() const noexcept { return *root_; }
  /// Bytes the pickle took.
  [[nodiscard]] std::size_t size() const noexcept { return size_; }

 private:
  friend class PickleMachine;
  std::unique_ptr<std::deque<PickleValue>> values_ = std::make_unique<std::deque<PickleValue>>();
  const PickleValue* root_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace tts
