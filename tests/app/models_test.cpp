#include "src/app/models.h"

#include <sstream>
#include <string>

#include "src/app/convert.h"
#include "src/core/digest.h"
#include "tests/app/http_files.h"
#include "tests/app/temporary_folder.h"
#include "tests/doctest.h"

TEST_SUITE("app/models") {
  using namespace tts;
  using namespace tts::testing;

  namespace {

  std::string sum(const std::string& text) {
    return sha256_hex(std::as_bytes(std::span(text)));
  }

  struct Fixture {
    HttpFiles server;
    TemporaryFolder folder;
    std::string one = std::string(5000, '1'), two = std::string(7000, '2');
    std::string one_sum = sum(one);
    std::vector<PretrainedFile> files = {{"v9/one=1.pth", "acoustic model", 5000, one_sum.c_str(), {}},
                                         {"two.ckpt", "T2S", 8000, "", {}}};
    FetchModelsCommand command;
    FetchOptions options;
    std::string out, progress;

    Fixture() {
      command.mirrors = {server.url() + "/base"};
      options.attempts = 1;
      server.put("/base/v9/one%3D1.pth", {.body = one});
      server.put("/base/two.ckpt", {.body = two, .etag = sum(two)});
    }
    Result<void> run() {
      std::ostringstream stream, terminal;
      auto done = fetch_models(command, folder.path() / "models", files, options, stream, &terminal);
      out = stream.str();
      progress = terminal.str();
      return done;
    }
    bool says(std::string_view words) const { return out.find(words) != std::string::npos; }
    std::filesystem::path path(const char* name) const { return folder.path() / "models" / name; }
  };

  }  // namespace

  TEST_CASE("the plan is told, the files come, and a second run has nothing to do") {
    Fixture fixture;
    fixture.command.dry_run = true;
    REQUIRE(fixture.run());
    CHECK(fixture.says("To fetch: 13.0 kB; free on that disk: "));
    CHECK(fixture.says("about 8.0 kB  to fetch, checksum from the server"));
    CHECK(!std::filesystem::exists(fixture.folder.path() / "models"));
    CHECK(fixture.server.requests().empty());

    fixture.command.dry_run = false;
    REQUIRE(fixture.run());
    CHECK(read_text(fixture.path("v9/one=1.pth")) == fixture.one);
    CHECK(read_text(fixture.path("two.ckpt")) == fixture.two);
    CHECK(fixture.says("v9/one=1.pth: 5.0 kB, checksum as listed"));
    CHECK(fixture.says("two.ckpt: 7.0 kB, checksum as the server tells it"));
    CHECK(fixture.progress.find("v9/one=1.pth: 5.0 kB of 5.0 kB, 100 %") != std::string::npos);
    CHECK(fixture.progress.ends_with("\r\033[K"));
    CHECK(read_text(fixture.path("SHA256SUMS")) ==
          sum(fixture.two) + "  two.ckpt\n" + fixture.one_sum + "  v9/one=1.pth\n");

    const std::size_t n = fixture.server.requests().size();
    REQUIRE(fixture.run());
    CHECK(fixture.says("To fetch: 0 B"));
    CHECK(fixture.server.requests().size() == n);
  }

  TEST_CASE("a damaged file is fetched anew, one without a known checksum is left") {
    Fixture fixture;
    REQUIRE(fixture.run());
    fixture.folder.write("models/v9/one=1.pth", std::string(5000, 'x'));
    fixture.folder.write("models/two.ckpt", "short");
    REQUIRE(fixture.run());
    CHECK(fixture.says("v9/one=1.pth: there, but damaged; fetched anew"));
    CHECK(read_text(fixture.path("v9/one=1.pth")) == fixture.one);
    CHECK(read_text(fixture.path("two.ckpt")) == fixture.two);
    std::filesystem::remove(fixture.path("SHA256SUMS"));
    fixture.folder.write("models/two.ckpt", "by hand");
    REQUIRE(fixture.run());
    CHECK(fixture.says("two.ckpt: there; nothing here tells its checksum"));
    CHECK(read_text(fixture.path("two.ckpt")) == "by hand");
  }

  TEST_CASE("failures name the file, and what came before stays") {
    Fixture fixture;
    fixture.server.put("/base/two.ckpt", {.body = fixture.two, .etag = sum("another")});
    auto done = fixture.run();
    REQUIRE(!done);
    CHECK(done.error().detail.find("/base/two.ckpt: its SHA-256 is ") != std::string::npos);
    CHECK(std::filesystem::exists(fixture.path("v9/one=1.pth")));
    CHECK(!std::filesystem::exists(fixture.path("two.ckpt")));
    fixture.command.mirrors = {"ftp://x"};
    done = fixture.run();
    REQUIRE(!done);
    CHECK(done.error().detail.starts_with("--mirror: got ftp://x"));
    Fixture large;
    large.files[0].bytes = 1ULL << 60U;
    done = large.run();
    REQUIRE(!done);
    CHECK(done.error().detail.find("are free there") != std::string::npos);
    CHECK(large.server.requests().empty());
  }

  TEST_CASE("what prepares references is converted afterwards, unless it cannot be") {
    Fixture fixture;
    fixture.files.push_back({"chinese-hubert-base/pytorch_model.bin", "HuBERT", 100, "", {}});
    fixture.server.put("/base/chinese-hubert-base/pytorch_model.bin", {.body = "no checkpoint at all"});
    fixture.command.keep_as_they_are = true;
    REQUIRE(fixture.run());
    CHECK(fixture.says("chinese-hubert-base/pytorch_model.bin: 20 B, only its size could be checked"));
    fixture.command.keep_as_they_are = false;
    const auto done = fixture.run();
    REQUIRE(!done);
    CHECK(done.error().detail.find("chinese-hubert-base/pytorch_model.bin: wanted a checkpoint of torch") !=
          std::string::npos);
    CHECK(!std::filesystem::exists(fixture.path("hubert.safetensors")));
  }

  TEST_CASE("the set knows what each version needs") {
    const std::vector<Form> v4 = {Form::v4};
    const auto files = pretrained_for(v4);
    std::vector<std::string> paths;
    for (const PretrainedFile& file : files) paths.emplace_back(file.path);
    CHECK(paths == std::vector<std::string>{"chinese-hubert-base/config.json", "chinese-hubert-base/pytorch_model.bin",
                                            "chinese-roberta-wwm-ext-large/config.json",
                                            "chinese-roberta-wwm-ext-large/tokenizer.json",
                                            "chinese-roberta-wwm-ext-large/pytorch_model.bin", "s1v3.ckpt",
                                            "gsv-v4-pretrained/s2Gv4.pth", "gsv-v4-pretrained/vocoder.pth"});
    CHECK(pretrained_for({}).size() == pretrained_set().size());
    for (const PretrainedFile& file : pretrained_set()) {
      CAPTURE(file.path);
      const std::string_view sum = file.sha256;
      CHECK((sum.empty() || (sum.size() == 64 && sum.find_first_not_of("0123456789abcdef") == sum.npos)));
      CHECK(file.bytes > 0);
    }
  }

  TEST_CASE("mirrors") {
    CHECK(base_url("https://mirror.example") == "https://mirror.example/lj1995/GPT-SoVITS/resolve/main/");
    CHECK(base_url("https://mirror.example/") == "https://mirror.example/lj1995/GPT-SoVITS/resolve/main/");
    CHECK(base_url("http://mirror.example:8/m/x") == "http://mirror.example:8/m/x/");
    CHECK(!base_url("mirror.example"));
    CHECK(!base_url("https://"));
    CHECK(!base_url("https://a b/"));
  }

  TEST_CASE("the usual place") {
    const auto with = [](const char* data, const char* home) {
      return default_models_dir([=](const char* name) { return std::string_view(name) == "HOME" ? home : data; });
    };
    CHECK(with("/data", "/home/a") == "/data/sonorant/models");
    CHECK(with(nullptr, "/home/a") == "/home/a/.local/share/sonorant/models");
    CHECK(with("relative", "/home/a") == "/home/a/.local/share/sonorant/models");
    CHECK(with(nullptr, nullptr).empty());
  }

  TEST_CASE("sizes in words") {
    CHECK(bytes_text(0) == "0 B");
    CHECK(bytes_text(999) == "999 B");
    CHECK(bytes_text(1000) == "1.0 kB");
    CHECK(bytes_text(155'284'856) == "155.3 MB");
    CHECK(bytes_text(999'960'000) == "1.0 GB");
    CHECK(bytes_text(3'210'000'000) == "3.2 GB");
  }
}
