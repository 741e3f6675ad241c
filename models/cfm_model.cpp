#include "models/cfm_model.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <c10/core/InferenceMode.h>

#include "models/acoustic_times.h"
#include "models/frame_stretch.h"
#include "models/layers.h"
#include "models/noise.h"

namespace tts {

PrefixPolicy CfmModel::prefix_policy(const PublishedConfig& c) {
  PrefixPolicy policy;
  policy.lookahead = c.lookahead;
  policy.first = c.form == ModelForm::v3 ? 27 : 20;  // enough conditioning for the first window and no more
  return policy;
}

FlowWindowPolicy CfmModel::window_policy(const PublishedConfig& c) {
  FlowWindowPolicy policy;
  policy.first = c.form == ModelForm::v3 ? 72 : 44;  // BigVGAN holds 38 frames back, HiFi-GAN 12
  return policy;
}

FeatureEncoderConfig CfmModel::feature_config(const PublishedConfig& c) {
  return {.in = c.hidden,
          .channels = c.feature_dim,
          .condition = c.mrte_dim,
          .layers = c.wns_layers,
          .kernel = 5,
          .rate = c.form == ModelForm::v3 ? 1.875 : 2.0,
          .frames_per_code = c.form == ModelForm::v3 ? 3.875 : 4.0};
}

FlowWindowPolicy CfmModel::window_policy(const PublishedConfig& c, std::int64_t prompt_frames) {
  FlowWindowPolicy policy = window_policy(c);
  policy.most = std::clamp<std::int64_t>(max_window_frames(c.form) - prompt_frames - policy.context - policy.overlap, 1,
                                         policy.most);
  return policy;
}

BigvganConfig CfmModel::bigvgan_config(const PublishedConfig& c) {
  return {.in = c.dit.mel, .channels = c.vocoder_channels, .rates = c.upsample_rates, .kernels = c.upsample_kernels};
}

HifiganConfig CfmModel::hifigan_config(const PublishedConfig& c) {
  return {.in = c.dit.mel, .channels = c.vocoder_channels, .rates = c.upsample_rates, .kernels = c.upsample_kernels};
}

FlowPrompt CfmModel::prompt_of(const FlowPrompt& prompt, const PublishedConfig& config,
                               const AcousticOptions& options) {
  if (options.prompt_frames < 0) {
    throw ModelError("prompt frames: got " + std::to_string(options.prompt_frames) + ", wanted >= 0");
  }
  const std::int64_t frames = options.prompt_frames > 0 ? options.prompt_frames : config.prompt_frames;
  const std::int64_t total = prompt.mel.size(0);
  const std::int64_t n = frames == 0 ? total : std::min(frames, total);  // 0: all
  return {prompt.mel.narrow(0, total - n, n), prompt.features.narrow(0, total - n, n)};
}

CfmModel::CfmModel(const WeightScope& acoustic, const WeightScope& vocoder, const PublishedConfig& config)
    : config_(config),
      policy_(prefix_policy(config)),
      windows_(window_policy(config)),
      front_(acoustic, config, false),
      features_(acoustic, feature_config(config)),
      dit_(acoustic("cfm.estimator"), config.dit) {
  if (config.form == ModelForm::v3) {
    bigvgan_.emplace(vocoder, bigvgan_config(config));
  } else {
    hifigan_.emplace(vocoder, hifigan_config(config));
  }
  const c10::InferenceMode inference;
  (void)plan(config.flow);
}

std::shared_ptr<const FlowPlan> CfmModel::plan(const FlowSchedule& schedule) const {
  return plans_.get(schedule, [&] { return make_flow_plan(dit_, schedule); });
}

CfmModel::Speaker CfmModel::make_speaker(const SovitsFront& front, const FeatureEncoder& features,
                                         const PublishedConfig& config, const SovitsFront::Reference& reference,
                                         const at::Tensor& mel, std::span<const std::int32_t> tokens,
                                         std::span<const std::int32_t> phonemes) {
  const c10::InferenceMode inference;
  check_shape(mel, {-1, config.dit.mel}, "reference mel");
  if (tokens.empty() || phonemes.empty()) {
    throw ModelError("reference: got no tokens or no phonemes, wanted both (v3 and v4 continue the reference)");
  }
  Speaker speaker;
  speaker.front = front.make_speaker(std::span(&reference, 1));
  speaker.prepared = features.prepare(speaker.front.ge);
  const at::Tensor frames = front.encoder().encode(
      front.quantize(to_index(tokens)), front.encoder().encode_text(to_index(phonemes)), speaker.front.text_ge);
  const at::Tensor seen =
      features.forward(frames, speaker.prepared, features.valid_frames(static_cast<std::int64_t>(tokens.size()), 1.0));
  speaker.prompt = make_flow_prompt(normalize_mel(mel), seen, max_prompt_frames(config.form));
  speaker.prompt.mel = speaker.prompt.mel.contiguous();
  speaker.prompt.features = speaker.prompt.features.contiguous();
  return speaker;
}

/// Log mel frames to samples in a stream; both vocoders carry their state.
class CfmModel::Vocoder {
 public:
  explicit Vocoder(const CfmModel& model) : model_(model) {
    if (model.hifigan_) {
      hifigan_ = model.hifigan_->initial_state();
    }
  }

