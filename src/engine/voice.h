#pragma once

#include <cstdint>
#include <exception>
#include <filesystem>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "models/device_choice.h"
#include "models/flow_schedule.h"
#include "models/precision_choice.h"
#include "models/t2s_options.h"
#include "models/token_renderer.h"
#include "src/core/available_memory.h"
#include "src/engine/synthesizer.h"

namespace tts {

/// What one segment of an utterance asks of a voice.
struct SegmentRequest {
  std::vector<std::int32_t> phonemes;  ///< ids of the v2 inventory; not empty
  std::vector<float> bert;             ///< BERT features [phonemes, the voice's bert_dim], or empty for zeros
  SamplingOptions sampling;            ///< unset fields: the voice's defaults
  std::uint64_t seed = 0;              ///< the same request with the same seed gives the same samples
  float speed = 1.0F;                  ///< 0.5 .. 2
  int flow_steps = 0;                  ///< of flow matching; 0: the voice's own
};

/// One segment on its way from phonemes to audio. It has two sides, its tokens and its audio, each used by one thread
/// at a time; these may be two threads at once. The caller carries the tokens from one side to the other.
class SegmentStream {
 public:
  virtual ~SegmentStream() = default;

  // The tokens.

  /// Reads the text and the voice's prompt: before the first step, and again, with the tokens that stayed, when
  /// needs_prefill() says so.
  virtual void prefill() = 0;
  /// True after a step that took tokens back. Without a prefill() the next step does it, while all others wait.
  [[nodiscard]] virtual bool needs_prefill() const { return false; }
  /// What is equal for streams whose tokens can be decoded together.
  [[nodiscard]] virtual const void* batch() const = 0;
  /// Draws the next token of each of `streams`: this one and others of its batch(), distinct, prefilled, not finished.
  /// What a stream draws does not depend on the others. One that cannot go on is finished with a failure(), and the
  /// others go on. Throws when none of them can.
  virtual void step(std::span<SegmentStream* const> streams) = 0;
  /// True when there will be no more tokens.
  [[nodiscard]] virtual bool finished() const = 0;
  /// What went wrong with this stream alone; empty: nothing.
  [[nodiscard]] virtual const std::string& failure() const = 0;
  /// What the guard over the tokens met so far.
  [[nodiscard]] virtual GuardFigures guard() const { return {}; }
  /// The tokens that are certain so far, which only grow; valid until the next step. One that was drawn may become
  /// certain some steps later.
  [[nodiscard]] virtual std::span<const std::int32_t> tokens() const = 0;

  // The audio.

  /// Does what needs no token yet, so that the first render() is quick.
  virtual void prepare() {}
  /// How many tokens to give to render() when it was given `given` and about `count` more are meant: a number near that
  /// with which it has something new to say.
  [[nodiscard]] virtual int useful(std::int64_t /*given*/, int count) const { return count; }
  /// Takes the next tokens; returns all samples that those so far determine and that were not returned before, with
  /// `last` all the rest.
  [[nodiscard]] virtual std::vector<float> render(std::span<const std::int32_t> tokens, bool last) = 0;

  using Job = RenderJob<SegmentStream>;
  /// Where a render() of so many tokens belongs; not while a thread is at this stream's audio.
  [[nodiscard]] virtual RenderGroup render_group(std::int64_t /*n_tokens*/, bool /*last*/) const { return {}; }
  /// Does the render() of every job, at once: of this stream and others of its render_group(), all distinct. What
  /// a stream sounds like does not depend on the others; one that cannot go on has a failure, and the others go on.
  virtual void render_together(std::span<Job> jobs) {
    for_each_job(jobs, [](Job& job) { job.samples = job.stream->render(job.tokens, job.last); });
  }
};

/// A prepared voice: weights and reference, shared by all utterances that speak with it. Const and thread-safe.
class Voice {
 public:
  virtual ~Voice() = default;
  [[nodiscard]] virtual const VoiceInfo& info() const = 0;
  /// Phoneme symbol put between words; empty: none.
  [[nodiscard]] virtual const std::string& word_separator() const = 0;
  /// Null while as many segments are being decoded as there are slots for.
  [[nodiscard]] virtual std::unique_ptr<SegmentStream> begin(const SegmentRequest& request) const = 0;
  /// Tokens that must be decoded before render() returns anything: the lookahead of the decoders, rounded up.
  [[nodiscard]] virtual int lookahead_tokens() const = 0;
  [[nodiscard]] virtual double tokens_per_second() const = 0;
  /// Steps of its flow matching; 0: it has none.
  [[nodiscard]] virtual int flow_steps() const { return 0; }
  /// Chunks of different streams that are worth rendering in one call, at most.
  [[nodiscard]] virtual int render_batch() const { return 1; }
  /// Calls for streams of one group's networks that are worth making at once: more would wait for each other.
  [[nodiscard]] virtual int render_calls() const { return std::numeric_limits<int>::max(); }
};

/// How the networks of a model are held in memory, and how its flow is solved.
struct NetworkOptions {
  int slots = 32;  ///< segments of one model whose tokens are decoded together, at most;
  /// fewer where this memory has no room for the keys and values of so many, measured when a model is loaded: the
  /// device's where the T2S is on one. Nothing: not known, and `slots` are taken.
  std::function<std::optional<std::uint64_t>()> free_memory = [] { return available_memory(); };
  bool guard = true;  ///< tokens are watched, and drawn again where they are faulty (models/guarded_decoder.h)
  DeviceChoice device;
  T2SOptions t2s;
  FlowChoice flow;                                   ///< instead of what the manifest says
  PrecisionChoice acoustic = PrecisionChoice::fp32;  ///< v3 and v4 are float32 always
  PrecisionChoice bert = PrecisionChoice::fp32;      ///< of the network that reads Chinese text
  /// v1, v2, Pro, on the CPU: what acoustic.flow_ahead_frames is where the manifest does not say (models/README.md).
  /// The first sound comes earlier for it.
  int flow_ahead = 12;
  int prompt_frames = 0;  ///< v3, v4: frames of the reference that a window of the flow sees; 0: what the manifest says
};

struct VoiceManifest;

/// Which networks a manifest means: their folder and the state of their files. Two voices of the same key have the
/// same.
[[nodiscard]] std::string network_key(const VoiceManifest& manifest);

/// The slots of all models in memory.
struct SlotFigures {
  std::int64_t slots = 0;
  std::int64_t taken = 0;   ///< by segments being decoded
  std::uint64_t bytes = 0;  ///< of keys and values when all are full
};

/// Networks by key: voices that name the same model share one copy of its weights, for as long as one of them
/// lives. Safe to use from several threads; loading is done under its lock, one model at a time.
class ModelCache {
 public:
  explicit ModelCache(const NetworkOptions& options = {});
  ~ModelCache();
  ModelCache(const ModelCache&) = delete;
  ModelCache& operator=(const ModelCache&) = delete;

  /// Never waits for a model that is being loaded.
  [[nodiscard]] SlotFigures slots() const;

  struct Impl;
  [[nodiscard]] Impl& impl() const { return *impl_; }

 private:
  std::unique_ptr<Impl> impl_;
};

/// Reads a voice folder (manifest.json and its safetensors files, models/README.md). The networks are taken
/// from the cache where they are in memory already. Throws std::exception naming the file and the fault.
[[nodiscard]] std::shared_ptr<const Voice> load_voice(const std::filesystem::path& folder, ModelCache& cache);

/// The same with networks of its own.
[[nodiscard]] std::shared_ptr<const Voice> load_voice(const std::filesystem::path& folder,
                                                      const NetworkOptions& options = {});

}  // namespace tts
