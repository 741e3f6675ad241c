#include "src/engine/voice.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <variant>

#include <c10/core/InferenceMode.h>

#include "models/acoustic.h"
#include "models/cfm_model.h"
#include "models/manifest.h"
#include "models/semantic_decoder.h"
#include "models/t2s.h"
#include "models/vits_model.h"
#include "models/voice_reference.h"
#include "src/engine/file_stamp.h"
#include "src/text/phonemes.h"

namespace tts {
namespace {

/// Longest plausible speech: six tokens (0.24 s) a phoneme, word separators included, and a second for pauses. Speech
/// that reaches it has lost its way in the text; ending it there keeps a slip from becoming a minute of babble.
std::int64_t token_budget(std::size_t n_phonemes) {
  return 25 + 6 * static_cast<std::int64_t>(n_phonemes);
}

/// The networks of a model folder.
struct Networks {
  Networks(const VoiceManifest& m, const NetworkOptions& /*options*/)
      : t2s(m.t2s.config, WeightScope(load_weights(m.t2s.file), "model")), acoustic(load_acoustic(m)) {}

  /// Never moved: streams and speakers point into it.
  using Acoustic = std::variant<std::unique_ptr<const AcousticModel>, std::unique_ptr<const VitsModel>,
                                std::unique_ptr<const CfmModel>>;
  static Acoustic load_acoustic(const VoiceManifest& m) {
    if (!m.published) return std::make_unique<const AcousticModel>(load_acoustic_model(m));
    const WeightScope weights(load_weights(m.acoustic.file));
    if (!uses_flow_matching(m.published->form)) return std::make_unique<const VitsModel>(weights, *m.published);
    return std::make_unique<const CfmModel>(weights, WeightScope(load_weights(m.vocoder.file)), *m.published);
  }

  const T2S t2s;
  const Acoustic acoustic;
};

using Speaker = std::variant<AcousticModel::Speaker, VitsModel::Speaker, CfmModel::Speaker>;

/// What of the reference goes before every text.
struct Prompt {
  std::vector<std::int32_t> tokens;
  std::vector<std::int32_t> phonemes;
  std::vector<float> bert;  ///< [phonemes, bert_dim], or empty for zeros
};

class ManifestVoice final : public Voice {
 public:
  ManifestVoice(const VoiceManifest& manifest, std::shared_ptr<const Networks> networks)
      : info_{manifest.id, manifest.name, manifest.languages, static_cast<int>(manifest.sample_rate_hz)},
        word_separator_(manifest.word_separator),
        sampling_(manifest.t2s.sampling),
        networks_(std::move(networks)) {
    if (manifest.published) {
      prepare(manifest);
    } else {
      const AcousticModel& model = *std::get<0>(networks_->acoustic);
      speaker_ = load_speaker(manifest, model);
    }
    std::visit(
        [&](const auto& model) {
          if (const auto tokens = model->first_audio_tokens()) lookahead_tokens_ = static_cast<int>(*tokens) - 1;
        },
        networks_->acoustic);
  }

  const VoiceInfo& info() const override { return info_; }
  const std::string& word_separator() const override { return word_separator_; }
  int lookahead_tokens() const override { return lookahead_tokens_; }
  double tokens_per_second() const override { return 25.0; }
  std::unique_ptr<SegmentStream> begin(const SegmentRequest& request) const override;

