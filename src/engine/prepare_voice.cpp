#include "src/engine/prepare_voice.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>
#include <numbers>
#include <optional>
#include <system_error>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <unistd.h>

#include <ATen/ops/empty.h>
#include <c10/core/InferenceMode.h>

#include "models/eres2net.h"
#include "models/fbank.h"
#include "models/fit_speaker.h"
#include "models/hubert.h"
#include "models/huggingface.h"
#include "models/manifest.h"
#include "models/mel.h"
#include "models/mel_shift.h"
#include "models/semantic_decoder.h"
#include "models/semantic_tokenizer.h"
#include "models/starter_tokenizer.h"
#include "models/voice_reference.h"
#include "src/audio/level.h"
#include "src/audio/recording.h"
#include "src/core/digest.h"
#include "src/core/json_string.h"
#include "src/core/log.h"
#include "src/core/safetensors.h"
#include "src/core/utf8.h"
#include "src/engine/text_features.h"
#include "src/text/phonemes.h"

namespace tts {
namespace {

namespace fs = std::filesystem;

/// Part of every checksum: a change of what is prepared makes voices anew.
constexpr std::string_view kPreparation = "sonorant voice 1";
constexpr std::string_view kStarterPreparation = "as loud as others";  ///< the same, of the starter form
constexpr const char* kSourceFile = "source.sha256";
constexpr std::size_t kMaxIdBytes = 64;
constexpr std::size_t kMaxNameBytes = 200;
constexpr std::size_t kMaxTextChars = 500;  // ten seconds hold 200
constexpr std::size_t kMaxMore = 16;
constexpr std::int64_t kSpectrogramRateHz = 32'000;

Error refuse(Errc code, std::string detail) {
  return Error{code, std::move(detail)};
}

bool is_id(const std::string& id) {
  return !id.empty() && id.size() <= kMaxIdBytes &&
         id.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_-") == std::string::npos;
}

bool has_controls(const std::string& text) {
  return std::any_of(text.begin(), text.end(),
                     [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; });
}

Result<void> check_request(const VoiceRequest& request) {
  const std::string want_id = "wanted a name of at most 64 of a-z, 0-9, _ and -";
  if (!is_id(request.model))
    return refuse(Errc::unknown_voice, "model: got \"" + utf8::to_valid(request.model) + "\", " + want_id);
  if (!request.id.empty() && !is_id(request.id)) {
    return refuse(Errc::bad_message, "id: got \"" + utf8::to_valid(request.id) + "\", " + want_id);
  }
  if (request.name.size() > kMaxNameBytes || !utf8::is_valid(request.name) || has_controls(request.name)) {
    return refuse(Errc::bad_message, "name: wanted UTF-8 of at most 200 bytes without control characters");
  }
  if (!utf8::is_valid(request.text)) return refuse(Errc::bad_message, "text: wanted UTF-8");
  if (utf8::count_code_points(request.text) > kMaxTextChars) {
    return refuse(Errc::text_too_long, "text: got " + std::to_string(utf8::count_code_points(request.text)) +
                                           " characters, wanted what is said in the recording, at most 500");
  }
  if (request.more.size() > kMaxMore) {
    return refuse(Errc::bad_message,
                  "further recordings: got " + std::to_string(request.more.size()) + ", wanted at most 16");
  }
  return {};
}

/// A model's folder: its name and what its manifest says.
struct Model {
  std::string name;
  VoiceManifest manifest;
};

Result<Model> find_model(const fs::path& voices_dir, const std::string& name) {
  std::error_code ignored;
  if (!fs::exists(voices_dir / name / "manifest.json", ignored)) {
    return refuse(Errc::unknown_voice,
                  "model: " + name + " is not there (no " + name + "/manifest.json among the voices)");
  }
  auto manifest = load_manifest(voices_dir / name);
  if (!manifest) return manifest.error();
  if (!manifest->published && !manifest->tokenizer) {
    return refuse(Errc::unsupported_format,
                  "model: " + name +
                      " has nothing that makes tokens of a recording (tokenizer in its manifest); wanted one that has, "
                      "or a model of GPT-SoVITS, see sonorant convert");
  }
  const fs::path home = manifest->network_folder();
  return Model{home.filename().empty() ? name : home.filename().string(), std::move(*manifest)};
}

/// What a voice is made of, as one checksum. Weights count by the checksums in the manifest, or else by their size.
std::string source_sum(const PrepareConfig& config, const VoiceRequest& request, const Model& model) {
  Digest digest = Digest::sha256();
  const auto add = [&](std::string_view part) {
    digest.update(std::to_string(part.size()) + ":");
    digest.update(part);
  };
  const auto add_recording = [&](const Recording& recording) {
    add(sha256_hex(std::as_bytes(std::span(recording.bytes))));
  };
  add(kPreparation);
  add(model.name);
  std::ifstream manifest(model.manifest.network_folder() / "manifest.json", std::ios::binary);
  add(std::string(std::istreambuf_iterator<char>(manifest), {}));
  std::error_code ignored;
  add(std::to_string(fs::file_size(model.manifest.acoustic.file, ignored)));
  if (!model.manifest.published) {
    add(kStarterPreparation);
    add("fit " + std::to_string(config.fit_rounds));
  }
  add(request.lang);
  add(request.text);
  add_recording(request.reference);
  for (const Recording& recording : request.more) add_recording(recording);
  return digest.finish();
}

struct Folder {
  fs::path path;
  VoiceManifest manifest;
  std::string source;  ///< checksum of what it was made of; empty: not made here
};

/// Every folder with a manifest that can be read.
std::vector<Folder> folders_of(const fs::path& voices_dir) {
  std::vector<Folder> out;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(voices_dir, error)) {
    if (entry.path().filename().string().starts_with('.') || !fs::exists(entry.path() / "manifest.json", error))
      continue;
    auto manifest = load_manifest(entry.path());
    if (!manifest) continue;
    std::string source;
    std::ifstream(entry.path() / kSourceFile) >> source;
    out.push_back({entry.path(), std::move(*manifest), std::move(source)});
  }
  return out;
}

VoiceInfo info_of(const VoiceManifest& m) {
  return {m.id, m.name, m.languages, static_cast<int>(m.sample_rate_hz)};
}

std::string manifest_text(const Model& model, const std::string& id, const std::string& name) {
  const VoiceManifest& m = model.manifest;
  std::string langs;
  for (const std::string& lang : m.languages) langs += (langs.empty() ? "" : ", ") + json_string(lang);
  std::string form = "1", pause;
  if (m.published) {
    form.assign("2,\n  \"form\": ").append(json_string(to_string(m.published->form)));
    pause.assign("\"pause_ms\": ").append(std::to_string(m.pause_ms)).append(",\n  ");
  }
  return "{\n  \"format\": " + form + ",\n  \"id\": " + json_string(id) + ",\n  \"name\": " + json_string(name) +
         ",\n  \"license\": " + json_string(m.license) + ",\n  \"languages\": [" + langs +
         "],\n  \"sample_rate_hz\": " + std::to_string(m.sample_rate_hz) +
         ",\n  \"text\": {\"word_separator\": " + json_string(m.word_separator) + "},\n  " + pause +
         "\"model\": " + json_string(model.name) + ",\n  \"reference\": {\"file\": \"reference.safetensors\"}\n}\n";
}

/// How folders begin that are being made, and that are being removed.
constexpr std::string_view kMaking = ".new-";
constexpr std::string_view kRemoving = ".removed-";
/// As long it may take from making a folder to locking it.
constexpr std::chrono::minutes kSurelyLocked{1};

fs::path hidden_path(const fs::path& voices_dir, std::string_view begin, const std::string& id) {
  return voices_dir /
         (std::string(begin) + id + "-" + std::to_string(std::chrono::steady_clock::now().time_since_epoch().count()));
}

/// A folder's lock, which ends with the process that has it.
class FolderLock {
 public:
  /// False when another process, or another of this one, has it, or the folder is not there.
  bool take(const fs::path& folder) {
    fd_ = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd_ >= 0 && ::flock(fd_, LOCK_EX | LOCK_NB) == 0;
  }
  FolderLock() = default;
  ~FolderLock() {
    if (fd_ >= 0) ::close(fd_);
  }
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  int fd_ = -1;
};

/// A folder that is filled out of sight and then takes its place; removed when it does not.
class NewFolder {
 public:
  NewFolder(const fs::path& voices_dir, const std::string& id) : path_(hidden_path(voices_dir, kMaking, id)) {}
  ~NewFolder() {
    std::error_code ignored;
    if (!done_) fs::remove_all(path_, ignored);
  }
  NewFolder(const NewFolder&) = delete;
  NewFolder& operator=(const NewFolder&) = delete;

