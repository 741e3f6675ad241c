#include "models/acoustic.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <c10/core/InferenceMode.h>

#include "models/acoustic_times.h"
#include "models/cfm.h"
#include "models/frame_stretch.h"
#include "models/layers.h"

namespace tts {
namespace {

std::int64_t mel_frames(std::int64_t frames_50hz) {
  return frames_50hz * 15 / 8;
}

}  // namespace

SemanticEncoderConfig AcousticConfig::encoder() const {
  return {.features = code_dim,
          .hidden = hidden,
          .heads = heads,
          .filter = filter,
          .kernel = 3,
          .semantic_layers = layers_ssl,
          .text_layers = layers_text,
          .out_layers = layers_post,
          .phonemes = phonemes,
          .cross_hidden = mrte_dim,
          .cross_heads = mrte_heads,
          .window = attention_window,
          .project = false};
}

CausalFlowConfig AcousticConfig::flow_network() const {
  CausalFlowConfig flow = estimator;
  flow.features = feature_dim;
  return flow;
}

AcousticModel::AcousticModel(const WeightScope& acoustic, const AcousticConfig& config, const WeightScope& vocoder,
                             const SourceFilterConfig& vocoder_config)
    : config_(config),
      quantizer_(acoustic("quantizer"), {config.codes, config.code_dim, 2}),
      reference_(
          acoustic("ref_enc").with(Precision::fp32),
          {.bins = config.ref_bins, .hidden = config.style_dim, .kernel = 5, .heads = 2, .out = config.mrte_dim}),
      encoder_(acoustic("enc_p"), config.encoder()),
      features_(acoustic, {.in = config.hidden,
                           .channels = config.feature_dim,
                           .condition = config.mrte_dim,
                           .layers = config.wns_layers,
                           .kernel = 5,
                           .rate = kMelPerFrame,
                           .frames_per_code = 2 * kMelPerFrame}),
      flow_(acoustic("cfm.estimator"), config.flow_network()),
      postfilter_(config.estimator.mel, config.postfilter),
      vocoder_(vocoder, vocoder_config) {
  const c10::InferenceMode inference;
  schedule_ = flow_.make_schedule(config.flow);
}

AcousticModel::Speaker AcousticModel::make_speaker(const at::Tensor& ge, const SpeakerFit& fit) const {
  const c10::InferenceMode inference;
  if (!fit.defined()) return {.ge = ge, .prepared = features_.prepare(ge)};
  const at::Tensor style = ge + fit.style;
  return {.ge = style,
          .prepared = features_.prepare(style) + fit.conditioning,
          .fit = fit,
          .schedule = flow_.make_schedule(config_.flow, fit)};
}

AcousticModel::Speaker AcousticModel::make_speaker_from_mel(const at::Tensor& mel, const SpeakerFit& fit) const {
  const c10::InferenceMode inference;
  return make_speaker(reference_.encode(normalize_mel(mel)), fit);
}

AcousticStream AcousticModel::begin(std::span<const std::int32_t> phonemes, const Speaker& speaker,
                                    const AcousticOptions& options) const {
  const c10::InferenceMode inference;
  check_speed(options.speed);
  AcousticStream stream(*this);
  {
    const AcousticWork work(&AcousticTimes::encoder);
    stream.ge_ = speaker.ge;
    stream.prepared_ = speaker.prepared;
    stream.mel_shift_ = speaker.mel_shift;
    stream.text_ = encoder_.encode_text(to_index(phonemes));
    stream.encoder_ = encoder_.initial_state();
  }
  const AcousticWork work(&AcousticTimes::flow);
  stream.speed_ = options.speed;
  const FlowSchedule flow = options.schedule(config_.flow);
  const auto& own = speaker.schedule ? speaker.schedule : schedule_;
  stream.flow_ = flow_.initial_state(flow == config_.flow ? own : flow_.make_schedule(flow, speaker.fit), options.seed);
  stream.vocoder_ = vocoder_.initial_state(options.seed);
  return stream;
}

at::Tensor AcousticModel::make_mel(std::span<const std::int32_t> tokens, std::span<const std::int32_t> phonemes,
                                   const Speaker& speaker) const {
  const c10::InferenceMode inference;
  return begin(phonemes, speaker, {}).make_mel(tokens, true);
}

std::optional<std::int64_t> AcousticModel::first_audio_tokens() const {
  const auto lookahead = encoder_.lookahead();
  if (!lookahead) {
    return std::nullopt;
  }
  for (std::int64_t tokens = 1;; ++tokens) {
    const std::int64_t spectra = mel_frames(std::max<std::int64_t>(0, 2 * tokens - *lookahead)) -
                                 features_.context() - SourceFilterVocoder::kLookaheadFrames;
    if (spectra * SourceFilterVocoder::kHopSamples > SourceFilterVocoder::kLookaheadSamples) {
      return tokens;
    }
  }
}

/// Linear interpolation at speed != 1. Upstream maps centres by the ratio of the two lengths, which needs the final
/// length; here the ratio is the speed itself, so that an output frame depends on its two neighbours only.
void AcousticStream::resample(bool last) {
  const std::int64_t total = encoder_frames_.size();
  const std::int64_t done = bridged_.size();
  if (speed_ == 1.0) {
    if (total > done) {
      bridged_.append(model_->features_.bridge(encoder_frames_.slice(done, total)));
      encoder_frames_.drop_before(total);
    }
    return;
  }
  if (total == 0) {
    return;
  }
  const auto source = [&](std::int64_t i) { return std::max(0.0, (static_cast<double>(i) + 0.5) * speed_ - 0.5); };
  std::int64_t until = done;
  if (last) {
    until = std::max<std::int64_t>(1, static_cast<std::int64_t>(static_cast<double>(total) / speed_));
  } else {
    while (static_cast<std::int64_t>(source(until)) + 1 < total &&
           static_cast<double>(until + 1) * speed_ <= static_cast<double>(total)) {
      ++until;
    }
  }
  if (until <= done) {
    return;
  }
  const std::int64_t base = std::min(static_cast<std::int64_t>(source(done)), total - 1);
  const at::Tensor rows = encoder_frames_.slice(base, total);
  at::Tensor left = at::empty({until - done}, at::kLong);
  at::Tensor right = at::empty({until - done}, at::kLong);
  at::Tensor weight = at::empty({until - done, 1}, at::kFloat);
  for (std::int64_t i = done; i < until; ++i) {
    const double position = std::min(source(i), static_cast<double>(total - 1));
    const auto floor = static_cast<std::int64_t>(position);
    left.data_ptr<std::int64_t>()[i - done] = floor - base;
    right.data_ptr<std::int64_t>()[i - done] = std::min(floor + 1, total - 1) - base;
    weight.data_ptr<float>()[i - done] = static_cast<float>(position - static_cast<double>(floor));
  }
  const at::Tensor a = rows.index_select(0, left);
  const at::Tensor b = rows.index_select(0, right);
  bridged_.append(model_->features_.bridge(a + (b - a) * weight));
  encoder_frames_.drop_before(std::min(static_cast<std::int64_t>(source(until)), total - 1));
}

/// mu of the mel frames that have wns1's context now.
at::Tensor AcousticStream::condition(bool last) {
  resize_nearest(bridged_, resized_, AcousticModel::kMelPerFrame);
  const std::int64_t total = resized_.size();
  const std::int64_t context = model_->features_.context();
  const std::int64_t ready = last ? total : std::max(conditioned_, total - context);
  const std::int64_t n = ready - conditioned_;
  if (n == 0) {
    return at::zeros({0, model_->config_.feature_dim}, at::kFloat);
  }
  const std::int64_t begin = std::max<std::int64_t>(0, conditioned_ - context);
  const at::Tensor window = resized_.slice(begin, total);
  const at::Tensor mu =
      model_->features_.refine(window, prepared_, window.size(0)).narrow(0, conditioned_ - begin, n).contiguous();
  conditioned_ = ready;
  resized_.drop_before(conditioned_ - context);
  return mu;
}

at::Tensor AcousticStream::make_mel(std::span<const std::int32_t> tokens, bool last) {
  if (done_) {
    throw ModelError("acoustic stream: got tokens after the last, wanted none");
  }
  at::Tensor mu;
  {
    const AcousticWork work(&AcousticTimes::encoder);
    const at::Tensor codes = model_->quantizer_.decode(to_index(tokens));
    encoder_frames_.append(model_->encoder_.step(codes, text_, ge_, encoder_, last));
    done_ = last;
    resample(last);
    mu = condition(last);
  }
  const AcousticWork work(&AcousticTimes::flow);
  return model_->postfilter_(denormalize_mel(model_->flow_.step(mu, flow_)));
}

std::vector<float> AcousticStream::push(std::span<const std::int32_t> tokens, bool last) {
  const c10::InferenceMode inference;
  at::Tensor mel = make_mel(tokens, last);
  if (mel_shift_.defined()) mel = mel + mel_shift_;
  const AcousticWork work(&AcousticTimes::vocoder);
  return last ? model_->vocoder_.finish(mel, vocoder_) : model_->vocoder_.step(mel, vocoder_);
}

}  // namespace tts
