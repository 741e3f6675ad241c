#include "models/cfm_windows.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/leaky_relu.h>
#include <ATen/ops/zeros.h>
#include <c10/core/InferenceMode.h>

#include "models/convnext.h"
#include "models/noise.h"

namespace tts {
namespace {

constexpr std::int64_t kFlowBucket = 64;  // frames

WindowPolicy windows_of(std::int64_t context, std::int64_t first, std::int64_t middle, std::int64_t widest) {
  return {.context = context, .widths = {2 * context + first, 2 * context + middle, 2 * context + widest}};
}

WindowConv pointwise(const WeightScope& scope, std::int64_t in, std::int64_t out, at::Device device) {
  return {scope.get("weight", {out, in, 1}), scope.get("bias", {out}), Placement{device}};
}

}  // namespace

/// A window of the conditioning or of the vocoder.
struct CfmWindows::Piece {
  TokenRenderer::Job* job;
  Stream* stream;
  Window window;
  bool sounds;       ///< of the vocoder
  std::int64_t per;  ///< rows of the result that a frame becomes
  WindowShape shape{};
  at::Tensor rows{};

  void fill(const std::vector<at::Tensor>& inputs, std::int64_t row) const;
  void take(const at::Tensor& result) { rows = result.narrow(0, window.skip * per, window.take * per).clone(); }
};

/// A window of the flow.
struct CfmWindows::FlowPiece {
  TokenRenderer::Job* job;
  Stream* stream;
  at::Tensor mu;      ///< [frames, feature_dim], prompt included
  at::Tensor prompt;  ///< [n, mel]: the frames that are known
  at::Tensor noise;   ///< [frames - n, mel]
  FlowWindowSpan span{};
  WindowShape shape{};
  at::Tensor rows{};  ///< the new frames

  void fill(const std::vector<at::Tensor>& inputs, std::int64_t row) const {
    frames_to_row(mu, inputs[0], row);
    frames_to_row(prompt, inputs[1], row);
    frames_to_row(at::cat({at::zeros_like(prompt), noise}), inputs[2], row);
    auto* counts = inputs[3].data_ptr<std::int64_t>() + 2 * row;
    counts[0] = prompt.size(0);
    counts[1] = mu.size(0);
  }
  void take(const at::Tensor& result) { rows = result.narrow(0, prompt.size(0), noise.size(0)).clone(); }
};

class CfmWindows::Stream final : public TokenRenderer {
 public:
  Stream(const CfmWindows& model, std::span<const std::int32_t> phonemes, const Speaker& speaker,
         const AcousticOptions& options)
      : model_(model),
        speaker_(speaker),
        tokens_(model.front_, phonemes, speaker.encoder, options.speed),
        speed_(options.speed),
        prompt_(CfmModel::shortened(speaker.prompt,
                                    options.prompt_frames > 0 ? options.prompt_frames : model.config_.prompt_frames)),
        plan_(model.plan(options.schedule(model.config_.flow))),
        noise_(options.seed, CfmModel::kNoiseStream) {}

  std::vector<float> push(std::span<const std::int32_t> tokens, bool last) override {
    Job job{.stream = this, .tokens = tokens, .last = last};
    model_.push_together({&job, 1});
    if (job.failure) throw ModelError(job.failure->detail);
    return std::move(job.samples);
  }

  RenderGroup group(std::int64_t n_tokens, bool last) const override {
    const auto frames =
        static_cast<std::int64_t>(static_cast<double>(tokens_.frames_after(n_tokens, last)) * model_.features_.rate());
    const std::int64_t fresh = std::max<std::int64_t>(0, frames - made_);
    return {&model_, std::min<std::int64_t>(fresh / kFlowBucket, 7)};
  }

  void push_together(std::span<Job> jobs) override { model_.push_together(jobs); }

  [[nodiscard]] WindowFront::Tokens& tokens() { return tokens_; }

