#include "src/app/fetch.h"

#include <string>
#include <vector>

#include "src/core/digest.h"
#include "tests/app/http_files.h"
#include "tests/app/temporary_folder.h"
#include "tests/doctest.h"

TEST_SUITE("app/fetch") {
  using namespace tts;
  using namespace tts::testing;
  using Requests = std::vector<std::string>;

  namespace {

  std::string sum(const std::string& text) {
    return sha256_hex(std::as_bytes(std::span(text)));
  }

  std::string some_bytes(std::size_t n) {
    std::string bytes;
    std::uint32_t state = 1;
    while (bytes.size() < n) bytes += static_cast<char>((state = state * 1664525U + 1013904223U) >> 24U);
    return bytes;
  }

  struct Fixture {
    HttpFiles server;
    TemporaryFolder folder;
    std::string body = some_bytes(300'000);
    Download download;
    FetchOptions options;

    Fixture() {
      options.attempts = 3;
      options.first_wait = std::chrono::milliseconds(1);
      download.to = folder.path() / "a" / "file.pth";
      download.urls = {server.url() + "/file.pth"};
    }
    void succeeds(Proof proof) {
      const auto fetched = fetch(download, options);
      REQUIRE(fetched);
      CHECK(fetched->proof == proof);
      CHECK(fetched->sha256 == sum(body));
      CHECK(fetched->bytes == body.size());
      CHECK(read_text(download.to) == body);
      nothing_else();
    }
    void fails(std::string_view words) {
      CAPTURE(words);
      const auto fetched = fetch(download, options);
      REQUIRE(!fetched);
      CAPTURE(fetched.error().detail);
      CHECK(fetched.error().detail.find(words) != std::string::npos);
      CHECK(fetched.error().detail.find('\n') == std::string::npos);
      CHECK(!std::filesystem::exists(download.to));
    }
    void nothing_else() {
      CHECK(!std::filesystem::exists(download.to.string() + ".part"));
      CHECK(!std::filesystem::exists(download.to.string() + ".part.id"));
    }
  };

  }  // namespace

  TEST_CASE("a file comes, and is what was asked for") {
    Fixture fixture;
    fixture.server.put("/file.pth", {.body = fixture.body});
    fixture.succeeds(Proof::size);
    fixture.download.sha256 = sum(fixture.body);
    fixture.download.bytes = fixture.body.size();
    fixture.succeeds(Proof::listed);
    std::uint64_t last = 0;
    CHECK(fetch(fixture.download, fixture.options, [&](std::uint64_t done, std::uint64_t total) {
      CHECK(done > last);
      CHECK(total == 300'000);
      last = done;
    }));
    CHECK(last == 300'000);
  }

  TEST_CASE("the server's own checksum is used when none is listed") {
    Fixture fixture;
    fixture.server.put("/file.pth", {.body = fixture.body, .etag = sum(fixture.body)});
    fixture.succeeds(Proof::server);
    Fixture wrong;
    wrong.server.put("/file.pth", {.body = wrong.body, .etag = sum("another")});
    wrong.fails("its SHA-256 is " + sum(wrong.body) + ", wanted " + sum("another"));
    wrong.nothing_else();
  }

  TEST_CASE("a redirection is followed, and what the first server says of the file counts") {
    Fixture fixture;
    fixture.server.put("/file.pth",
                       {.body = fixture.body, .linked_etag = sum(fixture.body), .redirect_to = "/cdn/file"});
    fixture.server.put("/cdn/file", {.body = fixture.body, .etag = "of the cdn", .cut_after = 130'000});
    fixture.succeeds(Proof::server);
    CHECK(fixture.server.requests() == Requests{"/file.pth", "/cdn/file", "/file.pth from 130000",
                                                "/cdn/file from 130000", "/file.pth from 260000",
                                                "/cdn/file from 260000"});
    Fixture circle;
    circle.server.put("/file.pth", {.redirect_to = "/file.pth"});
    circle.fails("redirect");
  }

  TEST_CASE("an interrupted transfer goes on where it stopped, as long as it brings something") {
    Fixture fixture;
    fixture.server.put("/file.pth", {.body = fixture.body, .etag = "one", .cut_after = 40'000});
    fixture.download.sha256 = sum(fixture.body);
    fixture.succeeds(Proof::listed);
    const Requests requests = fixture.server.requests();
    CHECK(requests.size() == 8);
    CHECK(requests[1] == "/file.pth from 40000");
    CHECK(requests[7] == "/file.pth from 280000");
  }

  TEST_CASE("what an earlier run left is used, if it is of the same file") {
    Fixture fixture;
    const std::string part = fixture.download.to.string() + ".part";
    const auto leave = [&](const std::string& bytes, const std::string& id) {
      fixture.folder.write("a/file.pth.part", bytes);
      if (!id.empty()) fixture.folder.write("a/file.pth.part.id", id + "\n");
    };
    fixture.server.put("/file.pth", {.body = fixture.body, .etag = "one"});
    leave(fixture.body.substr(0, 1000), "etag one");
    CHECK(bytes_there(fixture.download.to) == 1000);
    fixture.succeeds(Proof::size);
    CHECK(fixture.server.requests().back() == "/file.pth from 1000");
    // Of another version: from the start.
    leave(some_bytes(999), "etag zero");
    fixture.succeeds(Proof::size);
    CHECK(fixture.server.requests().back() == "/file.pth");
    // Nobody knows of what: not trusted.
    leave(fixture.body.substr(0, 1000), "");
    CHECK(bytes_there(fixture.download.to) == 0);
    fixture.succeeds(Proof::size);
    CHECK(fixture.server.requests().back() == "/file.pth");
    // All of it is there already.
    leave(fixture.body, "etag one");
    fixture.download.bytes = fixture.body.size();
    fixture.succeeds(Proof::size);
    CHECK(fixture.server.requests().back() == "/file.pth from 300000");
    // More than all.
    leave(fixture.body + "x", "etag one");
    fixture.succeeds(Proof::size);
    // Damaged on disk: found by the checksum, and fetched anew.
    fixture.download.sha256 = sum(fixture.body);
    leave(std::string(1000, 'x'), "sha256 " + fixture.download.sha256);
    fixture.succeeds(Proof::listed);
    CHECK(fixture.server.requests().back() == "/file.pth");
  }

  TEST_CASE("a server that knows no ranges sends all again") {
    Fixture fixture;
    fixture.server.put("/file.pth", {.body = fixture.body, .etag = "one", .knows_ranges = false});
    fixture.folder.write("a/file.pth.part", fixture.body.substr(0, 1000));
    fixture.folder.write("a/file.pth.part.id", "etag one\n");
    fixture.succeeds(Proof::size);
  }

  TEST_CASE("a busy server is asked again, a final answer is not") {
    Fixture fixture;
    fixture.server.put("/file.pth", {.body = fixture.body, .refusals = 2});
    fixture.succeeds(Proof::size);
    CHECK(fixture.server.requests().size() == 3);
    Fixture busy;
    busy.server.put("/file.pth", {.body = busy.body, .refusals = 9, .refusal = 429});
    busy.fails("/file.pth: the server answers 429 (3 attempts)");
    Fixture none;
    none.fails("/file.pth: the server answers 404");
    none.nothing_else();
    CHECK(none.server.requests().size() == 1);
    Fixture denied;
    denied.server.put("/file.pth", {.body = denied.body, .refusals = 9, .refusal = 403});
    denied.fails("the server answers 403");
    CHECK(denied.server.requests().size() == 1);
  }

  TEST_CASE("a wrong checksum or size leaves nothing") {
    Fixture fixture;
    fixture.server.put("/file.pth", {.body = fixture.body});
    fixture.download.sha256 = sum("another");
    fixture.fails("what came was removed");
    fixture.nothing_else();
    fixture.download.sha256.clear();
    fixture.download.bytes = 10;
    fixture.fails("the server offers 300000 bytes, wanted 10");
  }

  TEST_CASE("mirrors are tried in turn") {
    Fixture fixture;
    HttpFiles mirror;
    mirror.put("/m/file.pth", {.body = fixture.body});
    fixture.download.urls.push_back(mirror.url() + "/m/file.pth");
    fixture.succeeds(Proof::size);
    CHECK(mirror.requests() == Requests{"/m/file.pth"});
    // A transfer that is given up leaves what has come.
    HttpFiles weak;
    weak.put("/file.pth", {.body = fixture.body, .etag = "one", .knows_ranges = false, .cut_after = 1000});
    fixture.download.urls = {weak.url() + "/file.pth"};
    fixture.download.to = fixture.folder.path() / "c";
    fixture.fails("(3 attempts)");
    CHECK(bytes_there(fixture.download.to) == 1000);
    fixture.download.urls = {"http://127.0.0.1:1/file.pth"};
    fixture.download.to = fixture.folder.path() / "b";
    fixture.fails("http://127.0.0.1:1/file.pth: ");
    fixture.download.urls = {"file:///etc/passwd"};
    fixture.fails("file:///etc/passwd: ");
    fixture.download.urls = {};
    fixture.fails("no URL");
  }

  TEST_CASE("paths are escaped") {
    CHECK(escaped_path("a/b-1.2_~x=y z%") == "a/b-1.2_~x%3Dy%20z%25");
  }
}
