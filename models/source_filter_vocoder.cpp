#include "models/source_filter_vocoder.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <utility>

#include <ATen/ops/cat.h>
#include <ATen/ops/cos.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/fft_irfft.h>
#include <ATen/ops/fft_rfft.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/hann_window.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/polar.h>
#include <ATen/ops/zeros.h>

#include "models/cfm.h"
#include "models/mel.h"
#include "src/audio/level.h"

namespace tts {
namespace {

constexpr std::int64_t kFft = 1024;
constexpr std::int64_t kBins = kFft / 2 + 1;
constexpr std::int64_t kHop = SourceFilterVocoder::kHopSamples;
constexpr std::int64_t kPad = (kFft - kHop) / 2;  // frame t covers samples 256 t - 384 .. 256 t + 639
constexpr std::int64_t kKernel = 7;
constexpr std::int64_t kF0Bins = 96;
constexpr std::int64_t kF0Mel = 60;  // bands the F0 head sees
constexpr double kF0MinHz = 60.0;
constexpr double kF0MaxHz = 420.0;
constexpr float kF0StartHz = 180.0F;   // held before the first voiced frame
constexpr float kF0CentreHz = 150.0F;  // log F0 is given to the body relative to this
constexpr float kMaxLogGain = 6.0F;

/// Log mel to log magnitude per bin: linear interpolation between band centres, [bands, bins].
at::Tensor make_envelope() {
  const std::vector<double> edges = mel_edges_hz(kMelV3);
  const std::int64_t bands = SourceFilterVocoder::kMel;
  at::Tensor out = at::zeros({bands, kBins}, at::kFloat);
  auto* p = out.data_ptr<float>();
  for (std::int64_t bin = 0; bin < kBins; ++bin) {
    const double hz = static_cast<double>(bin * SourceFilterVocoder::kRateHz) / static_cast<double>(kFft);
    double x = 0;  // position among the band centres edges[1] .. edges[bands]
    while (x + 1 < static_cast<double>(bands - 1) && edges[static_cast<std::size_t>(x) + 2] <= hz) {
      x += 1;
    }
    const double left = edges[static_cast<std::size_t>(x) + 1];
    const double right = edges[static_cast<std::size_t>(x) + 2];
    x = std::clamp(x + (hz - left) / (right - left), 0.0, static_cast<double>(bands - 1));
    const auto band = std::min(static_cast<std::int64_t>(x), bands - 2);
    p[band * kBins + bin] = static_cast<float>(1.0 - (x - static_cast<double>(band)));
    p[(band + 1) * kBins + bin] = static_cast<float>(x - static_cast<double>(band));
  }
  return out;
}

/// Frames of kFft samples, hop apart, of a run of samples: [frames, kFft] without a copy.
at::Tensor frames_of(float* samples, std::int64_t n_frames) {
  return at::from_blob(samples, {n_frames, kFft}, {kHop, 1}, at::kFloat);
}

}  // namespace

SourceFilterVocoder::Body::Body(const WeightScope& scope, std::int64_t in_channels, std::int64_t dim,
                                std::int64_t inner, std::int64_t layers)
    : in{FrameConv(scope("conv_in"), in_channels, dim, kKernel)},
      norm_in(scope("norm_in"), dim, 1e-5),
      norm_out(scope("norm_out"), dim, 1e-5) {
  for (std::int64_t i = 0; i < layers; ++i) {
    const WeightScope block = scope("blocks", i);
    blocks.emplace_back(block, dim, inner, kKernel);
    norms.emplace_back(block("norm"), dim, 1e-5);
    gates.push_back(block.get("gamma", {dim}));
  }
}

SourceFilterVocoder::BodyState SourceFilterVocoder::Body::initial_state() const {
  BodyState state{.in_past = in.initial_past(), .past = {}};
  for (const CausalConvNext& block : blocks) {
    state.past.push_back(block.initial_past());
  }
  return state;
}

at::Tensor SourceFilterVocoder::Body::step(const at::Tensor& x, BodyState& state, bool last) const {
  at::Tensor h = in.step(x, state.in_past, last);
  if (h.size(0) == 0) {
    return h;
  }
  h = norm_in(h);
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    blocks[i].step(h, state.past[i], norms[i].gain, norms[i].bias, norms[i].eps, gates[i]);
  }
  return norm_out(h);
}

