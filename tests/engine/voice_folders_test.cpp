#include "src/engine/voice_folders.h"

#include <chrono>
#include <filesystem>
#include <fstream>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include "src/engine/engine.h"
#include "src/engine/prepare_voice.h"
#include "src/engine/solo_stream.h"
#include "tests/app/temporary_folder.h"
#include "tests/doctest.h"
#include "tests/engine/listener.h"
#include "tests/models/small_voice.h"

namespace tts {
namespace {

namespace fs = std::filesystem;
using namespace tts::testing;
using namespace std::chrono_literals;

std::shared_ptr<const TextFrontend> frontend() {
  static const auto instance = std::make_shared<const TextFrontend>("src/text/data");
  return instance;
}

std::vector<float> spoken(const Voice& voice) {
  SegmentRequest request;
  request.phonemes = {20, 101, 77, 44, 13, 250, 9, 3};
  request.seed = 1;
  SoloStream stream(voice.begin(request));
  std::vector<float> out;
  while (!stream.finished()) {
    (void)stream.decode(50);
    const std::vector<float> pcm = stream.render();
    out.insert(out.end(), pcm.begin(), pcm.end());
  }
  return out;
}

/// Other numbers in a file of the same size.
void write_other_networks(const fs::path& folder) {
  const auto acoustic = std::make_shared<GeneratedWeights>(0.8);
  (void)VitsModel(WeightScope(acoustic), small_config(ModelForm::v2));
  acoustic->write(folder / "acoustic.safetensors");
}

void write_other_reference(const fs::path& folder) {
  PreparedReference reference = small_reference(small_config(ModelForm::v2), 1);
  reference.prompt_tokens.back() = 1;
  REQUIRE(save_reference(folder / "reference.safetensors", reference).has_value());
}

std::set<std::string> names_in(const fs::path& folder) {
  std::set<std::string> out;
  for (const auto& entry : fs::directory_iterator(folder)) out.insert(entry.path().filename().string());
  return out;
}

}  // namespace

TEST_SUITE("engine/voice_folders") {
  TEST_CASE("a voice whose files are replaced is another voice, and the one in use stays what it was") {
    const TemporaryFolder folder;
    write_small_voice(folder.path() / "v", ModelForm::v2);
    VoiceLibrary library(voice_folders({.voices_dir = folder.path()}, frontend()), 0);
    auto card = library.find("v");
    auto voice = library.load(*card).value();
    const std::vector<float> first = spoken(*voice);
    const std::uint64_t bytes = library.figures().bytes;
    for (int i = 0; i < 3; ++i) library.refresh();
    CHECK(library.find("v") == card);

    const auto replaced = [&] {
      library.refresh();  // it may still be on its way
      CHECK(library.find("v") == card);
      library.refresh();
      const auto found = library.find("v");
      CHECK(found != card);
      CHECK(!library.in_memory(*found));
      return found;
    };
    write_other_reference(folder.path() / "v");
    card = replaced();
    const auto second = library.load(*card).value();
    CHECK(library.in_memory(*card) == second);
    CHECK(library.figures().bytes < bytes + bytes / 2);  // the networks are the same, and in memory once
    const std::vector<float> other_reference = spoken(*second);
    CHECK(other_reference != first);

    write_other_networks(folder.path() / "v");
    card = replaced();
    const auto third = library.load(*card).value();
    CHECK(library.figures().bytes > bytes + bytes / 2);
    CHECK(spoken(*third) != other_reference);
    CHECK(spoken(*second) == other_reference);
    CHECK(spoken(*voice) == first);
  }

  TEST_CASE("a model that is replaced changes its voices; a folder that cannot be read yet is taken when it can") {
    const TemporaryFolder folder;
    write_small_model(folder.path() / "base", ModelForm::v2);
    const fs::path ann = folder.folder("ann");
    REQUIRE(save_reference(ann / "reference.safetensors", small_reference(small_config(ModelForm::v2), 1)).has_value());
    folder.write("ann/manifest.json",
                 R"({"format": 2, "form": "v2", "id": "ann", "name": "A", "license": "", "languages": ["en"], )"
                 R"("sample_rate_hz": 32000, "text": {"word_separator": ""}, "model": "base", )"
                 R"("reference": {"file": "reference.safetensors"}})");
    VoiceLibrary library(voice_folders({.voices_dir = folder.path()}, frontend()), 0);
    const auto card = library.find("ann");
    REQUIRE(card);
    CHECK(card->is_chinese);  // its reference has text features
    const std::vector<float> before = spoken(*library.load(*card).value());
    write_other_networks(folder.path() / "base");
    folder.write("ben/manifest.json", "{");  // somebody is copying
    for (int i = 0; i < 2; ++i) library.refresh();
    CHECK(library.find("ann") != card);
    CHECK(!library.find("ben"));
    CHECK(spoken(*library.load(*library.find("ann")).value()) != before);
    write_small_voice(folder.path() / "ben", ModelForm::v2);
    for (int i = 0; i < 2; ++i) library.refresh();
    CHECK(library.find("ben"));
  }

  TEST_CASE("while it is being spoken with, a voice is replaced") {
    const TemporaryFolder folder;
    write_small_voice(folder.path() / "v", ModelForm::v2);
    EngineConfig config;
    config.voices_dir = folder.path();
    config.text_data_dir = "src/text/data";
    config.limits.max_ahead = 100ms;
    const auto engine = make_engine(config);
    const auto listen = [&](const Speech& speech) {
      speech.utterance->consumed(1'000'000'000);
      CHECK(speech.wait() == "done");
      return speech.listener->pcm();
    };
    const std::string text = "Good morning, how are you? I am well.";
    const std::vector<float> before = listen(say(*engine, "v", text));
    const Speech held = say(*engine, "v", text);  // stands still until it is listened to
    REQUIRE(held.listener->wait_for_sound());
    write_other_networks(folder.path() / "v");
    std::vector<float> after = before;
    for (int i = 0; i < 100 && after == before; ++i) {
      std::this_thread::sleep_for(100ms);
      after = listen(say(*engine, "v", text));
    }
    CHECK(after != before);
    CHECK(!held.listener->is_over());
    CHECK(listen(held) == before);
  }

  TEST_CASE("what a process left behind when it died is swept away, what is being made is not") {
    const TemporaryFolder folder;
    write_small_voice(folder.path() / "v", ModelForm::v2);
    const auto age = [&](const char* name) {
      folder.write(std::string(name) + "/reference.safetensors", "half");
      fs::last_write_time(folder.path() / name, fs::file_time_type::clock::now() - 2min);
    };
    for (const char* name : {".new-dead-1", ".new-live-2", ".git"}) age(name);
    folder.write(".new-young-3/manifest.json", "{");
    folder.write(".removed-gone-4/manifest.json", "{}");
    folder.write(".new-file", "no folder");
    const int live = ::open((folder.path() / ".new-live-2").c_str(), O_RDONLY | O_DIRECTORY);
    REQUIRE(::flock(live, LOCK_EX | LOCK_NB) == 0);
    (void)voice_folders({.voices_dir = folder.path()}, frontend());
    CHECK(names_in(folder.path()) == std::set<std::string>{"v", ".git", ".new-live-2", ".new-young-3", ".new-file"});
    ::close(live);  // its process has died
    (void)voice_folders({.voices_dir = folder.path()}, frontend());
    CHECK(names_in(folder.path()) == std::set<std::string>{"v", ".git", ".new-young-3", ".new-file"});
    sweep_leftovers(folder.path() / "nowhere");
  }
}

}  // namespace tts