  [[nodiscard]] const fs::path& path() const { return path_; }
  Result<void> make() {
    std::error_code error;
    fs::create_directory(path_, error);
    if (error) return cannot_be_made(path_, error);
    (void)lock_.take(path_);  // where it cannot be had, age alone tells what is left over
    return {};
  }
  Result<void> write(const char* name, const std::string& text) const {
    std::ofstream out(path_ / name, std::ios::binary);
    out << text;
    out.close();
    if (!out) return refuse(Errc::bad_file, (path_ / name).string() + ": cannot be written");
    return {};
  }
  Result<void> copy(const fs::path& from, const char* name) const {
    std::error_code error;
    fs::copy_file(from, path_ / name, error);
    if (error) return cannot_be_made(path_ / name, error);
    return {};
  }
  Result<void> place(const fs::path& to) {
    std::error_code error;
    fs::rename(path_, to, error);  // fails when a folder with something in it is there
    if (error) return cannot_be_made(to, error);
    done_ = true;
    return {};
  }

 private:
  static Error cannot_be_made(const fs::path& path, const std::error_code& why) {
    return refuse(Errc::bad_file, path.string() + ": cannot be made: " + why.message());
  }

  fs::path path_;
  FolderLock lock_;
  bool done_ = false;
};

at::Tensor to_tensor(std::span<const float> values) {
  at::Tensor out = at::empty({static_cast<std::int64_t>(values.size())}, at::kFloat);
  std::memcpy(out.data_ptr<float>(), values.data(), values.size_bytes());
  return out;
}

at::Tensor at_rate(const at::Tensor& wave, std::int64_t from_hz, std::int64_t to_hz) {
  return from_hz == to_hz ? wave : resample_sinc(wave, from_hz, to_hz);
}

/// The tensors of a file whose names begin with one of these: two of an acoustic model's hundreds.
WeightScope load_some(const fs::path& path, std::initializer_list<std::string_view> prefixes) {
  const auto file = SafeTensors::open(path);
  if (!file) throw ModelError(file.error().detail);
  auto map = std::make_shared<TensorMap>();
  for (const TensorView& view : file->tensors()) {
    if (std::none_of(prefixes.begin(), prefixes.end(), [&](std::string_view p) { return view.name.starts_with(p); })) {
      continue;
    }
    const auto values = to_floats(view);
    if (!values) throw ModelError(values.error().detail);
    map->put(view.name, to_tensor(*values).view(view.shape));
  }
  return WeightScope(std::move(map));
}

/// What a recording is said to say, as phonemes.
Phonemized phonemes_of(const TextFrontend& frontend, std::string_view text, const std::string& lang,
                       const VoiceManifest& manifest) {
  FrontendOptions options;
  options.lang = lang;
  options.languages = manifest.languages;
  options.word_separator = manifest.word_separator;
  return frontend.phonemize(text, options);
}

bool is_blank(const std::string& text) {
  return text.find_first_not_of(" \t\r\n") == std::string::npos;
}

Error nothing_to_say() {
  return refuse(Errc::bad_message, "text: nothing in it can be spoken by this model");
}

/// What a new voice says so that its loudness is known: a recording's own words are one sentence, and too few.
struct Rehearsal {
  const char* lang;
  const char* text;
};
constexpr std::array kRehearsal = {
    Rehearsal{"en", "The early train was almost empty when we left the station."},
    Rehearsal{"en", "Would you like some tea, or is it too late in the evening?"},
    Rehearsal{"zh", "我们沿着河边慢慢走，一直走到那座旧桥。"},
    Rehearsal{"zh", "你昨天晚上看的那部电影好看吗？"},
};
constexpr double kLoudness = -20.0;    // LUFS
constexpr double kMostLouder = 8.5;    // dB, or softer
constexpr double kSpeechless = -60.0;  // LUFS: what is softer is no voice

/// Prepares a voice of the starter form, which has all that it takes itself.
class StarterPreparation {
 public:
  StarterPreparation(const PrepareConfig& config, const TextFrontend& frontend, const VoiceRequest& request,
                     const VoiceManifest& manifest, const VoiceProgress& progress)
      : fit_rounds_(config.fit_rounds),
        frontend_(frontend),
        m_(manifest),
        progress_(progress),
        has_prompt_(!is_blank(request.text)) {
    if (has_prompt_) spoken_ = phonemes_of(frontend, request.text, request.lang, manifest);
  }