  [[nodiscard]] const T2S& t2s() const { return networks_->t2s; }
  [[nodiscard]] const Prompt& prompt() const { return prompt_; }
  /// Phoneme ids as this voice's networks know them.
  [[nodiscard]] std::vector<std::int32_t> known(std::vector<std::int32_t> phonemes) const {
    return within_inventory(std::move(phonemes), phoneme_limit_);
  }
  [[nodiscard]] std::unique_ptr<TokenRenderer> render(std::span<const std::int32_t> phonemes,
                                                      const AcousticOptions& options) const {
    switch (networks_->acoustic.index()) {
      case 0:
        return std::make_unique<AcousticStream>(
            std::get<0>(networks_->acoustic)->begin(phonemes, std::get<0>(speaker_), options));
      case 1:
        return std::get<1>(networks_->acoustic)->begin(phonemes, std::get<1>(speaker_), options);
      default:
        return std::get<2>(networks_->acoustic)->begin(phonemes, std::get<2>(speaker_), options);
    }
  }
  [[nodiscard]] int useful(std::int64_t known, int count) const {
    switch (networks_->acoustic.index()) {
      case 0:
        return count;
      case 1:
        return static_cast<int>(std::get<1>(networks_->acoustic)->policy().useful(known, count));
      default:
        return static_cast<int>(std::get<2>(networks_->acoustic)->policy().useful(known, count));
    }
  }
  [[nodiscard]] SamplingParams sampling(const SamplingOptions& wish) const {
    SamplingParams params = sampling_;
    if (wish.temperature) params.temperature = *wish.temperature;
    if (wish.top_k) params.top_k = *wish.top_k;
    if (wish.top_p) params.top_p = *wish.top_p;
    if (wish.repetition_penalty) params.repetition_penalty = *wish.repetition_penalty;
    return params;
  }
  /// Samples of silence after a segment that ends in this phoneme.
  [[nodiscard]] std::size_t pause_samples(std::int32_t last_phoneme) const {
    const std::string_view symbol = phoneme_symbol(last_phoneme);
    const bool sentence = symbol == "." || symbol == "!" || symbol == "?" || symbol == "…";
    return static_cast<std::size_t>(pause_ms_) * static_cast<std::size_t>(info_.rate_hz) / (sentence ? 1000 : 2000);
  }

 private:
  void prepare(const VoiceManifest& manifest) {
    pause_ms_ = manifest.pause_ms;
    phoneme_limit_ =
        static_cast<std::int32_t>(std::min(manifest.published->phonemes, manifest.t2s.config.phoneme_vocab));
    PreparedReference reference = load_reference(manifest);
    if (networks_->acoustic.index() == 1) {
      speaker_ = std::get<1>(networks_->acoustic)->make_speaker(reference.references);
    } else {
      speaker_ = std::get<2>(networks_->acoustic)
                     ->make_speaker(reference.references.front(), reference.mel, reference.prompt_tokens,
                                    reference.prompt_phonemes);
    }
    prompt_ = {std::move(reference.prompt_tokens), std::move(reference.prompt_phonemes),
               std::move(reference.prompt_bert)};
  }

  const VoiceInfo info_;
  const std::string word_separator_;
  const SamplingParams sampling_;
  const std::shared_ptr<const Networks> networks_;
  std::int32_t phoneme_limit_ = kPhonemesV2;
  int pause_ms_ = 0;
  Speaker speaker_;
  Prompt prompt_;
  int lookahead_tokens_ = 0;
};

class ManifestStream final : public SegmentStream {
 public:
  ManifestStream(const ManifestVoice& voice, const SegmentRequest& request)
      : voice_(voice),
        text_(voice.known(request.phonemes)),
        noise_(request.seed),
        decoder_(voice.t2s(), capacity()),
        acoustic_(
            voice.render(text_, {.seed = request.seed, .speed = static_cast<double>(request.speed), .steps = 0})) {
    options_.sampling = voice.sampling(request.sampling);
    options_.max_tokens = std::min(token_budget(text_.size()), voice.t2s().config().max_tokens);
    join_bert(request.bert);
  }

  int decode(int count) override {
    const c10::InferenceMode inference;
    if (!started_) {
      const auto start = std::chrono::steady_clock::now();
      std::vector<std::int32_t> phonemes = voice_.prompt().phonemes;
      phonemes.insert(phonemes.end(), text_.begin(), text_.end());
      decoder_.start(phonemes, bert_, voice_.prompt().tokens, options_, noise_);
      prefill_ms_ = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
      started_ = true;
    }
    int done = 0;
    while (done < count && !finished_) {
      if (decoder_.next()) {
        ++done;
      } else {
        finished_ = true;
      }
    }
    return done;
  }

  bool finished() const override { return finished_; }

  int useful(int count) const override {
    return voice_.useful(static_cast<std::int64_t>(decoder_.tokens().size()), count);
  }

  std::vector<float> render() override {
    if (closed_) return {};
    const c10::InferenceMode inference;
    const auto tokens = decoder_.tokens();
    const auto fresh = tokens.subspan(rendered_);
    rendered_ = tokens.size();
    closed_ = finished_;
    std::vector<float> pcm = acoustic_->push(fresh, finished_);
    if (closed_) pcm.resize(pcm.size() + voice_.pause_samples(text_.back()), 0.0F);
    return pcm;
  }

