#include "models/vits_windows.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <string>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/gather.h>
#include <ATen/ops/zeros.h>
#include <c10/core/InferenceMode.h>

#include "models/convnext.h"
#include "models/noise.h"
#include "models/vits_model.h"

namespace tts {
namespace {

// Windows that streams come to: their first blocks, and those that follow at full length.
constexpr std::array<std::int64_t, 3> kTokens{40, 80, 148};
constexpr std::array<std::int64_t, 3> kPhonemes{48, 96, 160};
constexpr std::int64_t kBlockFrames = 96;  // that an encoder block gives, at most

WindowPolicy windows_of(std::int64_t context, std::int64_t first, std::int64_t middle, std::int64_t widest) {
  return {.context = context, .widths = {2 * context + first, 2 * context + middle, 2 * context + widest}};
}

std::vector<float> to_vector(const at::Tensor& t) {
  const at::Tensor flat = t.contiguous();
  return {flat.data_ptr<float>(), flat.data_ptr<float>() + flat.numel()};
}

void copy_to_row(const std::vector<float>& from, const at::Tensor& input, std::int64_t row) {
  std::copy(from.begin(), from.end(), input.data_ptr<float>() + row * static_cast<std::int64_t>(from.size()));
}

/// ids into a row of an int64 input, zeros behind them.
void ids_to_row(std::span<const std::int32_t> ids, const at::Tensor& input, std::int64_t row) {
  auto* to = input.data_ptr<std::int64_t>() + row * input.size(1);
  std::fill(std::copy(ids.begin(), ids.end(), to), to + input.size(1), 0);
}

/// Frames [begin, ..) of a buffer into a row of a float input, zeros behind them.
void frames_to_row(const FrameBuffer& frames, std::int64_t begin, const at::Tensor& input, std::int64_t row) {
  const std::int64_t width = input.size(1);
  const std::int64_t channels = input.size(2);
  const at::Tensor from = frames.slice(begin, std::min(frames.size(), begin + width)).contiguous();
  auto* to = input.data_ptr<float>() + row * width * channels;
  std::fill(std::copy_n(from.data_ptr<float>(), from.numel(), to), to + width * channels, 0.0F);
}

}  // namespace

/// What the encoder is to do for a stream: frames of tokens [begin, end) from tokens [first, known).
struct VitsWindows::Block {
  TokenRenderer::Job* job;
  Stream* stream;
  std::int64_t first, begin, end, known;
  Shape shape{};
  at::Tensor rows{};  ///< mean and logarithm of the deviation, [2 * (end - begin), 2 * hidden]

  void fill(const std::vector<at::Tensor>& inputs, std::int64_t row) const;
  void take(const at::Tensor& result) { rows = result.narrow(0, 0, 2 * (end - begin)).clone(); }
};

/// A window of the flow or of the decoder.
struct VitsWindows::Piece {
  TokenRenderer::Job* job;
  Stream* stream;
  Window window;
  bool sounds;       ///< of the decoder
  std::int64_t per;  ///< numbers that a frame becomes
  Shape shape{};
  at::Tensor rows{};  ///< [window.take, ..] or [window.take * hop]

  void fill(const std::vector<at::Tensor>& inputs, std::int64_t row) const;
  void take(const at::Tensor& result) { rows = result.narrow(0, window.skip * per, window.take * per).clone(); }
};

class VitsWindows::Stream final : public TokenRenderer {
 public:
  Stream(const VitsWindows& model, std::span<const std::int32_t> phonemes, const Speaker& speaker,
         const AcousticOptions& options)
      : model_(model),
        speaker_(speaker),
        phonemes_(phonemes.begin(), phonemes.end()),
        speed_(options.speed),
        stretch_(options.speed),
        noise_(options.seed, VitsModel::kNoiseStream) {
    check_speed(speed_);
    if (phonemes_.empty()) throw ModelError("phonemes: got none, wanted at least one");
    check_ids("phoneme", phonemes_, model.config_.phonemes);
  }

  std::vector<float> push(std::span<const std::int32_t> tokens, bool last) override {
    Job job{.stream = this, .tokens = tokens, .last = last};
    model_.push_together({&job, 1});
    if (job.failure) throw ModelError(job.failure->detail);
    return std::move(job.samples);
  }

  RenderGroup group(std::int64_t n_tokens, bool last) const override {
    const std::int64_t tokens = static_cast<std::int64_t>(tokens_.size()) + n_tokens;
    const std::int64_t settled = last ? tokens : model_.policy_.settled(tokens);
    const auto frames = static_cast<std::int64_t>(2.0 * static_cast<double>(settled) / speed_);
    const std::int64_t shaped = last ? frames : std::max(shaped_, frames - model_.flow_windows_.context);
    const std::int64_t rest = shaped - std::max<std::int64_t>(0, sounded_ - model_.decoder_windows_.context);
    return {&model_, std::min(bucket_of(model_.decoder_windows_.widths, rest), model_.decoder_windows_.widths.back())};
  }