  Result<void> check() const {
    if (has_prompt_ && spoken_.phonemes.empty()) return nothing_to_say();
    return {};
  }

  Result<PreparedReference> run(const std::vector<AudioFile>& recordings) const {
    const c10::InferenceMode inference;
    const AudioFile& recording = recordings.front();
    at::Tensor wave = at_rate(to_tensor(recording.pcm), recording.rate_hz, StarterTokenizer::kRateHz);
    PreparedReference out;
    tell("mel");
    const at::Tensor mel = MelFrontEnd(kMelV3)(wave);
    const double gain = mel_level(mel) / 2;
    out.mel = (mel - gain).clamp_min(kFloor);
    if (!has_prompt_) return out;
    out.prompt_phonemes = within_inventory(spoken_.phonemes, m_.t2s.config.phoneme_vocab);
    tell("tokens");
    const StarterTokenizer tokenizer(WeightScope(load_weights(m_.tokenizer->file)), m_.tokenizer->config,
                                     load_some(m_.acoustic.file, {"quantizer."}),
                                     {.codes = m_.acoustic.config.codes, .dim = m_.acoustic.config.code_dim});
    const at::Tensor tokens = tokenizer.encode((tokenizer.mel(wave) - gain).clamp_min(kFloor)).contiguous();
    const auto* data = tokens.data_ptr<std::int64_t>();
    out.prompt_tokens.assign(data, data + tokens.numel());
    tell("timbre");
    const AcousticModel model = load_acoustic_model(m_);
    auto speaker = model.make_speaker_from_mel(out.mel);
    const auto fit = fit_speaker(
        WeightScope(load_weights(m_.acoustic.file)), m_.acoustic.config,
        {.tokens = out.prompt_tokens, .phonemes = out.prompt_phonemes, .mel = out.mel, .ge = speaker.ge},
        {.rounds = fit_rounds_}, [&](int done, int rounds) {
          if (done % 5 == 0) tell("fit " + std::to_string(done) + " of " + std::to_string(rounds));
        });
    if (fit) {
      out.fit = *fit;
      speaker = model.make_speaker_from_mel(out.mel, out.fit);
    }
    speaker.mel_shift = mel_shift(out.mel, model.make_mel(out.prompt_tokens, out.prompt_phonemes, speaker));
    tell("loudness");
    out.mel_shift = as_loud_as_others(model, speaker, out);
    return out;
  }

