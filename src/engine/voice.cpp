#include "src/engine/voice.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>

#include <c10/core/Device.h>
#include <c10/core/InferenceMode.h>

#include "models/acoustic.h"
#include "models/acoustic_guard.h"
#include "models/cfm_model.h"
#include "models/cfm_windows.h"
#include "models/guarded_decoder.h"
#include "models/make_token_model.h"
#include "models/manifest.h"
#include "models/token_slots.h"
#include "models/vits_model.h"
#include "models/vits_windows.h"
#include "models/voice_reference.h"
#include "src/core/log.h"
#include "src/engine/file_stamp.h"
#include "src/text/phonemes.h"

namespace tts {
namespace {

/// Longest plausible speech: six tokens (0.24 s) a phoneme, word separators included, and a second for pauses. Speech
/// that reaches it has lost its way in the text; ending it there keeps a slip from becoming a minute of babble.
std::int64_t token_budget(std::size_t n_phonemes) {
  return 25 + 6 * static_cast<std::int64_t>(n_phonemes);
}

/// Positions of a slot: what a prompt and all but the longest sentences need. Longer ones get more, for themselves.
constexpr std::int64_t kSlotPositions = 2048;

/// The manifest with the flow's schedule as the configuration wants it.
VoiceManifest with_flow(VoiceManifest m, const NetworkOptions& options) {
  FlowSchedule& flow = m.published ? m.published->flow : m.acoustic.config.flow;
  flow = chosen_schedule(flow, options.flow);
  if (m.published && options.prompt_frames > 0) m.published->prompt_frames = options.prompt_frames;
  if (m.published && !m.published->flow_ahead) m.published->flow_ahead = options.flow_ahead;
  return m;
}

/// "The quick brown fox jumps over the lazy dog", for a model that is to show what it does without a recording.
std::vector<std::int32_t> known_words(std::string_view separator) {
  std::vector<std::int32_t> phonemes;
  for (const std::string_view symbol :
       {"DH",  "AH0", "",  "K", "W",   "IH1", "K",   "",  "B", "R",   "AW1", "N", "",    "F",
        "AA1", "K",   "S", "",  "JH",  "AH1", "M",   "P", "S", "",    "OW1", "V", "ER0", "",
        "DH",  "AH0", "",  "L", "EY1", "Z",   "IY0", "",  "D", "AO1", "G",   "."}) {
    if (const auto id = phoneme_id(symbol.empty() ? separator : symbol)) phonemes.push_back(*id);
  }
  return phonemes;
}

constexpr std::size_t kKnownWordsTokens = 100;

/// The networks of a model folder.
struct Networks {
  /// `promised`: bytes that the slots of other models may still come to take.
  Networks(const VoiceManifest& m, const NetworkOptions& options, std::uint64_t promised)
      : t2s(make_token_model(m.t2s.config, WeightScope(load_weights(m.t2s.file), "model"), options.t2s,
                             options.device)),
        acoustic(load_acoustic(with_flow(m, options), options, *t2s)),
        flow_steps(flow_steps_of(with_flow(m, options))),
        row_bytes(t2s->row_bytes(kSlotPositions)),
        slots(*t2s, count_slots(m.id, options, *t2s, row_bytes, promised), kSlotPositions),
        guard(options.guard) {}

  static int flow_steps_of(const VoiceManifest& m) {
    if (m.published && !uses_flow_matching(m.published->form)) return 0;
    return static_cast<int>(tts::flow_steps(m.published ? m.published->flow : m.acoustic.config.flow).size());
  }
  static std::int64_t count_slots(const std::string& id, const NetworkOptions& options, const TokenModel& t2s,
                                  std::uint64_t row_bytes, std::uint64_t promised) {
    auto free = t2s.device_memory();
    if (!free && options.free_memory) free = options.free_memory();
    const std::int64_t count =
        free ? slots_within(*free - std::min(promised, *free), row_bytes, options.slots) : options.slots;
    const auto megabytes = [](std::uint64_t bytes) { return std::to_string(bytes / 1'000'000); };
    const Logger log = get_logger("engine");
    log->log(count < options.slots ? spdlog::level::warn : spdlog::level::info,
             "slots model={} count={} wanted={} row_mb={} promised_mb={} free_mb={}", log_value(id), count,
             options.slots, megabytes(row_bytes), megabytes(promised), free ? megabytes(*free) : "unknown");
    return count;
  }

