#include "src/convert/checkpoint.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <utility>

#include "src/convert/wording.h"
#include "src/core/digest.h"
#include "src/core/utf8.h"

namespace tts {
namespace {

using Kind = PickleValue::Kind;

/// The pickled magic number that begins torch's form before 1.6.
constexpr std::array<unsigned char, 15> kOldMagic = {0x80, 0x02, 0x8A, 0x0A, 0x6C, 0xFC, 0x9C, 0x46,
                                                     0xF9, 0x20, 0x6A, 0xA8, 0x50, 0x19, '.'};

bool is_digit(std::byte byte) {
  return byte >= std::byte{'0'} && byte <= std::byte{'9'};
}

}  // namespace

Result<Checkpoint> Checkpoint::open(const std::filesystem::path& file) {
  auto mapping = MappedFile::open(file);
  if (!mapping) return mapping.error();
  auto checkpoint = parse((*mapping)->bytes(), file.string());
  if (checkpoint) checkpoint->mapping_ = *mapping;
  return checkpoint;
}

Result<Checkpoint> Checkpoint::parse(std::span<const std::byte> bytes, std::string_view label) {
  Checkpoint checkpoint;
  checkpoint.label_ = std::string(label);
  // Tensors may share a storage; a file cannot make more than twice its size of them.
  checkpoint.budget_ = 2 * bytes.size();
  Digest md5 = Digest::md5();
  md5.update(bytes.first(std::min<std::size_t>(bytes.size(), 8192)));
  checkpoint.head_md5_ = md5.finish();
  if (auto read = checkpoint.read(bytes); !read) return read.error();
  return checkpoint;
}

Result<void> Checkpoint::read(std::span<const std::byte> bytes) {
  const auto bad = [&](const std::string& what) { return Error{Errc::bad_file, label_ + ": " + what}; };
  if (bytes.size() >= kOldMagic.size() && std::memcmp(bytes.data(), kOldMagic.data(), kOldMagic.size()) == 0) {
    return read_old_form(bytes);
  }
  if (bytes.size() < 4) return bad("got " + std::to_string(bytes.size()) + " bytes, wanted a checkpoint of torch");
  const bool is_marked =
      is_digit(bytes[0]) && is_digit(bytes[1]) && bytes[2] == std::byte{3} && bytes[3] == std::byte{4};
  if (is_marked) {
    mark_.assign(reinterpret_cast<const char*>(bytes.data()), 2);
  } else if (bytes[0] != std::byte{'P'} || bytes[1] != std::byte{'K'}) {
    return bad(
        "wanted a checkpoint of torch: neither a zip archive (with or without a version mark) nor torch's old form");
  }
  auto archive = ZipArchive::parse(bytes, label_, is_marked);
  if (!archive) return archive.error();
  archive_ = std::move(*archive);

  const ZipArchive::Entry* pickle = nullptr;
  for (const ZipArchive::Entry& entry : archive_->entries()) {
    if (!entry.name.ends_with("/data.pkl")) continue;
    if (pickle != nullptr) return bad("two entries named data.pkl");
    pickle = &entry;
  }
  if (pickle == nullptr) return bad("a zip archive without data.pkl: not a checkpoint of torch");
  folder_ = pickle->name.substr(0, pickle->name.size() - std::string_view("data.pkl").size());
  if (const auto* order = archive_->find(folder_ + "byteorder"); order != nullptr) {
    const std::string_view text(reinterpret_cast<const char*>(order->data.data()), order->data.size());
    if (text != "little") return bad("byteorder: got " + shown(text) + ", wanted little");
  }
  if (pickle->data.size() > Pickle::kMaxBytes) {
    return bad("data.pkl: got " + std::to_string(pickle->data.size()) + " bytes, wanted at most " +
               std::to_string(Pickle::kMaxBytes));
  }
  if (!is_intact(*pickle)) return bad("data.pkl: damaged: its checksum is not the archive's");
  auto parsed = Pickle::parse(pickle->data, label_ + ": data.pkl");
  if (!parsed) return parsed.error();
  pickle_ = std::move(*parsed);
  return {};
}

/// Magic number, protocol version, facts of the system, the object, the list of storage keys: five pickles. Then per
/// key the number of elements (8 bytes, little-endian) and the elements.
Result<void> Checkpoint::read_old_form(std::span<const std::byte> bytes) {
  const auto bad = [&](const std::string& what) { return Error{Errc::bad_file, label_ + ": " + what}; };
  std::size_t at = 0;
  std::optional<Pickle> keys;
  for (const char* part : {"magic number", "version", "system", "object", "keys"}) {
    auto parsed = Pickle::parse(bytes.subspan(at), label_ + ": " + part);
    if (!parsed) return parsed.error();
    at += parsed->size();
    const std::string_view name(part);
    if (name == "version" && (parsed->root().kind != Kind::integer || parsed->root().integer != 1001)) {
      return bad("torch's old form: wanted version 1001");
    }
    if (name == "system") {
      const PickleValue* little = parsed->root().find("little_endian");
      if (little != nullptr && little->integer == 0) return bad("byteorder: got big, wanted little");
    }
    if (name == "object") pickle_ = std::move(*parsed);
    if (name == "keys") keys = std::move(*parsed);
  }
  if (keys->root().kind != Kind::list) return bad("torch's old form: wanted a list of storage keys");
  // Sizes of elements are known from the storages the object refers to: walk what can be reached of it.
  std::map<std::string, std::size_t, std::less<>> element_sizes;
  std::vector<const PickleValue*> open{&pickle_->root()};
  std::map<const PickleValue*, bool> seen;
  while (!open.empty()) {
    const PickleValue* value = open.back();
    open.pop_back();
    if (!seen.emplace(value, true).second) continue;
    if (value->kind == Kind::storage) element_sizes.emplace(value->text, size_of(value->dtype));
    open.insert(open.end(), value->items.begin(), value->items.end());
  }
  for (const PickleValue* key : keys->root().items) {
    const auto size = key->kind == Kind::text ? element_sizes.find(key->text) : element_sizes.end();
    if (size == element_sizes.end()) return bad("torch's old form: a storage that nothing refers to");
    if (bytes.size() - at < 8) return bad("cut off before storage " + shown(key->text));
    std::uint64_t n = 0;
    for (std::size_t i = 0; i < 8; ++i) n |= std::to_integer<std::uint64_t>(bytes[at + i]) << (8 * i);
    at += 8;
    if (n > (bytes.size() - at) / size->second) return bad("cut off in storage " + shown(key->text));
    old_storages_[key->text] = bytes.subspan(at, n * size->second);
    at += n * size->second;
  }
  return {};
}

Result<std::vector<TensorView>> Checkpoint::tensors(const PickleValue& dict) {
  std::map<std::string_view, const PickleValue*> last;
  std::vector<const PickleValue*> order;
  for (std::size_t i = 0; i + 1 < dict.items.size() && dict.kind == Kind::dict; i += 2) {
    const PickleValue& key = *dict.items[i];
    if (key.kind != Kind::text || dict.items[i + 1]->kind != Kind::tensor) continue;
    if (last.insert_or_assign(key.text, dict.items[i + 1]).second) order.push_back(&key);
  }
  std::vector<TensorView> views;
  views.reserve(order.size());
  for (const PickleValue* key : order) {
    auto made = view(key->text, *last.at(key->text));
    if (!made) return made.error();
    views.push_back(std::move(*made));
  }
  return views;
}

Result<TensorView> Checkpoint::view(const std::string& name, const PickleValue& tensor) {
  const std::string where = label_ + ": tensor " + shown(name) + ": ";
  const auto bad = [&](const std::string& what) { return Error{Errc::bad_file, where + what}; };
  if (!utf8::is_valid(name)) return bad("its name is not UTF-8");
  const PickleValue& storage = *tensor.items[0];
  std::span<const std::byte> data;
  if (archive_) {
    const ZipArchive::Entry* entry = archive_->find(folder_ + "data/" + storage.text);
    if (entry == nullptr) return bad("its storage " + shown(storage.text) + " is missing");
    data = entry->data;
  } else {
    const auto found = old_storages_.find(storage.text);
    if (found == old_storages_.end()) return bad("its storage " + shown(storage.text) + " is missing");
    data = found->second;
  }
  const std::size_t element = size_of(storage.dtype);
  const std::uint64_t n_stored = data.size() / element;
  if (static_cast<std::uint64_t>(storage.integer) > n_stored) {
    return bad("its storage " + shown(storage.text) + " holds " + std::to_string(data.size()) + " bytes, wanted " +
               std::to_string(storage.integer) + " elements of " + std::to_string(element));
  }

  TensorView out;
  out.name = name;
  out.dtype = storage.dtype;
  out.shape = tensor.shape;
  std::uint64_t n = 1;
  for (const std::int64_t size : tensor.shape) {
    if (__builtin_mul_overflow(n, static_cast<std::uint64_t>(size), &n)) n = ~std::uint64_t{0};
    if (size == 0) break;
  }
  if (std::ranges::find(tensor.shape, 0) != tensor.shape.end()) return out;
  if (n > n_stored) {
    return bad("shape " + to_text(tensor.shape) + " has more elements than its storage, which has " +
               std::to_string(n_stored));
  }
  // The last element it touches; the sum cannot overflow unseen.
  std::uint64_t last = static_cast<std::uint64_t>(tensor.offset);
  bool is_row = true;
  std::int64_t dense = 1;
  for (std::size_t i = tensor.shape.size(); i-- > 0;) {
    std::uint64_t reach = 0;
    if (__builtin_mul_overflow(static_cast<std::uint64_t>(tensor.shape[i] - 1),
                               static_cast<std::uint64_t>(tensor.strides[i]), &reach) ||
        __builtin_add_overflow(last, reach, &last)) {
      return bad("strides " + to_text(tensor.strides) + " leave its storage");
    }
    is_row = is_row && (tensor.shape[i] == 1 || tensor.strides[i] == dense);
    dense *= tensor.shape[i];
  }
  if (last >= n_stored) {
    return bad("offset " + std::to_string(tensor.offset) + " with shape " + to_text(tensor.shape) +
               " leaves its storage, which has " + std::to_string(n_stored) + " elements");
  }
  if (n * element > budget_) return bad("its tensors together are larger than the file twice over");
  budget_ -= n * element;
  if (is_row) {
    out.data = data.subspan(static_cast<std::size_t>(tensor.offset) * element, n * element);
    return out;
  }
  const auto copy = std::make_shared<std::vector<std::byte>>(n * element);
  std::vector<std::int64_t> index(tensor.shape.size(), 0);
  for (std::uint64_t i = 0; i < n; ++i) {
    std::size_t from = static_cast<std::size_t>(tensor.offset);
    for (std::size_t axis = 0; axis < index.size(); ++axis) {
      from += static_cast<std::size_t>(index[axis] * tensor.strides[axis]);
    }
    std::memcpy(copy->data() + i * element, data.data() + from * element, element);
    for (std::size_t axis = index.size(); axis-- > 0;) {
      if (++index[axis] < tensor.shape[axis]) break;
      index[axis] = 0;
    }
  }
  out.data = *copy;
  copies_.push_back(copy);
  return out;
}

Result<void> Checkpoint::check(const std::function<void(std::size_t)>& progress) const {
  if (!archive_) return {};
  for (const ZipArchive::Entry& entry : archive_->entries()) {
    if (!entry.name.starts_with(folder_ + "data/")) continue;
    if (!is_intact(entry)) {
      return Error{Errc::bad_file,
                   label_ + ": entry " + shown(entry.name) + ": damaged: its checksum is not the archive's"};
    }
    if (progress) progress(entry.data.size());
  }
  return {};
}

}  // namespace tts
