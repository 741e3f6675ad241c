#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <vector>

#include "src/engine/synthesizer.h"
#include "src/engine/voice.h"
#include "src/text/frontend.h"

namespace tts {

/// How the tokens of a segment are cut into chunks for the acoustic models.
struct ChunkPolicy {
  int first_tokens = 2;  ///< tokens of audio in an utterance's first chunk, beyond the voice's lookahead
  double growth = 1.6;   ///< each further chunk of a segment may be this much longer
  int max_tokens = 40;   ///< 1.6 s
};

struct EngineConfig {
  std::filesystem::path voices_dir;     ///< each subfolder with a manifest.json is a voice
  std::filesystem::path text_data_dir;  ///< dictionary and grapheme-to-phoneme network
  SynthesizerLimits limits;
  ChunkPolicy chunks;
  int threads = 1;  ///< intra-op threads of the inference thread
};

/// Phonemes of a text, for a voice's word separator. Must be thread-safe.
using Phonemize = std::function<Phonemized(std::string_view text, const FrontendOptions& options)>;

/// The engine over given voices: one text thread, one inference thread that owns all models. Utterances are advanced in
/// turns, the one whose listener runs dry first before the others; an utterance that is `max_ahead` before its listener
/// waits. An exception while working on an utterance ends that utterance with Errc::internal and nothing else.
[[nodiscard]] std::unique_ptr<Synthesizer> make_engine(const EngineConfig& config,
                                                       std::vector<std::shared_ptr<const Voice>> voices,
                                                       Phonemize phonemize);

/// Loads every voice and the text front end, warms up. Throws std::exception with one clear line when something is
/// missing or broken (no voice at all included).
[[nodiscard]] std::unique_ptr<Synthesizer> make_engine(const EngineConfig& config);

}  // namespace tts
