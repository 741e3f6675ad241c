#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "src/core/result.h"

namespace tts {

/// A voice as clients see it.
struct VoiceInfo {
  std::string id;
  std::string name;
  std::vector<std::string> langs;  ///< "en", "zh", ...
  int rate_hz = 24000;             ///< native sample rate of the voice's audio
};

/// Sampling of semantic tokens; unset fields take the voice's own defaults.
struct SamplingOptions {
  std::optional<float> temperature;         ///< > 0
  std::optional<int> top_k;                 ///< >= 1
  std::optional<float> top_p;               ///< (0, 1]
  std::optional<float> repetition_penalty;  ///< >= 1
};

struct UtteranceOptions {
  std::string voice = "starter";
  std::string lang = "auto";
  std::optional<std::uint64_t> seed;  ///< unset: random
  float speed = 1.0F;                 ///< 0.5 .. 2
  SamplingOptions sampling;
};

/// A speakable piece of the text of an utterance, in order.
struct TextSegment {
  std::string text;          ///< UTF-8, as the client sent it
  std::size_t in_start = 0;  ///< offset of text in all text of the context, in Unicode code points
  std::size_t in_end = 0;
  bool flush = false;  ///< true: report on_flushed(flush_id) after its last sample
  std::string flush_id;
};

/// When a stretch of the input text is heard.
struct Mark {
  std::string text;
  std::size_t in_start = 0;  ///< code points into all text of the context
  std::size_t in_end = 0;
  std::int64_t start_sample = 0;  ///< in the utterance, at the voice's rate
  std::int64_t end_sample = 0;
};

struct AudioChunk {
  std::vector<float> pcm;  ///< mono, [-1, 1], at VoiceInfo::rate_hz; may be empty when only `marks` matter
  bool seam = false;       ///< first audio of a new segment
  std::vector<Mark> marks;
};

/// What the guard over the semantic tokens met and did.
struct GuardFigures {
  std::int64_t faults = 0;   ///< loops, skipped words, early ends, ..
  std::int64_t retries = 0;  ///< parts drawn again, unheard, with another seed
  std::int64_t resumes = 0;  ///< times the rest of a text was begun anew
  std::int64_t cuts = 0;     ///< ends put where the model set none

