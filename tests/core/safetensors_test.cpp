#include "src/core/safetensors.h"

#include <unistd.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>
#include <optional>
#include <string>

#include "tests/doctest.h"

using tts::Dtype;
using tts::SafeTensors;
using tts::TensorView;

namespace {

using Bytes = std::vector<std::byte>;

/// A file with this header text and `n_data` data bytes 0, 1, 2, ...
Bytes file_with(const std::string& header, std::size_t n_data) {
  Bytes out;
  for (int i = 0; i < 8; ++i)
    out.push_back(static_cast<std::byte>(static_cast<std::uint64_t>(header.size()) >> (8 * i)));
  for (const char c : header) out.push_back(static_cast<std::byte>(c));
  for (std::size_t i = 0; i < n_data; ++i) out.push_back(static_cast<std::byte>(i));
  return out;
}

template <class T>
std::span<const std::byte> bytes_of(const std::vector<T>& values) {
  return std::as_bytes(std::span(values));
}

/// The error detail of a file that must be refused with Errc::bad_file and name the label.
std::string refusal(const Bytes& bytes) {
  const auto result = SafeTensors::parse(bytes, "voice.safetensors");
  if (result) return "accepted";
  CHECK(result.error().code == tts::Errc::bad_file);
  CHECK(result.error().detail.starts_with("voice.safetensors: "));
  return result.error().detail;
}

std::string refusal(const std::string& header, std::size_t n_data) {
  return refusal(file_with(header, n_data));
}

bool has(const std::string& text, const std::string& part) {
  if (text.find(part) != std::string::npos) return true;
  MESSAGE(text);
  return false;
}

struct TemporaryFolder {
  std::filesystem::path path =
      std::filesystem::temp_directory_path() / ("sonorant-core-test-" + std::to_string(::getpid()));
  TemporaryFolder() { std::filesystem::create_directories(path); }
  ~TemporaryFolder() { std::filesystem::remove_all(path); }
};

}  // namespace