  [[nodiscard]] bool has_prompt() const { return has_prompt_; }

 private:
  static constexpr double kFloor = -11.512925465;  // ln 1e-5, the floor of every log mel

  struct Said {
    std::vector<std::int32_t> phonemes, tokens;
  };
  /// kRehearsal in the languages of the voice.
  std::vector<Said> rehearse(const PreparedReference& reference) const {
    const T2S t2s(m_.t2s.config, WeightScope(load_weights(m_.t2s.file), "model"));
    SemanticDecoder decoder(t2s);
    const SeededNoise noise(1);
    std::vector<Said> out;
    for (const Rehearsal& sentence : kRehearsal) {
      if (std::find(m_.languages.begin(), m_.languages.end(), sentence.lang) == m_.languages.end()) continue;
      const Phonemized spoken = phonemes_of(frontend_, sentence.text, sentence.lang, m_);
      Said said{.phonemes = within_inventory(spoken.phonemes, m_.t2s.config.phoneme_vocab), .tokens = {}};
      std::vector<std::int32_t> all = reference.prompt_phonemes;
      all.insert(all.end(), said.phonemes.begin(), said.phonemes.end());
      const std::int64_t longest = 25 + 6 * static_cast<std::int64_t>(said.phonemes.size());
      decoder.start(all, {}, reference.prompt_tokens, {.sampling = m_.t2s.sampling, .max_tokens = longest}, noise);
      while (decoder.next()) {
      }
      said.tokens.assign(decoder.tokens().begin(), decoder.tokens().end());
      if (!said.tokens.empty()) out.push_back(std::move(said));
    }
    return out;
  }