  /// Never moved: streams and speakers point into it.
  using Acoustic = std::variant<std::unique_ptr<const AcousticModel>, std::unique_ptr<const VitsModel>,
                                std::unique_ptr<const CfmModel>, std::unique_ptr<const VitsWindows>,
                                std::unique_ptr<const CfmWindows>>;
  static Acoustic load_acoustic(const VoiceManifest& m, const NetworkOptions& options, const TokenModel& t2s) {
    const PrecisionChoice wish = options.acoustic;
    if (!m.published) {
      return make_guarded<AcousticModel>(
          wish, m.id,
          [&](Precision precision) { return std::make_unique<const AcousticModel>(load_acoustic_model(m, precision)); },
          [&, words = known_words(m.word_separator),
           said = std::vector<std::int32_t>()](const AcousticModel& model) mutable {
            if (said.empty()) said = say(t2s, words, m.t2s.sampling, kKnownWordsTokens);
            return guard_wave(model, {words, said, load_speaker(m, model)});
          });
    }
    const WeightScope weights(load_weights(m.acoustic.file));
    const bool flow = uses_flow_matching(m.published->form);
    const WeightScope vocoder = flow ? WeightScope(load_weights(m.vocoder.file)) : weights;
    if (const auto device = acoustic_device(options)) {
      const auto there = [&](at::ScalarType type) {
        WindowOptions windows;
        windows.placement = {*device, type};
        return windows;
      };
      if (!flow) {
        return make_guarded_windows<VitsWindows>(wish, m.id, [&](at::ScalarType type) {
          return std::make_unique<const VitsWindows>(weights, *m.published, there(type));
        });
      }
      return make_guarded_windows<CfmWindows>(wish, m.id, [&](at::ScalarType type) {
        return std::make_unique<const CfmWindows>(weights, vocoder, *m.published, there(type));
      });
    }
    if (!flow) {
      return make_guarded<VitsModel>(wish, m.id, [&](Precision precision) {
        return std::make_unique<const VitsModel>(weights.with(precision), *m.published);
      });
    }
    return make_guarded<CfmModel>(wish, m.id, [&](Precision precision) {
      return std::make_unique<const CfmModel>(weights.with(precision), vocoder.with(precision), *m.published);
    });
  }

  /// The GPU that is asked for, if libtorch can compute there.
  static std::optional<at::Device> acoustic_device(const NetworkOptions& options) {
    const auto gpu = cuda_device_of(options.device);
    if (!gpu) return std::nullopt;
    const at::Device device(at::kCUDA, static_cast<at::DeviceIndex>(*gpu));
    if (has_device(device)) return device;
    get_logger("engine")->info("acoustic networks stay on the CPU: this libtorch has no CUDA");
    return std::nullopt;
  }

  const std::unique_ptr<const TokenModel> t2s;
  const Acoustic acoustic;
  const int flow_steps;           ///< 0: it has no flow matching
  const std::uint64_t row_bytes;  ///< of a slot
  mutable TokenSlots slots;
  const bool guard;

  using Head = std::optional<TokenState::Probe>;
  /// The head whose attention follows the text, if there is one and the guard wants it: of the model, so the first
  /// voice finds it for all.
  template <class Find>
  [[nodiscard]] Head find_head(const Find& find) const {
    if (!guard) return std::nullopt;
    std::call_once(head_once, [&] { head = find(); });
    return head;
  }

 private:
  mutable std::once_flag head_once;
  mutable Head head;  ///< behind head_once
};

using Speaker = std::variant<AcousticModel::Speaker, VitsModel::Speaker, CfmModel::Speaker, VitsWindows::Speaker,
                             CfmWindows::Speaker>;

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
      PreparedReference reference = load_reference(manifest);
      prompt_ = {std::move(reference.prompt_tokens), std::move(reference.prompt_phonemes), {}};
      // There need not be a recording to look at: the model speaks itself.
      head_ = networks_->find_head([&] {
        const std::vector<std::int32_t> words = known_words(word_separator_);
        return find_alignment_head(t2s(), words, {}, say(t2s(), words, sampling_, kKnownWordsTokens));
      });
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
  int flow_steps() const override { return networks_->flow_steps; }
  int render_batch() const override {
    return std::visit(
        [](const auto& model) {
          if constexpr (requires { model->max_batch(); }) return static_cast<int>(model->max_batch());
          return 1;
        },
        networks_->acoustic);
  }
  int render_calls() const override {
    return std::visit(
        [&](const auto& model) {
          if constexpr (requires { model->lanes(); }) return static_cast<int>(model->lanes());
          return Voice::render_calls();
        },
        networks_->acoustic);
  }
  std::unique_ptr<SegmentStream> begin(const SegmentRequest& request) const override;