  /// What the encoder made, at the mel's rate.
  void resample(std::span<const WindowFront::Block> blocks) {
    const at::Tensor fresh = tokens_.frames(blocks);
    if (fresh.size(0) > 0) encoded_.append(fresh);
    const double rate = model_.features_.rate();
    const std::int64_t before = resized_.size();
    const auto total = static_cast<std::int64_t>(std::floor(static_cast<double>(encoded_.size()) * rate));
    if (total <= before) return;
    const std::int64_t base = nearest_source(before, rate);
    at::Tensor index = at::empty({total - before}, at::kLong);
    for (std::int64_t i = before; i < total; ++i) {
      index.data_ptr<std::int64_t>()[i - before] = std::min(nearest_source(i, rate), encoded_.size() - 1) - base;
    }
    resized_.append(encoded_.slice(base, encoded_.size()).index_select(0, index));
    encoded_.drop_before(nearest_source(total, rate));
  }

  void plan_refine(Job& job, std::vector<Piece>& pieces) {
    // At another speed the length rule may mask the very last frames, which then count as zeros.
    const std::int64_t kept_back = tokens_.ended() || speed_ == 1.0 ? 0 : 2;
    const std::int64_t total = std::max<std::int64_t>(0, resized_.size() - kept_back);
    for (const Window& w : plan_windows(model_.refine_windows_, mu_.size(), total, tokens_.ended())) {
      pieces.push_back({&job, this, w, false, 1, model_.refine_shape(w.width)});
    }
  }
  void plan_vocoder(Job& job, std::vector<Piece>& pieces) {
    for (const Window& w : plan_windows(model_.vocoder_windows_, sounded_, heard_.size(), tokens_.ended())) {
      pieces.push_back({&job, this, w, true, model_.hop_samples(), model_.vocoder_shape(w.width)});
    }
  }

  void fill(const Piece& piece, const std::vector<at::Tensor>& inputs, std::int64_t row) const {
    const FrameBuffer& from = piece.sounds ? heard_ : resized_;
    const Window& w = piece.window;
    frames_to_row(from.slice(w.begin, std::min(from.size(), w.begin + w.width)), inputs[0], row);
    if (piece.sounds) return;
    numbers_to_row(speaker_.conditioning, inputs[1], row);
    const std::int64_t valid =
        tokens_.ended() ? model_.features_.valid_frames(tokens_.count(), speed_) - w.begin : w.width;
    inputs[2].data_ptr<std::int64_t>()[row] = std::clamp<std::int64_t>(valid, 0, w.width);
  }

  /// Takes a piece of its own, in their order.
  void take(const Piece& piece) {
    if (piece.sounds) {
      piece.job->samples.insert(piece.job->samples.end(), piece.rows.data_ptr<float>(),
                                piece.rows.data_ptr<float>() + piece.rows.numel());
      sounded_ += piece.window.take;
      heard_.drop_before(first_needed(model_.vocoder_windows_, sounded_));
    } else {
      mu_.append(piece.rows);
      resized_.drop_before(first_needed(model_.refine_windows_, mu_.size()));
    }
  }

  /// The next window of the flow, if all it needs is there; each begins with what the one before made.
  bool plan_flow(Job& job, std::vector<FlowPiece>& pieces) {
    if (!model_.front_.policy().lookahead) return false;  // see sample_all()
    const FlowWindowPolicy policy = windows();
    const auto window = flow_window(policy, window_, made_, mu_.size(), tokens_.ended());
    if (!window) return false;
    at::Tensor known = prompt_.mel;
    if (window->context > 0) known = at::cat({known, mel_.slice(window->begin - window->context, window->begin)});
    add_flow(job, at::cat({prompt_.features, mu_.slice(window->begin - window->context, window->until)}), known,
             window->begin, pieces);
    pieces.back().span = *window;
    return true;
  }

  void take(const FlowPiece& piece) {
    const FlowWindowPolicy policy = windows();
    const auto [context, begin, end, until] = piece.span;
    const at::Tensor fresh = piece.rows;
    if (before_.defined()) {
      const std::int64_t n = std::min(before_.size(0), fresh.size(0));
      fresh.narrow(0, 0, n).copy_(splice_mel(before_.narrow(0, 0, n), fresh));
    }
    before_ = until > end ? fresh.narrow(0, end - begin, until - end) : at::Tensor();
    const at::Tensor kept = fresh.narrow(0, 0, end - begin);
    mel_.append(kept);
    heard_.append(denormalize_mel(kept));
    made_ = end;
    mel_.drop_before(made_ - policy.context);
    mu_.drop_before(made_ - policy.context);
    ++window_;
  }

