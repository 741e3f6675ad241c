#include "src/core/digest.h"

#include <string>

#include "tests/doctest.h"

TEST_SUITE("core/digest") {
  using namespace tts;

  std::string sha256_of(std::string_view text) {
    return sha256_hex(std::as_bytes(std::span(text)));
  }

  TEST_CASE("SHA-256 and MD5 give the published values") {
    // FIPS 180-4 examples; RFC 1321, appendix A.5.
    CHECK(sha256_of("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    CHECK(sha256_of("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    CHECK(sha256_of("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq") ==
          "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    Digest md5 = Digest::md5();
    md5.update("message digest");
    CHECK(md5.finish() == "f96b697d7cb7938d525a2f31aaf161d0");
  }

  TEST_CASE("pieces give what the whole gives") {
    Digest digest = Digest::sha256();
    for (const char* piece : {"a", "", "b", "c"}) digest.update(std::string_view(piece));
    CHECK(digest.finish() == sha256_of("abc"));
  }
}