  /// The shift with which the voice speaks at kLoudness: sentences of one voice are as loud as each other within half a
  /// decibel, voices without it within one and a half. Twice, because the vocoder does not just scale what is louder.
  at::Tensor as_loud_as_others(const AcousticModel& model, AcousticModel::Speaker speaker,
                               const PreparedReference& reference) const {
    const std::vector<Said> sentences = rehearse(reference);
    const at::Tensor shift = speaker.mel_shift;
    double louder = 0;
    for (int pass = 0; pass < 2; ++pass) {
      std::vector<float> wave;
      for (const Said& said : sentences) {
        const std::vector<float> made = model.begin(said.phonemes, speaker, {}).push(said.tokens, true);
        wave.insert(wave.end(), made.begin(), made.end());
      }
      const double loudness = loudness_lufs(wave, static_cast<int>(AcousticModel::kRateHz));
      if (!(loudness > kSpeechless)) break;
      louder = std::clamp(louder + kLoudness - loudness, -kMostLouder, kMostLouder);
      speaker.mel_shift = (shift + louder * std::numbers::ln10 / 20).clamp(-kMostMelShift, kMostMelShift);
    }
    return speaker.mel_shift;
  }

  void tell(std::string_view what) const {
    if (progress_) progress_(what);
  }

  const int fit_rounds_;
  const TextFrontend& frontend_;
  const VoiceManifest& m_;
  const VoiceProgress& progress_;
  const bool has_prompt_;
  Phonemized spoken_;
};

/// Prepares a voice of a published form, network by network; each is loaded, used once and let go.
class Preparation {
 public:
  Preparation(const PrepareConfig& config, const TextFrontend& frontend, const VoiceRequest& request,
              const VoiceManifest& manifest, const VoiceProgress& progress)
      : config_(config), request_(request), m_(manifest), c_(*manifest.published), progress_(progress) {
    if (is_blank(request.text)) return;
    spoken_ = phonemes_of(frontend, request.text, request.lang, manifest);
    has_prompt_ = true;
  }

  /// Everything that can be said without computing.
  Result<void> check() {
    if (has_prompt_ && spoken_.phonemes.empty()) return nothing_to_say();
    if (!has_prompt_ && uses_flow_matching(c_.form)) {
      return refuse(Errc::bad_message,
                    "text: missing; " + std::string(to_string(c_.form)) + " needs what is said in the recording");
    }
    std::string missing;
    const auto want = [&](const char* file, const char* what) {
      std::error_code ignored;
      if (!config_.models_dir.empty() && fs::exists(config_.models_dir / file, ignored)) return;
      missing += (missing.empty() ? "" : ", ") + std::string(file) + " (" + what + ")";
    };
    if (has_prompt_) want("hubert.safetensors", "HuBERT");
    if (needs_bert()) want("bert.safetensors", "BERT");
    if (has_speaker_network(c_.form)) want("eres2netv2.safetensors", "the speaker network");
    if (!missing.empty()) {
      return refuse(Errc::bad_file,
                    (config_.models_dir.empty() ? std::string("models folder: not set") : config_.models_dir.string()) +
                        ": missing " + missing + "; sonorant models fetch brings them");
    }
    return {};
  }

