#include "models/vits_windows.h"

#include <algorithm>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/exp.h>
#include <c10/core/InferenceMode.h>

#include "models/convnext.h"
#include "models/noise.h"
#include "models/vits_model.h"

namespace tts {
namespace {

constexpr std::int64_t kBenchPhonemes = 96;

}  // namespace

class VitsWindows::Stream final : public WindowStream {
 public:
  Stream(const VitsWindows& model, std::span<const std::int32_t> phonemes, const Speaker& speaker,
         const AcousticOptions& options)
      : model_(model),
        speaker_(speaker),
        tokens_(model.front_, phonemes, speaker.encoder, options.speed),
        noise_(options.seed, VitsModel::kNoiseStream) {}

  RenderGroup group(std::int64_t n_tokens, bool last) const override {
    const std::int64_t frames = tokens_.frames_after(n_tokens, last);
    const std::int64_t shaped = last ? frames : std::max(shaped_, frames - model_.flow_windows_.context);
    const std::int64_t rest = shaped - std::max<std::int64_t>(0, sounded_ - model_.decoder_windows_.context);
    return {&model_, std::min(bucket_of(model_.decoder_windows_.widths, rest), model_.decoder_windows_.widths.back())};
  }

  void push_together(std::span<Job> jobs) override { model_.push_together(jobs); }

  [[nodiscard]] WindowFront::Tokens& tokens() { return tokens_; }

  void fill(const Piece& piece, const std::vector<at::Tensor>& inputs, std::int64_t row) const {
    const FrameBuffer& from = piece.sounds ? z_ : z_p_;
    const Window& w = piece.window;
    frames_to_row(from.slice(w.begin, std::min(from.size(), w.begin + w.width)), inputs[0], row);
    numbers_to_row(piece.sounds ? speaker_.decoder : speaker_.flow, inputs[1], row);
  }

  /// Latents of what the encoder made.
  void draw(std::span<const WindowFront::Block> blocks) {
    const std::int64_t hidden = model_.config_.hidden;
    const at::Tensor stats = tokens_.frames(blocks);
    if (stats.size(0) == 0) return;
    at::Tensor noise = at::empty({stats.size(0), hidden}, at::kFloat);
    noise_.fill(z_p_.size() * hidden, {noise.data_ptr<float>(), static_cast<std::size_t>(noise.numel())});
    z_p_.append(stats.narrow(1, 0, hidden) + noise * at::exp(stats.narrow(1, hidden, hidden)) * VitsModel::kNoiseScale);
  }

  void plan_flow(Job& job, std::vector<Piece>& pieces) {
    for (const Window& w : plan_windows(model_.flow_windows_, shaped_, z_p_.size(), tokens_.ended())) {
      pieces.push_back({&job, this, w, false, 1, model_.flow_shape(w.width)});
    }
  }
  void plan_decoder(Job& job, std::vector<Piece>& pieces) {
    for (const Window& w : plan_windows(model_.decoder_windows_, sounded_, z_.size(), tokens_.ended())) {
      pieces.push_back({&job, this, w, true, model_.hop_samples(), model_.decoder_shape(w.width)});
    }
  }
  /// Takes a piece of its own, in their order.
  void take(const Piece& piece) {
    if (piece.sounds) {
      piece.job->samples.insert(piece.job->samples.end(), piece.rows.data_ptr<float>(),
                                piece.rows.data_ptr<float>() + piece.rows.numel());
      sounded_ += piece.window.take;
      z_.drop_before(first_needed(model_.decoder_windows_, sounded_));
    } else {
      z_.append(piece.rows);
      shaped_ += piece.window.take;
      z_p_.drop_before(first_needed(model_.flow_windows_, shaped_));
    }
  }

