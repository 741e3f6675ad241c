#include "models/vits_model.h"

#include <algorithm>
#include <string>
#include <utility>

#include <ATen/ops/empty.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <c10/core/InferenceMode.h>

#include "models/acoustic_times.h"
#include "models/noise.h"

namespace tts {

HifiganConfig VitsModel::decoder_config(const PublishedConfig& c) {
  HifiganConfig out;
  out.in = c.hidden;
  out.channels = c.decoder_channels;
  out.rates = c.upsample_rates;
  out.kernels = c.upsample_kernels;
  out.condition = c.ge_dim;
  out.out_bias = false;
  return out;
}

PrefixPolicy VitsModel::prefix_policy(const PublishedConfig& c) {
  PrefixPolicy policy;
  policy.lookahead = c.lookahead;
  return policy;
}

VitsModel::VitsModel(const WeightScope& acoustic, const PublishedConfig& config)
    : config_(config),
      policy_(prefix_policy(config)),
      front_(acoustic, config, true),
      flow_(acoustic("flow"), {.channels = config.hidden, .condition = config.ge_dim, .layers = config.flow_layers}),
      decoder_(acoustic("dec"), decoder_config(config)) {
  if (config.first_tokens > 0) {
    policy_.first = config.first_tokens;
  } else if (flow_ahead(1) < flow_.context()) {
    policy_.first = first_sound();
  }
}

/// The fewest tokens of a first block that is heard long enough for the second one to be made.
std::int64_t VitsModel::first_sound() const {
  constexpr std::int64_t kFrames = 8;  // 0.16 s
  std::int64_t tokens = 1;
  while (decoder_.certain_samples(2 * tokens - flow_ahead(1)) < kFrames * hop_samples()) {
    ++tokens;
  }
  return tokens;
}

std::int64_t VitsModel::flow_ahead(std::int64_t blocks) const {
  constexpr std::int64_t kMore = 8;
  const std::int64_t all = flow_.context();
  return std::min(all, config_.flow_ahead.value_or(all) + kMore * std::max<std::int64_t>(0, blocks - 1));
}

VitsModel::Speaker VitsModel::make_speaker(std::span<const SovitsFront::Reference> references,
                                           const Probe* probe) const {
  const c10::InferenceMode inference;
  Speaker speaker;
  speaker.front = front_.make_speaker(references, probe);
  speaker.flow = flow_.prepare(speaker.front.ge);
  return speaker;
}

at::Tensor VitsModel::draw(const at::Tensor& frames, const at::Tensor& noise, const Probe* probe) const {
  const at::Tensor stats = front_.encoder().project(frames);
  const at::Tensor mean = stats.narrow(1, 0, config_.hidden);
  const at::Tensor log_deviation = stats.narrow(1, config_.hidden, config_.hidden);
  const at::Tensor z = mean + noise * at::exp(log_deviation) * kNoiseScale;
  if (probe != nullptr) {
    (*probe)("enc_p.proj(stats)", stats.t().unsqueeze(0));
    (*probe)("m_p", mean.t().unsqueeze(0));
    (*probe)("logs_p", log_deviation.t().unsqueeze(0));
    (*probe)("z_p", z.t().unsqueeze(0));
    (*probe)("y_mask", at::ones({1, 1, frames.size(0)}, frames.options()));  // masks are all ones for one segment
  }
  return z;
}

at::Tensor VitsModel::decode_frames(const at::Tensor& frames, const Speaker& speaker, const at::Tensor& noise,
                                    const Probe* probe) const {
  const c10::InferenceMode inference;
  check_shape(noise, {frames.size(0), config_.hidden}, "latent noise");
  const at::Tensor z = flow_.reverse(draw(frames, noise, probe), speaker.flow, probe).t().unsqueeze(0);
  if (probe != nullptr) {
    (*probe)("dec.in", z);
  }
  return decoder_.forward(z, speaker.front.ge.view({1, -1, 1}), probe).view({-1});
}

at::Tensor VitsModel::decode(const at::Tensor& tokens, const at::Tensor& phonemes, const Speaker& speaker, double speed,
                             const at::Tensor& noise, const Probe* probe) const {
  const c10::InferenceMode inference;
  const at::Tensor quantized = front_.quantize(tokens);
  if (probe != nullptr) {
    (*probe)("quantized", quantized.view({tokens.size(0), 2, -1}).select(1, 0).t().unsqueeze(0));
  }
  at::Tensor frames =
      front_.encoder().encode(quantized, front_.encoder().encode_text(phonemes, probe), speaker.front.text_ge, probe);
  if (speed != 1.0) {
    frames = resize_linear(frames, frames_at_speed(frames.size(0), speed));
  }
  return decode_frames(frames, speaker, noise, probe);
}

class VitsModel::Stream final : public TokenRenderer {
 public:
  Stream(const VitsModel& model, std::span<const std::int32_t> phonemes, const Speaker& speaker,
         const AcousticOptions& options)
      : model_(model),
        speaker_(speaker),
        encoder_(model.front_, phonemes, speaker.front, model.policy_, options.speed),
        noise_(options.seed, kNoiseStream),
        decoder_(model.decoder_.initial_state(speaker.front.ge)) {}