  double prefill_ms() const override { return prefill_ms_; }

 private:
  [[nodiscard]] std::int64_t capacity() const {
    return static_cast<std::int64_t>(voice_.prompt().phonemes.size() + voice_.prompt().tokens.size() + text_.size()) +
           token_budget(text_.size());
  }

  /// BERT features of prompt and text one after the other; where one side has none, zeros.
  void join_bert(const std::vector<float>& of_text) {
    const auto dim = static_cast<std::size_t>(voice_.t2s().config().bert_dim);
    const Prompt& prompt = voice_.prompt();
    if (!of_text.empty() && of_text.size() != text_.size() * dim) {
      throw ModelError("BERT features: got " + std::to_string(of_text.size()) + " values, wanted " +
                       std::to_string(text_.size()) + " x " + std::to_string(dim));
    }
    if (of_text.empty() && prompt.bert.empty()) return;
    bert_.assign((prompt.phonemes.size() + text_.size()) * dim, 0.0F);
    std::copy(prompt.bert.begin(), prompt.bert.end(), bert_.begin());
    std::copy(of_text.begin(), of_text.end(),
              bert_.begin() + static_cast<std::ptrdiff_t>(prompt.phonemes.size() * dim));
  }

  const ManifestVoice& voice_;
  const std::vector<std::int32_t> text_;
  std::vector<float> bert_;
  const SeededNoise noise_;
  SemanticDecoder decoder_;
  SemanticDecoder::Options options_;
  const std::unique_ptr<TokenRenderer> acoustic_;
  std::size_t rendered_ = 0;
  double prefill_ms_ = 0;
  bool started_ = false;
  bool finished_ = false;
  bool closed_ = false;
};

std::unique_ptr<SegmentStream> ManifestVoice::begin(const SegmentRequest& request) const {
  const c10::InferenceMode inference;
  return std::make_unique<ManifestStream>(*this, request);
}

VoiceManifest manifest_of(const std::filesystem::path& folder) {
  auto manifest = load_manifest(folder);
  if (!manifest) throw ModelError(manifest.error().detail);
  return std::move(*manifest);
}

}  // namespace

struct ModelCache::Impl {
  explicit Impl(const NetworkOptions& o) : options(o) {}

  const NetworkOptions options;
  std::mutex mutex;
  std::map<std::string, std::weak_ptr<const Networks>> models;  // by network_key

  std::shared_ptr<const Networks> get(const VoiceManifest& manifest) {
    const std::string home = network_key(manifest);
    const std::lock_guard lock(mutex);
    std::erase_if(models, [](const auto& item) { return item.second.expired(); });
    if (const auto found = models.find(home); found != models.end()) return found->second.lock();
    auto loaded = std::make_shared<const Networks>(manifest, options);
    models[home] = loaded;
    return loaded;
  }
};

ModelCache::ModelCache(const NetworkOptions& options) : impl_(std::make_unique<Impl>(options)) {}
ModelCache::~ModelCache() = default;

std::shared_ptr<const Voice> load_voice(const std::filesystem::path& folder, const NetworkOptions& options) {
  ModelCache cache(options);
  return load_voice(folder, cache);
}

std::shared_ptr<const Voice> load_voice(const std::filesystem::path& folder, ModelCache& cache) {
  const c10::InferenceMode inference;
  const VoiceManifest manifest = manifest_of(folder);
  if (manifest.reference.empty()) {
    throw ModelError((folder / "manifest.json").string() +
                     ": reference: missing (this is a model; a voice is made from it with a recording)");
  }
  return std::make_shared<ManifestVoice>(manifest, cache.impl().get(manifest));
}

std::string network_key(const VoiceManifest& manifest) {
  const std::filesystem::path files[] = {manifest.network_folder() / "manifest.json", manifest.t2s.file,
                                         manifest.acoustic.file, manifest.vocoder.file};
  return std::filesystem::weakly_canonical(manifest.network_folder()).string() + ":" +
         std::to_string(stamp_of(files));
}

}  // namespace tts