 private:
  const VitsWindows& model_;
  const Speaker& speaker_;
  WindowFront::Tokens tokens_;
  const GaussianNoise noise_;
  FrameBuffer z_p_, z_;       ///< those that a later window may need
  std::int64_t shaped_ = 0;   ///< frames that went through the flow,
  std::int64_t sounded_ = 0;  ///< and through the decoder
};

VitsWindows::VitsWindows(const WeightScope& acoustic, const PublishedConfig& config, Options options)
    : options_(std::move(options)),
      config_(config),
      front_(acoustic, config, VitsModel::prefix_policy(config), true, options_),
      flow_(acoustic("flow"), config, options_.placement),
      decoder_(acoustic("dec"), VitsModel::decoder_config(config), options_.placement),
      flow_windows_(WindowPolicy::of(flow_.context(), {0, 32, 80})),
      decoder_windows_(WindowPolicy::of(decoder_.context(), {16, 40, 80})),
      lanes_(options_.placement.device, options_.lanes, options_.make_lane) {}

VitsWindows::~VitsWindows() = default;

VitsWindows::Speaker VitsWindows::make_speaker(std::span<const SovitsFront::Reference> references) const {
  const c10::InferenceMode inference;
  const SovitsFront::Speaker speaker = front_.make_speaker(references);
  return {to_numbers(speaker.text_ge), to_numbers(flow_.prepare(speaker.ge)), to_numbers(decoder_.prepare(speaker.ge))};
}

std::unique_ptr<TokenRenderer> VitsWindows::begin(std::span<const std::int32_t> phonemes, const Speaker& speaker,
                                                  const AcousticOptions& options) const {
  const c10::InferenceMode inference;
  return std::make_unique<Stream>(*this, phonemes, speaker, options);
}

std::optional<std::int64_t> VitsWindows::first_audio_tokens() const {
  const PrefixPolicy& policy = front_.policy();
  if (!policy.lookahead) return std::nullopt;
  for (std::int64_t i = 0;; ++i) {
    const std::int64_t end = policy.block_end(i);
    if (2 * end > flow_windows_.context + decoder_windows_.context) return end + *policy.lookahead;
  }
}

WindowShape VitsWindows::flow_shape(std::int64_t width) const {
  return {.key = {1, width},
          .recurring = flow_windows_.recurs(width),
          .inputs = {{{width, config_.hidden}}, {{flow_.condition_size()}}},
          .function = [this](const std::vector<at::Tensor>& in) { return flow_.reverse(in[0], in[1]); }};
}

WindowShape VitsWindows::decoder_shape(std::int64_t width) const {
  return {.key = {2, width},
          .recurring = decoder_windows_.recurs(width),
          .inputs = {{{width, config_.hidden}}, {{config_.decoder_channels}}},
          .function = [this](const std::vector<at::Tensor>& in) { return decoder_.forward(in[0], in[1]); }};
}

void VitsWindows::push_together(std::span<TokenRenderer::Job> jobs) const {
  const c10::InferenceMode inference;
  DeviceLanes::Held lane(lanes_);
  using Job = TokenRenderer::Job;
  std::vector<WindowFront::Block> blocks;
  for_each_stream<Stream>(jobs, [&](Job& job, Stream& stream) { stream.tokens().accept(job, blocks); });
  run_windows(lane, options_, blocks);
  for_each_stream<Stream>(jobs, [&](Job&, Stream& stream) { stream.draw(blocks); });
  std::vector<Piece> flow;
  for_each_stream<Stream>(jobs, [&](Job& job, Stream& stream) { stream.plan_flow(job, flow); });
  run_pieces(lane, options_, flow);
  std::vector<Piece> sound;
  for_each_stream<Stream>(jobs, [&](Job& job, Stream& stream) { stream.plan_decoder(job, sound); });
  run_pieces(lane, options_, sound);
}

std::int64_t VitsWindows::widest(Part part) const {
  switch (part) {
    case Part::encoder:
      return WindowFront::kMostTokens;
    case Part::flow:
      return flow_windows_.widths.back();
    default:
      return decoder_windows_.widths.back();
  }
}

void VitsWindows::run_part(Part part, std::int64_t batch) const {
  const c10::InferenceMode inference;
  const WindowShape shape = part == Part::encoder ? front_.shape(widest(part), kBenchPhonemes, WindowFront::kMostRows)
                            : part == Part::flow  ? flow_shape(widest(part))
                                                  : decoder_shape(widest(part));
  const std::vector<DeviceInput> inputs = inputs_of(shape, batch);
  DeviceLanes::Key whole = shape.key;
  whole.push_back(batch);
  DeviceLanes::Held lane(lanes_);
  DeviceCall& call = lane.recurring(whole, inputs, shape.function);
  if (part == Part::encoder) {
    call.inputs()[2].narrow(1, 0, 1).fill_(widest(part));
    call.inputs()[2].narrow(1, 1, 1).fill_(kBenchPhonemes);
  }
  (void)call.run();
}

}  // namespace tts