  /// Upstream's serial loop, once all is known.
  void sample_all(Job& job, DeviceLanes::Held& lane) {
    if (model_.front_.policy().lookahead || !tokens_.ended() || mu_.size() == 0) return;
    std::int64_t first = 0;
    const at::Tensor mel =
        sample_serial(prompt_, mu_.slice(0, mu_.size()), CfmModel::max_window_frames(model_.config_.form),
                      [&](const at::Tensor& mu, const at::Tensor& prompt) {
                        std::vector<FlowPiece> piece;
                        add_flow(job, mu.squeeze(0), prompt.squeeze(0), first, piece);
                        run_windows(lane, model_.options_, piece);
                        if (job.failure) throw ModelError(job.failure->detail);
                        first += piece[0].rows.size(0);
                        return at::cat({prompt.squeeze(0), piece[0].rows}).unsqueeze(0);
                      });
    heard_.append(denormalize_mel(mel));
  }

 private:
  [[nodiscard]] FlowWindowPolicy windows() const {
    FlowWindowPolicy policy = model_.windows_;
    policy.most = std::clamp<std::int64_t>(
        CfmModel::max_window_frames(model_.config_.form) - prompt_.mel.size(0) - policy.context - policy.overlap, 1,
        policy.most);
    return policy;
  }

  /// New frames from `first` on.
  void add_flow(Job& job, const at::Tensor& mu, const at::Tensor& prompt, std::int64_t first,
                std::vector<FlowPiece>& pieces) {
    const std::int64_t bands = model_.config_.dit.mel;
    at::Tensor noise = at::empty({mu.size(0) - prompt.size(0), bands}, at::kFloat);
    noise_.fill(first * bands, {noise.data_ptr<float>(), static_cast<std::size_t>(noise.numel())});
    pieces.push_back({&job, this, mu, prompt, noise});
    pieces.back().shape = model_.flow_shape(mu.size(0), plan_);
  }

