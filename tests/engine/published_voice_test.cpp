#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "models/manifest.h"
#include "src/engine/engine.h"
#include "src/engine/solo_stream.h"
#include "src/engine/voice.h"
#include "tests/app/temporary_folder.h"
#include "tests/doctest.h"
#include "tests/engine/listener.h"
#include "tests/models/small_voice.h"

namespace tts {
namespace {

namespace fs = std::filesystem;
using namespace tts::testing;

SegmentRequest request(std::uint64_t seed = 1) {
  SegmentRequest r;
  r.phonemes = {20, 101, 77, 44, 13, 250, 9, 3};
  r.seed = seed;
  return r;
}

std::vector<float> speak(const Voice& voice, const SegmentRequest& r, const std::vector<int>& pattern) {
  SoloStream stream(voice.begin(r));
  std::vector<float> out;
  for (std::size_t i = 0; !stream.finished(); ++i) {
    (void)stream.decode(pattern[std::min(i, pattern.size() - 1)]);
    const auto pcm = stream.render();
    out.insert(out.end(), pcm.begin(), pcm.end());
  }
  return out;
}

float worst_difference(const std::vector<float>& a, const std::vector<float>& b) {
  REQUIRE(a.size() == b.size());
  float worst = 0;
  for (std::size_t i = 0; i < a.size(); ++i) worst = std::max(worst, std::abs(a[i] - b[i]));
  return worst;
}

std::string message_of(const fs::path& folder) {
  try {
    (void)load_voice(folder);
  } catch (const std::exception& e) {
    return e.what();
  }
  return {};
}

}  // namespace

TEST_SUITE("engine/published_voice") {
  TEST_CASE("every published form speaks from its folder, streamed as whole") {
    const TemporaryFolder voices;
    for (const ModelForm form :
         {ModelForm::v1, ModelForm::v2, ModelForm::v2pro, ModelForm::v2proplus, ModelForm::v3, ModelForm::v4}) {
      const std::string name(to_string(form));
      CAPTURE(name);
      write_small_voice(voices.path() / name, form, 2);
      const auto voice = load_voice(voices.path() / name);
      CHECK(voice->info().id == name);
      CHECK(voice->info().rate_hz == sample_rate_hz(form));
      const std::vector<float> whole = speak(*voice, request(), {100000});
      const std::size_t per_token = static_cast<std::size_t>(voice->info().rate_hz) / 25;
      CHECK(whole.size() >= 11 * per_token);                             // upstream's floor of 11 tokens
      CHECK(whole.size() <= (25 + 6 * 8) * per_token + per_token * 10);  // the budget, and the pause
      CHECK(std::all_of(whole.begin(), whole.end(), [](float x) { return std::isfinite(x) && std::abs(x) <= 1.0F; }));
      CHECK(std::any_of(whole.begin(), whole.end(), [](float x) { return std::abs(x) > 1e-3F; }));
      CHECK(worst_difference(speak(*voice, request(), {1}), whole) < 1e-4F);
      CHECK(worst_difference(speak(*voice, request(), {33, 5, 12}), whole) < 1e-4F);
      CHECK(speak(*voice, request(2), {100000}) != whole);
    }
  }

  TEST_CASE("the first sound comes with the lookahead, and every useful number of tokens brings more") {
    const TemporaryFolder voices;
    write_small_voice(voices.path() / "v2", ModelForm::v2);
    const auto voice = load_voice(voices.path() / "v2");
    SegmentRequest r = request();
    for (int i = 0; i < 30; ++i) r.phonemes.push_back(30 + i);
    SoloStream stream(voice->begin(r));
    CHECK(stream.useful(voice->lookahead_tokens() + 2) == voice->lookahead_tokens() + 1);
    int turns = 0;
    while (!stream.finished()) {
      (void)stream.decode(stream.useful(10));
      CHECK(!stream.render().empty());
      ++turns;
    }
    CHECK(turns > 3);
  }

  TEST_CASE("the prompt is heard: other tokens, other features and none of them give other speech") {
    const TemporaryFolder voices;
    const fs::path folder = voices.path() / "v2";
    write_small_voice(folder, ModelForm::v2);
    const std::vector<float> with = speak(*load_voice(folder), request(), {50});
    const PublishedConfig config = small_config(ModelForm::v2);
    PreparedReference reference = small_reference(config, 1);
    const auto speak_with = [&](const PreparedReference& r) {
      REQUIRE(save_reference(folder / "reference.safetensors", r).has_value());
      return speak(*load_voice(folder), request(), {50});
    };
    CHECK(speak_with(reference) == with);
    PreparedReference changed = reference;
    changed.prompt_tokens.back() = 1;
    CHECK(speak_with(changed) != with);
    changed = reference;
    changed.prompt_bert.clear();
    const std::vector<float> zeros = speak_with(changed);
    CHECK(zeros != with);
    changed.prompt_bert.assign(12 * 8, 0.0F);
    CHECK(speak_with(changed) == zeros);
    changed.prompt_tokens.clear();
    changed.prompt_phonemes.clear();
    changed.prompt_bert.clear();
    CHECK(speak_with(changed) != zeros);

    SegmentRequest with_features = request();
    with_features.bert.assign(8 * 8, 0.5F);
    CHECK(speak(*load_voice(folder), with_features, {50}) != speak_with(changed));
    with_features.bert.pop_back();
    CHECK_THROWS((void)load_voice(folder)->begin(with_features));
  }

  TEST_CASE("a phoneme that v1 does not have is spoken as an unknown one") {
    const TemporaryFolder voices;
    write_small_voice(voices.path() / "v1", ModelForm::v1);
    const auto voice = load_voice(voices.path() / "v1");
    SegmentRequest r = request();
    r.phonemes[3] = 700;
    CHECK(!speak(*voice, r, {50}).empty());
  }

  TEST_CASE("voices that name one model share its weights; a model alone does not speak") {
    const TemporaryFolder voices;
    write_small_model(voices.path() / "base", ModelForm::v2);
    for (const char* name : {"anna", "ben"}) {
      fs::create_directories(voices.path() / name);
      REQUIRE(save_reference(voices.path() / name / "reference.safetensors",
                             small_reference(small_config(ModelForm::v2), name[0] == 'a' ? 1 : 2))
                  .has_value());
      std::ofstream(voices.path() / name / "manifest.json")
          << R"({"format": 2, "form": "v2", "id": ")" << name
          << R"(", "name": "A", "license": "", "languages": ["en"], "sample_rate_hz": 32000, )"
          << R"("text": {"word_separator": ""}, "model": "base", "reference": {"file": "reference.safetensors"}})";
    }
    CHECK(load_manifest(voices.path() / "anna")->reference == voices.path() / "anna" / "reference.safetensors");
    CHECK(load_manifest(voices.path() / "base")->reference.empty());
    CHECK(message_of(voices.path() / "base").find("reference: missing") != std::string::npos);
    ModelCache cache;
    const auto anna = load_voice(voices.path() / "anna", cache);
    const std::vector<float> before = speak(*anna, request(), {40});
    // Broken behind its back: whoever reads it again fails, and the second voice takes it from memory.
    const fs::path weights = voices.path() / "base" / "acoustic.safetensors";
    const auto time = fs::last_write_time(weights);
    std::fstream(weights, std::ios::in | std::ios::out | std::ios::binary) << "no safetensors";
    fs::last_write_time(weights, time);
    const auto ben = load_voice(voices.path() / "ben", cache);
    CHECK(speak(*ben, request(), {40}) != before);
    CHECK(speak(*anna, request(), {40}) == before);
    CHECK(message_of(voices.path() / "ben").find("acoustic.safetensors") != std::string::npos);
  }

  TEST_CASE("what is wrong with a folder is said by name") {
    const TemporaryFolder voices;
    const fs::path folder = voices.path() / "v2pro";
    write_small_voice(folder, ModelForm::v2pro);
    const PreparedReference good = small_reference(small_config(ModelForm::v2pro), 1);
    const auto fault = [&](const PreparedReference& r) {
      REQUIRE(save_reference(folder / "reference.safetensors", r).has_value());
      return message_of(folder);
    };
    CHECK(fault(good).empty());
    PreparedReference bad = good;
    bad.references[0].embedding = at::Tensor();
    CHECK(fault(bad).find("speaker_embedding.0: missing") != std::string::npos);
    bad = good;
    bad.references[0].spectrogram = at::rand({30, 19});
    CHECK(fault(bad).find("spectrogram.0: got 19 bins") != std::string::npos);
    bad = good;
    bad.references[0].spectrogram = good.references[0].spectrogram.clone();
    bad.references[0].spectrogram[3][4] = NAN;
    CHECK(fault(bad).find("spectrogram.0: holds a value that is not finite") != std::string::npos);
    bad = good;
    bad.prompt_tokens[2] = 64;
    CHECK(fault(bad).find("prompt_tokens: got 64 at 2") != std::string::npos);
    bad = good;
    bad.prompt_phonemes.clear();
    bad.prompt_bert.clear();
    CHECK(fault(bad).find("prompt_phonemes: got none") != std::string::npos);
    CHECK(fault(good).empty());
    fs::remove(folder / "reference.safetensors");
    CHECK(message_of(folder).find("reference.safetensors") != std::string::npos);
  }

  TEST_CASE("a voice of a published form speaks through the engine") {
    const TemporaryFolder voices;
    write_small_voice(voices.path() / "v2", ModelForm::v2);
    write_small_model(voices.path() / "base", ModelForm::v4);
    EngineConfig config;
    config.voices_dir = voices.path();
    config.text_data_dir = "src/text/data";
    const auto engine = make_engine(config);
    REQUIRE(engine->voices().size() == 1);
    CHECK(engine->voices()[0].rate_hz == 32000);
    UtteranceOptions options;
    options.voice = "v2";
    options.lang = "en";
    options.seed = 4;
    const auto listener = std::make_shared<Listener>();
    auto utterance = engine->open(options, listener);
    REQUIRE(utterance.has_value());
    TextSegment segment;
    segment.text = "Good morning, how are you?";
    REQUIRE((*utterance)->speak(segment).has_value());
    (*utterance)->end();
    CHECK(listener->wait() == "done");
    CHECK(listener->pcm().size() > 11 * 1280);
  }
}

}  // namespace tts
