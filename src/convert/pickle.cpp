#include "src/convert/pickle.h"

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <limits>
#include <stdexcept>
#include <unordered_map>
#include <utility>

#include "src/convert/wording.h"

namespace tts {
namespace {

using Kind = PickleValue::Kind;

/// Becomes an Error at the door.
struct Fault : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// What may be done with a name of the list.
enum class Role { dict, configuration, tensor, parameter, size, path, storage };

struct Name {
  std::string_view name;
  Role role;
  Dtype dtype = Dtype::f32;
};

constexpr std::array<Name, 23> kNames = {{
    {"collections.OrderedDict", Role::dict},
    {"builtins.dict", Role::dict},
    {"__builtin__.dict", Role::dict},
    {"torch._utils._rebuild_tensor_v2", Role::tensor},
    {"torch._utils._rebuild_parameter", Role::parameter},
    {"torch.Size", Role::size},
    {"torch.FloatStorage", Role::storage, Dtype::f32},
    {"torch.HalfStorage", Role::storage, Dtype::f16},
    {"torch.BFloat16Storage", Role::storage, Dtype::bf16},
    {"torch.DoubleStorage", Role::storage, Dtype::f64},
    {"torch.LongStorage", Role::storage, Dtype::i64},
    {"torch.IntStorage", Role::storage, Dtype::i32},
    {"torch.CharStorage", Role::storage, Dtype::i8},
    {"torch.ByteStorage", Role::storage, Dtype::u8},
    {"torch.BoolStorage", Role::storage, Dtype::u8},
    {"utils.HParams", Role::configuration},
    {"GPT_SoVITS.utils.HParams", Role::configuration},
    {"pytorch_lightning.utilities.parsing.AttributeDict", Role::configuration},
    {"lightning_fabric.utilities.data.AttributeDict", Role::configuration},
    {"pathlib.PosixPath", Role::path},
    {"pathlib.WindowsPath", Role::path},
    {"pathlib.PurePosixPath", Role::path},
    {"pathlib.PureWindowsPath", Role::path},
}};

const Name* name_of(const PickleValue& global) {
  const auto found = std::ranges::find(kNames, global.text, &Name::name);
  return found == kNames.end() ? nullptr : &*found;
}

const char* word_for(Kind kind) {
  switch (kind) {
    case Kind::none:
      return "None";
    case Kind::boolean:
      return "a boolean";
    case Kind::integer:
      return "an integer";
    case Kind::real:
      return "a float";
    case Kind::text:
      return "a text";
    case Kind::bytes:
      return "bytes";
    case Kind::tuple:
      return "a tuple";
    case Kind::list:
      return "a list";
    case Kind::dict:
      return "a dict";
    case Kind::global:
      return "a name";
    case Kind::storage:
      return "a storage";
    case Kind::tensor:
      return "a tensor";
  }
  return "a value";
}

}  // namespace

/// The stack machine. Opcodes and their meaning: CPython's documentation of pickletools.
class PickleMachine {
 public:
  explicit PickleMachine(std::span<const std::byte> bytes) : bytes_(bytes) {}

  [[nodiscard]] std::size_t at() const noexcept { return at_; }