SourceFilterVocoder::SourceFilterVocoder(const WeightScope& weights, const SourceFilterConfig& config)
    // What decides on voicing and phase stays in float32.
    : f0_(weights("f0").with(Precision::fp32), kF0Mel, config.f0_dim, config.f0_inner, config.f0_layers),
      body_(weights("body"), kMel + 2, config.dim, config.inner, config.layers),
      f0_out_(weights("f0_out").with(Precision::fp32), config.f0_dim, kF0Bins + 1),
      out_(weights("out").with(Precision::fp32), config.dim, 3 * kBins),
      window_(at::hann_window(kFft, at::kFloat)),
      synthesis_window_(window_ * (std::pow(10.0, config.gain_db / 20) / 1.5)),
      amplified_(config.gain_db != 0) {
  const at::Tensor band_log =
      MelFrontEnd(kMelV3).filterbank().sum(1).clamp_min(1e-8).log();               // log of each filter's sum
  const double source_log = 0.5 * std::log(window_.square().sum().item<float>());  // a unit-power source's magnitude
  const at::Tensor envelope = make_envelope();
  envelope_ = Linear(envelope.t(), -at::matmul(band_log, envelope) - source_log);
  for (std::int64_t i = 0; i < kF0Bins; ++i) {
    log_f0_.push_back(static_cast<float>(std::log(kF0MinHz) +
                                         std::log(kF0MaxHz / kF0MinHz) * static_cast<double>(i) / (kF0Bins - 1)));
  }
}

SourceFilterVocoder::State SourceFilterVocoder::initial_state(std::uint64_t seed) const {
  State state;
  state.f0 = f0_.initial_state();
  state.body = body_.initial_state();
  state.last_voiced_hz = kF0StartHz;
  state.pulse_start = -kPad;
  state.overlap_start = -kPad;
  state.noise = GaussianNoise(seed, kNoiseStream);
  return state;
}

std::vector<float> SourceFilterVocoder::f0_of(const at::Tensor& logits) const {
  const std::int64_t frames = logits.size(0);
  std::vector<float> hz(static_cast<std::size_t>(frames), 0.0F);
  const auto* rows = logits.data_ptr<float>();
  for (std::int64_t t = 0; t < frames; ++t) {
    const float* o = rows + t * (kF0Bins + 1);
    if (!(o[kF0Bins] > 0.0F)) {
      continue;
    }
    const auto best = static_cast<std::int64_t>(std::max_element(o, o + kF0Bins) - o);
    float sum = 0;
    float mean = 0;  // softmax-weighted log F0 of the bins around the best
    for (std::int64_t i = std::max<std::int64_t>(0, best - 2); i <= std::min(kF0Bins - 1, best + 2); ++i) {
      const float w = std::exp(o[i] - o[best]);
      sum += w;
      mean += w * log_f0_[static_cast<std::size_t>(i)];
    }
    hz[static_cast<std::size_t>(t)] = std::exp(mean / sum);
  }
  return hz;
}

std::vector<float> SourceFilterVocoder::predict_f0(const at::Tensor& mel) const {
  check_shape(mel, {-1, kMel}, "vocoder mel");
  BodyState state = f0_.initial_state();
  return f0_of(f0_out_(f0_.step(normalize_mel(mel.narrow(1, 0, kF0Mel)), state, true)));
}

/// Band-limited pulse train of unit power in voiced frames: K = floor(12000 / f0) equal cosines in closed form
/// (Dirichlet kernel). Frame t's F0 sits on sample 256 t + 128, linear in between, held at both ends.
void SourceFilterVocoder::extend_pulses(State& state, std::int64_t until, bool last) const {
  const std::int64_t top = state.f0_frames - 1;
  std::int64_t s = state.pulse_start + static_cast<std::int64_t>(state.pulses.size());
  for (; s < until; ++s) {
    double position = std::max(0.0, (static_cast<double>(s) - kHop / 2.0) / kHop);
    if (last) {
      position = std::min(position, static_cast<double>(top));
    }
    const auto i = static_cast<std::int64_t>(position);
    const std::int64_t j = std::min(i + 1, top);
    const auto w = static_cast<float>(position - static_cast<double>(i));
    const auto a = static_cast<std::size_t>(i - state.held_start);
    const auto b = static_cast<std::size_t>(j - state.held_start);
    const float gain = state.voiced[a] * (1.0F - w) + state.voiced[b] * w;
    const float hz = state.held[a] * (1.0F - w) + state.held[b] * w;
    state.phase += static_cast<double>(hz) / kRateHz;
    state.phase -= std::floor(state.phase);
    float pulse = 0;
    if (gain > 0) {
      const auto theta = static_cast<float>(state.phase * 2.0 * std::numbers::pi);
      const float harmonics = std::floor(static_cast<float>(kRateHz / 2) / hz);
      const float d = std::sin(theta / 2.0F);
      const float sum = std::abs(d) < 1e-3F ? harmonics : std::sin((harmonics + 0.5F) * theta) / (2.0F * d) - 0.5F;
      pulse = sum * std::sqrt(2.0F / harmonics) * gain;
    }
    state.pulses.push_back(pulse);
  }
}

