#include "models/weights.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>

#include <ATen/ATen.h>

#include "src/core/safetensors.h"
#include "tests/doctest.h"

namespace tts {
namespace {

std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const ModelError& error) {
    return error.what();
  }
  return "no ModelError";
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

WeightScope scope_of(const std::string& key, const at::Tensor& tensor) {
  auto map = std::make_shared<TensorMap>();
  map->put(key, tensor);
  return WeightScope(map);
}

class TemporaryFile {
 public:
  explicit TemporaryFile(const char* name)
      : path_(std::filesystem::temp_directory_path() / (std::to_string(::getpid()) + name)) {}
  ~TemporaryFile() { std::filesystem::remove(path_); }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

TEST_SUITE("models/weights") {
  TEST_CASE("a scope reads its tensor and says whether it has it") {
    const WeightScope root = scope_of("enc_p.proj.weight", at::ones({3, 2, 1}));
    const WeightScope scope = root("enc_p");
    CHECK(scope.get("proj.weight", {3, 2, 1}).sum().item<float>() == 6.0F);
    CHECK(scope("proj").has("weight"));
    CHECK_FALSE(scope.has("weight"));
    CHECK(scope("h", 3).key("bias") == "enc_p.h.3.bias");
  }

  TEST_CASE("a missing tensor is named with the shape that was wanted") {
    const WeightScope root = scope_of("a.weight", at::ones({3, 2}));
    const std::string message = message_of([&] { (void)root("b").get("weight", {3, 2}); });
    CHECK(contains(message, "b.weight"));
    CHECK(contains(message, "[3, 2]"));
  }

  TEST_CASE("a misshapen tensor is named with both shapes") {
    const WeightScope root = scope_of("a.weight", at::ones({3, 2}));
    const std::string message = message_of([&] { (void)root("a").get("weight", {2, 3}); });
    CHECK(contains(message, "a.weight"));
    CHECK(contains(message, "[3, 2]"));
    CHECK(contains(message, "[2, 3]"));
  }

  TEST_CASE("half and bfloat16 become float32 once") {
    for (const at::ScalarType type : {at::kHalf, at::kBFloat16, at::kDouble}) {
      const WeightScope root = scope_of("w", at::full({4}, 0.5, type));
      const at::Tensor got = root.get("w", {4});
      CHECK((got.scalar_type() == at::kFloat));
      CHECK(got.sum().item<float>() == 2.0F);
    }
    CHECK((scope_of("n", at::ones({2}, at::kLong)).get("n", {2}).scalar_type() == at::kLong));
  }

  TEST_CASE("weight norm folds to rows of length g, over all axes but the first") {
    auto map = std::make_shared<TensorMap>();
    map->put("up.weight_v", at::tensor({3.0F, 4.0F, 0.0F, 5.0F}).reshape({2, 1, 2}));
    map->put("up.weight_g", at::tensor({10.0F, 2.0F}).reshape({2, 1, 1}));
    const at::Tensor folded = fold_weight_norm(WeightScope(map), "up", {2, 1, 2});
    CHECK(at::allclose(folded.flatten(), at::tensor({6.0F, 8.0F, 0.0F, 2.0F})));
    const WeightScope plain = scope_of("up.weight", at::ones({2, 1, 2}));
    CHECK(fold_weight_norm(plain, "up", {2, 1, 2}).sum().item<float>() == 4.0F);
    CHECK(contains(message_of([&] { (void)fold_weight_norm(plain, "down", {2, 1, 2}); }), "down.weight"));
  }

  TEST_CASE("a file's tensors arrive as float32 and own their memory") {
    const TemporaryFile file("weights.safetensors");
    const std::vector<std::uint16_t> halves = {0x3C00, 0xC000};  // 1, -2
    TensorView view;
    view.name = "w";
    view.dtype = Dtype::f16;
    view.shape = {2};
    view.data = std::as_bytes(std::span(halves));
    REQUIRE(write_safetensors(file.path(), std::span(&view, 1)));
    const std::shared_ptr<const WeightSource> source = load_weights(file.path());
    std::filesystem::remove(file.path());
    const at::Tensor w = source->get("w", {2});
    CHECK(w[0].item<float>() == 1.0F);
    CHECK(w[1].item<float>() == -2.0F);
  }

  TEST_CASE("an unusable file is a ModelError that names it") {
    const TemporaryFile file("broken.safetensors");
    CHECK(contains(message_of([&] { (void)load_weights(file.path()); }), "broken.safetensors"));
    std::ofstream(file.path()) << "not a weight file at all";
    CHECK(contains(message_of([&] { (void)load_weights(file.path()); }), "broken.safetensors"));
  }
}

}  // namespace
}  // namespace tts