  Pickle run() {
    for (;;) {
      const auto opcode = byte();
      switch (opcode) {
        case 0x80: {  // PROTO
          const auto version = byte();
          if (version > 5) throw Fault("got pickle protocol " + std::to_string(version) + ", wanted at most 5");
          break;
        }
        case 0x95:  // FRAME
          (void)take(8);
          break;
        case '.': {  // STOP
          if (stack_.size() != 1) {
            throw Fault("the end leaves " + std::to_string(stack_.size()) + " values, wanted 1");
          }
          result_.root_ = pop();
          result_.size_ = at_;
          return std::move(result_);
        }
        case '(':  // MARK
          if (marks_.size() == Pickle::kMaxValues) throw Fault("more marks than are read");
          marks_.push_back(stack_.size());
          break;
        case '0':  // POP: a value, or the mark above the last one
          if (!marks_.empty() && marks_.back() == stack_.size()) {
            marks_.pop_back();
          } else {
            (void)pop();
          }
          break;
        case '1':  // POP_MARK
          (void)since_mark();
          break;
        case '2':  // DUP
          push(top());
          break;
        case 'N':
          make(Kind::none);
          break;
        case 0x88:
          make(Kind::boolean).integer = 1;
          break;
        case 0x89:
          make(Kind::boolean).integer = 0;
          break;
        case 'J':  // BININT
          make(Kind::integer).integer = static_cast<std::int32_t>(number(4));
          break;
        case 'K':
          make(Kind::integer).integer = static_cast<std::int64_t>(number(1));
          break;
        case 'M':
          make(Kind::integer).integer = static_cast<std::int64_t>(number(2));
          break;
        case 0x8A:  // LONG1
          long_integer(number(1));
          break;
        case 0x8B:  // LONG4
          long_integer(number(4));
          break;
        case 'I':  // INT, with booleans as 00 and 01
        case 'L':  // LONG, with an L behind
          text_integer(line());
          break;
        case 'F':
          text_real(line());
          break;
        case 'G': {  // BINFLOAT, big-endian
          std::uint64_t bits = 0;
          for (int i = 0; i < 8; ++i) bits = (bits << 8U) | byte();
          make(Kind::real).real = std::bit_cast<double>(bits);
          break;
        }
        case 'X':  // BINUNICODE
          text(Kind::text, number(4));
          break;
        case 0x8C:  // SHORT_BINUNICODE
          text(Kind::text, number(1));
          break;
        case 0x8D:  // BINUNICODE8
          text(Kind::text, number(8));
          break;
        case 'U':  // SHORT_BINSTRING
          text(Kind::text, number(1));
          break;
        case 'T':  // BINSTRING
          text(Kind::text, number(4));
          break;
        case 'C':  // SHORT_BINBYTES
          text(Kind::bytes, number(1));
          break;
        case 'B':  // BINBYTES
          text(Kind::bytes, number(4));
          break;
        case 0x8E:  // BINBYTES8
          text(Kind::bytes, number(8));
          break;
        case ')':
          make(Kind::tuple);
          break;
        case 't':
          collect(Kind::tuple, since_mark());
          break;
        case 0x85:
        case 0x86:
        case 0x87: {
          std::vector<PickleValue*> items(opcode - 0x84U);
          for (auto item = items.rbegin(); item != items.rend(); ++item) *item = pop();
          collect(Kind::tuple, items);
          break;
        }
        case ']':
          make(Kind::list);
          break;
        case 'l':
          collect(Kind::list, since_mark());
          break;
        case 'a': {  // APPEND
          PickleValue* item = pop();
          top_of(Kind::list, "APPEND").items.push_back(item);
          break;
        }
        case 'e': {  // APPENDS
          const auto items = since_mark();
          charge(items.size());
          PickleValue& list = top_of(Kind::list, "APPENDS");
          list.items.insert(list.items.end(), items.begin(), items.end());
          break;
        }
        case '}':
          make(Kind::dict);
          break;
        case 'd': {
          const auto items = since_mark();
          if (items.size() % 2 != 0) throw Fault("DICT: a key without a value");
          collect(Kind::dict, items);
          break;
        }
        case 's': {  // SETITEM
          PickleValue* value = pop();
          PickleValue* key = pop();
          PickleValue& dict = top_of(Kind::dict, "SETITEM");
          dict.items.push_back(key);
          dict.items.push_back(value);
          break;
        }
        case 'u': {  // SETITEMS
          const auto items = since_mark();
          if (items.size() % 2 != 0) throw Fault("SETITEMS: a key without a value");
          charge(items.size());
          PickleValue& dict = top_of(Kind::dict, "SETITEMS");
          dict.items.insert(dict.items.end(), items.begin(), items.end());
          break;
        }
        case 'q':  // BINPUT
          memo_put(number(1));
          break;
        case 'r':  // LONG_BINPUT
          memo_put(number(4));
          break;
        case 0x94:  // MEMOIZE
          memo_put(memo_.size());
          break;
        case 'h':
          memo_get(number(1));
          break;
        case 'j':
          memo_get(number(4));
          break;
        case 'c': {  // GLOBAL
          const std::string module = line();
          global(module, line());
          break;
        }
        case 0x93: {  // STACK_GLOBAL
          const PickleValue* name = pop();
          const PickleValue* module = pop();
          if (name->kind != Kind::text || module->kind != Kind::text) throw Fault("STACK_GLOBAL: wanted two texts");
          global(module->text, name->text);
          break;
        }
        case 'R':     // REDUCE
        case 0x81: {  // NEWOBJ
          const PickleValue* arguments = pop();
          const PickleValue* callee = pop();
          call(*callee, *arguments);
          break;
        }
        case 'b': {  // BUILD
          const PickleValue* state = pop();
          build(*state);
          break;
        }
        case 'Q':  // BINPERSID
          persistent(*pop());
          break;
        case 'i': {  // INST
          const std::string module = line();
          throw Fault("refused: instance of " + shown(module + "." + line()) + " (INST)");
        }
        case 0x82:
        case 0x83:
        case 0x84:
          throw Fault("refused: a name by number of the extension registry");
        default: {
          static constexpr char kHex[] = "0123456789abcdef";
          throw Fault(std::string("refused: opcode 0x") + kHex[opcode >> 4U] + kHex[opcode & 0xFU]);
        }
      }
    }
  }