  [[nodiscard]] const TokenModel& t2s() const { return *networks_->t2s; }
  [[nodiscard]] TokenSlots& slots() const { return networks_->slots; }
  [[nodiscard]] bool guards() const { return networks_->guard; }
  /// The attention head that the guard watches, if there is one.
  [[nodiscard]] const Networks::Head& head() const { return head_; }
  /// Most tokens a text of this many phonemes may give.
  [[nodiscard]] std::int64_t token_limit(std::size_t n_phonemes) const {
    return std::min(token_budget(n_phonemes), t2s().config().max_tokens);
  }
  [[nodiscard]] const Prompt& prompt() const { return prompt_; }
  /// Phoneme ids as this voice's networks know them.
  [[nodiscard]] std::vector<std::int32_t> known(std::vector<std::int32_t> phonemes) const {
    return within_inventory(std::move(phonemes), phoneme_limit_);
  }
  [[nodiscard]] std::unique_ptr<TokenRenderer> render(std::span<const std::int32_t> phonemes,
                                                      const AcousticOptions& options) const {
    return std::visit(
        [&](const auto& model) -> std::unique_ptr<TokenRenderer> {
          auto stream = model->begin(phonemes, speaker_of(*model), options);
          if constexpr (std::is_same_v<decltype(stream), AcousticStream>) {
            return std::make_unique<AcousticStream>(std::move(stream));
          } else {
            return stream;
          }
        },
        networks_->acoustic);
  }
  [[nodiscard]] int useful(std::int64_t known, int count) const {
    return std::visit(
        [&](const auto& model) {
          if constexpr (requires { model->policy(); }) return static_cast<int>(model->policy().useful(known, count));
          return count;
        },
        networks_->acoustic);
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
  /// This voice's speaker, which is one of its model's.
  template <class Model>
  [[nodiscard]] const typename Model::Speaker& speaker_of(const Model& /*model*/) const {
    return std::get<typename Model::Speaker>(speaker_);
  }

  void prepare(const VoiceManifest& manifest) {
    pause_ms_ = manifest.pause_ms;
    phoneme_limit_ =
        static_cast<std::int32_t>(std::min(manifest.published->phonemes, manifest.t2s.config.phoneme_vocab));
    PreparedReference reference = load_reference(manifest);
    std::visit(
        [&](const auto& model) {
          if constexpr (requires { model->make_speaker(reference.references); }) {
            speaker_ = model->make_speaker(reference.references);
          } else if constexpr (!std::is_same_v<decltype(*model), const AcousticModel&>) {
            speaker_ = model->make_speaker(reference.references.front(), reference.mel, reference.prompt_tokens,
                                           reference.prompt_phonemes);
          }
        },
        networks_->acoustic);
    prompt_ = {std::move(reference.prompt_tokens), std::move(reference.prompt_phonemes),
               std::move(reference.prompt_bert)};
    if (prompt_.tokens.empty()) return;
    head_ = networks_->find_head(
        [&] { return find_alignment_head(t2s(), prompt_.phonemes, prompt_.bert, prompt_.tokens); });
  }

  const VoiceInfo info_;
  const std::string word_separator_;
  const SamplingParams sampling_;
  const std::shared_ptr<const Networks> networks_;
  std::int32_t phoneme_limit_ = kPhonemesV2;
  int pause_ms_ = 0;
  Speaker speaker_;
  Prompt prompt_;
  Networks::Head head_;
  int lookahead_tokens_ = 0;
};

class ManifestStream final : public SegmentStream {
 public:
  ManifestStream(const ManifestVoice& voice, const SegmentRequest& request, std::vector<std::int32_t> text,
                 TokenSlots::Slot slot)
      : voice_(voice),
        text_(std::move(text)),
        slot_(std::move(slot)),
        decoder_(std::in_place, voice.t2s().config(), decoder_text(request.bert), decoder_options(request)),
        batch_(&slot_->state()),
        acoustic_options_{
            .seed = request.seed, .speed = static_cast<double>(request.speed), .steps = request.flow_steps} {}

