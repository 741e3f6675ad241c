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

WindowConv pointwise(const WeightScope& scope, std::int64_t in, std::int64_t out, at::Device device) {
  return {scope.get("weight", {out, in, 1}), scope.get("bias", {out}), Placement{device}};
}

}  // namespace

/// A window of the flow.
struct CfmWindows::FlowPiece {
  TokenRenderer::Job* job;
  Stream* stream;
  at::Tensor mu;      ///< [frames, feature_dim], prompt included
  at::Tensor prompt;  ///< [n, mel]: the frames that are known
  at::Tensor noise;   ///< [frames, mel], zeros for those
  FlowWindowSpan span{};
  WindowShape shape{};
  at::Tensor rows{};  ///< the new frames

  void fill(const std::vector<at::Tensor>& inputs, std::int64_t row) const {
    frames_to_row(mu, inputs[0], row);
    frames_to_row(prompt, inputs[1], row);
    frames_to_row(noise, inputs[2], row);
    auto* counts = inputs[3].data_ptr<std::int64_t>() + 2 * row;
    counts[0] = prompt.size(0);
    counts[1] = mu.size(0);
  }
  void take(const at::Tensor& result) { rows = result.narrow(0, prompt.size(0), mu.size(0) - prompt.size(0)).clone(); }
};

class CfmWindows::Stream final : public WindowStream {
 public:
  Stream(const CfmWindows& model, std::span<const std::int32_t> phonemes, const Speaker& speaker,
         const AcousticOptions& options)
      : model_(model),
        speaker_(speaker),
        tokens_(model.front_, phonemes, speaker.encoder, options.speed),
        speed_(options.speed),
        prompt_(CfmModel::prompt_of(speaker.prompt, model.config_, options)),
        plan_(model.plan(options.schedule(model.config_.flow))),
        noise_(options.seed, CfmModel::kNoiseStream),
        mel_(CfmModel::window_policy(model.config_, prompt_.mel.size(0))) {}

  RenderGroup group(std::int64_t n_tokens, bool last) const override {
    const auto frames =
        static_cast<std::int64_t>(static_cast<double>(tokens_.frames_after(n_tokens, last)) * model_.features_.rate());
    const std::int64_t fresh = std::max<std::int64_t>(0, frames - mel_.made());
    return {&model_, std::min<std::int64_t>(fresh / kFlowBucket, 7)};
  }

  void push_together(std::span<Job> jobs) override { model_.push_together(jobs); }

  [[nodiscard]] WindowFront::Tokens& tokens() { return tokens_; }

