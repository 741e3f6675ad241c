#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "models/acoustic.h"
#include "models/published.h"
#include "models/sampling.h"
#include "models/source_filter_vocoder.h"
#include "models/starter_tokenizer.h"
#include "models/t2s.h"
#include "src/core/result.h"

namespace tts {

/// What a voice folder's manifest.json says. Format 2, for the published forms, is described in models/README.md; this
/// is format 1, the starter form. Every key of the table is required unless it says optional; any other key is an
/// error. Files are names inside the folder. A voice made of a recording has the first five lines, "text", "model" (the
/// name of the folder beside it that has the rest) and "reference".
///
///     format                      1
///     id, name, license           strings; id is [a-z0-9_-]+
///     languages                   ["en", ..], at least one
///     sample_rate_hz              24000
///     text.word_separator         phoneme symbol between words; "" for none
///     t2s.file                    safetensors, keys with the prefix "model."
///     t2s.layers, hidden, heads   integers
///     t2s.filter, head_dim        integers, optional (4 * hidden, hidden / heads): what pruning leaves
///     t2s.phoneme_vocab, vocab    integers; vocab counts EOS, its last entry
///     t2s.bert_dim                integer, 0 for none
///     t2s.max_tokens              integer, optional (1500)
///     t2s.sampling.top_k          integer >= 1
///     t2s.sampling.top_p          (0, 1]
///     t2s.sampling.temperature    > 0
///     t2s.sampling.repetition_penalty  >= 1
///     t2s.sampling.min_tokens     integer >= 0
///     acoustic.file               safetensors: quantizer, ref_enc, enc_p, bridge, wns1, cfm.estimator
///     acoustic.codes, code_dim, phonemes, hidden, filter, heads, layers_ssl, layers_text, layers_post, mrte_dim,
///     acoustic.mrte_heads, ref_bins, style_dim, feature_dim, wns_layers      integers
///     acoustic.attention_window   [left, right] in 50 Hz frames, or null for global attention
///     acoustic.steps              flow steps, 1..64
///     acoustic.solver, grid       strings, optional ("euler", "uniform"): models/flow_schedule.h
///     acoustic.temperature        of the noise the flow starts from, 0..2, optional (1)
///     acoustic.postfilter         depth of models/mel_postfilter.h, 0..2, optional (0)
///     acoustic.estimator.type     "causal_convnext"
///     acoustic.estimator.dim, ff, layers, kernel                             integers
///     vocoder.file                safetensors
///     vocoder.type                "source_filter_istft"
///     vocoder.dim, ff, layers, f0_dim, f0_ff, f0_layers                      integers
///     vocoder.gain_db             level of the voice, -40..40, optional (0)
///     tokenizer.file              safetensors, optional: with it voices can be made of recordings
///     tokenizer.dim, layers, mel_bands   integers
///     reference.file              safetensors with "ge" [mrte_dim] (the output of ref_enc), or "mel" [frames,
///     ref_bins]
///                                 (natural-log mel of the reference audio, not normalised), from which ge is made,
///                                 and then "mel_shift" [bands] (models/mel_shift.h) and "fit.style",
///                                 "fit.conditioning", "fit.norms", "fit.out_norm" (models/speaker_fit.h), optional;
///                                 with "prompt_tokens" and "prompt_phonemes" [n], what T2S goes on from
struct VoiceManifest {
  std::filesystem::path folder;
  std::string id;
  std::string name;
  std::vector<std::string> languages;
  std::int64_t sample_rate_hz = 24000;
  std::string license;
  std::string word_separator;
  /// Format 2: sizes of the acoustic networks; `acoustic.config` and `vocoder.config` are unused then.
  std::optional<PublishedConfig> published;
  /// The folder that holds the networks when it is not `folder`; empty otherwise.
  std::filesystem::path model;
  int pause_ms = 0;  ///< format 2: silence after a segment that ends in a sentence mark; half after any other
  struct SemanticPart {
    std::filesystem::path file;  ///< full path, as all files here
    T2SConfig config;
    SamplingParams sampling;
  } t2s;
  struct AcousticPart {
    std::filesystem::path file;
    AcousticConfig config;
  } acoustic;
  struct VocoderPart {
    std::filesystem::path file;
    SourceFilterConfig config;
  } vocoder;
  /// Format 1: what makes tokens of a recording, if there is one.
  struct TokenizerPart {
    std::filesystem::path file;
    StarterTokenizerConfig config;
  };
  std::optional<TokenizerPart> tokenizer;
  std::filesystem::path reference;  ///< empty (format 2 only): a model, not a voice

  /// Where the networks are: two voices with the same home have the same networks.
  [[nodiscard]] const std::filesystem::path& network_folder() const { return model.empty() ? folder : model; }
};

/// Reads folder/manifest.json and, where it names a model, that folder's manifest too, from which the networks' files
/// and sizes come. Errc::bad_file with "<file>: <path.of.key>: got .., wanted ..".
[[nodiscard]] Result<VoiceManifest> load_manifest(const std::filesystem::path& folder);
/// The same from text, without looking at any file; `folder` is what file names are relative to. The networks of a
/// manifest that names a model stay empty.
[[nodiscard]] Result<VoiceManifest> parse_manifest(const std::string& json, const std::filesystem::path& folder);

/// Loads the acoustic networks of a voice of the starter form. Throws ModelError naming the file or tensor.
[[nodiscard]] AcousticModel load_acoustic_model(const VoiceManifest& manifest, Precision precision = Precision::fp32);
/// Reads the voice's reference file. Throws ModelError naming the file.
[[nodiscard]] AcousticModel::Speaker load_speaker(const VoiceManifest& manifest, const AcousticModel& model);

}  // namespace tts