  void prefill() override {
    const c10::InferenceMode inference;
    const auto turn = voice_.slots().exclusive();
    if (voice_.head()) slot_->state().set_attention_probes({*voice_.head()});
    GuardedDecoder* const one = &*decoder_;
    const std::int64_t row = slot_->row();
    GuardedDecoder::feed(voice_.t2s(), slot_->state(), {&one, 1}, {&row, 1});
  }

  bool needs_prefill() const override { return decoder_ && decoder_->needs_prefill(); }

  const void* batch() const override { return batch_; }

  void step(std::span<SegmentStream* const> streams) override {
    const c10::InferenceMode inference;
    const auto turn = voice_.slots().exclusive();
    std::vector<GuardedDecoder*> decoders;
    std::vector<std::int64_t> rows;
    for (SegmentStream* stream : streams) {
      auto* const one = static_cast<ManifestStream*>(stream);
      decoders.push_back(&*one->decoder_);
      rows.push_back(one->slot_->row());
    }
    GuardedDecoder::feed(voice_.t2s(), slot_->state(), decoders, rows);
    for (SegmentStream* stream : streams) static_cast<ManifestStream*>(stream)->draw();
  }

  bool finished() const override { return finished_; }
  const std::string& failure() const override { return failure_; }
  GuardFigures guard() const override { return guard_; }
  std::span<const std::int32_t> tokens() const override { return decoder_ ? decoder_->tokens() : tokens_; }

  void prepare() override {
    const c10::InferenceMode inference;
    if (!acoustic_) acoustic_ = voice_.render(text_, acoustic_options_);
  }

  int useful(std::int64_t given, int count) const override { return voice_.useful(given, count); }

  std::vector<float> render(std::span<const std::int32_t> tokens, bool last) override {
    const c10::InferenceMode inference;
    prepare();
    std::vector<float> pcm = acoustic_->push(tokens, last);
    if (last) add_pause(pcm);
    return pcm;
  }

  RenderGroup render_group(std::int64_t n_tokens, bool last) const override {
    return acoustic_ ? acoustic_->group(n_tokens, last) : RenderGroup{};
  }

  void render_together(std::span<Job> jobs) override {
    const c10::InferenceMode inference;
    prepare();
    std::vector<TokenRenderer::Job> inner;
    for (const Job& job : jobs) {
      inner.push_back({.stream = static_cast<ManifestStream*>(job.stream)->acoustic_.get(),
                       .tokens = job.tokens,
                       .last = job.last});
    }
    acoustic_->push_together(inner);
    for (std::size_t i = 0; i < jobs.size(); ++i) {
      jobs[i].samples = std::move(inner[i].samples);
      jobs[i].failure = std::move(inner[i].failure);
      if (jobs[i].last && !jobs[i].failure) static_cast<ManifestStream*>(jobs[i].stream)->add_pause(jobs[i].samples);
    }
  }

 private:
  void add_pause(std::vector<float>& pcm) const { pcm.resize(pcm.size() + voice_.pause_samples(text_.back()), 0.0F); }

  void draw() {
    try {
      decoder_->draw(slot_->state(), slot_->row());
      if (!decoder_->finished()) return;
    } catch (const std::exception& e) {
      failure_ = e.what();
    }
    const GuardReport& report = decoder_->report();
    guard_ = {report.faults, report.retries, report.resumes, report.cuts};
    // The slot is for others as soon as there is nothing more to draw.
    finished_ = true;
    tokens_.assign(decoder_->tokens().begin(), decoder_->tokens().end());
    decoder_.reset();
    slot_.reset();
  }

  [[nodiscard]] GuardedDecoder::Text decoder_text(const std::vector<float>& bert) const {
    return {voice_.prompt().phonemes, text_, join_bert(bert), voice_.prompt().tokens};
  }
  [[nodiscard]] GuardedDecoder::Options decoder_options(const SegmentRequest& request) const {
    GuardedDecoder::Options options;
    options.sampling = voice_.sampling(request.sampling);
    options.max_tokens = voice_.token_limit(text_.size());
    options.seed = request.seed;
    options.guard = voice_.guards();
    options.watched = voice_.head().has_value();
    options.first_block = static_cast<std::size_t>(voice_.lookahead_tokens());
    options.can_rewind = voice_.t2s().window() == 0;
    return options;
  }