  const CfmWindows& model_;
  const Speaker& speaker_;
  WindowFront::Tokens tokens_;
  const double speed_;
  const FlowPrompt prompt_;  ///< of the speaker's, what a window sees
  const std::shared_ptr<const Plan> plan_;
  const GaussianNoise noise_;
  FrameBuffer encoded_;       ///< 50 Hz
  FrameBuffer resized_;       ///< the same at the mel's rate
  FrameBuffer mu_;            ///< the flow's conditioning
  FrameBuffer mel_;           ///< frames made, normalised: the context of the next window
  FrameBuffer heard_;         ///< the same, as the vocoder takes them
  at::Tensor before_;         ///< the last window's version of the next frames
  std::int64_t made_ = 0;     ///< mel frames made
  std::int64_t window_ = 0;   ///< windows made
  std::int64_t sounded_ = 0;  ///< mel frames that are samples
};

void CfmWindows::Piece::fill(const std::vector<at::Tensor>& inputs, std::int64_t row) const {
  stream->fill(*this, inputs, row);
}

CfmWindows::CfmWindows(const WeightScope& acoustic, const WeightScope& vocoder, const PublishedConfig& config,
                       Options options)
    : options_(std::move(options)),
      config_(config),
      windows_(CfmModel::window_policy(config)),
      front_(acoustic, config, CfmModel::prefix_policy(config), false, options_),
      features_(acoustic.with(Precision::fp32), CfmModel::feature_config(config)),
      bridge_(pointwise(acoustic("bridge.0"), config.hidden, config.feature_dim, options_.placement.device)),
      pre_(pointwise(acoustic("wns1.pre"), config.feature_dim, config.feature_dim, options_.placement.device)),
      proj_(pointwise(acoustic("wns1.proj"), config.feature_dim, config.feature_dim, options_.placement.device)),
      wavenet_(acoustic("wns1.enc"), config.feature_dim, config.wns_layers, 5, Placement{options_.placement.device}),
      dit_(acoustic("cfm.estimator"), config.dit, options_.placement),
      refine_windows_(windows_of(features_.context(), 64, 96, 200)),
      lanes_(options_.placement.device, options_.lanes, options_.make_lane) {
  if (config.form == ModelForm::v3) {
    bigvgan_.emplace(vocoder,
                     BigvganConfig{.in = config.dit.mel,
                                   .channels = config.vocoder_channels,
                                   .rates = config.upsample_rates,
                                   .kernels = config.upsample_kernels},
                     options_.placement);
  } else {
    HifiganConfig c;
    c.in = config.dit.mel;
    c.channels = config.vocoder_channels;
    c.rates = config.upsample_rates;
    c.kernels = config.upsample_kernels;
    hifigan_.emplace(vocoder, c, options_.placement);
  }
  vocoder_windows_ = windows_of(bigvgan_ ? bigvgan_->context() : hifigan_->context(), 24, 88, 200);
  const c10::InferenceMode inference;
  (void)plan(config.flow);
}

CfmWindows::~CfmWindows() = default;

std::int64_t CfmWindows::hop_samples() const {
  return bigvgan_ ? bigvgan_->hop_samples() : hifigan_->hop_samples();
}

std::shared_ptr<const CfmWindows::Plan> CfmWindows::plan(const FlowSchedule& schedule) const {
  constexpr std::size_t kKept = 8;
  const std::lock_guard lock(plans_mutex_);
  for (const auto& known : plans_) {
    if (known->plan.schedule == schedule) return known;
  }
  auto made = std::make_shared<const Plan>(Plan{dit_.make_plan(schedule), plans_made_++});
  if (plans_.size() == kKept) plans_.erase(plans_.begin() + 1);
  plans_.push_back(made);
  return made;
}

CfmWindows::Speaker CfmWindows::make_speaker(const SovitsFront::Reference& reference, const at::Tensor& mel,
                                             std::span<const std::int32_t> tokens,
                                             std::span<const std::int32_t> phonemes) const {
  const c10::InferenceMode inference;
  check_shape(mel, {-1, config_.dit.mel}, "reference mel");
  if (tokens.empty() || phonemes.empty()) {
    throw ModelError("reference: got no tokens or no phonemes, wanted both (v3 and v4 continue the reference)");
  }
  const SovitsFront::Speaker front = front_.make_speaker(std::span(&reference, 1));
  const at::Tensor prepared = features_.prepare(front.ge);
  const SovitsFront& cpu = front_.front();
  const at::Tensor frames = cpu.encoder().encode(cpu.quantize(to_index(tokens)),
                                                 cpu.encoder().encode_text(to_index(phonemes)), front.text_ge);
  const at::Tensor features =
      features_.forward(frames, prepared, features_.valid_frames(static_cast<std::int64_t>(tokens.size()), 1.0));
  const FlowPrompt prompt = make_flow_prompt(normalize_mel(mel), features, CfmModel::max_prompt_frames(config_.form));
  return {to_numbers(front.text_ge), to_numbers(prepared), {prompt.mel.contiguous(), prompt.features.contiguous()}};
}

std::unique_ptr<TokenRenderer> CfmWindows::begin(std::span<const std::int32_t> phonemes, const Speaker& speaker,
                                                 const AcousticOptions& options) const {
  const c10::InferenceMode inference;
  if (options.prompt_frames < 0) {
    throw ModelError("prompt frames: got " + std::to_string(options.prompt_frames) + ", wanted >= 0");
  }
  return std::make_unique<Stream>(*this, phonemes, speaker, options);
}

std::optional<std::int64_t> CfmWindows::first_audio_tokens() const {
  const PrefixPolicy& policy = front_.policy();
  if (!policy.lookahead) return std::nullopt;
  for (std::int64_t i = 0;; ++i) {
    const std::int64_t end = policy.block_end(i);
    const auto mel = static_cast<std::int64_t>(std::floor(2.0 * static_cast<double>(end) * features_.rate()));
    // Windows grow, so the first one is the one that decides, unless the vocoder holds back all of it.
    std::int64_t made = 0;
    std::int64_t known = mel - features_.context();
    for (std::int64_t n = 0;; ++n) {
      const auto window = flow_window(windows_, n, made, known, false);
      if (!window) break;
      made = window->end;
    }
    if (made > vocoder_windows_.context) return end + *policy.lookahead;
  }
}

WindowShape CfmWindows::refine_shape(std::int64_t width) const {
  const auto& widths = refine_windows_.widths;
  const std::int64_t condition = config_.wns_layers * 2 * config_.feature_dim;
  return {.key = {1, width},
          .recurring = std::binary_search(widths.begin(), widths.end(), width),
          .inputs = {{{width, config_.hidden}}, {{condition}}, {{}, at::kLong}},
          .function = [this, width](const std::vector<at::Tensor>& in) {
            const at::Tensor mask = length_mask(in[2], width).transpose(1, 2);
            const at::Tensor bridged = at::leaky_relu(bridge_(in[0].transpose(1, 2)), 0.01);
            const at::Tensor h = wavenet_.forward(pre_(bridged) * mask, in[1].unsqueeze(2), mask);
            return (proj_(h) * mask).transpose(1, 2).contiguous();
          }};
}

WindowShape CfmWindows::flow_shape(std::int64_t frames, const std::shared_ptr<const Plan>& plan) const {
  const std::int64_t width = (frames + kFlowBucket - 1) / kFlowBucket * kFlowBucket;
  const bool own = plan->number == 0;
  return {.key = {2, width, plan->number},
          .recurring = own,
          .inputs = {{{width, config_.feature_dim}},
                     {{width, config_.dit.mel}},
                     {{width, config_.dit.mel}},
                     {{2}, at::kLong}},
          .function = [this, plan](const std::vector<at::Tensor>& in) {
            return dit_.sample(in[0], in[1], in[2], in[3], plan->plan);
          }};
}

WindowShape CfmWindows::vocoder_shape(std::int64_t width) const {
  const auto& widths = vocoder_windows_.widths;
  return {.key = {3, width},
          .recurring = std::binary_search(widths.begin(), widths.end(), width),
          .inputs = {{{width, config_.dit.mel}}},
          .function = [this](const std::vector<at::Tensor>& in) {
            return bigvgan_ ? bigvgan_->forward(in[0]) : hifigan_->forward(in[0], {});
          }};
}

void CfmWindows::push_together(std::span<TokenRenderer::Job> jobs) const {
  const c10::InferenceMode inference;
  DeviceLanes::Held lane(lanes_);
  const auto for_each = [&](const auto& work) {
    for_each_job(jobs, [&](TokenRenderer::Job& job) { work(job, *static_cast<Stream*>(job.stream)); });
  };
  const auto run = [&](auto& pieces) {
    run_windows(lane, options_, pieces);
    for (const auto& piece : pieces) {
      if (!piece.job->failure) piece.stream->take(piece);
    }
  };
  std::vector<WindowFront::Block> blocks;
  for_each([&](TokenRenderer::Job& job, Stream& stream) { stream.tokens().accept(job, blocks); });
  run_windows(lane, options_, blocks);
  for_each([&](TokenRenderer::Job&, Stream& stream) { stream.resample(blocks); });
  std::vector<Piece> refine;
  for_each([&](TokenRenderer::Job& job, Stream& stream) { stream.plan_refine(job, refine); });
  run(refine);
  for (bool more = true; more;) {  // a window of each stream at a time
    std::vector<FlowPiece> flow;
    for_each([&](TokenRenderer::Job& job, Stream& stream) { (void)stream.plan_flow(job, flow); });
    more = !flow.empty();
    run(flow);
  }
  for_each([&](TokenRenderer::Job& job, Stream& stream) { stream.sample_all(job, lane); });
  std::vector<Piece> sound;
  for_each([&](TokenRenderer::Job& job, Stream& stream) { stream.plan_vocoder(job, sound); });
  run(sound);
}

}  // namespace tts