 private:
  std::span<const std::byte> take(std::uint64_t n) {
    if (n > bytes_.size() - at_) throw Fault("cut off: wanted " + std::to_string(n) + " more bytes");
    const auto taken = bytes_.subspan(at_, n);
    at_ += n;
    return taken;
  }
  unsigned byte() { return std::to_integer<unsigned>(take(1)[0]); }
  std::uint64_t number(std::size_t n) {
    std::uint64_t value = 0;
    const auto bytes = take(n);
    for (std::size_t i = 0; i < n; ++i) value |= std::to_integer<std::uint64_t>(bytes[i]) << (8 * i);
    return value;
  }
  std::string line() {
    constexpr std::size_t kLongest = 1024;
    std::string text;
    for (unsigned c = byte(); c != '\n'; c = byte()) {
      text += static_cast<char>(c);
      if (text.size() > kLongest) throw Fault("a line longer than " + std::to_string(kLongest) + " bytes");
    }
    return text;
  }

  PickleValue& make(Kind kind) {
    if (result_.values_->size() == Pickle::kMaxValues) {
      throw Fault("more than " + std::to_string(Pickle::kMaxValues) + " values");
    }
    PickleValue& value = result_.values_->emplace_back();
    value.kind = kind;
    push(&value);
    return value;
  }
  void push(PickleValue* value) {
    if (stack_.size() == Pickle::kMaxValues) throw Fault("stack too deep");
    stack_.push_back(value);
  }
  PickleValue* top() const {
    if (stack_.empty() || (!marks_.empty() && marks_.back() >= stack_.size())) throw Fault("the stack is empty");
    return stack_.back();
  }
  PickleValue* pop() {
    PickleValue* value = top();
    stack_.pop_back();
    return value;
  }
  PickleValue& top_of(Kind kind, const char* opcode) const {
    PickleValue& value = *top();
    if (value.kind != kind) {
      throw Fault(std::string(opcode) + ": got " + word_for(value.kind) + ", wanted " + word_for(kind));
    }
    return value;
  }
  std::vector<PickleValue*> since_mark() {
    if (marks_.empty()) throw Fault("no mark on the stack");
    const auto begin = stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back());
    marks_.pop_back();
    std::vector<PickleValue*> items(begin, stack_.end());
    stack_.erase(begin, stack_.end());
    return items;
  }
  void collect(Kind kind, const std::vector<PickleValue*>& items) {
    charge(items.size());
    make(kind).items.assign(items.begin(), items.end());
  }
  /// Containers may be copied into others, again and again: all together hold a bounded number of items.
  void charge(std::size_t n) {
    n_items_ += n;
    if (n_items_ > Pickle::kMaxItems) throw Fault("more than " + std::to_string(Pickle::kMaxItems) + " items");
  }