  /// BERT features of prompt and text one after the other; where one side has none, zeros.
  [[nodiscard]] std::vector<float> join_bert(const std::vector<float>& of_text) const {
    const auto dim = static_cast<std::size_t>(voice_.t2s().config().bert_dim);
    const Prompt& prompt = voice_.prompt();
    if (!of_text.empty() && of_text.size() != text_.size() * dim) {
      throw ModelError("BERT features: got " + std::to_string(of_text.size()) + " values, wanted " +
                       std::to_string(text_.size()) + " x " + std::to_string(dim));
    }
    std::vector<float> bert;
    if (of_text.empty() && prompt.bert.empty()) return bert;
    bert.assign((prompt.phonemes.size() + text_.size()) * dim, 0.0F);
    std::copy(prompt.bert.begin(), prompt.bert.end(), bert.begin());
    std::copy(of_text.begin(), of_text.end(), bert.begin() + static_cast<std::ptrdiff_t>(prompt.phonemes.size() * dim));
    return bert;
  }

  const ManifestVoice& voice_;
  const std::vector<std::int32_t> text_;

  // The side of the tokens.
  std::optional<TokenSlots::Slot> slot_;  // held until the last token is drawn, as is the decoder in it
  std::optional<GuardedDecoder> decoder_;
  const void* const batch_;
  std::vector<std::int32_t> tokens_;
  GuardFigures guard_;
  bool finished_ = false;
  std::string failure_;

  // The side of the audio.
  const AcousticOptions acoustic_options_;
  std::unique_ptr<TokenRenderer> acoustic_;
};

std::unique_ptr<SegmentStream> ManifestVoice::begin(const SegmentRequest& request) const {
  std::vector<std::int32_t> text = known(request.phonemes);
  auto slot =
      slots().take(t2s().capacity_for(static_cast<std::int64_t>(prompt_.phonemes.size() + text.size()),
                                      static_cast<std::int64_t>(prompt_.tokens.size()), token_limit(text.size())));
  if (!slot) return nullptr;
  return std::make_unique<ManifestStream>(*this, request, std::move(text), std::move(*slot));
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
  std::mutex loading;
  std::mutex mutex;
  std::map<std::string, std::weak_ptr<const Networks>> models;  // by network_key

  std::shared_ptr<const Networks> get(const VoiceManifest& manifest) {
    const std::string home = network_key(manifest);
    const std::lock_guard one_at_a_time(loading);
    if (auto there = find(home)) return there;
    auto loaded = std::make_shared<const Networks>(manifest, options, slots().bytes);
    const std::lock_guard lock(mutex);
    std::erase_if(models, [](const auto& item) { return item.second.expired(); });
    models[home] = loaded;
    return loaded;
  }
  std::shared_ptr<const Networks> find(const std::string& home) {
    const std::lock_guard lock(mutex);
    const auto found = models.find(home);
    return found == models.end() ? nullptr : found->second.lock();
  }
  SlotFigures slots() {
    std::vector<std::shared_ptr<const Networks>>
        alive;  // the last one to let go frees the networks: not under the lock
    {
      const std::lock_guard lock(mutex);
      for (const auto& [home, model] : models) {
        if (auto networks = model.lock()) alive.push_back(std::move(networks));
      }
    }
    SlotFigures sum;
    for (const auto& networks : alive) {
      sum.slots += networks->slots.count();
      sum.taken += networks->slots.count() - networks->slots.free();
      sum.bytes += static_cast<std::uint64_t>(networks->slots.count()) * networks->row_bytes;
    }
    return sum;
  }
};

ModelCache::ModelCache(const NetworkOptions& options) : impl_(std::make_unique<Impl>(options)) {}
ModelCache::~ModelCache() = default;

SlotFigures ModelCache::slots() const {
  return impl_->slots();
}

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
  return std::filesystem::weakly_canonical(manifest.network_folder()).string() + ":" + std::to_string(stamp_of(files));
}

}  // namespace tts
