#include "src/convert/zip.h"

#include <string>

#include "tests/convert/torch_file.h"
#include "tests/doctest.h"

TEST_SUITE("convert/zip") {
  using namespace tts;
  using namespace tts::testing;

  static Result<ZipArchive> parsed(const std::string& bytes, bool marked = false) {
    return ZipArchive::parse(std::as_bytes(std::span(bytes)), "a.pth", marked);
  }
  static std::string text_of(const ZipArchive::Entry& entry) {
    return {reinterpret_cast<const char*>(entry.data.data()), entry.data.size()};
  }
  static void refused(const std::string& bytes, std::string_view words) {
    CAPTURE(words);
    const auto archive = parsed(bytes);
    REQUIRE(!archive);
    CAPTURE(archive.error().detail);
    CHECK(archive.error().code == Errc::bad_file);
    CHECK(archive.error().detail.starts_with("a.pth: "));
    CHECK(archive.error().detail.find(words) != std::string::npos);
  }
  const std::vector<std::pair<std::string, std::string>> kEntries = {
      {"a/data.pkl", "pickle"}, {"a/data/0", std::string(100, 'x')}, {"a/empty", ""}, {"a/folder/", ""}};

  TEST_CASE("entries are views into the file, in both directory forms, with comment and mark") {
    for (const bool is_zip64 : {false, true}) {
      for (const std::string& comment : {std::string(), std::string("made by hand PK\x05\x06 and more")}) {
        CAPTURE(is_zip64);
        std::string bytes = zip_bytes(kEntries, {.is_zip64 = is_zip64, .method = 0, .flags = 0, .comment = comment});
        for (const bool marked : {false, true}) {
          if (marked) bytes.replace(0, 2, "05");
          const auto archive = parsed(bytes, marked);
          REQUIRE(archive);
          CHECK(archive->entries().size() == 3);
          REQUIRE(archive->find("a/data/0") != nullptr);
          CHECK(text_of(*archive->find("a/data/0")) == std::string(100, 'x'));
          CHECK(is_intact(*archive->find("a/data/0")));
          CHECK(archive->find("a/empty")->data.empty());
          CHECK(archive->find("a/folder/") == nullptr);
          CHECK(reinterpret_cast<const char*>(archive->find("a/data.pkl")->data.data()) > bytes.data());
        }
        CHECK(!parsed(bytes, false));
      }
    }
  }

  TEST_CASE("the checksum is that of zip") {
    const std::string digits = "123456789";
    CHECK(crc32(std::as_bytes(std::span(digits))) == 0xCBF43926U);
    std::string bytes = zip_bytes(kEntries);
    bytes[bytes.find("xxxx") + 2] = 'y';
    const auto archive = parsed(bytes);
    REQUIRE(archive);
    CHECK(!is_intact(*archive->find("a/data/0")));
    CHECK(is_intact(*archive->find("a/data.pkl")));
  }

  TEST_CASE("what torch does not write is refused") {
    refused(zip_bytes(kEntries, {.is_zip64 = false, .method = 8, .flags = 0, .comment = {}}), "compressed (method 8)");
    refused(zip_bytes(kEntries, {.is_zip64 = false, .method = 0, .flags = 1, .comment = {}}), "encrypted");
    refused(zip_bytes({{"a", "1"}, {"a", "2"}}), "twice");
    refused("", "its end is missing");
    refused(std::string(4096, 'P'), "its end is missing");
  }

  TEST_CASE("lies about places are refused") {
    const std::string good = zip_bytes(kEntries);
    const std::size_t end = good.size() - 22;
    const auto patched = [&](std::size_t at, std::uint64_t value, int n) {
      PickleWriter number;
      number.bytes.clear();
      number.little(value, n);
      std::string bytes = good;
      return bytes.replace(at, number.bytes.size(), number.bytes);
    };
    const std::size_t directory = good.find("PK\x01\x02");
    const std::size_t second = good.find("PK\x01\x02", directory + 1);
    refused(patched(end + 16, 1U << 30U, 4), "outside the file");
    refused(patched(end + 12, 1U << 30U, 4), "outside the file");
    refused(patched(end + 10, 3, 2), "more bytes than its entries");
    refused(patched(end + 10, 5, 2), "no entry where one should be");
    refused(patched(end + 4, 1, 2), "split");
    refused(patched(directory + 42, 1U << 30U, 4), "outside the file");
    refused(patched(directory + 42, 7, 4), "no header");
    refused(patched(second + 42, 0, 4), "names another file");
    refused(patched(directory + 28, 60000, 2), "longer than what is there");
    std::string both = patched(directory + 24, 1U << 20U, 4);
    PickleWriter number;
    number.bytes.clear();
    number.little(1U << 20U, 4);
    refused(both.replace(directory + 20, 4, number.bytes), "leave the file");
    // The first entry claims the bytes of the second.
    std::string overlap = patched(directory + 24, 60, 4);
    number.bytes.clear();
    number.little(60, 4);
    refused(overlap.replace(directory + 20, 4, number.bytes), "belong to another part");
  }

  TEST_CASE("a file that is cut off anywhere is refused") {
    for (const bool is_zip64 : {false, true}) {
      const std::string good = zip_bytes(kEntries, {.is_zip64 = is_zip64, .method = 0, .flags = 0, .comment = {}});
      for (std::size_t n = 0; n < good.size(); ++n) CHECK(!parsed(good.substr(0, n)));
    }
  }
}
