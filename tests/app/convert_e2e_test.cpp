// `sonorant convert` as a user runs it, over files that must be refused: one line that names what and where, exit code
// 1, and nothing left behind.

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "tests/app/process.h"
#include "tests/app/temporary_folder.h"
#include "tests/convert/torch_file.h"
#include "tests/doctest.h"

TEST_SUITE("app/convert_e2e") {
  using namespace tts;
  using namespace tts::testing;
  namespace fs = std::filesystem;

  struct Bench {
    Bench() {
      T2sSizes sizes;
      sizes = {1, 16, 4, 732, 33, 1024};
      TorchOptions options;
      options.model = {{"hidden_dim", 16}, {"head", 4}, {"n_layer", 1}, {"vocab_size", 33}, {"EOS", 32}};
      t2s = torch_bytes(make_state(wanted_t2s(sizes), Dtype::f16, false), options);
      folder.write("s1.ckpt", t2s);
    }
    std::set<std::string> listing() const {
      std::set<std::string> names;
      for (const auto& entry : fs::recursive_directory_iterator(folder.path())) names.insert(entry.path().string());
      return names;
    }
    std::string path(const std::string& name) const { return (folder.path() / name).string(); }
    void refuses(const std::vector<std::string>& args, const std::string& file, const std::string& words) const {
      const auto before = listing();
      std::vector<std::string> command{SONORANT_PROGRAM, "convert"};
      command.insert(command.end(), args.begin(), args.end());
      Process process(command);
      CHECK(process.wait(std::chrono::seconds(60)) == 1);
      CAPTURE(process.err);
      CHECK(process.out.empty());
      CHECK(process.err.starts_with("sonorant: "));
      CHECK(process.err.find('\n') == process.err.size() - 1);
      CHECK(process.err.find(path(file)) != std::string::npos);
      CHECK(process.err.find(words) != std::string::npos);
      CHECK(listing() == before);
    }

    TemporaryFolder folder;
    std::string t2s;
  };

  TEST_CASE("a hostile pickle is refused by the name it calls, and calls nothing") {
    const Bench bench;
    const std::string touched = bench.path("touched");
    for (const std::string& pickle :
         {"cposix\nsystem\n(S'touch " + touched + "'\ntR.",
          std::string("\x80\x02") + "cbuiltins\nexec\n(S'open(\"" + touched + "\", \"w\")'\ntR."}) {
      bench.folder.write("evil.pth", zip_bytes({{"archive/data.pkl", pickle}}));
      const std::string name = pickle.find("posix") != std::string::npos ? "posix.system" : "builtins.exec";
      bench.refuses({bench.path("s1.ckpt"), bench.path("evil.pth"), "--out", bench.path("voices/anna")}, "evil.pth",
                    "refused: " + name + " is not on the list");
    }
    CHECK(!fs::exists(touched));
  }

  TEST_CASE("a zip that is cut off is refused, wherever it ends") {
    const Bench bench;
    for (const std::size_t n : {std::size_t{0}, std::size_t{3}, bench.t2s.size() / 3, bench.t2s.size() - 1}) {
      CAPTURE(n);
      bench.folder.write("cut.ckpt", bench.t2s.substr(0, n));
      bench.refuses({bench.path("cut.ckpt"), "--out", bench.path("voices/anna")}, "cut.ckpt", "cut.ckpt: ");
    }
  }

  TEST_CASE("a version that the tensors contradict is refused, asked for or marked") {
    const Bench bench;
    const TestState v1 = {
        {"enc_p.text_embedding.weight", make_tensor("e", {322, 192}, Dtype::f16)},
        {"enc_p.ssl_proj.weight", make_tensor("p", {192, 768, 1}, Dtype::f16)},
    };
    bench.folder.write("s2.pth", torch_bytes(v1));
    bench.refuses({bench.path("s1.ckpt"), bench.path("s2.pth"), "--version", "v2", "--out", bench.path("voices/anna")},
                  "s2.pth", "asked for as v2, but its tensors are those of v1");
    TorchOptions marked;
    marked.mark = "05";
    bench.folder.write("s2.pth", torch_bytes(v1, marked));
    bench.refuses({bench.path("s1.ckpt"), bench.path("s2.pth"), "--out", bench.path("voices/anna")}, "s2.pth",
                  "its version mark 05 says v2Pro, but its tensors are those of v1");
  }

  TEST_CASE("a tensor of NaN is refused, and the result of before stays") {
    const Bench bench;
    TestState state;  // ERes2NetV2 in its published size, all zeros
    for (const WantedTensor& want : wanted_speaker_net({})) {
      state.emplace_back(want.key, TestTensor{Dtype::f16, want.shape, std::string(2 * count(want.shape), '\0')});
    }
    std::string& data = find(state, "layer3_ds.weight").data;
    for (std::size_t i = 0; i < data.size(); i += 2) data.replace(i, 2, std::string("\x00\x7e", 2));
    TorchOptions options;
    options.state_key = "";
    bench.folder.write("speaker.ckpt", torch_bytes(state, options));
    bench.folder.write("models/eres2netv2.safetensors", "the one before");
    bench.refuses({bench.path("speaker.ckpt"), "--out", bench.path("models/new.safetensors")}, "speaker.ckpt",
                  "tensor layer3_ds.weight: not a finite number at [0, 0, 0, 0]");
    bench.refuses({bench.path("speaker.ckpt"), "--out", bench.path("models/eres2netv2.safetensors"), "--replace"},
                  "speaker.ckpt", "tensor layer3_ds.weight: not a finite number");
    CHECK(read_text(bench.path("models/eres2netv2.safetensors")) == "the one before");
  }
}