  std::vector<float> push(const at::Tensor& mel, bool last) {
    const at::Tensor wave =
        model_.hifigan_ ? model_.hifigan_->step(mel, hifigan_, last) : model_.bigvgan_->step(mel, bigvgan_, last);
    const at::Tensor samples = wave.contiguous();
    return {samples.data_ptr<float>(), samples.data_ptr<float>() + samples.numel()};
  }

 private:
  const CfmModel& model_;
  Hifigan::State hifigan_;
  Bigvgan::State bigvgan_;
};

class CfmModel::Stream final : public TokenRenderer {
 public:
  Stream(const CfmModel& model, std::span<const std::int32_t> phonemes, const Speaker& speaker,
         const AcousticOptions& options)
      : model_(model),
        speaker_(speaker),
        encoder_(model.front_, phonemes, speaker.front, model.policy_, options.speed),
        speed_(options.speed),
        prompt_(prompt_of(speaker.prompt, model.config_, options)),
        plan_(model.plan(options.schedule(model.config_.flow))),
        noise_(options.seed, kNoiseStream),
        mel_(window_policy(model.config_, prompt_.mel.size(0))),
        vocoder_(model) {}

  std::vector<float> push(std::span<const std::int32_t> tokens, bool last) override {
    const c10::InferenceMode inference;
    {
      const AcousticWork work(&AcousticTimes::encoder);
      const at::Tensor frames = encoder_.push(tokens, last);
      if (frames.size(0) > 0) {
        bridged_.append(model_.features_.bridge(frames));
      }
      condition(last);
    }
    at::Tensor mel;
    {
      const AcousticWork work(&AcousticTimes::flow);
      mel = model_.policy_.lookahead ? sample(last) : sample_all(last);
    }
    if (mel.size(0) == 0 && !last) {
      return {};
    }
    if (last && mu_.size() == 0) {
      return {};  // no tokens at all
    }
    const AcousticWork work(&AcousticTimes::vocoder);
    return vocoder_.push(denormalize_mel(mel), last);
  }

 private:
  [[nodiscard]] std::int64_t bands() const { return model_.config_.dit.mel; }

  /// Adds to mu_ the conditioning frames that have wns1's context now.
  void condition(bool last) {
    resize_nearest(bridged_, resized_, model_.features_.rate());
    const std::int64_t total = resized_.size();
    const std::int64_t context = model_.features_.context();
    // At another speed the length rule may mask the very last frames, which then count as zeros.
    const std::int64_t behind = context + (speed_ == 1.0 ? 0 : 2);
    const std::int64_t done = mu_.size();
    const std::int64_t ready = last ? total : std::max(done, total - behind);
    if (ready == done) {
      return;
    }
    const std::int64_t begin = std::max<std::int64_t>(0, done - context);
    const at::Tensor window = resized_.slice(begin, total);
    std::int64_t valid = window.size(0);
    if (last) {
      valid = std::clamp<std::int64_t>(model_.features_.valid_frames(encoder_.tokens(), speed_) - begin, 0, valid);
    }
    mu_.append(model_.features_.refine(window, speaker_.prepared, valid).narrow(0, done - begin, ready - done));
    resized_.drop_before(ready - context);
  }