  Result<PreparedReference> run(const std::vector<AudioFile>& recordings) {
    const c10::InferenceMode inference;
    PreparedReference out;
    if (has_prompt_) {
      tell("phonemes");
      out.prompt_phonemes = within_inventory(spoken_.phonemes, std::min(m_.t2s.config.phoneme_vocab, c_.phonemes));
      if (needs_bert()) {
        tell("BERT");
        const auto features = load_text_features(config_.models_dir, PrecisionChoice::fp32);
        if (!features) return features.error();
        auto rows = (*features)->rows(spoken_, m_.t2s.config.bert_dim);
        if (!rows) return rows.error();
        out.prompt_bert = std::move(*rows);
      }
      auto tokens = prompt_tokens(recordings.front());
      if (!tokens) return tokens.error();
      out.prompt_tokens = std::move(*tokens);
    }
    tell("spectrograms");
    std::optional<Eres2Net> speaker;
    if (has_speaker_network(c_.form)) speaker.emplace(load_speaker_network());
    for (const AudioFile& recording : recordings) {
      at::Tensor wave = at_rate(to_tensor(recording.pcm), recording.rate_hz, kSpectrogramRateHz);
      const double peak = wave.abs().max().item<double>();
      if (peak > 1.0) wave = wave / std::min(2.0, peak);  // as upstream
      SovitsFront::Reference reference;
      reference.spectrogram = reference_spectrogram(wave);
      if (speaker) {
        tell("speaker embedding");
        reference.embedding = speaker->embed(resample_sinc(wave, kSpectrogramRateHz, kFbankRateHz));
      }
      out.references.push_back(std::move(reference));
      if (uses_flow_matching(c_.form)) break;  // the form looks at one only
    }
    if (uses_flow_matching(c_.form)) {
      MelConfig mel = c_.form == ModelForm::v3 ? kMelV3 : kMelV4;
      mel.bands = c_.dit.mel;
      const AudioFile& recording = recordings.front();
      out.mel = MelFrontEnd(mel)(at_rate(to_tensor(recording.pcm), recording.rate_hz, mel.rate_hz));
    }
    return out;
  }

  [[nodiscard]] bool has_prompt() const { return has_prompt_; }

 private:
  void tell(std::string_view what) const {
    if (progress_) progress_(what);
  }

  [[nodiscard]] bool needs_bert() const { return m_.t2s.config.bert_dim > 0 && !spoken_.bert.empty(); }

  [[nodiscard]] bool has_file(const fs::path& file) const {
    std::error_code ignored;
    return fs::exists(file, ignored);
  }

  Result<std::vector<std::int32_t>> prompt_tokens(const AudioFile& recording) const {
    tell("HuBERT");
    const fs::path sizes_file = config_.models_dir / "chinese-hubert-base" / "config.json";
    HubertConfig sizes;
    if (has_file(sizes_file)) {
      auto read = read_hubert_config(sizes_file);
      if (!read) return read.error();
      sizes = *read;
    }
    if (sizes.hidden != c_.ssl_dim) {
      return refuse(Errc::bad_file, (config_.models_dir / "hubert.safetensors").string() + ": its features have " +
                                        std::to_string(sizes.hidden) + " values, the model wants " +
                                        std::to_string(c_.ssl_dim));
    }
    auto wave = make_hubert_wave(recording.pcm, recording.rate_hz);
    if (!wave) return wave.error();
    const SemanticTokenizer tokenizer(load_some(m_.acoustic.file, {"ssl_proj.", "quantizer."}),
                                      {.codes = c_.codes, .dim = c_.code_dim}, c_.ssl_dim);
    const Hubert hubert(WeightScope(load_weights(config_.models_dir / "hubert.safetensors")), sizes);
    const at::Tensor tokens = tokenizer.encode(hubert.forward(to_tensor(*wave))).contiguous();
    const auto* data = tokens.data_ptr<std::int64_t>();
    return std::vector<std::int32_t>(data, data + tokens.numel());
  }

