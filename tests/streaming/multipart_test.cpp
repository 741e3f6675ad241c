#include "streaming/multipart.h"

#include <string>
#include <vector>

#include "streaming/voice_upload.h"
#include "tests/doctest.h"

namespace tts {
namespace {

using namespace std::string_literals;

constexpr std::string_view kType = "multipart/form-data; boundary=XyZ";

Result<std::vector<MultipartPart>> parse(std::string_view body, std::size_t step = 100'000,
                                         std::string_view type = kType, const MultipartLimits& limits = {}) {
  auto parser = MultipartParser::make(type, limits);
  if (!parser) return parser.error();
  for (std::size_t at = 0; at < body.size(); at += step) {
    if (auto done = parser->push(body.substr(at, step)); !done) return done.error();
  }
  return parser->finish();
}

std::string part(const std::string& disposition, const std::string& data) {
  return "--XyZ\r\nContent-Disposition: form-data; " + disposition + "\r\n\r\n" + data + "\r\n";
}

std::string fault(std::string_view body, const MultipartLimits& limits = {}) {
  std::string detail;
  for (const std::size_t step : {std::size_t{1}, std::size_t{7}, body.size() + 1}) {
    const auto parts = parse(body, step, kType, limits);
    REQUIRE(parts.has_error());
    if (!detail.empty()) CHECK(parts.error().detail == detail);
    detail = parts.error().detail;
  }
  return detail;
}

bool has(const std::string& text, const std::string& words) {
  return text.find(words) != std::string::npos;
}

}  // namespace

TEST_SUITE("streaming/multipart") {
  TEST_CASE("fields and files, however the body is cut") {
    const std::string binary = "a\r\n--Xy\0\r\n--XyQ\r\n-"s;
    const std::string body = "to be passed over\r\n" + part("name=\"model\"", "anna") +
                             part("name=\"audio\"; filename=\"C:\\\\a \\\"b\\\".wav\"", binary) +
                             part("name=\"text\"", "") + part("name=plain; filename=x", "1") + "--XyZ--\r\nthe end";
    for (std::size_t step = 1; step < body.size() + 1; ++step) {
      const auto parts = parse(body, step);
      CAPTURE(step);
      REQUIRE(parts.has_value());
      REQUIRE(parts->size() == 4);
      CHECK((*parts)[0].name == "model");
      CHECK((*parts)[0].data == "anna");
      CHECK(!(*parts)[0].file_name);
      CHECK((*parts)[1].file_name == "C:\\a \"b\".wav");
      CHECK((*parts)[1].data == binary);
      CHECK((*parts)[2].data.empty());
      CHECK((*parts)[3].name == "plain");
      CHECK((*parts)[3].file_name == "x");
    }
  }

  TEST_CASE("a quoted boundary, padding behind it, further header fields") {
    const std::string body =
        "--a b'()+:=?  \t\r\nContent-Type: text/plain\r\ncontent-disposition:FORM-DATA ;NAME=\"x\"\r\n"
        "Content-Transfer-Encoding: 8bit\r\n\r\nv\r\n--a b'()+:=?--";
    const auto parts = parse(body, 3, "Multipart/Form-Data; charset=utf-8; Boundary=\"a b'()+:=?\"");
    REQUIRE(parts.has_value());
    REQUIRE(parts->size() == 1);
    CHECK(parts->front().data == "v");
    CHECK(parse("--XyZ--").value().empty());
  }

  TEST_CASE("other content types and boundaries are refused") {
    for (const char* type : {"", "multipart/form-data", "multipart/form-data; boundary=", "text/plain; boundary=x",
                             "multipart/form-data; boundary=a\"b", "multipart/form-data; boundary=\"a",
                             "multipart/form-data; boundary=\"a\"b", "multipart/form-data; boundary=\"a \"",
                             "multipart/form-data; boundary=a\x01z"}) {
      CAPTURE(type);
      CHECK(parse("--a--", 1, type).error().code == Errc::unsupported_format);
    }
    const std::string long_one = "multipart/form-data; boundary=" + std::string(71, 'a');
    CHECK(parse("", 1, long_one).error().code == Errc::unsupported_format);
  }

  TEST_CASE("hostile bodies are refused, the same for every cut") {
    CHECK(has(fault(""), "ends before"));
    CHECK(has(fault("--XyZ"), "ends before"));
    CHECK(has(fault("--XyZ\r\n"), "ends before"));
    CHECK(has(fault(part("name=\"a\"", "b")), "ends before"));
    CHECK(has(fault(std::string(10'000, '-')), "no boundary"));
    CHECK(has(fault("--XyZx\r\n"), "other text"));
    CHECK(has(fault("--XyZ" + std::string(100, ' ') + "\r\n"), "other text"));
    CHECK(has(fault("--XyZ\r\nname: value\r\n\r\n"), "without a name"));
    CHECK(has(fault("--XyZ\r\n\r\nvalue\r\n--XyZ--"), "without a name"));
    CHECK(has(fault("--XyZ\r\nno colon\r\n\r\n"), "misshapen"));
    CHECK(has(fault("--XyZ\r\nContent-Disposition: attachment; name=a\r\n\r\n"), "wanted form-data"));
    CHECK(has(fault("--XyZ\r\nContent-Disposition: form-data; name=\"a\r\n\r\n"), "wanted form-data"));
    CHECK(has(fault(part("name=a; name=b", "")), "two names"));
    CHECK(has(fault(part("name=\"\"", "")), "without a name"));
    CHECK(has(fault(part("name=\"\xFF\"", "")), "not UTF-8"));
    CHECK(has(fault("--XyZ\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: form-data; name=a\r\n\r\n"),
              "Content-Transfer-Encoding"));
    CHECK(has(fault("--XyZ\r\nX: " + std::string(5000, 'a')), "longer than 4096"));
    MultipartLimits limits;
    limits.max_parts = 3;
    limits.max_field_bytes = 10;
    limits.max_file_bytes = 20;
    std::string four;
    for (int i = 0; i < 4; ++i) four += part("name=a", "");
    CHECK(has(fault(four + "--XyZ--", limits), "more than 3 parts"));
    CHECK(has(fault(part("name=a", "12345678901") + "--XyZ--", limits), "part \"a\": longer than 10 bytes"));
    CHECK(has(fault(part("name=a; filename=b", std::string(21, 'x')) + "--XyZ--", limits), "longer than 20 bytes"));
    CHECK(parse(part("name=a; filename=b", std::string(20, 'x')) + "--XyZ--", 1, kType, limits).has_value());
  }
}

TEST_SUITE("streaming/voice_upload") {
  TEST_CASE("the fields of a request") {
    std::vector<MultipartPart> parts{{"model", {}, "m"},     {"audio", "a.wav", "RIFF"}, {"text", {}, "Hi."},
                                     {"lang", {}, "en"},     {"aux", "b.wav", "1"},      {"aux", "c.wav", "22"},
                                     {"name", {}, "Ann A."}, {"id", {}, "ann"}};
    const auto request = to_voice_request(parts);
    REQUIRE(request.has_value());
    CHECK(request->model == "m");
    CHECK(request->reference.bytes.size() == 4);
    CHECK(request->reference.name == "audio");
    REQUIRE(request->more.size() == 2);
    CHECK(request->more[1].name == "aux 2");
    CHECK(request->more[1].bytes.size() == 2);
    CHECK(request->text == "Hi.");
    CHECK(request->id == "ann");
    const auto refused = [&](const MultipartPart& more, const char* words) {
      auto with = parts;
      with.push_back(more);
      const auto got = to_voice_request(with);
      REQUIRE(got.has_error());
      CHECK(got.error().code == Errc::bad_message);
      CHECK(has(got.error().detail, words));
    };
    refused({"model", {}, "n"}, "field \"model\": given twice");
    refused({"path", {}, "/etc"}, "field \"path\": not known");
    CHECK(has(to_voice_request({}).error().detail, "\"model\": missing"));
    CHECK(has(to_voice_request({{"model", {}, "m"}}).error().detail, "\"audio\": missing"));
    CHECK(has(to_voice_request({{"model", "f", "m"}}).error().detail, "got a file"));
  }

  TEST_CASE("who may change voices") {
    VoiceUploads uploads;
    const auto status = [&](const RequestOrigin& from) {
      const auto refusal = refuse_change(uploads, from);
      return refusal ? refusal->status : 0;
    };
    CHECK(status({"localhost:8080", "", ""}) == 403);
    uploads.enabled = true;
    CHECK(status({"localhost:8080", "", ""}) == 0);
    CHECK(status({"127.0.0.1", "", ""}) == 0);
    CHECK(status({"[::1]:8080", "http://[::1]:8080", ""}) == 0);
    CHECK(status({"localhost:8080", "http://localhost:8080", ""}) == 0);
    CHECK(status({"localhost:8080", "http://evil.example", ""}) == 403);
    CHECK(status({"localhost:8080", "http://localhost:9999", ""}) == 403);
    CHECK(status({"localhost:8080", "null", ""}) == 403);
    CHECK(status({"evil.example:8080", "http://evil.example:8080", ""}) == 403);  // a name that was bound anew
    CHECK(status({"", "", ""}) == 403);
    CHECK(status({"[::1", "", ""}) == 403);
    uploads.token = "secret";
    CHECK(status({"localhost:8080", "", ""}) == 401);
    CHECK(status({"far.example", "", "Bearer secret"}) == 0);
    for (const char* wrong :
         {"Bearer secre", "Bearer secrett", "Bearer secretsecret", "Bearer ", "secret", "Basic secret"}) {
      CAPTURE(wrong);
      CHECK(status({"far.example", "", wrong}) == 401);
    }
  }
}

}  // namespace tts
