#include "models/published.h"

#include <array>
#include <functional>
#include <numeric>

namespace tts {
namespace {
constexpr std::array<std::string_view, 6> kNames{"v1", "v2", "v2pro", "v2proplus", "v3", "v4"};
}

std::string_view to_string(ModelForm form) noexcept {
  return kNames[static_cast<std::size_t>(form)];
}

std::optional<ModelForm> parse_model_form(std::string_view name) noexcept {
  for (std::size_t i = 0; i < kNames.size(); ++i) {
    if (kNames[i] == name) {
      return static_cast<ModelForm>(i);
    }
  }
  return std::nullopt;
}

bool has_speaker_network(ModelForm form) noexcept {
  return form == ModelForm::v2pro || form == ModelForm::v2proplus;
}

bool uses_flow_matching(ModelForm form) noexcept {
  return form == ModelForm::v3 || form == ModelForm::v4;
}

std::int64_t sample_rate_hz(ModelForm form) noexcept {
  return form == ModelForm::v3 ? 24000 : form == ModelForm::v4 ? 48000 : 32000;
}

std::int64_t PublishedConfig::hop_samples() const {
  return std::accumulate(upsample_rates.begin(), upsample_rates.end(), std::int64_t{1}, std::multiplies<>());
}

PublishedConfig published_config(ModelForm form) {
  PublishedConfig c;
  c.form = form;
  c.lookahead = 8;
  c.upsample_rates = {10, 8, 2, 2, 2};
  c.upsample_kernels = {16, 16, 8, 2, 2};
  switch (form) {
    case ModelForm::v1:
      c.phonemes = 322;
      c.ref_bins = 1025;
      break;
    case ModelForm::v2:
      break;
    case ModelForm::v2pro:
    case ModelForm::v2proplus:
      c.ge_dim = 1024;
      c.speaker_dim = 20480;
      if (form == ModelForm::v2proplus) {
        c.decoder_channels = 768;
        c.upsample_kernels = {20, 16, 8, 2, 2};
      }
      break;
    case ModelForm::v3:
      c.vocoder_channels = 1536;
      c.upsample_rates = {4, 4, 2, 2, 2, 2};
      c.upsample_kernels = {8, 8, 4, 4, 4, 4};
      break;
    case ModelForm::v4:
      c.upsample_rates = {10, 6, 2, 2, 2};
      c.upsample_kernels = {20, 12, 4, 4, 4};
      break;
  }
  return c;
}

}  // namespace tts