  [[nodiscard]] Eres2Net load_speaker_network() const {
    tell("speaker network");
    const fs::path path = config_.models_dir / "eres2netv2.safetensors";
    Eres2NetConfig sizes;
    const auto file = SafeTensors::open(path);
    if (!file) throw ModelError(file.error().detail);
    // Sizes as the file has them; a tensor that does not fit them is named when the network is built.
    if (const TensorView* stem = file->find("conv1.weight"); stem != nullptr && stem->shape.size() == 4) {
      sizes.channels = stem->shape[0];
    }
    for (std::size_t stage = 0; stage < sizes.blocks.size(); ++stage) {
      std::int64_t n = 0;
      while (file->find("layer" + std::to_string(stage + 1) + "." + std::to_string(n) + ".conv1.weight") != nullptr)
        ++n;
      if (n > 0) sizes.blocks[stage] = n;
    }
    Eres2Net network(WeightScope(load_weights(path)), sizes);
    if (network.dim() != c_.speaker_dim) {
      throw ModelError(path.string() + ": its embedding has " + std::to_string(network.dim()) +
                       " values, the model wants " + std::to_string(c_.speaker_dim));
    }
    return network;
  }

  const PrepareConfig& config_;
  const VoiceRequest& request_;
  const VoiceManifest& m_;
  const PublishedConfig& c_;
  const VoiceProgress& progress_;
  bool has_prompt_ = false;
  Phonemized spoken_;
};

Result<std::vector<AudioFile>> read_recordings(const VoiceRequest& request, std::vector<std::string>& notes) {
  std::vector<AudioFile> out;
  const auto read = [&](const Recording& recording, const RecordingLimits& limits) -> Result<void> {
    auto checked = read_recording(recording.bytes, recording.name, limits);
    if (!checked) return checked.error();
    out.push_back(std::move(checked->audio));
    notes.insert(notes.end(), checked->notes.begin(), checked->notes.end());
    return {};
  };
  if (auto done = read(request.reference, {}); !done) return done.error();
  RecordingLimits further;  // upstream has none for these
  further.min_ms = 1'000;
  further.max_ms = 60'000;
  further.min_sound_s = 0.5;
  for (const Recording& recording : request.more) {
    if (auto done = read(recording, further); !done) return done.error();
  }
  return out;
}

}  // namespace