  void push_together(std::span<Job> jobs) override { model_.push_together(jobs); }

  /// Takes the tokens of a push; what the encoder has to do for them.
  void accept(Job& job, std::vector<Block>& blocks) {
    if (ended_) throw ModelError("acoustic stream: got tokens after the last, wanted none");
    check_ids("semantic token", job.tokens, model_.config_.codes);
    ended_ = job.last;
    tokens_.insert(tokens_.end(), job.tokens.begin(), job.tokens.end());
    const auto known = static_cast<std::int64_t>(tokens_.size());
    const PrefixPolicy& policy = model_.policy_;
    const auto add = [&](std::int64_t end, std::int64_t seen) {
      const std::int64_t first = policy.lookahead ? std::max<std::int64_t>(0, encoded_ - policy.context) : 0;
      blocks.push_back({&job, this, first, encoded_, end, seen});
      blocks.back().shape =
          model_.encoder_shape(seen - first, static_cast<std::int64_t>(phonemes_.size()), 2 * (end - encoded_));
      encoded_ = end;
    };
    while (policy.lookahead && policy.block_end(block_) + *policy.lookahead <= known) {
      const std::int64_t end = policy.block_end(block_++);
      add(end, end + *policy.lookahead);
    }
    if (ended_ && encoded_ < known) add(known, known);
  }

  void fill(const Block& block, const std::vector<at::Tensor>& inputs, std::int64_t row) const {
    const std::span<const std::int32_t> tokens(tokens_);
    const std::int64_t count = block.known - block.first;
    ids_to_row(tokens.subspan(static_cast<std::size_t>(block.first), static_cast<std::size_t>(count)), inputs[0], row);
    ids_to_row(phonemes_, inputs[1], row);
    auto* numbers = inputs[2].data_ptr<std::int64_t>() + 3 * row;
    numbers[0] = count;
    numbers[1] = static_cast<std::int64_t>(phonemes_.size());
    numbers[2] = 2 * (block.begin - block.first);
    copy_to_row(speaker_.encoder, inputs[3], row);
  }

  void fill(const Piece& piece, const std::vector<at::Tensor>& inputs, std::int64_t row) const {
    frames_to_row(piece.sounds ? z_ : z_p_, piece.window.begin, inputs[0], row);
    copy_to_row(piece.sounds ? speaker_.decoder : speaker_.flow, inputs[1], row);
  }

  /// Latents of what the encoder made, blocks of this stream among others.
  void draw(std::span<const Block> blocks) {
    std::vector<at::Tensor> made;
    for (const Block& block : blocks) {
      if (block.stream == this) made.push_back(block.rows);
    }
    const std::int64_t hidden = model_.config_.hidden;
    at::Tensor stats = made.empty() ? at::zeros({0, 2 * hidden}, at::kFloat) : at::cat(made);
    if (model_.policy_.lookahead) {
      stats = stretch_.push(stats, ended_);
    } else if (speed_ != 1.0 && stats.size(0) > 0) {
      stats = resize_linear(stats, frames_at_speed(stats.size(0), speed_));
    }
    if (stats.size(0) == 0) return;
    at::Tensor noise = at::empty({stats.size(0), hidden}, at::kFloat);
    noise_.fill(z_p_.size() * hidden, {noise.data_ptr<float>(), static_cast<std::size_t>(noise.numel())});
    z_p_.append(stats.narrow(1, 0, hidden) + noise * at::exp(stats.narrow(1, hidden, hidden)) * VitsModel::kNoiseScale);
  }

