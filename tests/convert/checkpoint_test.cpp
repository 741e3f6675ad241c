#include "src/convert/checkpoint.h"

#include <string>

#include "tests/app/temporary_folder.h"
#include "tests/convert/torch_file.h"
#include "tests/doctest.h"

TEST_SUITE("convert/checkpoint") {
  using namespace tts;
  using namespace tts::testing;

  static Result<Checkpoint> parsed(const std::string& bytes) {
    return Checkpoint::parse(std::as_bytes(std::span(bytes)), "a.pth");
  }
  static void refused(const std::string& bytes, std::string_view words) {
    CAPTURE(words);
    auto checkpoint = parsed(bytes);
    std::string detail;
    if (!checkpoint) {
      detail = checkpoint.error().detail;
    } else {
      const PickleValue* state = checkpoint->root().find("weight");
      const auto tensors = checkpoint->tensors(state != nullptr ? *state : checkpoint->root());
      if (!tensors) detail = tensors.error().detail;
    }
    CAPTURE(detail);
    CHECK(detail.starts_with("a.pth: "));
    CHECK(detail.find(words) != std::string::npos);
    CHECK(detail.find('\n') == std::string::npos);
  }

  static std::vector<float> floats(const std::vector<TensorView>& tensors, std::string_view name) {
    for (const TensorView& tensor : tensors) {
      if (tensor.name == name) return to_floats(tensor).value();
    }
    FAIL("no tensor " << std::string(name));
    return {};
  }
  static std::vector<std::int64_t> shape(const std::vector<TensorView>& tensors, std::string_view name) {
    for (const TensorView& tensor : tensors) {
      if (tensor.name == name) return tensor.shape;
    }
    return {-1};
  }

  // Written by torch 2.15 through scripts/generate_checkpoint.py; the old form is that of torch before 1.6.
  TEST_CASE("what torch itself writes, in all its forms") {
    for (const char* name : {"new.pth", "marked.pth", "old.pth", "lightning.ckpt"}) {
      CAPTURE(name);
      auto checkpoint = Checkpoint::open(std::filesystem::path("tests/convert/data") / name);
      REQUIRE(checkpoint);
      CHECK(checkpoint->mark() == (std::string(name) == "marked.pth" ? "05" : ""));
      const PickleValue* state =
          checkpoint->root().find(std::string(name) == "lightning.ckpt" ? "state_dict" : "weight");
      REQUIRE(state != nullptr);
      const auto tensors = checkpoint->tensors(*state);
      REQUIRE(tensors);
      CHECK(tensors->size() == 12);
      CHECK(floats(*tensors, "half") == std::vector<float>{1.5F, -2.0F, 0.25F, 65504.0F, 0.0F, 0x1p-24F});
      CHECK(floats(*tensors, "bfloat")[1] == -3.0F);
      CHECK(floats(*tensors, "double")[0] == static_cast<float>(1.0 / 3.0));
      CHECK(shape(*tensors, "scalar").empty());
      CHECK(floats(*tensors, "scalar") == std::vector<float>{2.5F});
      CHECK(shape(*tensors, "empty") == std::vector<std::int64_t>{0, 3});
      CHECK(floats(*tensors, "parameter") == std::vector<float>{7.0F});
      const auto whole = floats(*tensors, "whole");
      REQUIRE(whole.size() == 24);
      CHECK(whole[23] == 5.75F);
      const auto transposed = floats(*tensors, "transposed");
      CHECK(shape(*tensors, "transposed") == std::vector<std::int64_t>{6, 4});
      for (std::size_t i = 0; i < 24; ++i) CHECK(transposed[i] == whole[(i % 4) * 6 + i / 4]);
      CHECK(floats(*tensors, "rows") == std::vector<float>(whole.begin() + 6, whole.begin() + 18));
      CHECK(floats(*tensors, "steps") == std::vector<float>{0.25F, 0.75F, 1.25F, 3.25F, 3.75F, 4.25F});
      CHECK(checkpoint->check());
      const PickleValue* config = checkpoint->root().find("config");
      if (config != nullptr) {
        CHECK(config->find("model")->find("gin_channels")->integer == 512);
        CHECK(config->find("model")->find("version")->text == "v2");
        CHECK(config->find("train")->find("eps")->real == 1e-9);
      } else {
        const PickleValue* saved = checkpoint->root().find("hyper_parameters");
        CHECK(saved->find("output_dir")->text == "/logs/s1");
        CHECK(saved->find("config")->find("model")->find("n_layer")->integer == 24);
      }
    }
  }

  TEST_CASE("files of torch that are cut off anywhere are refused") {
    for (const char* name : {"new.pth", "old.pth"}) {
      const std::string good = read_text(std::filesystem::path("tests/convert/data") / name);
      REQUIRE(parsed(good));
      for (std::size_t n = 0; n < good.size(); n += 3) CHECK(!parsed(good.substr(0, n)));
    }
  }

  TEST_CASE("a damaged part is found by its checksum") {
    TestState state{{"a", make_tensor("a", {8, 8}, Dtype::f32)}};
    std::string bytes = torch_bytes(state);
    bytes[bytes.find(state[0].second.data) + 5] ^= 1;
    auto checkpoint = parsed(bytes);
    REQUIRE(checkpoint);
    const auto done = checkpoint->check();
    REQUIRE(!done);
    CHECK(done.error().detail == "a.pth: entry archive/data/0: damaged: its checksum is not the archive's");
    std::string pickle = torch_bytes(state);
    pickle[pickle.find("GPT-e15")] = 'g';
    refused(pickle, "data.pkl: damaged");
  }

  TEST_CASE("what is no checkpoint is refused") {
    refused("", "got 0 bytes");
    refused("{\"a\": 1}", "neither a zip archive");
    refused("99 luftballons", "neither a zip archive");
    refused(zip_bytes({{"word/document.xml", "<x/>"}}), "without data.pkl");
    refused(zip_bytes({{"a/data.pkl", "N."}, {"b/data.pkl", "N."}}), "two entries named data.pkl");
    refused(zip_bytes({{"a/data.pkl", "N."}, {"a/byteorder", "big"}}), "byteorder: got big");
    refused(zip_bytes({{"a/data.pkl", "cos\nsystem\n(S'id'\ntR."}}), "data.pkl: at byte 11: refused: os.system");
  }

  /// A checkpoint of one tensor "t" with the given view of a storage of `n` floats.
  static std::string one_view(std::int64_t n, std::int64_t claimed, std::int64_t offset,
                              const std::vector<std::int64_t>& shape, const std::vector<std::int64_t>& strides) {
    PickleWriter out;
    out.raw("}").text("t").global("torch._utils", "_rebuild_tensor_v2").raw("((").text("storage");
    out.global("torch", "FloatStorage").text("0").text("cpu").integer(claimed).raw("tQ").integer(offset);
    out.integers(shape).integers(strides).raw("\x89NtRs.");
    return zip_bytes({{"a/data.pkl", out.bytes}, {"a/data/0", std::string(static_cast<std::size_t>(4 * n), '\0')}});
  }

  TEST_CASE("tensors stay inside their storage") {
    const std::string good_bytes = one_view(10, 10, 4, {2, 3}, {3, 1});
    auto good = parsed(good_bytes);
    REQUIRE(good);
    CHECK(good->tensors(good->root())->at(0).data.size() == 24);
    const std::string far_bytes = one_view(10, 10, 1, {2, 2}, {5, 2});
    auto far = parsed(far_bytes);
    REQUIRE(far);
    CHECK(far->tensors(far->root())->at(0).data.size() == 16);
    refused(one_view(10, 11, 0, {10}, {1}), "holds 40 bytes, wanted 11 elements");
    refused(one_view(10, 10, 5, {2, 3}, {3, 1}), "leaves its storage");
    refused(one_view(10, 10, 0, {2, 2}, {9, 2}), "leaves its storage");
    refused(one_view(10, 10, 0, {1000, 1000}, {0, 0}), "more elements than its storage");
    refused(one_view(10, 10, 0, {1LL << 40U, 1LL << 40U}, {1, 1}), "more elements than its storage");
    refused(one_view(10, 10, 0, {2, 2}, {(1LL << 62U), (1LL << 62U)}), "its storage");
    refused(one_view(10, 10, (1LL << 62U), {2}, {1}), "leaves its storage");
  }

  TEST_CASE("many tensors of one storage are not more than the file twice over") {
    PickleWriter out;
    out.raw("}(");
    for (int i = 0; i < 100; ++i) {
      std::string name = "t";
      out.text(name += std::to_string(i)).global("torch._utils", "_rebuild_tensor_v2").raw("((").text("storage");
      out.global("torch", "FloatStorage").text("0").text("cpu").integer(65536).raw("tQ").integer(0);
      out.integers({65536}).integers({1}).raw("\x89NtR");
    }
    out.raw("u.");
    refused(zip_bytes({{"a/data.pkl", out.bytes}, {"a/data/0", std::string(4 * 65536, '\0')}}), "twice over");
  }
}
