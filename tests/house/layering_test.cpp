#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "tests/doctest.h"
#include "tests/house/includes.h"

namespace fs = std::filesystem;
using tts::house::include_faults;
using tts::house::link_faults;

namespace {

std::string read(const fs::path& path) {
  std::ifstream in(path);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

}  // namespace

TEST_SUITE("house/layering") {
  TEST_CASE("the check sees what it must see") {
    CHECK(include_faults("src/core/a.h", "#include \"src/audio/pcm.h\"\n").size() == 1);
    CHECK(include_faults("src/text/a.cpp", "#include \"src/audio/pcm.h\"\n").size() == 1);
    CHECK(include_faults("models/a.cpp", "  #  include \"src/engine/engine.h\"\n").size() == 1);
    CHECK(include_faults("src/engine/a.cpp", "#include \"streaming/session.h\"\n").size() == 1);
    CHECK(include_faults("streaming/a.cpp", "#include \"models/t2s.h\"\n").size() == 1);
    CHECK(include_faults("streaming/a.cpp", "#include \"src/engine/engine.h\"\n").size() == 1);
    CHECK(include_faults("streaming/a.cpp", "#include \"src/engine/synthesizer.h\"\n").empty());
    CHECK(include_faults("src/app/a.cpp", "#include \"streaming/session.h\"\n#include \"models/t2s.h\"\n").empty());
    CHECK(include_faults("src/core/a.cpp", "#include \"src/core/b.h\"\n#include <vector>\n").empty());
    CHECK(include_faults("src/convert/a.cpp", "#include \"models/manifest.h\"\n").size() == 1);
    CHECK(include_faults("streaming/a.cpp", "#include \"src/convert/convert.h\"\n").size() == 1);
    CHECK(include_faults("src/app/a.cpp", "#include \"src/convert/convert.h\"\n#include <curl/curl.h>\n").empty());
    CHECK(include_faults("src/convert/a.cpp", "#include <openssl/evp.h>\n#include <curl/curl.h>\n").size() == 2);
    CHECK(include_faults("models/a.h", "#include <ATen/core/Tensor.h>\n").empty());
    CHECK(include_faults("src/engine/a.cpp", "#include <torch/torch.h>\n").empty());
    CHECK(include_faults("src/engine/a.h", "#include <c10/util/Optional.h>\n").size() == 1);
    CHECK(include_faults("src/audio/a.cpp", "#include <ATen/ops/add.h>\n").size() == 1);
    CHECK(include_faults("src/engine/a.cpp", "#include <boost/asio/awaitable.hpp>\n").size() == 1);
    CHECK(include_faults("src/core/a.h", "#include <boost/system/result.hpp>\n").empty());
    CHECK(include_faults("streaming/a.h", "#include <boost/beast/core.hpp>\n").empty());
    CHECK(include_faults("streaming/a.h", "#include <simdjson.h>\n").size() == 1);
    CHECK(include_faults("streaming/a.cpp", "#include <simdjson.h>\n").empty());
    CHECK(include_faults("streaming/a.cpp", "#include <opus/opus.h>\n").size() == 1);
    CHECK(include_faults("src/core/a.cpp", "#include \"../audio/pcm.h\"\n").size() == 1);
    CHECK(include_faults("src/core/a.cpp", "#include \"result.h\"\n").size() == 1);
    CHECK(include_faults("src/core/a.cpp", "// #include \"src/app/main.h\"\n").empty());
    CHECK(include_faults("x/a.cpp", "\n\n#include \"a.h\"\n").front().starts_with("x/a.cpp:3: includes a.h"));
    CHECK(link_faults("streaming/CMakeLists.txt", "target_link_libraries(x PUBLIC tts::core tts::models)").size() == 1);
    CHECK(
        link_faults("models/CMakeLists.txt", "target_link_libraries(x PUBLIC tts::core tts::text tts::flags)").empty());
  }

  TEST_CASE("no source includes upward, and no module links upward") {
    int n_sources = 0;
    for (const char* top : {"src", "models", "streaming"}) {
      REQUIRE(fs::is_directory(top));
      for (const auto& entry : fs::recursive_directory_iterator(top)) {
        const std::string path = entry.path().generic_string();
        const std::string extension = entry.path().extension().string();
        const bool is_header = extension == ".h" || extension == ".inc";
        if (entry.path().filename() == "CMakeLists.txt") {
          for (const std::string& fault : link_faults(path, read(path))) FAIL_CHECK(fault);
        }
        if (!is_header && extension != ".cpp") continue;
        ++n_sources;
        const std::string content = read(path);
        for (const std::string& fault : include_faults(path, content)) FAIL_CHECK(fault);
        if (extension == ".h" && content.find("#pragma once") == std::string::npos) {
          FAIL_CHECK(path << ": no #pragma once");
        }
      }
    }
    CHECK(n_sources >= 10);
  }
}