  /// One window of the flow: mu and prompt as the flow sees them, the new frames' noise from frame `first` on.
  /// Returns the new frames.
  at::Tensor flow(const at::Tensor& mu, const at::Tensor& prompt, std::int64_t first) const {
    const std::int64_t n_prompt = prompt.size(0);
    const std::int64_t n = mu.size(0) - n_prompt;
    at::Tensor noise = at::zeros({1, mu.size(0), bands()}, at::kFloat);
    noise_.fill(first * bands(), {noise.data_ptr<float>() + n_prompt * bands(), static_cast<std::size_t>(n * bands())});
    noise.mul_(plan_->schedule.temperature);
    return sample_flow(model_.dit_, mu.unsqueeze(0), prompt.unsqueeze(0), noise, *plan_)
        .squeeze(0)
        .narrow(0, n_prompt, n);
  }

  /// Mel frames, normalised, of the windows that are complete now.
  at::Tensor sample(bool last) {
    std::vector<at::Tensor> out;
    while (const auto window = mel_.next(mu_.size(), last)) {
      const at::Tensor mu = mu_.slice(window->begin - window->context, window->until);
      const at::Tensor fresh =
          flow(at::cat({prompt_.features, mu}), mel_.known(*window, prompt_.mel), window->begin).clone();
      out.push_back(mel_.take(*window, fresh));
      mu_.drop_before(mel_.first_needed());
    }
    return out.empty() ? at::zeros({0, bands()}, at::kFloat) : at::cat(out);
  }

  /// The same by upstream's serial loop, once all is known.
  at::Tensor sample_all(bool last) {
    if (!last || mu_.size() == 0) {
      return at::zeros({0, bands()}, at::kFloat);
    }
    std::int64_t first = 0;
    return sample_serial(prompt_, mu_.slice(0, mu_.size()), max_window_frames(model_.config_.form),
                         [&](const at::Tensor& mu, const at::Tensor& prompt) {
                           const at::Tensor made = flow(mu.squeeze(0), prompt.squeeze(0), first);
                           first += made.size(0);
                           return at::cat({prompt.squeeze(0), made}).unsqueeze(0);
                         });
  }

  const CfmModel& model_;
  const Speaker& speaker_;
  PrefixEncoder encoder_;
  const double speed_;
  const FlowPrompt prompt_;  ///< of the speaker's, what a window sees
  const std::shared_ptr<const FlowPlan> plan_;
  const GaussianNoise noise_;
  FrameBuffer bridged_;  ///< bridge output at 50 Hz
  FrameBuffer resized_;  ///< the same at the mel's rate
  FrameBuffer mu_;       ///< the flow's conditioning
  WindowedMel mel_;
  Vocoder vocoder_;
};

std::unique_ptr<TokenRenderer> CfmModel::begin(std::span<const std::int32_t> phonemes, const Speaker& speaker,
                                               const AcousticOptions& options) const {
  const c10::InferenceMode inference;
  const AcousticWork work(&AcousticTimes::encoder);
  return std::make_unique<Stream>(*this, phonemes, speaker, options);
}

std::optional<std::int64_t> CfmModel::first_audio_tokens() const {
  if (!policy_.lookahead) {
    return std::nullopt;
  }
  for (std::int64_t i = 0;; ++i) {
    const std::int64_t end = policy_.block_end(i);
    const auto mel = static_cast<std::int64_t>(std::floor(2.0 * static_cast<double>(end) * features_.rate()));
    if (mel - features_.context() >= windows_.first + windows_.overlap) {
      return end + *policy_.lookahead;
    }
  }
}

}  // namespace tts