  void plan_flow(Job& job, std::vector<Piece>& pieces) {
    for (const Window& w : plan_windows(model_.flow_windows_, shaped_, z_p_.size(), ended_)) {
      pieces.push_back({&job, this, w, false, 1, model_.flow_shape(w.width)});
    }
  }
  void plan_decoder(Job& job, std::vector<Piece>& pieces) {
    for (const Window& w : plan_windows(model_.decoder_windows_, sounded_, z_.size(), ended_)) {
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
  static void check_ids(const char* what, std::span<const std::int32_t> ids, std::int64_t inventory) {
    for (std::size_t i = 0; i < ids.size(); ++i) {
      if (ids[i] >= 0 && ids[i] < inventory) continue;
      throw ModelError(std::string(what) + " " + std::to_string(i) + ": got " + std::to_string(ids[i]) +
                       ", wanted 0.." + std::to_string(inventory - 1));
    }
  }

  const VitsWindows& model_;
  const Speaker& speaker_;
  const std::vector<std::int32_t> phonemes_;
  std::vector<std::int32_t> tokens_;  ///< all so far
  const double speed_;
  std::int64_t block_ = 0;
  std::int64_t encoded_ = 0;  ///< tokens
  FrameStretch stretch_;
  const GaussianNoise noise_;
  FrameBuffer z_p_, z_;       ///< those that a later window may need
  std::int64_t shaped_ = 0;   ///< frames that went through the flow,
  std::int64_t sounded_ = 0;  ///< and through the decoder
  bool ended_ = false;
};

void VitsWindows::Block::fill(const std::vector<at::Tensor>& inputs, std::int64_t row) const {
  stream->fill(*this, inputs, row);
}
void VitsWindows::Piece::fill(const std::vector<at::Tensor>& inputs, std::int64_t row) const {
  stream->fill(*this, inputs, row);
}

VitsWindows::VitsWindows(const WeightScope& acoustic, const PublishedConfig& config, Options options)
    : options_(std::move(options)),
      config_(config),
      policy_(VitsModel::prefix_policy(config)),
      front_(acoustic.with(Precision::fp32), config, true),
      encoder_(acoustic, config, true, options_.placement.device),
      flow_(acoustic("flow"), config, options_.placement),
      decoder_(acoustic("dec"), VitsModel::decoder_config(config), options_.placement),
      flow_windows_(windows_of(flow_.context(), 0, 32, 80)),
      decoder_windows_(windows_of(decoder_.context(), 16, 40, 80)),
      lanes_(options_.placement.device, options_.lanes, options_.make_lane) {}

VitsWindows::~VitsWindows() = default;

VitsWindows::Speaker VitsWindows::make_speaker(std::span<const SovitsFront::Reference> references) const {
  const c10::InferenceMode inference;
  const SovitsFront::Speaker speaker = front_.make_speaker(references);
  return {to_vector(speaker.text_ge), to_vector(flow_.prepare(speaker.ge)), to_vector(decoder_.prepare(speaker.ge))};
}

std::unique_ptr<TokenRenderer> VitsWindows::begin(std::span<const std::int32_t> phonemes, const Speaker& speaker,
                                                  const AcousticOptions& options) const {
  const c10::InferenceMode inference;
  return std::make_unique<Stream>(*this, phonemes, speaker, options);
}

std::optional<std::int64_t> VitsWindows::first_audio_tokens() const {
  if (!policy_.lookahead) return std::nullopt;
  for (std::int64_t i = 0;; ++i) {
    const std::int64_t end = policy_.block_end(i);
    if (2 * end > flow_windows_.context + decoder_windows_.context) return end + *policy_.lookahead;
  }
}

VitsWindows::Shape VitsWindows::encoder_shape(std::int64_t n_tokens, std::int64_t n_phonemes,
                                              std::int64_t n_rows) const {
  const std::int64_t t = bucket_of(kTokens, n_tokens);
  const std::int64_t p = bucket_of(kPhonemes, n_phonemes);
  const std::int64_t rows = n_rows <= kBlockFrames ? std::min(kBlockFrames, 2 * t) : 2 * t;
  return {.key = {0, t, p, rows},
          .recurring = t <= kTokens.back() && p <= kPhonemes.back(),
          .inputs = {{{t}, at::kLong}, {{p}, at::kLong}, {{3}, at::kLong}, {{config_.mrte_dim}}},
          .function = [this, rows](const std::vector<at::Tensor>& in) {
            const at::Tensor made = encoder_.forward(in[0], in[1], in[2].narrow(1, 0, 2), in[3]);
            const at::Tensor index =
                (in[2].narrow(1, 2, 1) + at::arange(rows, in[2].options()).unsqueeze(0)).clamp_max(made.size(1) - 1);
            return at::gather(made, 1, index.unsqueeze(2).expand({made.size(0), rows, made.size(2)}));
          }};
}

VitsWindows::Shape VitsWindows::flow_shape(std::int64_t width) const {
  const auto& widths = flow_windows_.widths;
  return {.key = {1, width},
          .recurring = std::binary_search(widths.begin(), widths.end(), width),
          .inputs = {{{width, config_.hidden}}, {{flow_.condition_size()}}},
          .function = [this](const std::vector<at::Tensor>& in) { return flow_.reverse(in[0], in[1]); }};
}

VitsWindows::Shape VitsWindows::decoder_shape(std::int64_t width) const {
  const auto& widths = decoder_windows_.widths;
  return {.key = {2, width},
          .recurring = std::binary_search(widths.begin(), widths.end(), width),
          .inputs = {{{width, config_.hidden}}, {{config_.decoder_channels}}},
          .function = [this](const std::vector<at::Tensor>& in) { return decoder_.forward(in[0], in[1]); }};
}

template <class Item>
void VitsWindows::run(DeviceLanes::Held& lane, std::vector<Item>& items) const {
  const bool captured = !options_.placement.device.is_cpu();
  std::map<DeviceLanes::Key, std::vector<Item*>> groups;
  for (Item& item : items) groups[item.shape.key].push_back(&item);
  for (const auto& [key, group] : groups) {
    const Shape& shape = group.front()->shape;
    const auto call = [&](std::size_t first, std::size_t count) {
      auto rows = static_cast<std::int64_t>(count);
      if (captured) {  // few different batches
        rows = 1;
        while (rows < static_cast<std::int64_t>(count)) rows *= 2;
      }
      std::vector<DeviceInput> inputs = shape.inputs;
      for (DeviceInput& input : inputs) input.shape.insert(input.shape.begin(), rows);
      DeviceLanes::Key whole = key;
      whole.push_back(rows);
      std::unique_ptr<DeviceCall> once;
      if (!captured || !shape.recurring) once = lane.once(inputs, shape.function);
      DeviceCall& device = once ? *once : lane.recurring(whole, inputs, shape.function);
      for (std::size_t i = 0; i < count; ++i) group[first + i]->fill(device.inputs(), static_cast<std::int64_t>(i));
      const at::Tensor result = device.run();
      for (std::size_t i = 0; i < count; ++i) group[first + i]->take(result[static_cast<std::int64_t>(i)]);
    };
    run_in_batches(group.size(), static_cast<std::size_t>(options_.max_batch), call,
                   [&](std::size_t i, bool out_of_memory, const std::string& what) {
                     group[i]->job->fail(out_of_memory ? Errc::overloaded : Errc::internal,
                                         out_of_memory ? "the device is out of memory" : what.c_str());
                   });
  }
}

void VitsWindows::push_together(std::span<TokenRenderer::Job> jobs) const {
  const c10::InferenceMode inference;
  DeviceLanes::Held lane(lanes_);
  const auto for_each = [&](const auto& work) {
    for (TokenRenderer::Job& job : jobs) {
      if (job.failure) continue;
      try {
        work(job, *static_cast<Stream*>(job.stream));
      } catch (const std::exception& e) {
        job.fail(Errc::internal, e.what());
      }
    }
  };
  std::vector<Block> blocks;
  for_each([&](TokenRenderer::Job& job, Stream& stream) { stream.accept(job, blocks); });
  run(lane, blocks);
  for_each([&](TokenRenderer::Job&, Stream& stream) { stream.draw(blocks); });

  const auto run_pieces = [&](std::vector<Piece>& pieces) {
    run(lane, pieces);
    for (const Piece& piece : pieces) {
      if (!piece.job->failure) piece.stream->take(piece);
    }
  };
  std::vector<Piece> flow;
  for_each([&](TokenRenderer::Job& job, Stream& stream) { stream.plan_flow(job, flow); });
  run_pieces(flow);
  std::vector<Piece> sound;
  for_each([&](TokenRenderer::Job& job, Stream& stream) { stream.plan_decoder(job, sound); });
  run_pieces(sound);
}

std::int64_t VitsWindows::widest(Part part) const {
  switch (part) {
    case Part::encoder:
      return kTokens.back();
    case Part::flow:
      return flow_windows_.widths.back();
    default:
      return decoder_windows_.widths.back();
  }
}

void VitsWindows::run_part(Part part, std::int64_t batch) const {
  const c10::InferenceMode inference;
  const Shape shape = part == Part::encoder ? encoder_shape(widest(part), kPhonemes[1], kBlockFrames)
                      : part == Part::flow  ? flow_shape(widest(part))
                                            : decoder_shape(widest(part));
  std::vector<DeviceInput> inputs = shape.inputs;
  for (DeviceInput& input : inputs) input.shape.insert(input.shape.begin(), batch);
  DeviceLanes::Key whole = shape.key;
  whole.push_back(batch);
  DeviceLanes::Held lane(lanes_);
  DeviceCall& call = lane.recurring(whole, inputs, shape.function);
  if (part == Part::encoder) {
    call.inputs()[2].narrow(1, 0, 1).fill_(widest(part));
    call.inputs()[2].narrow(1, 1, 1).fill_(kPhonemes[1]);
  }
  (void)call.run();
}

}  // namespace tts