std::vector<float> SourceFilterVocoder::advance(const at::Tensor& mel, State& state, bool last) const {
  check_shape(mel, {-1, kMel}, "vocoder mel");
  state.mel.append(mel);
  const std::int64_t total = state.mel.size();
  if (total == 0) {
    return {};
  }

  // F0 of the frames that have 3 frames of context.
  const at::Tensor f0_hidden = f0_.step(normalize_mel(mel.narrow(1, 0, kF0Mel)), state.f0, last);
  const std::int64_t n_f0 = f0_hidden.size(0);
  at::Tensor body_in = at::zeros({n_f0, kMel + 2}, mel.options());
  if (n_f0 > 0) {
    const std::vector<float> hz = f0_of(f0_out_(f0_hidden));
    body_in.narrow(1, 0, kMel).copy_(normalize_mel(state.mel.slice(state.f0_frames, state.f0_frames + n_f0)));
    auto* rows = body_in.data_ptr<float>();
    for (std::size_t t = 0; t < hz.size(); ++t) {
      const bool voiced = hz[t] > 0;
      if (voiced) {
        state.last_voiced_hz = hz[t];
        rows[t * (kMel + 2) + kMel] = std::log(std::max(hz[t], static_cast<float>(kF0MinHz)) / kF0CentreHz);
        rows[t * (kMel + 2) + kMel + 1] = 1.0F;
      }
      state.held.push_back(state.last_voiced_hz);
      state.voiced.push_back(voiced ? 1.0F : 0.0F);
    }
    state.f0_frames += n_f0;
  }

  // Spectra of the frames that have 3 frames of F0 and mel on their right.
  const at::Tensor hidden = body_.step(body_in, state.body, last);
  const std::int64_t n = hidden.size(0);
  if (n > 0) {
    const std::int64_t first = state.spectra;
    const std::int64_t first_sample = first * kHop - kPad;
    const std::int64_t n_samples = (n - 1) * kHop + kFft;
    extend_pulses(state, first_sample + n_samples, last);

    const at::Tensor o = out_(hidden);
    const at::Tensor base = envelope_(state.mel.slice(first, first + n));
    const at::Tensor harmonic_gain = (base + o.narrow(1, 0, kBins)).clamp_max_(kMaxLogGain).exp_();
    const at::Tensor noise_gain = base.add(o.narrow(1, kBins, kBins)).clamp_max_(kMaxLogGain).exp_();
    const at::Tensor phase = o.narrow(1, 2 * kBins, kBins) * 2.0;

    std::vector<float> noise(static_cast<std::size_t>(n_samples));
    state.noise.fill(first_sample, noise);
    float* pulses = state.pulses.data() + (first_sample - state.pulse_start);
    const at::Tensor source = at::fft_rfft(frames_of(pulses, n) * window_);
    const at::Tensor breath = at::fft_rfft(frames_of(noise.data(), n) * window_);
    const at::Tensor spectrum = at::polar(harmonic_gain, phase) * source + noise_gain * breath;
    const at::Tensor frames = (at::fft_irfft(spectrum, kFft) * synthesis_window_).contiguous();

    const auto end = static_cast<std::size_t>(first_sample + n_samples - state.overlap_start);
    if (state.overlap.size() < end) {
      state.overlap.resize(end, 0.0F);
    }
    const auto* values = frames.data_ptr<float>();
    for (std::int64_t t = 0; t < n; ++t) {
      float* at = state.overlap.data() + (first_sample + t * kHop - state.overlap_start);
      for (std::int64_t i = 0; i < kFft; ++i) {
        at[i] += values[t * kFft + i];
      }
    }
    state.spectra += n;

    // What no later frame can need.
    state.mel.drop_before(std::min(state.spectra, state.f0_frames));
    const std::int64_t next_sample = state.spectra * kHop - kPad;
    state.pulses.erase(state.pulses.begin(), state.pulses.begin() + (next_sample - state.pulse_start));
    state.pulse_start = next_sample;
    const std::int64_t pulse_end = state.pulse_start + static_cast<std::int64_t>(state.pulses.size());
    const std::int64_t keep = std::max<std::int64_t>(0, (pulse_end - kHop / 2) / kHop);
    const std::int64_t drop = std::min(keep, state.f0_frames - 1) - state.held_start;
    if (drop > 0) {
      state.held.erase(state.held.begin(), state.held.begin() + drop);
      state.voiced.erase(state.voiced.begin(), state.voiced.begin() + drop);
      state.held_start += drop;
    }
  }

  // Samples that no later frame overlaps; those before 0 belong to the padding.
  const std::int64_t until = last ? total * kHop : state.spectra * kHop - kPad;
  const std::int64_t from = std::max<std::int64_t>(0, state.overlap_start);
  std::vector<float> wave;
  if (until > from) {
    const auto begin = state.overlap.begin() + (from - state.overlap_start);
    wave.assign(begin, begin + (until - from));
    if (amplified_) {
      limit_peaks(wave);
    }
  }
  if (until > state.overlap_start) {
    state.overlap.erase(state.overlap.begin(), state.overlap.begin() + (until - state.overlap_start));
    state.overlap_start = until;
  }
  return wave;
}

std::vector<float> SourceFilterVocoder::step(const at::Tensor& mel, State& state) const {
  return advance(mel, state, false);
}

std::vector<float> SourceFilterVocoder::finish(const at::Tensor& mel, State& state) const {
  return advance(mel, state, true);
}

std::vector<float> SourceFilterVocoder::finish(State& state) const {
  return advance(at::empty({0, kMel}, at::kFloat), state, true);
}

}  // namespace tts
