#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tts {

/// The published forms of GPT-SoVITS.
enum class Form { v1, v2, v2pro, v2proplus, v3, v4 };

/// As upstream writes it: "v1", "v2", "v2Pro", "v2ProPlus", "v3", "v4".
[[nodiscard]] const char* to_string(Form form) noexcept;
/// As the manifest writes it: lower case.
[[nodiscard]] std::string manifest_name(Form form);
/// In any case of letters; nullopt when there is no such form.
[[nodiscard]] std::optional<Form> find_form(std::string_view name);

/// Sizes of the networks of a voice, in the words of models/README.md. The defaults are those of v2.
struct T2sSizes {
  std::int64_t layers = 24, hidden = 512, heads = 16, phoneme_vocab = 732, vocab = 1025, bert_dim = 1024;
};
struct AcousticSizes {
  std::int64_t codes = 1024, code_dim = 768, phonemes = 732, hidden = 192, filter = 768, heads = 2, layers_ssl = 3,
               layers_text = 6, layers_post = 3, mrte_dim = 512, mrte_heads = 4, ref_bins = 704, style_dim = 128,
               ge_dim = 512, ssl_dim = 768;
  std::int64_t flow_layers = 4, decoder_channels = 512, speaker_dim = 20480;
  std::vector<std::int64_t> upsample_rates = {10, 8, 2, 2, 2}, upsample_kernels = {16, 16, 8, 2, 2};
  std::int64_t feature_dim = 512, wns_layers = 8, dit_dim = 1024, dit_depth = 22, dit_heads = 16, dit_text_layers = 4,
               mel_bands = 100;
};
struct VocoderSizes {
  std::int64_t channels = 512;
  std::vector<std::int64_t> upsample_rates = {10, 6, 2, 2, 2}, upsample_kernels = {20, 12, 4, 4, 4};
};
struct VoiceSizes {
  T2sSizes t2s;
  AcousticSizes acoustic;
  VocoderSizes vocoder;  ///< v3, v4
};
[[nodiscard]] VoiceSizes published_sizes(Form form);

/// Sizes of the networks that only prepare a reference or a text. The defaults are the published ones.
struct HubertSizes {
  std::int64_t channels = 512, hidden = 768, inner = 3072, layers = 12, position_kernel = 128, position_groups = 16;
};
struct BertSizes {
  std::int64_t vocab = 21128, positions = 512, hidden = 1024, inner = 4096, layers = 24;
};
struct SpeakerNetSizes {
  std::int64_t channels = 64, base_width = 24;
};

/// A tensor that a network must have.
struct WantedTensor {
  std::string key;
  std::vector<std::int64_t> shape;
  bool may_be_split = false;  ///< by weight norm, into key + "_g" and key + "_v"
};
using WantedTensors = std::vector<WantedTensor>;

[[nodiscard]] WantedTensors wanted_t2s(const T2sSizes& sizes);
[[nodiscard]] WantedTensors wanted_acoustic(Form form, const AcousticSizes& sizes);
/// v3: BigVGAN; v4: the HiFi-GAN generator. `mel_bands` are the acoustic's.
[[nodiscard]] WantedTensors wanted_vocoder(Form form, const VocoderSizes& sizes, std::int64_t mel_bands);
[[nodiscard]] WantedTensors wanted_hubert(const HubertSizes& sizes);
[[nodiscard]] WantedTensors wanted_bert(const BertSizes& sizes);
/// ERes2NetV2.
[[nodiscard]] WantedTensors wanted_speaker_net(const SpeakerNetSizes& sizes);

}  // namespace tts
