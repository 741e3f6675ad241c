// The built program with small generated models: voices made on the command line and over a real socket, while others
// are spoken with.

#include <algorithm>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <initializer_list>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "tests/app/process.h"
#include "tests/app/temporary_folder.h"
#include "tests/audio/signals.h"
#include "tests/audio/sound_file.h"
#include "tests/doctest.h"
#include "tests/engine/preparable_model.h"
#include "tests/streaming/test_client.h"

namespace tts {
namespace {

using namespace tts::testing;
using namespace std::chrono_literals;
namespace fs = std::filesystem;

struct Program {
  explicit Program(std::initializer_list<ModelForm> more = {}) {
    write_preparable_model(folder.path() / "voices" / "base", ModelForm::v2);
    write_preparable_model(folder.path() / "voices" / "four", ModelForm::v4);
    for (const ModelForm form : more) {
      write_preparable_model(folder.path() / "voices" / std::string(to_string(form)), form);
    }
    write_preparing_networks(folder.path() / "models");
    const std::vector<std::uint8_t> wav = to_wav(fake_speech(3.2, 32'000), 32'000);
    folder.write("ann.wav", std::string(wav.begin(), wav.end()));
  }
  std::map<std::string, std::string> variables() const {
    return {{"SONORANT_ENGINE_VOICES_DIR", (folder.path() / "voices").string()},
            {"SONORANT_ENGINE_MODELS_DIR", (folder.path() / "models").string()},
            {"SONORANT_ENGINE_TEXT_DATA_DIR", "src/text/data"},
            {"SONORANT_ENGINE_FIT_ROUNDS", "4"},  // each takes a quarter of a second, more under a sanitizer
            {"SONORANT_SERVER_WEB_DIR", "web"}};
  }
  struct Ended {
    int code = 0;
    std::string out, err;
  };
  Ended run(std::vector<std::string> args) const {
    args.insert(args.begin(), SONORANT_PROGRAM);
    Process process(args, variables());
    const int code = process.wait(120s);
    return {code, process.out, process.err};
  }
  std::string path(const std::string& name) const { return (folder.path() / name).string(); }

  TemporaryFolder folder;
};

std::string post(const std::string& id, const std::string& model, const std::vector<std::uint8_t>& audio,
                 const std::string& lang = "zh", const std::string& words = "你好。") {
  const auto field = [](const std::string& name, const std::string& value) {
    return "--b\r\nContent-Disposition: form-data; name=\"" + name + "\"\r\n\r\n" + value + "\r\n";
  };
  const std::string body = field("model", model) + field("id", id) + field("lang", lang) + field("text", words) +
                           "--b\r\nContent-Disposition: form-data; name=\"audio\"; filename=\"a.wav\"\r\n\r\n" +
                           std::string(audio.begin(), audio.end()) + "\r\n--b--\r\n";
  return "POST /v1/voices HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
         "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: " +
         std::to_string(body.size()) + "\r\n\r\n" + body;
}

/// What people send that is no recording to make a voice of, and what is said of it.
struct Unusable {
  const char* file;
  std::vector<std::uint8_t> bytes;
  std::string words;
};

std::vector<Unusable> unusable_recordings() {
  const std::vector<float> speech = fake_speech(4, 32'000);
  std::vector<float> overdriven, pause = speech, hum(4 * 32'000, 0.0F);
  for (const float x : speech) overdriven.push_back(std::clamp(20 * x, -1.0F, 1.0F));
  std::fill(pause.begin() + 16'000, pause.end(), 0.0F);
  std::vector<std::uint8_t> flac = sound_file(speech, 32'000, SF_FORMAT_FLAC | SF_FORMAT_PCM_16);
  flac.resize(100);
  return {
      {"short.wav", to_wav(fake_speech(2.9, 32'000), 32'000), "got 2.90 s, wanted 3 to 10 s"},
      {"long.wav", to_wav(fake_speech(10.1, 32'000), 32'000), "got 10.10 s, wanted 3 to 10 s"},
      {"silent.wav", to_wav(hum, 32'000), "got silence"},
      {"pause.wav", to_wav(pause, 32'000), "s of sound, the rest is silence"},
      {"loud.wav", to_wav(overdriven, 32'000), "overdriven recording"},
      {"text.mp3", std::vector<std::uint8_t>(5'000, 'x'), "not a sound file"},
      {"empty.wav", {}, "not a sound file"},
      {"cut.flac", flac, ""},
      {"vorbis.ogg", sound_file(speech, 32'000, SF_FORMAT_OGG | SF_FORMAT_VORBIS), "Vorbis is not taken"},
  };
}

/// Speaks and gives the type of the last message, or its code when that is an error.
std::string speak(std::uint16_t port, const std::string& voice) {
  TestClient client(port);
  REQUIRE(client.handshake());
  client.send_text(R"({"type":"open","ctx":1,"voice":")" + voice + "\"}");
  client.send_text(R"({"type":"text","ctx":1,"text":"Hello."})");
  client.send_text(R"({"type":"end","ctx":1})");
  for (;;) {
    const std::string message = client.receive_text(60s);
    const std::string type = json_at(message, "/type");
    if (type == "error") return json_at(message, "/code");
    if (type == "done" || message.empty()) return type;
  }
}

}  // namespace

TEST_SUITE("app/voices_e2e") {
  TEST_CASE("add, speak and remove on the command line") {
    const Program program;
    const std::vector<std::string> add{
        "voices", "add", "--model", "base", "--ref", program.path("ann.wav"), "--text", "Hello.", "--lang", "en",
        "--id",   "ann", "--name",  "Ann",  "--aux", program.path("ann.wav")};
    const auto made = program.run(add);
    CAPTURE(made.err);
    REQUIRE(made.code == 0);
    CHECK(made.out == "ann  Ann  (zh, en; 32000 Hz)\n");
    CHECK(program.run(add).out == "ann  Ann  (zh, en; 32000 Hz)\nit was made of the same before\n");
    CHECK(program.run({"say", "--voice", "ann", "--out", program.path("o.wav"), "Hello."}).code == 0);
    CHECK(fs::file_size(program.path("o.wav")) > 20'000);
    CHECK(program.run({"voices", "remove", "ann"}).out == "ann: removed\n");
    const auto refused = program.run({"voices", "add", "--model", "four", "--ref", program.path("ann.wav")});
    CHECK(refused.code == 1);
    CHECK(refused.err.find("sonorant: text: missing; v4 needs") == 0);
    for (const Unusable& recording : unusable_recordings()) {
      CAPTURE(recording.file);
      const std::string name = recording.file;  // some of them: each starts the program
      if (name != "silent.wav" && name != "loud.wav" && name != "text.mp3") continue;
      program.folder.write(recording.file, std::string(recording.bytes.begin(), recording.bytes.end()));
      const auto ended = program.run({"voices", "add", "--model", "base", "--ref", program.path(recording.file)});
      CAPTURE(ended.err);
      CHECK(ended.code == 1);
      CHECK(ended.err.find("sonorant: " + program.path(recording.file) + ": ") == 0);
      CHECK(ended.err.find(recording.words) != std::string::npos);
      CHECK(ended.err.find('\n') == ended.err.size() - 1);
    }
    const auto no_file = program.run({"voices", "add", "--model", "base", "--ref", program.path("none.wav")});
    CHECK(no_file.err.find("none.wav") != std::string::npos);
  }

  TEST_CASE(
      "every version and the starter form take what people record: stereo MP3, FLAC, 16-bit and float WAV at any "
      "rate") {
    const Program program({ModelForm::v1, ModelForm::v2pro, ModelForm::v2proplus, ModelForm::v3});
    write_starter(program.folder.path() / "voices" / "starter");
    Process server({SONORANT_PROGRAM, "serve", "--port", "0"}, program.variables());
    const auto line = server.wait_for_line("listening on http://127.0.0.1:", 120s);
    if (!line) FAIL(server.err);
    const auto port = static_cast<std::uint16_t>(std::stoi(line->substr(line->rfind(':') + 1)));
    const auto in = [](int rate_hz, int format, int channels = 1) {
      const std::vector<float> pcm = fake_speech(3.5, rate_hz);
      return sound_file(channels == 2 ? in_stereo(pcm) : pcm, rate_hz, format, channels);
    };
    const struct {
      const char* model;
      std::vector<std::uint8_t> audio;
      const char* rate;
    } uploads[] = {
        {"v1", in(44'100, SF_FORMAT_MPEG | SF_FORMAT_MPEG_LAYER_III, 2), "32000"},
        {"base", in(48'000, SF_FORMAT_MPEG | SF_FORMAT_MPEG_LAYER_III, 2), "32000"},
        {"v2pro", in(48'000, SF_FORMAT_FLAC | SF_FORMAT_PCM_24, 2), "32000"},
        {"v2proplus", in(16'000, SF_FORMAT_WAV | SF_FORMAT_PCM_16), "32000"},
        {"v3", in(44'100, SF_FORMAT_WAV | SF_FORMAT_FLOAT, 2), "24000"},
        {"four", in(44'100, SF_FORMAT_MPEG | SF_FORMAT_MPEG_LAYER_III, 2), "48000"},
    };
    for (const auto& upload : uploads) {
      CAPTURE(upload.model);
      const std::string id = std::string(upload.model) + "-voice";
      const auto reply = TestClient::http(port, post(id, upload.model, upload.audio));
      CAPTURE(reply.body);
      CHECK(reply.status == 201);
      CHECK(json_at(reply.body, "/voice/rate") == upload.rate);
      CHECK(speak(port, id) == "done");
    }
    const auto reply =
        TestClient::http(port, post("own", "starter", in(22'050, SF_FORMAT_WAV | SF_FORMAT_PCM_16), "en", "Good day."));
    CAPTURE(reply.body);
    CHECK(reply.status == 201);
    CHECK(json_at(reply.body, "/voice/rate") == "24000");
    CHECK(speak(port, "own") == "done");
    const std::string metrics = TestClient::get(port, "/metrics").body;
    CHECK(metrics.find("sonorant_voices_in_memory 8\n") != std::string::npos);
    CHECK(metrics.find("sonorant_reader_bytes 0\n") == std::string::npos);  // made of Chinese speech
    CHECK(metrics.find("sonorant_texts_unread_total 0\n") != std::string::npos);
    server.signal(SIGTERM);
    CHECK(server.wait(60s) == 0);
  }

  TEST_CASE("uploaded, spoken with under a budget, and removed while serving") {
    const Program program;
    std::map<std::string, std::string> variables = program.variables();
    variables["SONORANT_ENGINE_MEMORY_MB"] = "1";  // one of the models, not both
    Process server({SONORANT_PROGRAM, "serve", "--port", "0"}, variables);
    const auto line = server.wait_for_line("listening on http://127.0.0.1:", 120s);
    if (!line) FAIL(server.err);
    const auto port = static_cast<std::uint16_t>(std::stoi(line->substr(line->rfind(':') + 1)));
    const auto audio = to_wav(fake_speech(3.2, 44'100), 44'100);

    CHECK(json_at(TestClient::get(port, "/v1/voices").body, "/voices/0/id") == "(missing)");
    auto reply = TestClient::http(port, post("ann", "base", audio));
    CAPTURE(reply.body);
    CHECK(reply.status == 201);
    CHECK(json_at(reply.body, "/voice/rate") == "32000");
    CHECK(TestClient::http(port, post("ann", "base", audio)).status == 200);
    CHECK(speak(port, "ann") == "done");
    CHECK(TestClient::http(port, post("dora", "four", audio)).status == 201);
    for (const char* voice : {"dora", "ann", "dora"}) CHECK(speak(port, voice) == "done");
    CHECK(TestClient::get(port, "/metrics").body.find("sonorant_voices_in_memory 1\n") != std::string::npos);

    reply = TestClient::http(port, post("bad", "base", to_wav(fake_speech(2, 32'000), 32'000)));
    CHECK(reply.status == 422);
    CHECK(json_at(reply.body, "/error/message") == "audio: got 2.00 s, wanted 3 to 10 s");
    reply = TestClient::http(port, post("bad", "nobody", audio));
    CHECK(reply.status == 404);
    for (const Unusable& recording : unusable_recordings()) {
      CAPTURE(recording.file);
      const auto refused = TestClient::http(port, post("bad", "base", recording.bytes));
      CAPTURE(refused.body);
      CHECK(refused.status == (recording.bytes.empty() ? 400 : 422));
      const std::string message = json_at(refused.body, "/error/message");
      CHECK(message.find("audio") != std::string::npos);
      if (!recording.bytes.empty()) CHECK(message.find(recording.words) != std::string::npos);
    }
    CHECK(TestClient::get(port, "/v1/voices").body.find("bad") == std::string::npos);
    // Another process makes one; it is seen by itself.
    CHECK(program
              .run({"voices", "add", "--model", "base", "--ref", program.path("ann.wav"), "--text", "Hello.", "--id",
                    "eve"})
              .code == 0);
    for (int i = 0; i < 100 && TestClient::get(port, "/v1/voices").body.find("eve") == std::string::npos; ++i) {
      std::this_thread::sleep_for(50ms);
    }
    CHECK(speak(port, "eve") == "done");
    const auto remove = [&](const std::string& voice) {
      return TestClient::http(
                 port, "DELETE /v1/voices/" + voice + " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
          .status;
    };
    CHECK(remove("ann") == 204);
    CHECK(remove("base") == 404);
    CHECK(speak(port, "ann") == "unknown_voice");
    CHECK(speak(port, "eve") == "done");
    server.signal(SIGTERM);
    CHECK(server.wait(60s) == 0);
  }
}

}  // namespace tts
