#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "src/engine/synthesizer.h"

namespace tts {

/// What one segment of an utterance asks of a voice.
struct SegmentRequest {
  std::vector<std::int32_t> phonemes;  ///< ids of the v2 inventory; not empty
  std::vector<float> bert;             ///< BERT features [phonemes, the voice's bert_dim], or empty for zeros
  SamplingOptions sampling;            ///< unset fields: the voice's defaults
  std::uint64_t seed = 0;              ///< the same request with the same seed gives the same samples
  float speed = 1.0F;                  ///< 0.5 .. 2
};

/// One segment on its way from phonemes to audio. Used by one thread at a time.
class SegmentStream {
 public:
  virtual ~SegmentStream() = default;
  /// Decodes up to `count` semantic tokens (the first call runs the prefill too). Returns how many were decoded; fewer
  /// than asked means finished().
  virtual int decode(int count) = 0;
  [[nodiscard]] virtual bool finished() const = 0;
  /// How many tokens to decode() when about `count` are meant: a number near it after which render() has something new.
  [[nodiscard]] virtual int useful(int count) const { return count; }
  /// All samples that the tokens so far determine and that were not returned before; after finished() the rest.
  [[nodiscard]] virtual std::vector<float> render() = 0;
  [[nodiscard]] virtual double prefill_ms() const = 0;
};

/// A prepared voice: weights and reference, shared by all utterances that speak with it. Const and thread-safe.
class Voice {
 public:
  virtual ~Voice() = default;
  [[nodiscard]] virtual const VoiceInfo& info() const = 0;
  /// Phoneme symbol put between words; empty: none.
  [[nodiscard]] virtual const std::string& word_separator() const = 0;
  [[nodiscard]] virtual std::unique_ptr<SegmentStream> begin(const SegmentRequest& request) const = 0;
  /// Tokens that must be decoded before render() returns anything: the lookahead of the decoders, rounded up.
  [[nodiscard]] virtual int lookahead_tokens() const = 0;
  [[nodiscard]] virtual double tokens_per_second() const = 0;
};

/// How the networks of a model are held in memory.
struct NetworkOptions {
  int slots = 16;  ///< segments of one model whose tokens are decoded together, at most
};

struct VoiceManifest;

/// Which networks a manifest means: their folder and the state of their files. Two voices of the same key have the same.
[[nodiscard]] std::string network_key(const VoiceManifest& manifest);

/// Networks by key: voices that name the same model share one copy of its weights, for as long as one of them
/// lives. Safe to use from several threads; loading is done under its lock, one model at a time.
class ModelCache {
 public:
  explicit ModelCache(const NetworkOptions& options = {});
  ~ModelCache();
  ModelCache(const ModelCache&) = delete;
  ModelCache& operator=(const ModelCache&) = delete;

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
