#include "src/engine/prepare_voice.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <fstream>
#include <set>
#include <thread>

#include "models/fit_speaker.h"
#include "models/mel_shift.h"
#include "src/engine/engine.h"
#include "tests/app/temporary_folder.h"
#include "tests/audio/signals.h"
#include "tests/doctest.h"
#include "tests/engine/listener.h"
#include "tests/engine/preparable_model.h"

namespace tts {
namespace {

namespace fs = std::filesystem;
using namespace tts::testing;

const TextFrontend& frontend() {
  static const TextFrontend instance("src/text/data");
  return instance;
}

/// A folder of voices and one of networks, which go away with it.
struct Shelf {
  Shelf() {
    fs::create_directories(root / "voices");
    write_preparing_networks(root / "models");
  }

  Result<NewVoice> add(const VoiceRequest& request) const { return prepare_voice(config(), frontend(), request); }
  std::string fault(const VoiceRequest& request, Errc code) const {
    const std::set<std::string> before = names();
    const auto made = add(request);
    REQUIRE(made.has_error());
    CAPTURE(made.error().detail);
    CHECK(made.error().code == code);
    CHECK(names() == before);
    return made.error().detail;
  }
  PrepareConfig config() const { return {.voices_dir = voices(), .models_dir = root / "models", .fit_rounds = 8}; }
  fs::path voices() const { return root / "voices"; }
  PreparedReference reference(const std::string& id) const {
    return load_reference(load_manifest(voices() / id).value());
  }
  /// Everything in the voices folder, hidden things included.
  std::set<std::string> names() const {
    std::set<std::string> out;
    for (const auto& entry : fs::directory_iterator(voices())) out.insert(entry.path().filename().string());
    return out;
  }