  /// What the encoder made, at the mel's rate.
  void resample(std::span<const WindowFront::Block> blocks) {
    const at::Tensor fresh = tokens_.frames(blocks);
    if (fresh.size(0) > 0) encoded_.append(fresh);
    resize_nearest(encoded_, resized_, model_.features_.rate());
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
  void plan_flow(Job& job, std::vector<FlowPiece>& pieces) {
    if (!model_.front_.policy().lookahead) return;  // see sample_all()
    const auto window = mel_.next(mu_.size(), tokens_.ended());
    if (!window) return;
    add_flow(job, at::cat({prompt_.features, mu_.slice(window->begin - window->context, window->until)}),
             mel_.known(*window, prompt_.mel), window->begin, pieces);
    pieces.back().span = *window;
  }

  void take(const FlowPiece& piece) {
    heard_.append(denormalize_mel(mel_.take(piece.span, piece.rows)));
    mu_.drop_before(mel_.first_needed());
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
  /// New frames from `first` on.
  void add_flow(Job& job, const at::Tensor& mu, const at::Tensor& prompt, std::int64_t first,
                std::vector<FlowPiece>& pieces) {
    const std::int64_t bands = model_.config_.dit.mel;
    at::Tensor noise = at::zeros({mu.size(0), bands}, at::kFloat);
    noise_.fill(first * bands,
                {noise.data_ptr<float>() + prompt.numel(), static_cast<std::size_t>(noise.numel() - prompt.numel())});
    noise.mul_(plan_->schedule.temperature);
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
  FrameBuffer encoded_;  ///< 50 Hz
  FrameBuffer resized_;  ///< the same at the mel's rate
  FrameBuffer mu_;       ///< the flow's conditioning
  WindowedMel mel_;
  FrameBuffer heard_;         ///< the same, as the vocoder takes them
  std::int64_t sounded_ = 0;  ///< mel frames that are samples
};

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
      refine_windows_(WindowPolicy::of(features_.context(), {64, 96, 200})),
      lanes_(options_.placement.device, options_.lanes, options_.make_lane) {
  if (config.form == ModelForm::v3) {
    bigvgan_.emplace(vocoder, CfmModel::bigvgan_config(config), options_.placement);
  } else {
    hifigan_.emplace(vocoder, CfmModel::hifigan_config(config), options_.placement);
  }
  vocoder_windows_ = WindowPolicy::of(bigvgan_ ? bigvgan_->context() : hifigan_->context(), {24, 88, 200});
  const c10::InferenceMode inference;
  (void)plan(config.flow);
}

CfmWindows::~CfmWindows() = default;

std::shared_ptr<const CfmWindows::Plan> CfmWindows::plan(const FlowSchedule& schedule) const {
  return plans_.get(schedule, [&] { return Plan{dit_.make_plan(schedule), plans_made_++}; });
}

CfmWindows::Speaker CfmWindows::make_speaker(const SovitsFront::Reference& reference, const at::Tensor& mel,
                                             std::span<const std::int32_t> tokens,
                                             std::span<const std::int32_t> phonemes) const {
  const c10::InferenceMode inference;
  CfmModel::Speaker made = CfmModel::make_speaker(front_.front(), features_, config_, reference, mel, tokens, phonemes);
  return {to_numbers(made.front.text_ge), to_numbers(made.prepared), std::move(made.prompt)};
}

std::unique_ptr<TokenRenderer> CfmWindows::begin(std::span<const std::int32_t> phonemes, const Speaker& speaker,
                                                 const AcousticOptions& options) const {
  const c10::InferenceMode inference;
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
  const std::int64_t condition = config_.wns_layers * 2 * config_.feature_dim;
  return {.key = {1, width},
          .recurring = refine_windows_.recurs(width),
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
            return dit_.sample(in[0], in[1], in[2], in[3], *plan);
          }};
}

WindowShape CfmWindows::vocoder_shape(std::int64_t width) const {
  return {.key = {3, width},
          .recurring = vocoder_windows_.recurs(width),
          .inputs = {{{width, config_.dit.mel}}},
          .function = [this](const std::vector<at::Tensor>& in) {
            return bigvgan_ ? bigvgan_->forward(in[0]) : hifigan_->forward(in[0], {});
          }};
}

void CfmWindows::push_together(std::span<TokenRenderer::Job> jobs) const {
  const c10::InferenceMode inference;
  DeviceLanes::Held lane(lanes_);
  using Job = TokenRenderer::Job;
  std::vector<WindowFront::Block> blocks;
  for_each_stream<Stream>(jobs, [&](Job& job, Stream& stream) { stream.tokens().accept(job, blocks); });
  run_windows(lane, options_, blocks);
  for_each_stream<Stream>(jobs, [&](Job&, Stream& stream) { stream.resample(blocks); });
  std::vector<Piece> refine;
  for_each_stream<Stream>(jobs, [&](Job& job, Stream& stream) { stream.plan_refine(job, refine); });
  run_pieces(lane, options_, refine);
  for (bool more = true; more;) {  // a window of each stream at a time
    std::vector<FlowPiece> flow;
    for_each_stream<Stream>(jobs, [&](Job& job, Stream& stream) { stream.plan_flow(job, flow); });
    more = !flow.empty();
    run_pieces(lane, options_, flow);
  }
  for_each_stream<Stream>(jobs, [&](Job& job, Stream& stream) { stream.sample_all(job, lane); });
  std::vector<Piece> sound;
  for_each_stream<Stream>(jobs, [&](Job& job, Stream& stream) { stream.plan_vocoder(job, sound); });
  run_pieces(lane, options_, sound);
}

}  // namespace tts
