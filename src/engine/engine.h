#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "models/fit_options.h"
#include "src/engine/quality.h"
#include "src/engine/synthesizer.h"
#include "src/engine/voice.h"
#include "src/engine/voice_library.h"
#include "src/text/frontend.h"

namespace tts {

/// How the tokens of a segment are cut into chunks for the acoustic models.
struct ChunkPolicy {
  int first_tokens = 2;  ///< tokens of audio in an utterance's first chunk, beyond the voice's lookahead
  double growth = 1.6;   ///< each further chunk of a segment may be this much longer
  int max_tokens = 40;   ///< 1.6 s
};

/// Who may speak when the machine is nearly full. Loads are shares of what its processors can do.
struct AdmissionPolicy {
  double max_load = 0.85;                    ///< live streams take no more than this together; the next one waits,
  std::chrono::milliseconds max_wait{2000};  ///< so long at most, then it is refused with Errc::overloaded
  /// One whose text was all spoken keeps its share so long after its last sound, for the text that may still come;
  /// later it is let in anew.
  std::chrono::milliseconds keep_place{2000};
  /// While the load stays above this for so long, quality takes a step down, and so on; under `reduce_below` it comes
  /// back up in the same way (QualityRule).
  double reduce_above = 0.70, reduce_below = 0.55;
  std::chrono::milliseconds reduce_hold{500};
  int reduced_flow_steps = 0;    ///< the first step down: so many of flow matching in new segments; 0: there is no such
  LighterVoices lighter_voices;  ///< further ones: new utterances are spoken by these, where they are in memory
};

struct EngineConfig {
  std::filesystem::path voices_dir;     ///< each subfolder with a manifest.json is a voice or a model
  std::filesystem::path text_data_dir;  ///< dictionary and grapheme-to-phoneme network
  std::filesystem::path models_dir;     ///< networks that prepare recordings, see PrepareConfig
  int fit_rounds = FitOptions{}.rounds;  ///< of making a voice, likewise
  /// What of the weights may be in memory, 0 for all: voices are loaded when they are asked for, and the ones least
  /// lately used make room.
  std::uint64_t memory_bytes = 0;
  /// What is in memory before the first utterance: "all" there is room for, "none", or the voice of this id.
  std::string preload = "all";
  SynthesizerLimits limits;
  ChunkPolicy chunks;
  NetworkOptions networks;
  AdmissionPolicy admission;
  int audio_threads = 0;  ///< turn tokens into audio, each for another utterance; 0: as many as there are processors
  int render_batch = 0;   ///< chunks of different streams in one call of them, at most; 0: what suits the voice
  int threads = 1;        ///< intra-op threads of each
};

/// Phonemes of a text, for a voice's word separator. Must be thread-safe.
using Phonemize = std::function<Phonemized(std::string_view text, const FrontendOptions& options)>;

/// Text features [phonemes, dim] for the T2S that takes them, or empty for zeros. Must be thread-safe.
using TextRows = std::function<std::vector<float>(const Phonemized& spoken, std::int64_t dim)>;

/// The engine over given voices: one text thread, one that draws the tokens of all utterances together, several that
/// turn tokens into audio, one that loads voices. The listener who runs dry first comes first (schedule.h); an
/// utterance that is `max_ahead` before its listener waits, and so does one whose voice is being loaded. An exception
/// while working on an utterance ends that utterance with Errc::internal and nothing else. Throws std::runtime_error
/// when config.admission.lighter_voices cannot be (check_lighter_voices).
[[nodiscard]] std::unique_ptr<Synthesizer> make_engine(const EngineConfig& config,
                                                       std::vector<std::shared_ptr<const Voice>> voices,
                                                       Phonemize phonemize);

/// The same over the voices of a library, loaded when they are asked for.
[[nodiscard]] std::unique_ptr<Synthesizer> make_engine(const EngineConfig& config,
                                                       std::shared_ptr<VoiceLibrary> library, Phonemize phonemize,
                                                       TextRows text_rows = {});

/// The engine over a folder of voices. Loads the text front end and what `preload` says, warms up. Throws
/// std::exception with one clear line when something is missing or broken (a folder with neither a voice nor a model
/// included).
[[nodiscard]] std::unique_ptr<Synthesizer> make_engine(const EngineConfig& config);

}  // namespace tts