  std::vector<float> push(std::span<const std::int32_t> tokens, bool last) override {
    const c10::InferenceMode inference;
    std::vector<float> wave;
    // Block by block, and what remains by itself: what the flow sees behind a frame is not to depend on how many tokens
    // come at once.
    while (!tokens.empty()) {
      const std::int64_t known = encoder_.tokens();
      const std::int64_t more =
          model_.policy_.lookahead ? model_.policy_.useful(known, 1) : static_cast<std::int64_t>(tokens.size());
      const auto some = tokens.first(std::min(tokens.size(), static_cast<std::size_t>(more)));
      take(some, false, wave);
      tokens = tokens.subspan(some.size());
    }
    if (last) {
      take({}, true, wave);
    }
    return wave;
  }

 private:
  void take(std::span<const std::int32_t> tokens, bool last, std::vector<float>& wave) {
    {
      const AcousticWork work(&AcousticTimes::encoder);
      const at::Tensor frames = encoder_.push(tokens, last);
      if (frames.size(0) > 0) {
        z_p_.append(model_.draw(frames, noise(z_p_.size(), frames.size(0)), nullptr));
      } else if (!last) {
        return;
      }
    }
    const at::Tensor z = shape(last);
    const AcousticWork work(&AcousticTimes::vocoder);
    const at::Tensor made = model_.decoder_.step(z, decoder_, last);
    wave.insert(wave.end(), made.data_ptr<float>(), made.data_ptr<float>() + made.numel());
  }

  [[nodiscard]] at::Tensor noise(std::int64_t first, std::int64_t n) const {
    at::Tensor out = at::empty({n, model_.config_.hidden}, at::kFloat);
    noise_.fill(first * model_.config_.hidden, {out.data_ptr<float>(), static_cast<std::size_t>(out.numel())});
    return out;
  }

  /// The latents that have the flow's context now, by recomputing that context: the flow is cheap beside the decoder.
  at::Tensor shape(bool last) {
    const AcousticWork work(&AcousticTimes::flow);
    const std::int64_t total = z_p_.size();
    const std::int64_t context = model_.flow_.context();
    const std::int64_t ready = last ? total : std::max(shaped_, total - model_.flow_ahead(encoder_.blocks()));
    if (ready == shaped_) {
      return at::zeros({0, model_.config_.hidden}, at::kFloat);
    }
    const std::int64_t begin = std::max<std::int64_t>(0, shaped_ - context);
    const at::Tensor z =
        model_.flow_.reverse(z_p_.slice(begin, total), speaker_.flow).narrow(0, shaped_ - begin, ready - shaped_);
    shaped_ = ready;
    z_p_.drop_before(shaped_ - context);
    return z;
  }

  const VitsModel& model_;
  const Speaker& speaker_;
  PrefixEncoder encoder_;
  const GaussianNoise noise_;
  FrameBuffer z_p_;
  std::int64_t shaped_ = 0;  ///< frames that went through the flow
  Hifigan::State decoder_;
};

std::unique_ptr<TokenRenderer> VitsModel::begin(std::span<const std::int32_t> phonemes, const Speaker& speaker,
                                                const AcousticOptions& options) const {
  const c10::InferenceMode inference;
  const AcousticWork work(&AcousticTimes::encoder);
  return std::make_unique<Stream>(*this, phonemes, speaker, options);
}

std::optional<std::int64_t> VitsModel::first_audio_tokens() const {
  if (!policy_.lookahead) {
    return std::nullopt;
  }
  for (std::int64_t i = 0;; ++i) {
    const std::int64_t end = policy_.block_end(i);
    if (decoder_.certain_samples(2 * end - flow_ahead(i + 1)) > 0) {
      return end + *policy_.lookahead;
    }
  }
}

}  // namespace tts