Result<NewVoice> prepare_voice(const PrepareConfig& config, const TextFrontend& frontend, const VoiceRequest& request,
                               const VoiceProgress& progress) {
  if (auto done = check_request(request); !done) return done.error();
  auto model = find_model(config.voices_dir, request.model);
  if (!model) return model.error();
  const VoiceManifest& m = model->manifest;
  if (request.lang != "auto" && std::find(m.languages.begin(), m.languages.end(), request.lang) == m.languages.end()) {
    return refuse(Errc::unsupported_format,
                  "lang: got \"" + utf8::to_valid(request.lang) + "\", which " + request.model + " does not speak");
  }
  const std::string sum = source_sum(config, request, *model);
  const std::string id =
      !request.id.empty() ? request.id : request.model.substr(0, kMaxIdBytes - 9) + "-" + sum.substr(0, 8);
  const std::vector<Folder> folders = folders_of(config.voices_dir);
  const auto same = std::find_if(folders.begin(), folders.end(), [&](const Folder& f) { return f.source == sum; });
  for (const Folder& folder : folders) {
    if (folder.manifest.id != id && folder.path.filename() != id) continue;
    if (folder.source != sum) {
      return refuse(Errc::bad_message, "id: " + id + " is taken; remove that voice first, or give another id");
    }
    NewVoice found{info_of(folder.manifest), true, {}};
    if (!request.name.empty() && request.name != folder.manifest.name)
      found.notes.push_back("it keeps its name, " + folder.manifest.name);
    return found;
  }

  std::vector<std::string> notes;
  NewFolder folder(config.voices_dir, id);
  const auto made = [&]() -> Result<void> {
    if (same != folders.end()) {
      if (auto done = folder.make(); !done) return done;
      return folder.copy(same->manifest.reference, "reference.safetensors");
    }
    auto recordings = read_recordings(request, notes);
    if (!recordings) return recordings.error();
    const auto prepare = [&](auto preparation) -> Result<void> {
      if (auto done = preparation.check(); !done) return done;
      if (!preparation.has_prompt()) {
        notes.push_back("made without the words of the recording: it has its sound, but less of its manner");
      }
      if (!request.more.empty() && (!m.published || uses_flow_matching(m.published->form))) {
        notes.push_back((m.published ? std::string(to_string(m.published->form)) : "the starter form") +
                        " uses the first recording only");
      }
      // Streams come first. For this thread alone, and for good: it is not one that lives on.
      (void)::setpriority(PRIO_PROCESS, 0, 10);
      auto reference = preparation.run(*recordings);
      if (!reference) return reference.error();
      if (auto done = folder.make(); !done) return done;
      return save_reference(folder.path() / "reference.safetensors", *reference);
    };
    return m.published ? prepare(Preparation(config, frontend, request, m, progress))
                       : prepare(StarterPreparation(config, frontend, request, m, progress));
  };
  try {
    if (auto done = made(); !done) return done.error();
    if (auto done = folder.write("manifest.json", manifest_text(*model, id, request.name.empty() ? id : request.name));
        !done) {
      return done.error();
    }
    if (auto done = folder.write(kSourceFile, sum + "\n"); !done) return done.error();
    // What was written is read as the engine will read it.
    auto written = load_manifest(folder.path());
    if (!written) return written.error();
    (void)load_reference(*written);
    if (auto done = folder.place(config.voices_dir / id); !done) return done.error();
    return NewVoice{info_of(*written), false, std::move(notes)};
  } catch (const std::exception& failure) {  // a network that cannot be built, no memory
    return refuse(Errc::bad_file, failure.what());
  }
}

Result<void> remove_prepared_voice(const fs::path& voices_dir, const std::string& id) {
  for (const Folder& folder : folders_of(voices_dir)) {
    if (folder.manifest.id != id || folder.manifest.reference.empty()) continue;
    if (folder.manifest.model.empty()) {
      return refuse(Errc::forbidden,
                    "voice " + id + " carries its own networks; remove its folder by hand: " + folder.path.string());
    }
    std::error_code error;
    const fs::path gone = hidden_path(voices_dir, kRemoving, id);
    fs::rename(folder.path, gone, error);
    if (!error) fs::remove_all(gone, error);
    if (error) return refuse(Errc::bad_file, folder.path.string() + ": cannot be removed: " + error.message());
    return {};
  }
  return refuse(Errc::unknown_voice, "no voice \"" + utf8::to_valid(id) + "\"");
}

void sweep_leftovers(const fs::path& voices_dir) {
  std::error_code error;
  std::vector<fs::path> leftovers;
  for (const auto& entry : fs::directory_iterator(voices_dir, error)) {
    const std::string name = entry.path().filename().string();
    const auto age = fs::file_time_type::clock::now() - entry.last_write_time(error);
    if (name.starts_with(kRemoving) || (name.starts_with(kMaking) && !error && age > kSurelyLocked)) {
      leftovers.push_back(entry.path());
    }
  }
  for (const fs::path& leftover : leftovers) {
    FolderLock lock;
    if (!lock.take(leftover)) continue;
    fs::remove_all(leftover, error);
    get_logger("engine")->info("left over by a process that died, removed folder={}", log_value(leftover.string()));
  }
}

}  // namespace tts
