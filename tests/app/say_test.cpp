#include "src/app/say.h"

#include <filesystem>
#include <string>
#include <utility>

#include "src/audio/wav.h"
#include "tests/app/fake_synthesizer.h"
#include "tests/app/temporary_folder.h"
#include "tests/doctest.h"

TEST_SUITE("app/say") {
  using namespace tts;
  using namespace tts::testing;

  constexpr const char* kThreeSentences =
      "The first sentence stands here. The second sentence stands here. The third sentence stands here.";

  SayCommand into(const std::filesystem::path& path) {
    SayCommand command;
    command.out = path;
    return command;
  }

  TEST_CASE("WAV and Opus files hold all of the audio") {
    const TemporaryFolder folder;
    for (const char* name : {"a.wav", "a.opus", "a.ogg", "A.WAV"}) {
      CAPTURE(name);
      FakeSynthesizer synthesizer;
      double heard_s = 0;
      const auto said =
          say(synthesizer, into(folder.path() / name), kThreeSentences, [&](double audio_s) { heard_s = audio_s; });
      REQUIRE(said.has_value());
      CHECK(said->spoken.samples == 7200);
      CHECK(said->audio_s() == doctest::Approx(0.3));
      CHECK(heard_s == doctest::Approx(0.3));
      CHECK(said->spoken.first_audio_ms > 0);
      CHECK(said->spoken.metrics.rtf == 0.25);
      const auto file = read_audio(read_bytes(folder.path() / name));
      REQUIRE(file.has_value());
      CHECK(file->pcm.size() == static_cast<std::size_t>(0.3 * file->rate_hz + 0.5));
    }
  }

  TEST_CASE("a long text passes a short queue") {
    const TemporaryFolder folder;
    FakeSynthesizer synthesizer(2);
    std::string text;
    for (int i = 0; i < 40; ++i) text += "This sentence is one of forty sentences. ";
    const auto said = say(synthesizer, into(folder.path() / "a.wav"), text, {});
    REQUIRE(said.has_value());
    CHECK(said->spoken.samples == 40 * 2400);
  }

  TEST_CASE("cut as asked") {
    const TemporaryFolder folder;
    const std::string text = "The first part stands here, the second part too. Here is the third, here the fourth.";
    for (const auto& [cut, pieces] :
         {std::pair("", 2), std::pair("cut0", 1), std::pair("cut4", 2), std::pair("cut5", 4)}) {
      CAPTURE(cut);
      FakeSynthesizer synthesizer;
      SayCommand command = into(folder.path() / "a.wav");
      command.cut = cut;
      command.lang = "en";
      const auto said = say(synthesizer, command, text, {});
      REQUIRE(said.has_value());
      CHECK(said->spoken.samples == pieces * 2400);
    }
  }

  TEST_CASE("an empty text is a file without samples") {
    const TemporaryFolder folder;
    FakeSynthesizer synthesizer;
    const auto said = say(synthesizer, into(folder.path() / "a.wav"), " \n ", {});
    REQUIRE(said.has_value());
    CHECK(said->spoken.samples == 0);
    CHECK(std::filesystem::file_size(folder.path() / "a.wav") == 44);
  }

  TEST_CASE("failures leave no file and say why") {
    const TemporaryFolder folder;
    FakeSynthesizer synthesizer;
    const auto refuses = [&](const SayCommand& command, const std::string& text, Errc code, const std::string& words) {
      const auto said = say(synthesizer, command, text, {});
      REQUIRE(said.has_error());
      CHECK(said.error().code == code);
      CAPTURE(said.error().detail);
      CHECK(said.error().detail.find(words) != std::string::npos);
      CHECK(std::filesystem::is_empty(folder.path()));
    };
    const SayCommand wav = into(folder.path() / "a.wav");
    refuses(wav, "Please do fail here at once.", Errc::internal, "told to fail");
    refuses(into(folder.path() / "a.opus"), "Please do fail here at once.", Errc::internal, "told to fail");
    refuses(into(folder.path() / "a.mp3"), "Hello.", Errc::unsupported_format, "a.mp3");
    refuses(into(folder.path() / "none" / "a.wav"), "Hello.", Errc::bad_file, "cannot be written");
    refuses(into(folder.path() / "none" / "a.opus"), "Hello.", Errc::bad_file, "cannot be written");
    SayCommand command = wav;
    command.voice = "nobody";
    refuses(command, "Hello.", Errc::unknown_voice, "there are: starter");
    command = wav;
    command.lang = "tlh";
    refuses(command, "Hello.", Errc::unsupported_format, "tlh");
    command = wav;
    command.cut = "cut9";
    refuses(command, "Hello.", Errc::bad_message, "cut9");
  }
}
