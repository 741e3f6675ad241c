#include "src/app/run.h"

#include <map>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "src/core/log.h"
#include "tests/app/fake_synthesizer.h"
#include "tests/app/temporary_folder.h"
#include "tests/doctest.h"

TEST_SUITE("app/run") {
  using namespace tts;
  using namespace tts::testing;

  struct Program {
    TemporaryFolder folder;
    std::map<std::string, std::string> variables;
    std::string input;
    std::string out, err;
    std::string engine_error;
    Config config;

    int run(std::vector<std::string> args) {
      std::istringstream in(input);
      std::ostringstream out_stream;
      std::ostringstream err_stream;
      Surroundings surroundings{
          .get_env = [this](const char* name) -> const char* {
            const auto found = variables.find(name);
            return found == variables.end() ? nullptr : found->second.c_str();
          },
          .data = DataPaths{folder.folder("voices"), folder.folder("text"), folder.folder("web")},
          .make_synthesizer = [this](const Config& given) -> std::unique_ptr<Synthesizer> {
            config = given;
            if (!engine_error.empty()) throw std::runtime_error(engine_error);
            return std::make_unique<FakeSynthesizer>();
          },
          .measure_stages =
              [](const Config&, const BenchCommand& command, const std::string& text, const auto& progress,
                 const std::atomic<bool>& stop) {
                if (command.voice == "nobody") throw std::runtime_error("voice: there is no \"nobody\"");
                progress("decode step");
                CHECK(!text.empty());
                CHECK(!stop);
                return std::vector<StageFigures>{{"front_end", 0, "us/character", {3, 1, 2}},
                                                 {"decode_step", 8, "ms", {0.5}}};
              },
          .in = in,
          .out = out_stream,
          .err = err_stream,
          .libraries = {},
      };
      const int code = tts::run(args, surroundings);
      out = out_stream.str();
      err = err_stream.str();
      (void)set_log_level("info");
      return code;
    }
    std::string path(const std::string& name) const { return (folder.path() / name).string(); }
    void fails(const std::vector<std::string>& args, const std::string& words) {
      CAPTURE(words);
      CHECK(run(args) == 1);
      CAPTURE(err);
      CHECK(out.empty());
      CHECK(err.starts_with("sonorant: "));
      CHECK(err.find('\n') == err.size() - 1);
      CHECK(err.find(words) != std::string::npos);
    }
  };

  TEST_CASE("bench measures the stages alone, without an engine") {
    Program program;
    program.engine_error = "no engine is wanted";
    CHECK(program.run({"bench", "--stages", "--runs", "0"}) == 0);
    CHECK(program.out.find("front_end, us/character") != std::string::npos);
    CHECK(program.out.find("decode_step 8, ms") != std::string::npos);
    CHECK(program.run({"bench", "--stages", "--runs", "0", "--json"}) == 0);
    CHECK(program.out.find(R"("stages_alone": [{"stage": "front_end", "unit": "us/character", "spread": {"p50": 2,)") !=
          std::string::npos);
    CHECK(program.out.find(R"({"stage": "decode_step", "at": 8, "unit": "ms", "spread": {"p50": 0.5,)") !=
          std::string::npos);
    program.fails({"bench", "--stages", "--runs", "0", "--voice", "nobody"}, "there is no \"nobody\"");
    program.fails({"bench", "--stages", "--runs", "1"}, "no engine is wanted");
  }

  TEST_CASE("say writes the file and reports") {
    Program program;
    CHECK(program.run({"say", "--out", program.path("a.wav"), "Hello there, you."}) == 0);
    CHECK(program.err.empty());
    CHECK(program.out.find("0.10 s, first audio after") != std::string::npos);
    CHECK(program.out.find("RTF 0.250") != std::string::npos);
    CHECK(std::filesystem::file_size(program.path("a.wav")) == 44 + 4800);
  }

  TEST_CASE("say reads standard input") {
    Program program;
    program.input = "One sentence is here. Another sentence is here.\n";
    CHECK(program.run({"say", "--out", program.path("a.wav"), "-"}) == 0);
    CHECK(std::filesystem::file_size(program.path("a.wav")) == 44 + 2 * 4800);
    program.input.clear();
    CHECK(program.run({"say", "--out", program.path("a.wav"), "-"}) == 0);
    CHECK(program.out.find("nothing to speak") != std::string::npos);
  }

  TEST_CASE("voices as text and as JSON") {
    Program program;
    CHECK(program.run({"voices"}) == 0);
    CHECK(program.out == "starter  Starter  (en; 24000 Hz)\n");
    CHECK(program.run({"voices", "--json"}) == 0);
    CHECK(program.out.starts_with("{\"voices\":[{\"id\":\"starter\""));
  }

  TEST_CASE("voices are added and removed, and what is wrong is one line") {
    Program program;
    program.variables["XDG_DATA_HOME"] = "/data";
    const std::string file = program.folder.write("a.wav", "four").string();
    CHECK(program.run({"voices", "add", "--model", "m", "--ref", file, "--id", "ann", "--name", "Ann"}) == 0);
    CHECK(program.out == "ann  Ann  (zh, en; 32000 Hz)\nnote: 4 bytes\n");
    CHECK(program.config.engine.preload == "none");
    CHECK(program.config.engine.models_dir == "/data/sonorant/models");
    CHECK(program.run({"voices", "add", "--model", "m", "--ref", file, "--aux", file, "--id", "ann"}) == 0);
    CHECK(program.out.find("it was made of the same before") != std::string::npos);
    program.fails({"voices", "add", "--model", "n", "--ref", file}, "model: n");
    program.fails({"voices", "add", "--model", "m", "--ref", program.path("none.wav")}, "none.wav");
    CHECK(program.run({"voices", "remove", "ann"}) == 0);
    CHECK(program.out == "ann: removed\n");
    program.fails({"voices", "remove", "ben"}, "no voice \"ben\"");
    CHECK(program.run({"say", "--out", program.path("a.wav"), "Hi."}) == 0);
    CHECK(program.config.engine.preload == "starter");
  }

  TEST_CASE("serve does not start with a voice to preload that is not there") {
    Program program;
    program.variables["SONORANT_ENGINE_PRELOAD"] = "nobody";
    program.fails({"serve", "--port", "0"}, "engine.preload: got \"nobody\", want all, none or the id of a voice");
  }

  TEST_CASE("convert and models fetch need no voices, and fail with one line") {
    Program program;
    program.fails({"convert", program.path("none.pth"), "--out", program.path("x")}, "none.pth: cannot open");
    program.fails({"convert", program.path("none.pth"), "--out", program.path("x"), "--version", "v9"},
                  "--version: got v9, wanted v1, v2, v2Pro, v2ProPlus, v3 or v4");
    program.fails({"convert", "tests/convert/data/new.pth", "--out", program.path("x")},
                  "tests/convert/data/new.pth: no network of GPT-SoVITS: it has 12 tensors, the first half");
    program.fails({"models", "fetch"}, "no home folder to keep models in: give --dir");
    program.fails({"models", "fetch", "--dir", program.path("m"), "--version", "v5"}, "--version: got v5");
    program.variables["HOME"] = program.folder.path().c_str();
    CHECK(program.run({"models", "fetch", "--version", "v2Pro", "--dry-run"}) == 0);
    CHECK(program.out.find(".local/share/sonorant/models") != std::string::npos);
    CHECK(program.out.find("acoustic model of v2Pro") != std::string::npos);
    CHECK(program.out.find("To fetch: 1.3 GB") != std::string::npos);
  }

  TEST_CASE("settings come from file, environment and flags") {
    Program program;
    const std::string file = program.folder.write("c.toml", "[engine]\nthreads = 2\nmax_utterances = 3\n").string();
    program.variables["SONORANT_ENGINE_MAX_UTTERANCES"] = "4";
    CHECK(program.run({"voices", "--config", file, "--threads", "5"}) == 0);
    CHECK(program.config.engine.threads == 5);
    CHECK(program.config.engine.max_utterances == 4);
    CHECK(program.config.log.level == "warn");
  }

  TEST_CASE("whatever is wrong at the start is one line and code 1") {
    Program program;
    program.fails({}, "subcommand");
    program.fails({"sing"}, "sing");
    program.fails({"say", "--voice", "nobody", "--out", program.path("a.wav"), "x"}, "there are: starter");
    program.fails({"say", "--out", program.path("a.flac"), "x"}, "a.flac");
    program.fails({"voices", "--voices", program.path("none")}, "none is not a folder");
    program.fails({"serve", "--config", program.path("none.toml")}, "no such config file");
    program.fails({"serve", "--config", program.folder.write("c.toml", "[server]\nprot = 1\n").string()},
                  "c.toml:2: server.prot: unknown key");
    program.fails({"serve", "--port", "65536"}, "server.port: got 65536");
    program.fails({"voices", "--log-level", "loud"}, "log.level");
    program.variables["SONORANT_SERVER_PORT"] = "many";
    program.fails({"voices"}, "SONORANT_SERVER_PORT: got \"many\"");
    program.variables.clear();
    program.engine_error = "t2s.safetensors: header: got 12 bytes,\nwant 100";
    program.fails({"voices"}, "sonorant: t2s.safetensors: header: got 12 bytes, want 100");
  }
}
