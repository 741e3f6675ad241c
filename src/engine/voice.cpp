#include "src/engine/voice.h"

#include <chrono>
#include <utility>

#include <c10/core/InferenceMode.h>

#include "models/acoustic.h"
#include "models/manifest.h"
#include "models/semantic_decoder.h"
#include "models/t2s.h"

namespace tts {
namespace {

/// Longest plausible speech: six tokens (0.24 s) a phoneme, word separators included, and a second for pauses. Speech
/// that reaches it has lost its way in the text; ending it there keeps a slip from becoming a minute of babble.
std::int64_t token_budget(std::size_t n_phonemes) { return 25 + 6 * static_cast<std::int64_t>(n_phonemes); }

class ManifestVoice final : public Voice {
 public:
  explicit ManifestVoice(const VoiceManifest& manifest)
      : info_{manifest.id, manifest.name, manifest.languages, static_cast<int>(manifest.sample_rate_hz)},
        word_separator_(manifest.word_separator),
        sampling_(manifest.t2s.sampling),
        t2s_(manifest.t2s.config, WeightScope(load_weights(manifest.t2s.file), "model")),
        acoustic_(load_acoustic_model(manifest)),
        speaker_(load_speaker(manifest, acoustic_)) {
    if (const auto tokens = acoustic_.first_audio_tokens()) lookahead_tokens_ = static_cast<int>(*tokens) - 1;
  }

  const VoiceInfo& info() const override { return info_; }
  const std::string& word_separator() const override { return word_separator_; }
  int lookahead_tokens() const override { return lookahead_tokens_; }
  double tokens_per_second() const override {
    return static_cast<double>(AcousticModel::kRateHz) / static_cast<double>(AcousticModel::kTokenSamples);
  }
  std::unique_ptr<SegmentStream> begin(const SegmentRequest& request) const override;

  [[nodiscard]] const T2S& t2s() const { return t2s_; }
  [[nodiscard]] const AcousticModel& acoustic() const { return acoustic_; }
  [[nodiscard]] const AcousticModel::Speaker& speaker() const { return speaker_; }
  [[nodiscard]] SamplingParams sampling(const SamplingOptions& wish) const {
    SamplingParams params = sampling_;
    if (wish.temperature) params.temperature = *wish.temperature;
    if (wish.top_k) params.top_k = *wish.top_k;
    if (wish.top_p) params.top_p = *wish.top_p;
    if (wish.repetition_penalty) params.repetition_penalty = *wish.repetition_penalty;
    return params;
  }

 private:
  const VoiceInfo info_;
  const std::string word_separator_;
  const SamplingParams sampling_;
  const T2S t2s_;
  const AcousticModel acoustic_;
  const AcousticModel::Speaker speaker_;
  int lookahead_tokens_ = 0;
};

class ManifestStream final : public SegmentStream {
 public:
  ManifestStream(const ManifestVoice& voice, const SegmentRequest& request)
      : phonemes_(request.phonemes),
        noise_(request.seed),
        decoder_(voice.t2s(), static_cast<std::int64_t>(request.phonemes.size()) + token_budget(request.phonemes.size())),
        acoustic_(voice.acoustic().begin(phonemes_, voice.speaker(),
                                         {.seed = request.seed, .speed = static_cast<double>(request.speed), .steps = 0})) {
    options_.sampling = voice.sampling(request.sampling);
    options_.max_tokens = token_budget(phonemes_.size());
  }

  int decode(int count) override {
    const c10::InferenceMode inference;
    if (!started_) {
      const auto start = std::chrono::steady_clock::now();
      decoder_.start(phonemes_, {}, {}, options_, noise_);
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

  std::vector<float> render() override {
    if (closed_) return {};
    const c10::InferenceMode inference;
    const auto tokens = decoder_.tokens();
    const auto fresh = tokens.subspan(rendered_);
    rendered_ = tokens.size();
    closed_ = finished_;
    return acoustic_.push(fresh, finished_);
  }

  double prefill_ms() const override { return prefill_ms_; }

 private:
  const std::vector<std::int32_t> phonemes_;
  const SeededNoise noise_;
  SemanticDecoder decoder_;
  SemanticDecoder::Options options_;
  AcousticStream acoustic_;
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

}  // namespace

std::shared_ptr<const Voice> load_voice(const std::filesystem::path& folder) {
  const c10::InferenceMode inference;
  auto manifest = load_manifest(folder);
  if (!manifest) throw ModelError(manifest.error().detail);
  return std::make_shared<ManifestVoice>(*manifest);
}

}  // namespace tts
