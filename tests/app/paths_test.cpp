#include "src/app/paths.h"

#include "tests/app/temporary_folder.h"
#include "tests/doctest.h"

TEST_SUITE("app/paths") {
  using namespace tts;
  using namespace tts::testing;

  TEST_CASE("a program in a build folder finds its source tree") {
    const TemporaryFolder folder;
    folder.folder("src/text/data");
    folder.folder("models/pretrained");
    const auto data = find_data(folder.path() / "build" / "release" / "sonorant");
    REQUIRE(data);
    CHECK(data->voices_dir == folder.path() / "models" / "pretrained");
    CHECK(data->text_data_dir == folder.path() / "src" / "text" / "data");
    CHECK(data->web_dir == folder.path() / "web");
  }

  TEST_CASE("an installed program finds share/sonorant") {
    const TemporaryFolder folder;
    folder.folder("share/sonorant/text");
    const auto data = find_data(folder.path() / "bin" / "sonorant");
    REQUIRE(data);
    CHECK(data->voices_dir == folder.path() / "share" / "sonorant" / "voices");
    CHECK(data->text_data_dir == folder.path() / "share" / "sonorant" / "text");
    CHECK(data->web_dir == folder.path() / "share" / "sonorant" / "web");
  }

  TEST_CASE("elsewhere there is nothing") {
    const TemporaryFolder folder;
    CHECK_FALSE(find_data(folder.path() / "bin" / "sonorant"));
    CHECK_FALSE(find_data(""));
    CHECK_FALSE(find_data("sonorant"));
  }

  TEST_CASE("this program knows its file") {
    CHECK(executable_path().filename() == "app_tests");
  }
}
