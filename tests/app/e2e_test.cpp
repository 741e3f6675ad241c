// The built program over its real doors: arguments, exit codes, signals, a WebSocket.

#include <algorithm>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include <simdjson.h>
#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>

#include "src/app/stream_client.h"
#include "src/audio/level.h"
#include "src/audio/ogg_opus.h"
#include "src/audio/wav.h"
#include "streaming/protocol.h"
#include "tests/app/process.h"
#include "tests/app/temporary_folder.h"
#include "tests/doctest.h"

TEST_SUITE("app/e2e") {
  using namespace tts;
  using namespace tts::testing;
  using namespace std::chrono_literals;
  namespace fs = std::filesystem;

  constexpr auto kStart = 120s;  // a busy machine, sanitizers
  constexpr auto kEnd = 60s;

  /// The program's data, wherever it was built.
  const std::map<std::string, std::string> kData{{"SONORANT_ENGINE_VOICES_DIR", "models/pretrained"},
                                                 {"SONORANT_ENGINE_TEXT_DATA_DIR", "src/text/data"},
                                                 {"SONORANT_SERVER_WEB_DIR", "web"}};

  /// `sonorant serve` on a free port.
  struct Served {
    Process process;
    int port = 0;

    explicit Served(std::vector<std::string> more = {})
        : process(
              [&] {
                std::vector<std::string> command{SONORANT_PROGRAM, "serve", "--port", "0"};
                command.insert(command.end(), more.begin(), more.end());
                return command;
              }(),
              kData) {
      const auto line = process.wait_for_line("listening on http://127.0.0.1:", kStart);
      if (!line) {
        process.wait(1s);
        FAIL("sonorant serve did not start: " << process.err);
      }
      port = std::stoi(line->substr(line->rfind(':') + 1));
    }
  };

  /// Status line of an HTTP GET; empty when nobody answers.
  std::string get_status(int port, const std::string& target) {
    namespace asio = boost::asio;
    asio::io_context io;
    asio::ip::tcp::socket socket(io);
    boost::system::error_code error;
    socket.connect({asio::ip::make_address("127.0.0.1"), static_cast<std::uint16_t>(port)}, error);
    if (error) return "";
    asio::write(socket, asio::buffer("GET " + target + " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"),
                error);
    std::string reply;
    asio::read(socket, asio::dynamic_buffer(reply), error);
    return reply.substr(0, reply.find("\r\n"));
  }

  /// The JSON lines that README.md puts into the mouth of `who` in its example.
  std::vector<std::string> readme_lines(const std::string& who) {
    const std::string readme = read_text("README.md");
    std::vector<std::string> lines;
    const std::string prefix = "\n" + who + "  {";
    for (std::size_t at = readme.find(prefix); at != std::string::npos; at = readme.find(prefix, at + 1)) {
      const std::size_t begin = at + prefix.size() - 1;
      lines.push_back(readme.substr(begin, readme.find('\n', begin) - begin));
    }
    return lines;
  }

  simdjson::dom::element parse(simdjson::dom::parser & parser, const std::string& json) {
    simdjson::dom::element root;
    CAPTURE(json);
    REQUIRE(parser.parse(json).get(root) == simdjson::SUCCESS);
    return root;
  }

  struct Heard {
    std::vector<std::string> messages;
    std::vector<std::vector<std::uint8_t>> packets;
    std::vector<AudioHeader> headers;
  };

  /// All frames up to the message of this type.
  Heard listen(StreamClient & client, const std::string& last) {
    Heard heard;
    for (;;) {
      auto frame = client.receive();
      if (!frame) FAIL("no " << last << ": " << frame.error().detail);
      if (frame->binary) {
        heard.headers.push_back(decode_header(frame->bytes).value());
        heard.packets.emplace_back(frame->bytes.begin() + kAudioHeaderBytes, frame->bytes.end());
        continue;
      }
      heard.messages.push_back(frame->text());
      const std::string type = json_field(heard.messages.back(), "type");
      if (type == last) return heard;
      if (type == "error") FAIL(heard.messages.back());
    }
  }

  /// Opus packets of 20 ms to PCM at 48 kHz, by way of an Ogg file.
  std::vector<float> decode(const Heard& heard, int pre_skip, double audio_ms) {
    OggOpusWriter writer(pre_skip, 48000, 1);
    std::vector<std::uint8_t> file = writer.header("test");
    const auto append = [&](const std::vector<std::uint8_t>& bytes) {
      file.insert(file.end(), bytes.begin(), bytes.end());
    };
    for (const auto& packet : heard.packets) append(writer.packet(packet, 960));
    append(writer.finish(static_cast<std::int64_t>(audio_ms * 48 + 0.5)));
    return read_audio(file).value().pcm;
  }

  TEST_CASE("the README's example is spoken, then SIGTERM ends the server with 0") {
    Served served;
    CHECK(get_status(served.port, "/healthz") == "HTTP/1.1 200 OK");
    CHECK(get_status(served.port, "/readyz") == "HTTP/1.1 200 OK");
    CHECK(get_status(served.port, "/") == "HTTP/1.1 200 OK");

    auto client = StreamClient::connect("127.0.0.1", served.port).value();
    listen(client, "hello");
    const std::vector<std::string> lines = readme_lines("client");
    REQUIRE(lines.size() >= 4);
    for (const std::string& line : lines) REQUIRE(client.send(line));
    const Heard heard = listen(client, "done");

    simdjson::dom::parser wanted_parser;
    simdjson::dom::parser got_parser;
    std::string wanted_opened;
    for (const std::string& line : readme_lines("server")) {
      if (line.find("\"opened\"") != std::string::npos) wanted_opened = line;
    }
    const auto wanted = parse(wanted_parser, wanted_opened);
    const auto opened = parse(got_parser, heard.messages.at(0));
    for (const char* field : {"ctx", "rate", "channels", "frame_samples", "pre_skip"}) {
      CAPTURE(field);
      CHECK(std::int64_t(opened[field]) == std::int64_t(wanted[field]));
    }
    const int pre_skip = static_cast<int>(std::int64_t(opened["pre_skip"]));

    REQUIRE(!heard.headers.empty());
    for (std::size_t i = 0; i < heard.headers.size(); ++i) {
      const AudioHeader& header = heard.headers[i];
      CHECK(header.codec == Codec::opus);
      CHECK(header.ctx == 1);
      CHECK(header.seq == i);
      CHECK(header.position == i * 960);
      CHECK(((header.flags & kFrameFirst) != 0) == (i == 0));
      CHECK(((header.flags & kFrameLast) != 0) == (i + 1 == heard.headers.size()));
    }

    const auto done = parse(got_parser, heard.messages.back());
    const double audio_ms = double(done["audio_ms"]);
    CHECK(audio_ms > 500);
    CHECK(audio_ms < 15'000);
    CHECK(double(done["metrics"]["first_audio_ms"]) > 0);
    CHECK(std::int64_t(done["metrics"]["tokens"]) > 0);
    const std::vector<float> pcm = decode(heard, pre_skip, audio_ms);
    CHECK(pcm.size() == static_cast<std::size_t>(audio_ms * 48 + 0.5));
    CHECK(to_dbfs(rms(pcm)) > -45);

    served.process.signal(SIGTERM);
    CHECK(served.process.wait(kEnd) == 0);
    CHECK(get_status(served.port, "/healthz").empty());
  }

  TEST_CASE("a flush with nothing to say is answered, before and after speech") {
    Served served;
    auto client = StreamClient::connect("127.0.0.1", served.port).value();
    listen(client, "hello");
    REQUIRE(client.send(R"({"type":"open","ctx":2,"voice":"starter","format":{"codec":"opus","rate":48000}})"));
    REQUIRE(client.send(R"({"type":"flush","ctx":2,"id":"before"})"));
    CHECK(json_field(listen(client, "flushed").messages.back(), "id") == "before");
    REQUIRE(client.send(R"({"type":"text","ctx":2,"text":"Good morning."})"));
    REQUIRE(client.send(R"({"type":"flush","ctx":2,"id":"spoken"})"));
    CHECK(json_field(listen(client, "flushed").messages.back(), "id") == "spoken");
    REQUIRE(client.send(R"({"type":"flush","ctx":2,"id":"after"})"));
    CHECK(json_field(listen(client, "flushed").messages.back(), "id") == "after");
    REQUIRE(client.send(R"({"type":"end","ctx":2})"));
    listen(client, "done");
  }

  TEST_CASE("on SIGTERM a running utterance is finished, new ones are not taken") {
    Served served;
    auto client = StreamClient::connect("127.0.0.1", served.port).value();
    listen(client, "hello");
    REQUIRE(client.send(R"({"type":"open","ctx":7,"voice":"starter","format":{"codec":"opus","rate":48000}})"));
    listen(client, "opened");
    REQUIRE(client.send(R"({"type":"text","ctx":7,"text":"This is the sentence that was asked for before the end."})"));
    REQUIRE(client.send(R"({"type":"end","ctx":7})"));
    auto first = client.receive();
    REQUIRE(first.has_value());
    CHECK(first->binary);
    served.process.signal(SIGTERM);
    const Heard heard = listen(client, "done");
    REQUIRE(!heard.headers.empty());
    CHECK((heard.headers.back().flags & kFrameLast) != 0);
    CHECK(client.receive().has_error());  // the server says goodbye
    CHECK(served.process.wait(kEnd) == 0);
  }

  TEST_CASE("SIGINT ends an idle server at once") {
    Served served;
    const auto begin = std::chrono::steady_clock::now();
    served.process.signal(SIGINT);
    CHECK(served.process.wait(kEnd) == 0);
    CHECK(std::chrono::steady_clock::now() - begin < 8s);  // less than the period of grace
  }

  void fails(const std::vector<std::string>& args, const std::string& words,
             std::map<std::string, std::string> variables = {}) {
    variables.insert(kData.begin(), kData.end());
    std::vector<std::string> command{SONORANT_PROGRAM};
    command.insert(command.end(), args.begin(), args.end());
    Process process(command, variables);
    CAPTURE(words);
    CHECK(process.wait(kStart) == 1);
    CAPTURE(process.err);
    CHECK(process.out.empty());
    const std::size_t line = process.err.find("sonorant: ");
    REQUIRE(line != std::string::npos);
    CHECK(process.err.find(words, line) != std::string::npos);
    CHECK(process.err.find('\n', line) == process.err.size() - 1);  // the last line
    CHECK(process.err.find("terminate") == std::string::npos);
  }

  TEST_CASE("bad arguments and settings are one line and exit code 1") {
    const TemporaryFolder folder;
    fails({}, "subcommand");
    fails({"sing"}, "sing");
    fails({"serve", "--config", folder.write("bad.toml", "[server]\nprot = 1\n").string()}, "server.prot: unknown key");
    fails({"serve"}, "SONORANT_SERVER_PORT", {{"SONORANT_SERVER_PORT", "http"}});
    fails({"say", "--out", (folder.path() / "a.wav").string(), "--voice", "nobody", "Hello."}, "there are: starter");
    fails({"serve", "--voices", (folder.path() / "none").string()}, "is not a folder");
    fails({"serve", "--voices", folder.folder("empty").string()}, "empty");
  }

  TEST_CASE("a busy port is one line and exit code 1") {
    const Served served;
    fails({"serve", "--port", std::to_string(served.port)}, "127.0.0.1");
  }

  TEST_CASE("corrupt and truncated weights are one line and exit code 1") {
    const fs::path starter = "models/pretrained/starter";
    REQUIRE(fs::exists(starter / "manifest.json"));
    const auto copy = [&](const TemporaryFolder& folder) {
      fs::copy(starter, folder.path() / "starter", fs::copy_options::recursive);
      return folder.path() / "starter";
    };
    std::vector<std::string> weights;
    for (const auto& entry : fs::directory_iterator(starter)) {
      const std::string name = entry.path().filename().string();  // the tokenizer is read when a voice is made
      if (entry.path().extension() == ".safetensors" && name != "tokenizer.safetensors") weights.push_back(name);
    }
    REQUIRE(!weights.empty());
    for (const std::string& name : weights) {
      CAPTURE(name);
      const TemporaryFolder folder;
      const fs::path voice = copy(folder);
      fs::resize_file(voice / name, fs::file_size(voice / name) / 2);
      fails({"voices", "--voices", folder.path().string()}, name);
    }
    {
      const TemporaryFolder folder;
      const fs::path voice = copy(folder);
      folder.write("starter/" + weights.front(), std::string(64, '\xff'));
      fails({"voices", "--voices", folder.path().string()}, weights.front());
    }
    {
      const TemporaryFolder folder;
      copy(folder);
      folder.write("starter/manifest.json", "{\"format\": ");
      fails({"voices", "--voices", folder.path().string()}, "manifest.json");
    }
    const TemporaryFolder folder;
    const fs::path voice = copy(folder);
    fs::remove(voice / weights.front());
    fails({"voices", "--voices", folder.path().string()}, weights.front());
  }

  TEST_CASE("say writes WAV and Opus files, and the same seed the same samples") {
    const TemporaryFolder folder;
    const auto speak = [&](const std::string& name, const std::string& text) {
      Process process({SONORANT_PROGRAM, "say", "--seed", "5", "--out", (folder.path() / name).string(), text}, kData);
      const int code = process.wait(kStart);
      CAPTURE(process.err);
      CHECK(code == 0);
      return process.out;
    };
    const std::string report = speak("a.wav", "Good morning to you.");
    CHECK(report.find("first audio after") != std::string::npos);
    CHECK(report.find("RTF") != std::string::npos);
    speak("b.wav", "Good morning to you.");
    speak("c.opus", "Good morning to you.");
    CHECK(read_bytes(folder.path() / "a.wav") == read_bytes(folder.path() / "b.wav"));
    const AudioFile wav = read_audio(read_bytes(folder.path() / "a.wav")).value();
    const AudioFile opus = read_audio(read_bytes(folder.path() / "c.opus")).value();
    CHECK(wav.rate_hz == 24000);
    CHECK(to_dbfs(rms(wav.pcm)) > -45);
    CHECK(std::abs(static_cast<double>(wav.pcm.size()) / wav.rate_hz -
                   static_cast<double>(opus.pcm.size()) / opus.rate_hz) < 1e-3);
    CHECK(speak("d.wav", " ").find("nothing to speak") != std::string::npos);
  }

  TEST_CASE("a voice made of a recording is as loud as the one that ships, however thin the recording") {
    const TemporaryFolder folder;
    fs::copy("models/pretrained/starter", folder.path() / "starter", fs::copy_options::recursive);
    const auto path = [&](const char* name) { return (folder.path() / name).string(); };
    const auto run = [&](std::vector<std::string> args) {
      args.insert(args.begin(), SONORANT_PROGRAM);
      std::map<std::string, std::string> variables = kData;
      variables["SONORANT_ENGINE_VOICES_DIR"] = folder.path().string();
      Process process(args, variables);
      const int code = process.wait(kStart);
      CAPTURE(process.err);
      REQUIRE(code == 0);
    };
    const std::string words = "Nobody expected the second half of the evening to be so cold.";
    run({"say", "--seed", "3", "--out", path("loud.wav"), words});
    AudioFile recording = read_audio(read_bytes(path("loud.wav"))).value();
    float before = 0;
    for (float& v : recording.pcm) {  // heard through a small loudspeaker
      const float now = v;
      v = 0.7F * (now - 0.8F * before);
      before = now;
    }
    const std::vector<std::uint8_t> thin = to_wav(recording.pcm, static_cast<int>(recording.rate_hz));
    folder.write("thin.wav", std::string(thin.begin(), thin.end()));
    run({"voices", "add", "--model", "starter", "--id", "ann", "--lang", "en", "--ref", path("thin.wav"), "--text",
         words});
    run({"say", "--voice", "ann", "--out", path("ann.wav"), "Her brother works for a company that repairs violins."});
    const AudioFile said = read_audio(read_bytes(path("ann.wav"))).value();
    const double loudness = loudness_lufs(said.pcm, static_cast<int>(said.rate_hz));
    CHECK(loudness > -22.5);
    CHECK(loudness < -17.5);  // with the mean spectrum of the recording alone it is -12
  }
}