  void text(Kind kind, std::uint64_t n) {
    const auto bytes = take(n);
    make(kind).text.assign(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }
  void long_integer(std::uint64_t n) {
    const auto bytes = take(n);
    if (n > 8) {  // only the magic number of torch's old format is that long: kept as bytes
      make(Kind::bytes).text.assign(reinterpret_cast<const char*>(bytes.data()), bytes.size());
      return;
    }
    std::uint64_t value = n > 0 && (std::to_integer<unsigned>(bytes[n - 1]) & 0x80U) != 0 ? ~std::uint64_t{0} : 0;
    for (std::size_t i = n; i-- > 0;) value = (value << 8U) | std::to_integer<std::uint64_t>(bytes[i]);
    make(Kind::integer).integer = static_cast<std::int64_t>(value);
  }
  void text_integer(std::string digits) {
    if (digits == "00" || digits == "01") {
      make(Kind::boolean).integer = digits == "01" ? 1 : 0;
      return;
    }
    if (digits.ends_with('L')) digits.pop_back();
    std::int64_t value = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (error != std::errc() || end != digits.data() + digits.size()) throw Fault("not an integer: " + shown(digits));
    make(Kind::integer).integer = value;
  }
  void text_real(const std::string& digits) {
    double value = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (error != std::errc() || end != digits.data() + digits.size()) throw Fault("not a float: " + shown(digits));
    make(Kind::real).real = value;
  }

  void memo_put(std::uint64_t index) {
    if (memo_.size() >= Pickle::kMaxValues) throw Fault("memo too large");
    memo_[index] = top();
  }
  void memo_get(std::uint64_t index) {
    const auto found = memo_.find(index);
    if (found == memo_.end()) throw Fault("memo " + std::to_string(index) + " was never put");
    push(found->second);
  }

  void global(const std::string& module, const std::string& name) {
    const std::string full = module + "." + name;
    if (std::ranges::find(kNames, full, &Name::name) == kNames.end()) {
      throw Fault("refused: " + shown(full) + " is not on the list of what a checkpoint may refer to");
    }
    make(Kind::global).text = full;
  }

  void call(const PickleValue& callee, const PickleValue& arguments) {
    if (callee.kind != Kind::global || arguments.kind != Kind::tuple) {
      throw Fault(std::string("call: got ") + word_for(callee.kind) + " with " + word_for(arguments.kind) +
                  ", wanted a name with a tuple");
    }
    const Name& name = *name_of(callee);
    const auto& items = arguments.items;
    switch (name.role) {
      case Role::dict:
      case Role::configuration:
        make_dict(name, items);
        return;
      case Role::tensor:
        make_tensor(items);
        return;
      case Role::parameter:
        if (items.empty() || items[0]->kind != Kind::tensor) throw Fault(callee.text + ": wanted a tensor");
        make(Kind::tensor) = PickleValue(*items[0]);
        return;
      case Role::size: {
        if (items.size() != 1 || items[0]->kind != Kind::tuple) throw Fault("torch.Size: wanted a tuple");
        charge(items[0]->items.size());
        make(Kind::tuple).items = items[0]->items;
        return;
      }
      case Role::path: {
        std::string path;
        for (const PickleValue* item : items) {
          if (item->kind != Kind::text || path.size() + item->text.size() > 4096) {
            throw Fault(callee.text + ": wanted texts of a usual path's length");
          }
          path += (path.empty() || path.ends_with('/') ? "" : "/") + item->text;
        }
        make(Kind::text).text = std::move(path);
        return;
      }
      case Role::storage:
        break;
    }
    throw Fault("call: " + callee.text + " is not called in a checkpoint");
  }

  void make_dict(const Name& name, const std::vector<const PickleValue*>& arguments) {
    PickleValue& dict = make(Kind::dict);
    dict.has_attributes = name.role == Role::configuration;
    if (arguments.empty()) return;
    const PickleValue& content = *arguments[0];
    charge(2 * content.items.size());
    if (arguments.size() == 1 && content.kind == Kind::dict) {
      dict.items = content.items;
      return;
    }
    if (arguments.size() != 1 || (content.kind != Kind::list && content.kind != Kind::tuple)) {
      throw Fault(std::string(name.name) + ": wanted no argument or pairs");
    }
    for (const PickleValue* pair : content.items) {
      if ((pair->kind != Kind::tuple && pair->kind != Kind::list) || pair->items.size() != 2) {
        throw Fault(std::string(name.name) + ": wanted pairs");
      }
      dict.items.insert(dict.items.end(), pair->items.begin(), pair->items.end());
    }
  }

  std::vector<std::int64_t> sizes(const PickleValue& value, const char* what) const {
    if (value.kind != Kind::tuple || value.items.size() > Pickle::kMaxAxes) {
      throw Fault(std::string("tensor: ") + what + ": wanted a tuple of at most " + std::to_string(Pickle::kMaxAxes));
    }
    std::vector<std::int64_t> out;
    for (const PickleValue* item : value.items) {
      if (item->kind != Kind::integer || item->integer < 0) {
        throw Fault(std::string("tensor: ") + what + ": wanted integers that are not negative");
      }
      out.push_back(item->integer);
    }
    return out;
  }

  /// (storage, offset, shape, strides, requires_grad, hooks[, metadata])
  void make_tensor(const std::vector<const PickleValue*>& arguments) {
    if (arguments.size() < 4 || arguments[0]->kind != Kind::storage || arguments[1]->kind != Kind::integer ||
        arguments[1]->integer < 0) {
      throw Fault("tensor: wanted (storage, offset, shape, strides, ..)");
    }
    auto shape = sizes(*arguments[2], "shape");
    auto strides = sizes(*arguments[3], "strides");
    if (shape.size() != strides.size()) throw Fault("tensor: wanted as many strides as axes");
    PickleValue& tensor = make(Kind::tensor);
    tensor.items.push_back(arguments[0]);
    tensor.offset = arguments[1]->integer;
    tensor.shape = std::move(shape);
    tensor.strides = std::move(strides);
  }

  void build(const PickleValue& state) {
    PickleValue& object = top_of(Kind::dict, "BUILD");
    if (state.kind == Kind::none) return;
    // An OrderedDict's state is the _metadata of a state dict, which nobody needs.
    if (!object.has_attributes) return;
    if (state.kind != Kind::dict) throw Fault(std::string("BUILD: got ") + word_for(state.kind) + ", wanted a dict");
    charge(state.items.size());
    const std::vector<const PickleValue*> items = state.items;  // the object may be its own state
    object.items.insert(object.items.end(), items.begin(), items.end());
  }

  /// ("storage", type, key, location, number of elements[, view])
  void persistent(const PickleValue& id) {
    if (id.kind != Kind::tuple || id.items.size() < 5 || id.items[0]->text != "storage" ||
        id.items[1]->kind != Kind::global || id.items[2]->kind != Kind::text || id.items[4]->kind != Kind::integer ||
        id.items[4]->integer < 0) {
      throw Fault("persistent id: wanted (\"storage\", type, key, location, number of elements)");
    }
    const Name& name = *name_of(*id.items[1]);
    if (name.role != Role::storage) throw Fault("persistent id: " + id.items[1]->text + " is not a storage");
    if (id.items.size() > 5 && id.items[5]->kind != Kind::none) throw Fault("persistent id: views are not read");
    const PickleValue& key = *id.items[2];
    if (key.text.size() > 256) throw Fault("persistent id: a key of " + std::to_string(key.text.size()) + " bytes");
    const std::int64_t n = id.items[4]->integer;
    PickleValue& storage = make(Kind::storage);
    storage.dtype = name.dtype;
    storage.text = key.text;
    storage.integer = n;
  }

  std::span<const std::byte> bytes_;
  std::size_t at_ = 0;
  Pickle result_;
  std::vector<PickleValue*> stack_;
  std::vector<std::size_t> marks_;
  std::unordered_map<std::uint64_t, PickleValue*> memo_;
  std::size_t n_items_ = 0;
};

const PickleValue* PickleValue::find(std::string_view key) const {
  if (kind != Kind::dict) return nullptr;
  for (std::size_t i = items.size(); i >= 2; i -= 2) {
    if (items[i - 2]->kind == Kind::text && items[i - 2]->text == key) return items[i - 1];
  }
  return nullptr;
}

Result<Pickle> Pickle::parse(std::span<const std::byte> bytes, std::string_view label) {
  PickleMachine machine(bytes.first(std::min(bytes.size(), kMaxBytes)));
  try {
    return machine.run();
  } catch (const Fault& fault) {
    return Error{Errc::bad_file,
                 std::string(label) + ": at byte " + std::to_string(machine.at()) + ": " + fault.what()};
  }
}

}  // namespace tts
