#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "models/dit.h"
#include "models/flow_schedule.h"

namespace tts {

/// The published forms of GPT-SoVITS.
enum class ModelForm { v1, v2, v2pro, v2proplus, v3, v4 };

/// As the manifest writes it: "v2pro".
[[nodiscard]] std::string_view to_string(ModelForm form) noexcept;
[[nodiscard]] std::optional<ModelForm> parse_model_form(std::string_view name) noexcept;

/// v2Pro and v2ProPlus: the speaker embedding has a second source, ERes2NetV2.
[[nodiscard]] bool has_speaker_network(ModelForm form) noexcept;
/// v3 and v4: flow matching and a vocoder of its own, instead of the VITS decoder.
[[nodiscard]] bool uses_flow_matching(ModelForm form) noexcept;
/// Of the waveform: 32000, 24000 (v3), 48000 (v4).
[[nodiscard]] std::int64_t sample_rate_hz(ModelForm form) noexcept;

/// Sizes of the acoustic networks of a published form; the manifest's names for them are in models/README.md. A form
/// uses the ones that apply to it.
struct PublishedConfig {
  ModelForm form = ModelForm::v2;

  std::int64_t codes = 1024;
  std::int64_t code_dim = 768;
  std::int64_t ssl_dim = 768;  ///< channels of the HuBERT features
  std::int64_t phonemes = 732;
  std::int64_t hidden = 192;
  std::int64_t filter = 768;
  std::int64_t heads = 2;
  std::int64_t layers_ssl = 3;
  std::int64_t layers_text = 6;
  std::int64_t layers_post = 3;
  std::int64_t mrte_dim = 512;
  std::int64_t mrte_heads = 4;
  std::int64_t ref_bins = 704;
  std::int64_t style_dim = 128;
  std::int64_t ge_dim = 512;              ///< of the speaker embedding; mrte_dim but in Pro
  std::int64_t speaker_dim = 0;           ///< Pro: channels of the ERes2NetV2 embedding
  std::optional<std::int64_t> lookahead;  ///< tokens; none: the whole segment is awaited (models/prefix_encoder.h)

  // v1, v2, Pro
  std::int64_t flow_layers = 4;
  std::optional<std::int64_t>
      flow_ahead;                 ///< frames that the flow sees behind the first block's (VitsModel::flow_ahead)
  std::int64_t first_tokens = 0;  ///< of the first block; 0: what the first sound takes
  std::int64_t decoder_channels = 512;
  std::vector<std::int64_t> upsample_rates;    ///< of the decoder or, in v3 and v4, of the vocoder
  std::vector<std::int64_t> upsample_kernels;  ///< likewise

  // v3, v4
  std::int64_t feature_dim = 512;
  std::int64_t wns_layers = 8;
  DitConfig dit;
  FlowSchedule flow;               ///< unless an utterance asks for another
  std::int64_t prompt_frames = 0;  ///< frames of the reference that a window sees; 0: upstream's 468 (v3) or 500 (v4)
  std::int64_t vocoder_channels = 512;

  /// Samples that a frame of the decoder or of the vocoder becomes.
  [[nodiscard]] std::int64_t hop_samples() const;
};

/// As the weights of that form were published.
[[nodiscard]] PublishedConfig published_config(ModelForm form);

}  // namespace tts
