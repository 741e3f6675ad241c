#include "streaming/http.h"

#include <filesystem>
#include <fstream>
#include <string>

#include <unistd.h>

#include "tests/doctest.h"
#include "tests/streaming/fake_synthesizer.h"

namespace tts {
namespace {

namespace fs = std::filesystem;

/// A folder with pages, and a secret beside it.
struct Site {
  Site() {
    fs::create_directories(dir / "js");
    fs::create_directories(dir / ".git");
    write(dir / "index.html", "page");
    write(dir / "js/app.js", "script");
    write(dir / "a b.txt", "space");
    write(dir / ".git/config", "hidden");
    write(root / "secret.txt", "secret");
    fs::create_symlink(root / "secret.txt", dir / "leak.txt");
    fs::create_symlink(dir / "js/app.js", dir / "inside.js");
    fs::create_symlink(root, dir / "up");
  }
  ~Site() { fs::remove_all(root); }
  static void write(const fs::path& file, const char* text) { std::ofstream(file) << text; }

  fs::path root = fs::temp_directory_path() / ("sonorant_http_" + std::to_string(::getpid()));
  fs::path dir = root / "web";
};

std::string header(const HttpReply& reply, const std::string& name) {
  for (const auto& [key, value] : reply.headers) {
    if (key == name) return value;
  }
  return "";
}

}  // namespace

TEST_SUITE("streaming/http") {
  TEST_CASE("paths lead to files of the folder and nowhere else") {
    const Site site;
    for (const char* good : {"/index.html", "/js/app.js", "/a%20b.txt", "/inside.js", "/js%2Fapp.js"}) {
      CAPTURE(good);
      CHECK_FALSE(resolve_web_path(site.dir, good).empty());
    }
    for (const char* bad : {"",
                            "/",
                            "index.html",
                            "/nothing",
                            "/js",
                            "/js/",
                            "/../secret.txt",
                            "/js/../../secret.txt",
                            "/%2e%2e/secret.txt",
                            "/..%2fsecret.txt",
                            "/%2e%2e%2fsecret.txt",
                            "/leak.txt",
                            "/up/secret.txt",
                            "/.git/config",
                            "/./index.html",
                            "//index.html",
                            "/js//app.js",
                            "/index.html%00.js",
                            "/%",
                            "/%2",
                            "/%zz",
                            "/..\\secret.txt",
                            "/%5c..",
                            "/index.html/"}) {
      CAPTURE(bad);
      CHECK(resolve_web_path(site.dir, bad).empty());
    }
    CHECK(resolve_web_path(site.root / "missing", "/index.html").empty());
  }

  TEST_CASE("files come with type, policy and a tag that saves sending them again") {
    const Site site;
    FakeSynthesizer synthesizer;
    ServerMetrics metrics;
    const HttpBackend backend{site.dir, synthesizer, metrics, false};
    const HttpReply page = handle_http({"GET", "/?x=1", ""}, backend);
    CHECK(page.status == 200);
    CHECK(page.body == "page");
    CHECK(page.content_type == "text/html; charset=utf-8");
    const std::string policy = header(page, "Content-Security-Policy");
    CHECK(policy.find("'wasm-unsafe-eval'") != std::string::npos);
    CHECK(policy.find("default-src 'self'") != std::string::npos);
    const std::string etag = header(page, "ETag");
    REQUIRE(etag.size() > 2);
    CHECK(handle_http({"GET", "/", etag}, backend).status == 304);
    Site::write(site.dir / "index.html", "changed");
    CHECK(handle_http({"GET", "/", etag}, backend).body == "changed");
    CHECK(handle_http({"GET", "/js/app.js", ""}, backend).content_type == "text/javascript; charset=utf-8");
    CHECK(content_type_of("a.wasm") == "application/wasm");
    CHECK(content_type_of("a.unknown") == "application/octet-stream");
  }

  TEST_CASE("methods and paths that are not offered") {
    const Site site;
    FakeSynthesizer synthesizer;
    ServerMetrics metrics;
    const HttpBackend backend{site.dir, synthesizer, metrics, true};
    CHECK(handle_http({"POST", "/", ""}, backend).status == 405);
    CHECK(header(handle_http({"DELETE", "/v1/voices", ""}, backend), "Allow") == "GET, HEAD");
    CHECK(handle_http({"POST", "/v1/audio/speech", ""}, backend).status == 404);
    CHECK(handle_http({"GET", "/tts?text=x", ""}, backend).status == 404);
    CHECK(handle_http({"GET", "/nothing", ""}, backend).body ==
          R"({"error":{"code":"not_found","message":"no such page"}})");
    CHECK(handle_http({"GET", "/readyz", ""}, backend).status == 503);  // draining
    CHECK(handle_http({"GET", "/healthz", ""}, backend).status == 200);
  }

  TEST_CASE("metrics are Prometheus text") {
    ServerMetrics metrics;
    metrics.sessions = 3;
    metrics.count_error(Errc::slow_client);
    metrics.first_packet.observe(std::chrono::milliseconds(90));
    metrics.first_packet.observe(std::chrono::seconds(9));
    SynthesizerStats stats;
    stats.tokens_total = 77;
    stats.reader_bytes = 5;
    stats.texts_unread = 6;
    stats.load = 0.5;
    stats.waiting_utterances = 2;
    stats.slots = 32;
    stats.slots_taken = 3;
    stats.slot_bytes = 400;
    stats.quality_steps = 2;
    stats.reduced_segments_total = 11;
    stats.lighter_utterances_total = 12;
    const std::vector<GpuFigures> gpus{{0, "a \"b\"", 0.25, 3, 8}, {1, "c", 0, 0, 9}};
    const std::string text = to_prometheus(metrics, stats, true, gpus);
    for (const char* line : {"sonorant_ready 1",
                             "sonorant_sessions_total 3",
                             "sonorant_tokens_total 77",
                             "sonorant_reader_bytes 5",
                             "sonorant_texts_unread_total 6",
                             "sonorant_load 0.5",
                             "sonorant_utterances_waiting 2",
                             "sonorant_slots 32",
                             "sonorant_slots_taken 3",
                             "sonorant_slot_bytes 400",
                             "sonorant_quality_steps 2",
                             "sonorant_segments_reduced_total 11",
                             "sonorant_utterances_lighter_total 12",
                             R"(sonorant_gpu_utilization{gpu="0",name="a \"b\""} 0.25)",
                             R"(sonorant_gpu_memory_used_bytes{gpu="0",name="a \"b\""} 3)",
                             R"(sonorant_gpu_memory_bytes{gpu="1",name="c"} 9)",
                             "sonorant_errors_total{code=\"slow_client\"} 1",
                             "sonorant_errors_total{code=\"timeout\"} 0",
                             "sonorant_first_packet_seconds_bucket{le=\"0.08\"} 0",
                             "sonorant_first_packet_seconds_bucket{le=\"0.1\"} 1",
                             "sonorant_first_packet_seconds_bucket{le=\"+Inf\"} 2",
                             "sonorant_first_packet_seconds_sum 9.09",
                             "sonorant_first_packet_seconds_count 2"}) {
      CAPTURE(line);
      CHECK(("\n" + text).find("\n" + std::string(line) + "\n") != std::string::npos);
    }
    CHECK(text.find("sonorant_resident_memory_bytes 0\n") == std::string::npos);
    CHECK(to_prometheus(metrics, stats, true).find("gpu") == std::string::npos);
  }
}

}  // namespace tts