TEST_SUITE("core/safetensors") {
  TEST_CASE("a file as other tools write it is read: order of bytes, shapes, scalar, empty, metadata, padding") {
    const Bytes file =
        file_with(R"({"__metadata__":{"format":"pt"},"b":{"dtype":"I32","shape":[],"data_offsets":[6,10]},)"
                  R"("none":{"dtype":"F32","shape":[0,5],"data_offsets":[6,6]},)"
                  R"("a":{"dtype":"U8","shape":[2,3],"data_offsets":[0,6]}}     )",
                  10);
    const auto tensors = SafeTensors::parse(file, "x");
    REQUIRE(tensors);
    REQUIRE(tensors->tensors().size() == 3);
    CHECK(tensors->tensors()[0].name == "a");
    CHECK(tensors->metadata().at("format") == "pt");
    const auto a = tensors->get("a");
    REQUIRE(a);
    CHECK(a->shape == std::vector<std::int64_t>{2, 3});
    CHECK(a->numel() == 6);
    CHECK(a->data.size() == 6);
    CHECK(a->data[5] == std::byte{5});
    REQUIRE(tensors->find("b") != nullptr);
    CHECK(tensors->find("b")->numel() == 1);
    CHECK(tensors->find("b")->data[0] == std::byte{6});
    CHECK(tensors->find("none")->numel() == 0);
    CHECK(tensors->find("c") == nullptr);
    CHECK(has(tensors->get("c").error().detail, "x: tensor c: missing"));
    const std::int64_t wanted[] = {3, 2};
    CHECK(has(tensors->get("a", wanted).error().detail, "got shape [2, 3], wanted [3, 2]"));
  }

  TEST_CASE("what is written is read back, from memory and from a file, for every dtype") {
    const std::vector<float> f32 = {1.5F, -2.0F, 3.25F};
    const std::vector<std::uint16_t> half = {0x3C00, 0xC000};  // 1, -2
    const std::vector<std::uint16_t> brain = {0x3F80, 0xC000};
    const std::vector<double> f64 = {0.5};
    const std::vector<std::int64_t> i64 = {-9};
    const std::vector<std::int32_t> i32 = {7, 8, 9, 10};
    const std::vector<std::int8_t> i8 = {-1};
    const std::vector<std::uint8_t> u8 = {255, 1};
    const std::vector<TensorView> list = {
        {"f32", Dtype::f32, {3}, bytes_of(f32)},     {"f16", Dtype::f16, {1, 2}, bytes_of(half)},
        {"bf16", Dtype::bf16, {2}, bytes_of(brain)}, {"f64", Dtype::f64, {}, bytes_of(f64)},
        {"i64", Dtype::i64, {1}, bytes_of(i64)},     {"i32", Dtype::i32, {2, 2}, bytes_of(i32)},
        {"i8", Dtype::i8, {1}, bytes_of(i8)},        {"q\"uo\\te\n\xC3\xA9", Dtype::u8, {2}, bytes_of(u8)},
    };
    const TemporaryFolder folder;
    const auto path = folder.path / "round.safetensors";
    REQUIRE(tts::write_safetensors(path, list, {{"licence", "CC0 \"x\""}}));
    const auto read = SafeTensors::open(path);
    REQUIRE(read);
    CHECK(read->metadata().at("licence") == "CC0 \"x\"");
    REQUIRE(read->tensors().size() == list.size());
    for (std::size_t i = 0; i < list.size(); ++i) {
      const TensorView& got = read->tensors()[i];
      CAPTURE(list[i].name);
      CHECK(got.name == list[i].name);
      CHECK(got.dtype == list[i].dtype);
      CHECK(got.shape == list[i].shape);
      REQUIRE(got.data.size() == list[i].data.size());
      CHECK(std::memcmp(got.data.data(), list[i].data.data(), got.data.size()) == 0);
    }
    CHECK(tts::to_floats(*read->get("f32")).value() == f32);
    CHECK(tts::to_floats(*read->get("f16")).value() == std::vector<float>{1, -2});
    CHECK(tts::to_floats(*read->get("bf16")).value() == std::vector<float>{1, -2});
    CHECK(tts::to_floats(*read->get("f64")).value() == std::vector<float>{0.5F});
    CHECK(!tts::to_floats(*read->get("i32")));

    // The mapping lives as long as any copy does.
    std::optional<SafeTensors> first = SafeTensors::open(path).value();
    const SafeTensors copy = *first;
    first.reset();
    CHECK(tts::to_floats(*copy.find("f32")).value() == f32);
  }

  TEST_CASE("the writer refuses what the reader would") {
    const std::vector<float> two = {1, 2};
    const auto detail = [](const std::vector<TensorView>& list) {
      const auto result = tts::to_safetensors(list);
      return result ? std::string("accepted") : result.error().detail;
    };
    CHECK(has(detail({{"a", Dtype::f32, {3}, bytes_of(two)}}), "got 8 bytes, wanted 12"));
    CHECK(has(detail({{"a", Dtype::f32, {2}, bytes_of(two)}, {"a", Dtype::f32, {2}, bytes_of(two)}}), "twice"));
    CHECK(has(detail({{"__metadata__", Dtype::f32, {2}, bytes_of(two)}}), "reserved"));
    CHECK(has(detail({{"\xFF", Dtype::f32, {2}, bytes_of(two)}}), "UTF-8"));
    CHECK(has(detail({{"a", Dtype::f32, {-1, -2}, bytes_of(two)}}), "that fits"));
  }

  TEST_CASE("a corrupt file is refused with file, tensor, got and wanted") {
    const std::string good = R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
    REQUIRE(SafeTensors::parse(file_with(good, 8), "x"));
    CHECK(has(refusal(Bytes(7)), "got 7 bytes, wanted at least 8"));
    CHECK(has(refusal(good, 4), "got bytes 0..8, wanted a range within 0..4"));
    CHECK(has(refusal(good, 9), "got 9 bytes of tensor data, wanted 8"));

    Bytes huge = file_with(good, 8);
    for (int i = 0; i < 8; ++i) huge[i] = std::byte{0xFF};
    CHECK(has(refusal(huge), "header length: got 18446744073709551615"));
    Bytes one_more = file_with(good, 0);
    one_more[0] = static_cast<std::byte>(good.size() + 1);
    CHECK(has(refusal(one_more), "header length: got 55, wanted at most 54"));
    CHECK(has(refusal("", 0), "not valid JSON"));
    CHECK(has(refusal("[]", 0), "wanted a JSON object"));
    CHECK(has(refusal(good + "x", 8), "not valid JSON"));
    CHECK(has(refusal("{\"w\xFF\":1}", 0), "not valid JSON"));
    CHECK(has(refusal(std::string(2000, '['), 0), "not valid JSON"));

    CHECK(has(refusal(R"({"w":1})", 0), "tensor w: wanted an object"));
    CHECK(has(refusal(R"({"w":{"dtype":"F32","shape":[2]}})", 8), "tensor w: missing field data_offsets"));
    CHECK(has(refusal(R"({"w":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 8), "dtype twice"));
    CHECK(has(refusal(R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"pickle":1}})", 8),
              "unknown field pickle"));
    CHECK(has(refusal(R"({"w":{"dtype":"BOOL","shape":[2],"data_offsets":[0,2]}})", 2), "got BOOL, wanted F64"));
    CHECK(has(refusal(R"({"w":{"dtype":4,"shape":[2],"data_offsets":[0,8]}})", 8), "dtype: wanted a string"));
    CHECK(has(refusal(R"({"w":{"dtype":"F32","shape":2,"data_offsets":[0,8]}})", 8), "shape: wanted an array"));
    CHECK(has(refusal(R"({"w":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})", 8), "shape: wanted integers"));
    CHECK(has(refusal(R"({"w":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}})", 8), "shape: wanted integers"));
    CHECK(has(refusal(R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8,9]}})", 8), "got 3 numbers, wanted 2"));
    CHECK(has(refusal(R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[0,18446744073709551615]}})", 8),
              "data_offsets: wanted integers"));
    CHECK(has(refusal(R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})", 8), "got bytes 8..0"));
    CHECK(has(refusal(R"({"w":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", 8),
              "got 8 bytes, wanted 12 for F32 [3]"));
    // 2^62 * 4 bytes wraps to 0: must not pass for an empty tensor.
    CHECK(
        has(refusal(R"({"w":{"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,0]}})", 0), "does not fit"));
    CHECK(has(refusal(R"({"w":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}})", 0),
              "does not fit"));
    CHECK(has(refusal(R"({"w":{"dtype":"U8","shape":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1],"data_offsets":[0,1]}})", 1),
              "got 17 axes, wanted at most 16"));

    const auto two = [](const std::string& first, const std::string& a, const std::string& second,
                        const std::string& b) {
      return "{\"" + first + R"(":{"dtype":"U8","shape":[4],"data_offsets":)" + a + "},\"" + second +
             R"(":{"dtype":"U8","shape":[4],"data_offsets":)" + b + "}}";
    };
    REQUIRE(SafeTensors::parse(file_with(two("a", "[0,4]", "b", "[4,8]"), 8), "x"));
    CHECK(has(refusal(two("a", "[0,4]", "b", "[2,6]"), 6), "tensor b: got bytes 2..6, wanted a start at 4 (overlaps"));
    CHECK(has(refusal(two("a", "[0,4]", "b", "[0,4]"), 4), "overlaps"));
    CHECK(has(refusal(two("a", "[0,4]", "b", "[5,9]"), 9), "gap before it"));
    CHECK(has(refusal(two("a", "[0,4]", "a", "[4,8]"), 8), "tensor a twice"));
    CHECK(has(refusal(R"({"__metadata__":{"a":1}})", 0), "__metadata__: a: wanted a string"));
    CHECK(has(refusal(R"({"__metadata__":[]})", 0), "__metadata__: wanted an object"));
    CHECK(has(refusal(two("bad\\nname", "[0,4]", "b", "[2,6]"), 6), "tensor b"));
  }

  TEST_CASE("every truncation and every flipped byte of a good file is answered, never a crash") {
    const std::vector<float> w = {1, 2, 3, 4};
    const std::vector<TensorView> list = {{"layer.weight", Dtype::f32, {2, 2}, bytes_of(w)},
                                          {"layer.bias", Dtype::f16, {8}, bytes_of(w)}};
    const Bytes good = tts::to_safetensors(list).value();
    REQUIRE(SafeTensors::parse(good, "x"));
    for (std::size_t n = 0; n < good.size(); ++n) {
      CAPTURE(n);
      const Bytes cut(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(n));
      CHECK(!SafeTensors::parse(cut, "x"));
    }
    for (std::size_t i = 0; i < good.size(); ++i) {
      for (const unsigned mask : {0x01U, 0x80U, 0xFFU}) {
        Bytes flipped = good;
        flipped[i] ^= static_cast<std::byte>(mask);
        const auto result = SafeTensors::parse(flipped, "x");
        if (!result) continue;
        for (const TensorView& view : result->tensors()) {
          CHECK(view.data.size() == static_cast<std::size_t>(view.numel()) * tts::size_of(view.dtype));
          if (!view.data.empty()) {
            CHECK(view.data.data() >= flipped.data());
            CHECK(view.data.data() + view.data.size() <= flipped.data() + flipped.size());
          }
        }
      }
    }
  }

  TEST_CASE("files that are missing, folders, empty or cut are named") {
    const TemporaryFolder folder;
    CHECK(has(SafeTensors::open(folder.path / "no.safetensors").error().detail, "no.safetensors: cannot open"));
    CHECK(has(SafeTensors::open(folder.path).error().detail, "not a regular file"));
    std::ofstream(folder.path / "empty.safetensors").close();
    CHECK(has(SafeTensors::open(folder.path / "empty.safetensors").error().detail, "got 0 bytes"));
    const std::vector<TensorView> none;
    CHECK(!tts::write_safetensors(folder.path / "no" / "folder.safetensors", none));
    REQUIRE(tts::write_safetensors(folder.path / "none.safetensors", none));
    CHECK(SafeTensors::open(folder.path / "none.safetensors")->tensors().empty());
    CHECK(!std::filesystem::exists(folder.path / "none.safetensors.part"));
  }

  TEST_CASE("half and bfloat16 become the exact float") {
    CHECK(tts::half_to_float(0x0000) == 0.0F);
    CHECK(std::signbit(tts::half_to_float(0x8000)));
    CHECK(tts::half_to_float(0x3555) == doctest::Approx(0.333252F).epsilon(1e-6));
    CHECK(tts::half_to_float(0x7BFF) == 65504.0F);
    CHECK(tts::half_to_float(0x0001) == std::ldexp(1.0F, -24));
    CHECK(tts::half_to_float(0x83FF) == -std::ldexp(1023.0F, -24));
    CHECK(tts::half_to_float(0x7C00) == std::numeric_limits<float>::infinity());
    CHECK(std::isnan(tts::half_to_float(0x7E00)));
    CHECK(tts::bfloat16_to_float(0x3FC0) == 1.5F);
#ifdef __FLT16_MANT_DIG__
    for (std::uint32_t bits = 0; bits <= 0xFFFF; ++bits) {
      const auto half = static_cast<std::uint16_t>(bits);
      const auto reference = static_cast<float>(std::bit_cast<_Float16>(half));
      const float got = tts::half_to_float(half);
      if (!(std::isnan(reference) && std::isnan(got)) && reference != got) FAIL_CHECK(bits);
    }
#endif
  }
}