  GuardFigures& operator+=(const GuardFigures& more) {
    faults += more.faults;
    retries += more.retries;
    resumes += more.resumes;
    cuts += more.cuts;
    return *this;
  }
};

/// Figures of one finished utterance (PROTOCOL `done.metrics`).
struct UtteranceMetrics {
  double queue_ms = 0;  ///< speak() of the first segment -> work on it starts
  double text_ms = 0;   ///< normalisation and phonemes of the first segment
  double prefill_ms = 0;
  double first_token_ms = 0;  ///< speak() -> first semantic token
  double first_audio_ms = 0;  ///< speak() -> first on_audio
  std::int64_t tokens = 0;
  std::int64_t samples = 0;  ///< audio made, at the voice's rate
  double busy_ms = 0;        ///< engine time spent on this utterance; its share where it was one of several
  double rtf = 0;            ///< busy_ms / audio ms
  GuardFigures guard;
  std::string voice;   ///< the one that spoke: that asked for, or a lighter one because the machine was nearly full
  int flow_steps = 0;  ///< of flow matching, the fewest of any segment; 0: the voice has none
  int reduced_segments = 0;  ///< spoken with fewer steps, because the machine was nearly full
};

/// Receives an utterance's audio. Called on the engine's threads, one at a time: must return at once and never block or
/// throw.
/// After on_done, on_error or on_cancelled nothing follows.
class UtteranceSink {
 public:
  virtual ~UtteranceSink() = default;
  virtual void on_audio(AudioChunk chunk) = 0;
  /// All text up to the flushed segment has been spoken; `at_sample` is the end of its audio.
  virtual void on_flushed(std::string flush_id, std::int64_t at_sample) = 0;
  virtual void on_done(const UtteranceMetrics& metrics) = 0;
  virtual void on_cancelled() = 0;
  virtual void on_error(const Error& error) = 0;
};

/// One synthesis. Methods are thread-safe and return at once. Destroying the handle cancels.
class Utterance {
 public:
  virtual ~Utterance() = default;
  /// Errc::overloaded when this utterance's segment queue is full.
  [[nodiscard]] virtual Result<void> speak(TextSegment segment) = 0;
  /// No more segments: on_done follows the last audio.
  virtual void end() = 0;
  /// Stops at the next decode step; on_cancelled follows, no audio after it.
  virtual void cancel() = 0;
  /// Back-pressure: the client side has taken `samples` in all (voice rate). Generation pauses while it is further
  /// ahead than SynthesizerLimits::max_ahead.
  virtual void consumed(std::int64_t samples) = 0;
};

struct SynthesizerLimits {
  int max_utterances = 64;                      ///< live at once; open() is refused with Errc::overloaded above
  int max_queued_segments = 256;                ///< per utterance
  std::chrono::milliseconds max_ahead{20'000};  ///< audio generated but not consumed, per utterance
};

struct SynthesizerStats {
  int live_utterances = 0;
  int waiting_utterances = 0;  ///< of these: with text, not yet admitted
  double load = 0;             ///< share of the machine that the running ones take; may be above 1
  std::int64_t refused_total = 0;
  std::int64_t decode_steps_total = 0;  ///< each draws a token for several utterances
  std::int64_t utterances_total = 0;
  std::int64_t tokens_total = 0;
  std::int64_t samples_total = 0;
  double busy_seconds_total = 0;
  GuardFigures guard;
  int quality_steps = 0;  ///< that quality has stepped down, because the machine is nearly full
  std::int64_t reduced_segments_total = 0;
  std::int64_t lighter_utterances_total = 0;  ///< spoken by a lighter voice than was asked for
  int voices_in_memory = 0;
  std::int64_t weight_bytes = 0;    ///< of the voices in memory, and of the network that reads Chinese
  std::int64_t reader_bytes = 0;    ///< of these the latter's
  std::int64_t voices_dropped = 0;  ///< to make room for others
  std::int64_t slots = 0;           ///< of the models in memory: segments whose tokens can be drawn at once,
  std::int64_t slots_taken = 0;     ///< and are
  std::int64_t slot_bytes = 0;      ///< that their keys and values take when all are full
  std::int64_t texts_unread = 0;    ///< spoken without that network, for want of it or of room
};

/// A sound file from outside.
struct Recording {
  std::string name;                 ///< for messages
  std::vector<std::uint8_t> bytes;  ///< WAV, FLAC, MP3, ..
};

/// A voice to be made of a model and recordings of a speaker.
struct VoiceRequest {
  std::string model;            ///< name of the model's folder
  std::string id;               ///< [a-z0-9_-]+; empty: made of the model's name and the content
  std::string name;             ///< for people; empty: the id
  std::string lang = "auto";    ///< of `text`
  std::string text;             ///< what `reference` says; empty: its words are not used
  Recording reference;          ///< 3 to 10 s
  std::vector<Recording> more;  ///< of the same speaker; what the voice sounds like is the mean over all
};

struct NewVoice {
  VoiceInfo info;
  bool existed = false;            ///< it had been made of the same before
  std::vector<std::string> notes;  ///< what may keep it from sounding as it could, a sentence each
};

/// Hears what is being done.
using VoiceProgress = std::function<void(std::string_view what)>;

/// The only door to the engine. Implementations: Engine (models) and tests' FakeSynthesizer. Thread-safe.
class Synthesizer {
 public:
  virtual ~Synthesizer() = default;
  [[nodiscard]] virtual std::vector<VoiceInfo> voices() const = 0;
  [[nodiscard]] virtual bool ready() const = 0;  ///< voices loaded and warmed up
  [[nodiscard]] virtual SynthesizerStats stats() const = 0;
  /// Errc::unknown_voice, Errc::unsupported_format (language the voice does not speak), Errc::overloaded.
  [[nodiscard]] virtual Result<std::unique_ptr<Utterance>> open(const UtteranceOptions& options,
                                                                std::shared_ptr<UtteranceSink> sink) = 0;

  /// Makes a voice, which can be spoken with when this returns. Takes seconds: not for a thread that others wait for.
  /// Errc::forbidden where no voices can be made; unknown_voice for the model, unsupported_format for what it cannot
  /// do, bad_message for the other fields, bad_file for recordings and for networks that are missing.
  [[nodiscard]] virtual Result<NewVoice> add_voice(const VoiceRequest&, const VoiceProgress&) {
    return Error{Errc::forbidden, "no voices can be made here"};
  }
  /// Takes a voice away that add_voice made; utterances that speak with it go on. Errc::unknown_voice, forbidden.
  [[nodiscard]] virtual Result<void> remove_voice(const std::string&) {
    return Error{Errc::forbidden, "no voices can be removed here"};
  }
};

}  // namespace tts
