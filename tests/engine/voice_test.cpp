#include "src/engine/voice.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "src/audio/click_detector.h"
#include "src/engine/solo_stream.h"
#include "src/text/frontend.h"
#include "tests/doctest.h"

namespace tts {
namespace {

namespace fs = std::filesystem;

const fs::path kStarter = "models/pretrained/starter";

const Voice& starter() {
  static const std::shared_ptr<const Voice> voice = load_voice(kStarter);
  return *voice;
}

SegmentRequest request(const std::string& text, std::uint64_t seed = 1) {
  static const TextFrontend frontend("src/text/data");
  FrontendOptions options;
  options.word_separator = starter().word_separator();
  SegmentRequest r;
  r.phonemes = frontend.phonemize(text, options).phonemes;
  r.seed = seed;
  return r;
}

/// Speaks in chunks of `pattern` tokens, the last number repeating; `seams` gets where the chunks meet.
std::vector<float> speak(const SegmentRequest& r, const std::vector<int>& pattern, std::vector<std::size_t>* seams = nullptr) {
  SoloStream stream(starter().begin(r));
  std::vector<float> out;
  for (std::size_t i = 0; !stream.finished(); ++i) {
    (void)stream.decode(pattern[std::min(i, pattern.size() - 1)]);
    const auto pcm = stream.render();
    if (seams != nullptr && !out.empty() && !pcm.empty()) seams->push_back(out.size());
    out.insert(out.end(), pcm.begin(), pcm.end());
  }
  return out;
}

double rms(const std::vector<float>& pcm) {
  double sum = 0;
  for (const float x : pcm) sum += static_cast<double>(x) * x;
  return std::sqrt(sum / static_cast<double>(std::max<std::size_t>(1, pcm.size())));
}

}  // namespace

TEST_SUITE("engine/voice") {
TEST_CASE("the starter voice streamed in any chunking equals the whole utterance") {
  const SegmentRequest r = request("The first thing you hear should sound like the last.");
  const std::vector<float> whole = speak(r, {100000});
  REQUIRE(whole.size() > 24000);
  CHECK(rms(whole) > 0.01);
  for (const std::vector<int>& pattern : {std::vector<int>{1}, {3}, {11, 4, 9, 17, 30}}) {
    CAPTURE(pattern.front());
    const std::vector<float> pieces = speak(r, pattern);
    REQUIRE(pieces.size() == whole.size());
    float worst = 0;
    for (std::size_t i = 0; i < whole.size(); ++i) worst = std::max(worst, std::abs(pieces[i] - whole[i]));
    CHECK(worst < 1e-4F);
  }
}

TEST_CASE("chunk seams click no more than any other place in the audio") {
  std::size_t clicks = 0, seams = 0, elsewhere = 0;
  for (const char* text : {"Seven silver swans swam silently seaward.", "Are you coming with us, or staying at home tonight?"}) {
    std::vector<std::size_t> at;
    const std::vector<float> pcm = speak(request(text), {10, 2, 3, 5, 2}, &at);
    std::vector<std::size_t> other;
    for (const std::size_t s : at) other.push_back(s > 1500 ? s - 1237 : s + 1237);
    clicks += find_clicks(pcm, starter().info().rate_hz, at).size();
    elsewhere += find_clicks(pcm, starter().info().rate_hz, other).size();
    seams += at.size();
  }
  REQUIRE(seams > 20);
  CHECK(clicks <= elsewhere + 2);
}

TEST_CASE("streams stepped together draw the tokens they draw alone") {
  const std::vector<std::string> texts{"The harbour lay still this morning.", "Are you coming with us?",
                                       "Seven silver swans swam silently seaward, and nobody saw them.", "Yes."};
  std::vector<std::vector<std::int32_t>> alone;
  for (std::size_t i = 0; i < texts.size(); ++i) {
    const auto stream = starter().begin(request(texts[i], i));
    SegmentStream* const one = stream.get();
    stream->prefill();
    while (!stream->finished()) stream->step({&one, 1});
    alone.emplace_back(stream->tokens().begin(), stream->tokens().end());
  }
  // They come one after another, each some steps later, and leave when they are done.
  std::vector<std::unique_ptr<SegmentStream>> streams;
  std::size_t most = 0;
  for (int step = 0; step < 2000; ++step) {
    if (step % 7 == 0 && streams.size() < texts.size()) {
      streams.push_back(starter().begin(request(texts[streams.size()], streams.size())));
      REQUIRE(streams.back() != nullptr);
      streams.back()->prefill();
    }
    std::vector<SegmentStream*> rows;
    for (const auto& stream : streams) {
      if (!stream->finished()) rows.push_back(stream.get());
    }
    if (rows.empty() && streams.size() == texts.size()) break;
    most = std::max(most, rows.size());
    std::reverse(rows.begin(), rows.end());  // the order is no matter either
    if (!rows.empty()) rows.front()->step(rows);
  }
  CHECK(most == texts.size());
  for (std::size_t i = 0; i < texts.size(); ++i) {
    CAPTURE(texts[i]);
    CHECK(streams[i]->failure().empty());
    CHECK(std::vector<std::int32_t>(streams[i]->tokens().begin(), streams[i]->tokens().end()) == alone[i]);
    CHECK(alone[i].size() >= 11);
  }
}

TEST_CASE("nothing is heard before the lookahead is decoded, and something right after") {
  SoloStream stream(starter().begin(request("Hello there, how are you today?")));
  CHECK(stream.decode(starter().lookahead_tokens()) == starter().lookahead_tokens());
  CHECK(stream.render().empty());
  CHECK(stream.decode(1) == 1);
  CHECK(!stream.render().empty());
}

TEST_CASE("the same seed gives the same samples, another seed others") {
  const std::vector<float> a = speak(request("Good morning.", 5), {8}), b = speak(request("Good morning.", 5), {8}),
                           c = speak(request("Good morning.", 6), {8});
  CHECK(a == b);
  CHECK(a != c);
}

TEST_CASE("one letter, one word and a long text all end") {
  for (const char* text : {"A.", "Hi!", "No?", "One two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
                                               "sixteen seventeen eighteen nineteen twenty twenty one twenty two twenty three."}) {
    CAPTURE(text);
    const SegmentRequest r = request(text);
    const std::vector<float> pcm = speak(r, {20});
    CHECK(pcm.size() >= 11 * 960);                                        // upstream's floor of 11 tokens
    CHECK(pcm.size() <= (25 + 6 * r.phonemes.size()) * 960);
    CHECK(std::all_of(pcm.begin(), pcm.end(), [](float x) { return std::isfinite(x) && std::abs(x) < 2.0F; }));
  }
}

TEST_CASE("slower speech is longer") {
  SegmentRequest r = request("Please speak slowly.");
  const auto normal = speak(r, {8}).size();
  r.speed = 0.5F;
  const auto slow = speak(r, {8}).size();
  CHECK(slow > normal * 19 / 10);
  CHECK(slow < normal * 21 / 10);
}

TEST_CASE("a broken voice folder is refused by name") {
  const fs::path folder = fs::temp_directory_path() / "sonorant_broken_voice";
  const auto message = [&] {
    try {
      (void)load_voice(folder);
    } catch (const std::exception& e) {
      return std::string(e.what());
    }
    return std::string();
  };
  fs::remove_all(folder);
  fs::create_directories(folder);
  CHECK(message().find("manifest.json") != std::string::npos);
  for (const auto& entry : fs::directory_iterator(kStarter)) fs::copy(entry.path(), folder / entry.path().filename());
  CHECK(message().empty());
  fs::resize_file(folder / "t2s.safetensors", 100000);
  CHECK(message().find("t2s.safetensors") != std::string::npos);
  fs::copy_file(kStarter / "vocoder.safetensors", folder / "t2s.safetensors", fs::copy_options::overwrite_existing);
  CHECK(message().find("model.") != std::string::npos);
  std::ofstream(folder / "manifest.json") << "{\"format\": 1, \"id\": \"x\"";
  CHECK(message().find("manifest.json") != std::string::npos);
  fs::remove_all(folder);
}
}

}  // namespace tts