  const TemporaryFolder folder;
  const fs::path root = folder.path();
};

VoiceRequest request(const std::string& model, double seconds = 3.2) {
  VoiceRequest r;
  r.model = model;
  r.lang = "en";
  r.text = "Good morning, how are you?";
  r.reference = recording(fake_speech(seconds, 32'000), 32'000);
  return r;
}

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

std::string speak(Synthesizer& engine, const std::string& voice, std::vector<float>* pcm = nullptr,
                  const std::string& text = "Hello.") {
  const Speech speech = say(engine, voice, text);
  const std::string how = speech.wait();
  if (pcm != nullptr) *pcm = speech.listener->pcm();
  return how;
}

}  // namespace

TEST_SUITE("engine/prepare_voice") {
  TEST_CASE("a recording becomes a voice that speaks, in every form") {
    const Shelf shelf;
    EngineConfig config;
    config.voices_dir = shelf.voices();
    config.models_dir = shelf.root / "models";
    config.text_data_dir = "src/text/data";
    for (const ModelForm form :
         {ModelForm::v1, ModelForm::v2, ModelForm::v2pro, ModelForm::v2proplus, ModelForm::v3, ModelForm::v4}) {
      const std::string name(to_string(form));
      CAPTURE(name);
      write_preparable_model(shelf.voices() / name, form);
      VoiceRequest r = request(name);
      r.id = name + "-x";
      r.name = "Ann \"the\" Voice";
      r.more.push_back(recording(fake_speech(1.5, 44'100, 180), 44'100, "second.wav"));
      const auto made = shelf.add(r);
      if (!made) FAIL(made.error().detail);
      CHECK(!made->existed);
      CHECK(made->info.id == name + "-x");
      CHECK(made->info.name == "Ann \"the\" Voice");
      CHECK(made->info.rate_hz == sample_rate_hz(form));
      const PreparedReference reference = shelf.reference(name + "-x");
      CHECK(reference.references.size() == (uses_flow_matching(form) ? 1 : 2));
      CHECK((reference.references[0].spectrogram.sizes().vec() == std::vector<std::int64_t>{160, 1025}));
      if (!uses_flow_matching(form)) CHECK(reference.references[1].spectrogram.size(0) == 75);
      CHECK(reference.references[0].embedding.defined() == has_speaker_network(form));
      CHECK(reference.mel.defined() == uses_flow_matching(form));
      // 3.2 s and 0.6 s of silence: 189 frames of HuBERT, two for a token.
      CHECK(reference.prompt_tokens.size() == 94);
      CHECK(reference.prompt_bert.empty());
    }
    config.preload = "none";
    const auto engine = make_engine(config);
    CHECK(engine->voices().size() == 6);
    CHECK(engine->stats().voices_in_memory == 0);
    for (const VoiceInfo& voice : engine->voices()) {
      CAPTURE(voice.id);
      std::vector<float> pcm;
      CHECK(speak(*engine, voice.id, &pcm) == "done");
      CHECK(pcm.size() > 11 * static_cast<std::size_t>(voice.rate_hz) / 25);
    }
    CHECK(engine->stats().voices_in_memory == 6);
    CHECK(engine->stats().weight_bytes > 6 * 100'000);
  }

  TEST_CASE("tokens, phonemes and features are those of the networks") {
    const Shelf shelf;
    write_preparable_model(shelf.voices() / "m", ModelForm::v2);
    VoiceRequest r = request("m");
    r.reference = recording(fake_speech(3.5, 44'100), 44'100);
    r.lang = "zh";
    r.text = "你好。";
    r.id = "v";
    REQUIRE(shelf.add(r).has_value());
    const PreparedReference got = shelf.reference("v");

    const AudioFile audio = read_audio(r.reference.bytes).value();
    const std::vector<float> wave = make_hubert_wave(audio.pcm, audio.rate_hz).value();
    at::Tensor input = at::empty({static_cast<std::int64_t>(wave.size())});
    std::memcpy(input.data_ptr<float>(), wave.data(), wave.size() * sizeof(float));
    const Hubert hubert(WeightScope(load_weights(shelf.root / "models" / "hubert.safetensors")), small_hubert());
    const SemanticTokenizer tokenizer(WeightScope(load_weights(shelf.voices() / "m" / "acoustic.safetensors")),
                                      {.codes = 64, .dim = 16}, 16);
    const at::Tensor tokens = tokenizer.encode(hubert.forward(input));
    REQUIRE(tokens.numel() == static_cast<std::int64_t>(got.prompt_tokens.size()));
    for (std::int64_t i = 0; i < tokens.numel(); ++i) {
      CHECK(tokens[i].item<std::int64_t>() == got.prompt_tokens[static_cast<std::size_t>(i)]);
    }
    FrontendOptions options;
    options.lang = "zh";
    options.languages = {"zh", "en"};
    CHECK(got.prompt_phonemes == frontend().phonemize("你好。", options).phonemes);
    REQUIRE(got.prompt_bert.size() == 8 * got.prompt_phonemes.size());
    CHECK(std::any_of(got.prompt_bert.begin(), got.prompt_bert.end(), [](float x) { return x != 0; }));
  }

  TEST_CASE("Chinese is spoken with the features of its text, English needs none") {
    const Shelf shelf;
    write_preparable_model(shelf.voices() / "m", ModelForm::v2);
    VoiceRequest r = request("m");
    r.lang = "zh";
    r.text = "你好。";
    r.id = "v";
    REQUIRE(shelf.add(r).has_value());
    EngineConfig config;
    config.voices_dir = shelf.voices();
    config.models_dir = shelf.root / "models";
    config.text_data_dir = "src/text/data";
    config.preload = "none";
    std::vector<float> chinese, english, chinese_without, english_without;
    {
      const auto engine = make_engine(config);
      CHECK(engine->stats().reader_bytes == 0);  // nothing is loaded before the voice
      CHECK(speak(*engine, "v", &chinese, "你好，你好。") == "done");
      CHECK(speak(*engine, "v", &english) == "done");
      // All of the file but nothing else: three layers, of which the last two are not even read.
      const auto bert = SafeTensors::open(config.models_dir / "bert.safetensors").value();
      std::int64_t bytes = 0;
      for (const TensorView& tensor : bert.tensors()) bytes += 4 * tensor.numel();
      CHECK(engine->stats().reader_bytes == bytes);
      CHECK(engine->stats().weight_bytes > bytes);
      CHECK(engine->stats().texts_unread == 0);
    }
    fs::remove(config.models_dir / "bert.safetensors");
    {
      const auto engine = make_engine(config);  // says so, and speaks nevertheless
      CHECK(speak(*engine, "v", &chinese_without, "你好，你好。") == "done");
      CHECK(speak(*engine, "v", &english_without) == "done");
      CHECK(engine->stats().texts_unread == 1);
      CHECK(engine->stats().reader_bytes == 0);
    }
    CHECK(!chinese.empty());
    CHECK(chinese != chinese_without);
    CHECK(english == english_without);
  }

  TEST_CASE("made of the same, a voice is found and nothing is computed") {
    const Shelf shelf;
    write_preparable_model(shelf.voices() / "m", ModelForm::v2);
    const auto first = shelf.add(request("m"));
    REQUIRE(first.has_value());
    CHECK(first->info.id.starts_with("m-"));
    fs::remove(shelf.root / "models" / "hubert.safetensors");  // whoever computes fails
    const auto second = shelf.add(request("m"));
    REQUIRE(second.has_value());
    CHECK(second->existed);
    CHECK(second->info.id == first->info.id);
    VoiceRequest renamed = request("m");
    renamed.id = "other";
    const auto third = shelf.add(renamed);
    REQUIRE(third.has_value());
    CHECK(!third->existed);
    CHECK(shelf.reference("other").prompt_tokens == shelf.reference(first->info.id).prompt_tokens);
    VoiceRequest changed = request("m");
    changed.text += " Yes.";
    CHECK(has(shelf.fault(changed, Errc::bad_file), "hubert.safetensors"));
    changed.id = "other";
    CHECK(has(shelf.fault(changed, Errc::bad_message), "id: other is taken"));
    changed.id = "m";
    CHECK(has(shelf.fault(changed, Errc::bad_message), "id: m is taken"));
    CHECK(shelf.names().size() == 3);
  }

  TEST_CASE("without the words there is no prompt, and no network for it") {
    const Shelf shelf;
    write_preparable_model(shelf.voices() / "m", ModelForm::v2);
    write_preparable_model(shelf.voices() / "four", ModelForm::v4);
    fs::remove(shelf.root / "models" / "hubert.safetensors");
    VoiceRequest r = request("m");
    r.text = " \n";
    r.id = "v";
    const auto made = shelf.add(r);
    REQUIRE(made.has_value());
    REQUIRE(made->notes.size() == 1);
    CHECK(has(made->notes[0], "without the words"));
    CHECK(shelf.reference("v").prompt_tokens.empty());
    CHECK(load_voice(shelf.voices() / "v")->info().id == "v");
    r.model = "four";
    r.id = "w";
    CHECK(has(shelf.fault(r, Errc::bad_message), "text: missing; v4 needs"));
  }

  TEST_CASE("what is missing or wrong is named, and nothing is left behind") {
    const Shelf shelf;
    write_preparable_model(shelf.voices() / "m", ModelForm::v2pro);
    write_starter(shelf.voices() / "starter");
    const VoiceRequest good = request("m");
    const auto with = [&](auto change) {
      VoiceRequest r = good;
      change(r);
      return r;
    };
    CHECK(has(shelf.fault(request("nobody"), Errc::unknown_voice), "model: nobody is not there"));
    CHECK(has(shelf.fault(request("../m"), Errc::unknown_voice), "model: got"));
    const fs::path tokenizer = shelf.voices() / "starter" / "tokenizer.safetensors";
    fs::resize_file(tokenizer, fs::file_size(tokenizer) / 2);
    CHECK(has(shelf.fault(request("starter"), Errc::bad_file), "tokenizer.safetensors"));
    const fs::path described = shelf.voices() / "starter" / "manifest.json";
    std::ifstream in(described);
    std::string manifest(std::istreambuf_iterator<char>(in), {});
    const auto at = manifest.find("\"tokenizer\"");
    manifest.erase(at, manifest.find("\"reference\"") - at);
    std::ofstream(described) << manifest;
    CHECK(has(shelf.fault(request("starter"), Errc::unsupported_format), "starter has nothing that makes tokens"));
    CHECK(has(shelf.fault(with([](auto& r) { r.lang = "ja"; }), Errc::unsupported_format), "lang: got \"ja\""));
    CHECK(has(shelf.fault(with([](auto& r) { r.text = "?!"; }), Errc::bad_message), "text: nothing in it"));
    CHECK(has(shelf.fault(with([](auto& r) { r.text = "\xFF"; }), Errc::bad_message), "text: wanted UTF-8"));
    CHECK(has(shelf.fault(with([](auto& r) { r.text.assign(501, 'a'); }), Errc::text_too_long), "501 characters"));
    CHECK(has(shelf.fault(with([](auto& r) { r.id = "A/B"; }), Errc::bad_message), "id: got \"A/B\""));
    CHECK(has(shelf.fault(with([](auto& r) { r.name = "a\nb"; }), Errc::bad_message), "name: wanted"));
    CHECK(has(shelf.fault(with([](auto& r) { r.more.resize(17); }), Errc::bad_message), "got 17"));
    CHECK(has(
        shelf.fault(with([](auto& r) { r.reference = recording(fake_speech(2.99, 32'000), 32'000); }), Errc::bad_file),
        "voice.wav: got 2.99 s, wanted 3 to 10 s"));
    CHECK(has(shelf.fault(with([](auto& r) { r.more = {recording(fake_speech(0.5, 32'000), 32'000, "b.wav")}; }),
                          Errc::bad_file),
              "b.wav: got 0.50 s, wanted 1 to 60 s"));
    fs::remove(shelf.root / "models" / "eres2netv2.safetensors");
    CHECK(has(shelf.fault(good, Errc::bad_file),
              "missing eres2netv2.safetensors (the speaker network); sonorant models"));
    write_preparing_networks(shelf.root / "models");
    // A model without the tensors that tokens come from.
    const auto acoustic = std::make_shared<GeneratedWeights>();
    (void)VitsModel(WeightScope(acoustic), preparable_config(ModelForm::v2pro));
    acoustic->write(shelf.voices() / "m" / "acoustic.safetensors");
    CHECK(has(shelf.fault(good, Errc::bad_file), "ssl_proj"));
    CHECK(shelf.names() == std::set<std::string>{"m", "starter"});
  }

  TEST_CASE("a recording becomes a voice of the starter form, with no network but the model's own") {
    const Shelf shelf;
    write_starter(shelf.voices() / "small");
    VoiceRequest r = request("small");
    // Not fitted it is another voice, which takes nothing of a fitted one.
    r.id = "plain";
    PrepareConfig without = shelf.config();
    without.fit_rounds = 0;
    REQUIRE(prepare_voice(without, frontend(), r));
    CHECK(SafeTensors::open(shelf.voices() / "plain" / "reference.safetensors").value().find("fit.style") == nullptr);
    r.id = "ann";
    r.more.push_back(recording(fake_speech(1.5, 44'100, 180), 44'100, "second.wav"));
    fs::remove_all(shelf.root / "models");
    const auto made = shelf.add(r);
    if (!made) FAIL(made.error().detail);
    CHECK(made->info.rate_hz == 24'000);
    REQUIRE(made->notes.size() == 1);
    CHECK(has(made->notes[0], "uses the first recording only"));
    const PreparedReference got = shelf.reference("ann");
    CHECK(got.prompt_tokens.size() == 80);  // 3.2 s
    FrontendOptions options;
    options.lang = "en";
    options.languages = {"en", "zh"};
    options.word_separator = "SP";
    CHECK(got.prompt_phonemes == frontend().phonemize(r.text, options).phonemes);
    CHECK(fs::file_size(shelf.voices() / "ann" / "reference.safetensors") > 300 * 100 * 4);
    // Its mels get the mean spectrum of the recording.
    const auto manifest = load_manifest(shelf.voices() / "ann");
    REQUIRE(manifest);
    const AcousticModel acoustic = load_acoustic_model(*manifest);
    const AcousticModel::Speaker speaker = load_speaker(*manifest, acoustic);
    REQUIRE(speaker.mel_shift.defined());
    const at::Tensor recorded = load_weights(manifest->reference)->get("mel", {300, 100});
    const at::Tensor spoken = acoustic.make_mel(got.prompt_tokens, got.prompt_phonemes, speaker);
    // And a level of its own, the same for all bands that have room for it.
    const at::Tensor shift = mel_shift(recorded, spoken);
    const at::Tensor louder = (speaker.mel_shift - shift).median();
    CHECK(louder.item<double>() != 0);
    CHECK(at::allclose(speaker.mel_shift, (shift + louder).clamp(-kMostMelShift, kMostMelShift), 1e-4, 1e-4));
    // It is fitted to the recording, and the shift is that of what it speaks then.
    REQUIRE(speaker.fit.defined());
    const auto apart_from = [&](const SpeakerFit& fit) {
      return speaker_distance(
          WeightScope(load_weights(manifest->acoustic.file)), manifest->acoustic.config,
          {.tokens = got.prompt_tokens, .phonemes = got.prompt_phonemes, .mel = recorded,
           .ge = acoustic.make_speaker_from_mel(recorded).ge},
          fit);
    };
    CHECK(apart_from(speaker.fit) < 0.95 * apart_from({}));
    const at::Tensor level = at::logsumexp(2 * recorded, {1}) / 2;
    const at::Tensor clear = at::nonzero(level > level.max() - 4).squeeze(1);
    const auto off = [&](const at::Tensor& mel) {
      const at::Tensor away = (mel - recorded).index_select(0, clear).mean(0);
      return (away - away.mean()).abs().mean().item<double>();
    };
    CHECK(off(spoken + speaker.mel_shift) < 0.6 * off(spoken));

    EngineConfig config;
    config.voices_dir = shelf.voices();
    config.text_data_dir = "src/text/data";
    config.preload = "none";
    const auto engine = make_engine(config);
    std::vector<float> own, loud, quiet, higher;
    CHECK(speak(*engine, "small", &own) == "done");
    CHECK(speak(*engine, "ann") == "done");  // of a prompt that means nothing, whatever it is
    // Uploaded to the running engine: the level of a recording does not matter, its sound does.
    const auto add = [&](const char* id, double gain, double hz, std::vector<float>& spoken) {
      VoiceRequest other = request("small");
      other.id = id;
      other.text.clear();
      std::vector<float> pcm = fake_speech(3.2, 32'000, hz);
      for (float& x : pcm) x *= static_cast<float>(gain);
      other.reference = recording(pcm, 32'000);
      const auto added = engine->add_voice(other, {});
      if (!added) FAIL(added.error().detail);
      CHECK(shelf.reference(id).prompt_tokens.empty());  // without the words: the sound alone
      CHECK(speak(*engine, id, &spoken) == "done");
    };
    add("loud", 1.0, 120, loud);
    add("quiet", 0.5, 120, quiet);
    add("higher", 1.0, 230, higher);
    CHECK(own.size() > 11 * 960);
    REQUIRE(loud.size() > 11 * 960);
    REQUIRE(quiet.size() == loud.size());  // the same tokens
    REQUIRE(higher.size() == loud.size());
    CHECK(loud != own);
    CHECK(loud != higher);
    const auto mel = [&](const char* id) {
      const fs::path file = shelf.voices() / id / "reference.safetensors";
      return load_weights(file)->get("mel", SafeTensors::open(file).value().find("mel")->shape);
    };
    const auto apart = [&](const char* other) { return (mel(other) - mel("loud")).abs().mean().item<double>(); };
    CHECK(apart("higher") > 0.1);
    CHECK(apart("quiet") < 0.1 * apart("higher"));
    CHECK(remove_prepared_voice(shelf.voices(), "ann").has_value());
    CHECK(remove_prepared_voice(shelf.voices(), "small").error().code == Errc::forbidden);
  }

  TEST_CASE("voices come and go in a running engine") {
    const Shelf shelf;
    write_preparable_model(shelf.voices() / "m", ModelForm::v2);
    EngineConfig config;
    config.voices_dir = shelf.voices();
    config.models_dir = shelf.root / "models";
    config.text_data_dir = "src/text/data";
    const auto engine = make_engine(config);  // of a model alone: no voice yet
    CHECK(engine->voices().empty());
    VoiceRequest r = request("m");
    r.id = "ann";
    std::vector<std::string> steps;
    const auto made = engine->add_voice(r, [&](std::string_view what) { steps.emplace_back(what); });
    REQUIRE(made.has_value());
    CHECK(std::find(steps.begin(), steps.end(), "HuBERT") != steps.end());
    REQUIRE(engine->voices().size() == 1);
    CHECK(speak(*engine, "ann") == "done");
    // Another process adds one.
    r.id = "ben";
    REQUIRE(shelf.add(r).has_value());
    for (int i = 0; i < 200 && engine->voices().size() < 2; ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    CHECK(speak(*engine, "ben") == "done");
    CHECK(engine->remove_voice("m").error().code == Errc::unknown_voice);
    CHECK(engine->remove_voice("ann").has_value());
    CHECK(engine->voices().size() == 1);
    CHECK(speak(*engine, "ann") == "unknown_voice: no voice \"ann\"");
    CHECK(shelf.names() == std::set<std::string>{"m", "ben"});
    write_small_voice(shelf.voices() / "whole", ModelForm::v2);
    CHECK(remove_prepared_voice(shelf.voices(), "whole").error().code == Errc::forbidden);
  }
}

}  // namespace tts
