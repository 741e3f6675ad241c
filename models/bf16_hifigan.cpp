#include "models/bf16_hifigan.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

namespace tts {
namespace {

constexpr float kSlope = 0.1F;
constexpr float kLastSlope = 0.01F;  // 0.01 before the last convolution, 0.1 everywhere else
/// Numbers of a signal that are taken through a stage at once: as few as leave little to do again at the seams of the
/// fast filters, so that most of what is written is read again before it leaves the second-level cache.
constexpr std::int64_t kPiece = 64 * 1024;

/// Narrow convolutions with few taps gain less than the transform costs them; measured.
bool pays(std::int64_t channels, std::int64_t kernel) {
  return channels % 16 == 0 && channels * (kernel - 1) >= 150;
}

FirConv make_conv(const Bf16Hifigan::Conv& c) {
  const bool fast = c.in == c.out && pays(c.in, c.kernel);
  return {c.weight, c.out, c.kernel, c.in, c.bias, c.dilation, fast};
}

}  // namespace

void Bf16Hifigan::set_first(const Conv& c) {
  first_.clear();
  first_.emplace_back(c.weight, c.out, c.kernel, c.in, std::span<const float>(), c.dilation, false);
  first_bias_.assign(c.bias.begin(), c.bias.end());
  in_ = c.in;
  channels_ = c.out;
}

void Bf16Hifigan::set_last(const Conv& c) {
  last_.clear();
  last_.emplace_back(c.weight, c.out, c.kernel, c.in, c.bias, c.dilation, false);
}

void Bf16Hifigan::add_stage(const Upsampling& up) {
  stages_.push_back({.up = Bf16Weight(up.weight, up.rate * up.out, up.taps, up.in, up.bias),
                     .rate = up.rate,
                     .channels = up.out,
                     .left = up.left,
                     .right = up.right,
                     .blocks = {},
                     .owners = {},
                     .margin = 0});
}

void Bf16Hifigan::add_block(std::span<const Conv> first, std::span<const Conv> second) {
  std::vector<Pair> pairs;
  for (std::size_t i = 0; i < first.size(); ++i) pairs.push_back({make_conv(first[i]), make_conv(second[i])});
  Stage& stage = stages_.back();
  stage.margin = std::max(stage.margin, pairs.front().first.margin());
  stage.blocks.push_back(std::move(pairs));
  // The longest kernel first, each to who has less to do.
  std::vector<std::pair<std::int64_t, std::size_t>> costs;
  for (std::size_t b = 0; b < stage.blocks.size(); ++b) {
    std::int64_t cost = 0;
    for (const Pair& pair : stage.blocks[b]) cost += pair.first.cost() + pair.second.cost();
    costs.emplace_back(-cost, b);
  }
  std::sort(costs.begin(), costs.end());
  stage.owners.resize(costs.size());
  std::array<std::int64_t, 2> load{};
  for (const auto& [cost, b] : costs) {
    const int owner = load[0] <= load[1] ? 0 : 1;
    stage.owners[b] = owner;
    load[static_cast<std::size_t>(owner)] -= cost;
  }
}

Bf16Hifigan::State Bf16Hifigan::initial_state(std::span<const float> condition) const {
  State state;
  state.start.assign(static_cast<std::size_t>((channels_ + 15) / 16 * 16), 0.0F);
  std::copy(first_bias_.begin(), first_bias_.end(), state.start.begin());
  for (std::size_t i = 0; i < condition.size(); ++i) state.start[i] += condition[i];
  state.in = RowWindow<Bf16>(in_, first_.front().past());
  std::int64_t channels = channels_;
  for (const Stage& stage : stages_) {
    State::Stage s;
    s.in = RowWindow<Bf16>(channels, stage.left);
    channels = stage.channels;
    std::int64_t past = 0;
    for (const auto& pairs : stage.blocks) past = std::max(past, pairs.front().first.past());
    s.x = RowWindow<float>(channels, 0);
    s.activated = RowWindow<Bf16>(channels, past);
    for (const auto& pairs : stage.blocks) {
      State::Block block{.y = RowWindow<float>(channels, 0), .pairs = {}};
      for (const Pair& pair : pairs) {
        block.pairs.push_back({.in = RowWindow<Bf16>(channels, pair.first.past()),
                               .middle = RowWindow<Bf16>(channels, pair.second.past())});
      }
      s.blocks.push_back(std::move(block));
    }
    state.stages.push_back(std::move(s));
  }
  state.last = RowWindow<Bf16>(channels, last_.front().past());
  return state;
}

std::vector<float> Bf16Hifigan::step(const float* frames, std::int64_t n, State& state, bool last) const {
  std::vector<float> wave;
  const Bf16Kernels& k = *bf16_kernels();
  k.round({frames, in_, n, in_}, 1.0F, state.in.append(n), in_);
  const FirConv& first = first_.front();
  const std::int64_t until = std::max(state.in_done, last ? state.in.end() : state.in.end() - first.reach());
  RowWindow<Bf16>& to = stages_.empty() ? state.last : state.stages.front().in;
  to.append(until - state.in_done);
  state.in.pad(first.margin());
  alignas(64) float sum[64];
  first.run(state.in, state.in_done, until, [&](const FirBlock& b) {
    const float* bias = state.start.data() + b.column;
    for (std::int64_t r = 0; r < b.values.rows; ++r) {
      for (std::int64_t c = 0; c < b.values.columns; ++c) sum[c] = b.values.at[r * b.values.stride + c] + bias[c];
      k.round({sum, 0, 1, b.values.columns}, stages_.empty() ? kLastSlope : kSlope, to.row(b.row + r) + b.column, 0);
    }
  });
  state.in_done = until;
  state.in.drop_before(first.first_needed(until));
  advance(0, state, last ? Next::end : Next::later, wave);
  return wave;
}

void Bf16Hifigan::advance(std::size_t n, State& state, Next next, std::vector<float>& wave) const {
  const bool ended = next == Next::end;
  if (n == stages_.size()) {
    finish(state, ended, wave);
    return;
  }
  const Bf16Kernels& k = *bf16_kernels();
  const Stage& stage = stages_[n];
  State::Stage& s = state.stages[n];
  const std::int64_t c = stage.channels;
  const std::int64_t certain = std::max(s.up_done, ended ? s.in.end() : s.in.end() - stage.right);
  const std::int64_t piece = std::max<std::int64_t>(1, kPiece / (c * stage.rate));
  s.in.pad(stage.right + 1);
  do {
    const std::int64_t frames = std::min(piece, certain - s.up_done);
    const Next then = s.up_done + frames == certain ? next : Next::more;
    s.x.append(frames * stage.rate);
    s.activated.append(frames * stage.rate);
    s.activated.pad(stage.margin);
    SpareThread::share([&](SpareThread::Member& m) {
      upsample(m.share(static_cast<std::int64_t>(stage.up.panels().size())), stage, s, frames);
      m.meet();
      for (std::size_t b = 0; b < stage.blocks.size(); ++b) {
        if (m.count() == 1 || stage.owners[b] == m.index()) run_block(stage.blocks[b], s, s.blocks[b], then);
      }
    });
    s.up_done += frames;
    s.in.drop_before(s.up_done - stage.left);

    std::int64_t least = s.x.end();
    std::int64_t needed = s.x.end();
    std::int64_t x_needed = s.x.end();
    for (std::size_t b = 0; b < stage.blocks.size(); ++b) {
      least = std::min(least, s.blocks[b].pairs.back().done);
      needed = std::min(needed, stage.blocks[b].front().first.first_needed(s.blocks[b].pairs.front().middle_done));
      x_needed = std::min(x_needed, s.blocks[b].pairs.front().done);
    }
    s.activated.drop_before(needed);
    s.x.drop_before(x_needed);

    const bool is_last = n + 1 == stages_.size();
    RowWindow<Bf16>& to = is_last ? state.last : state.stages[n + 1].in;
    const std::int64_t made_rows = least - s.done;
    std::vector<const float*> rows;
    for (State::Block& block : s.blocks) rows.push_back(block.y.row(s.done));
    Bf16* target = to.append(made_rows);
    k.mean(rows.data(), static_cast<std::int64_t>(rows.size()), made_rows * c, is_last ? kLastSlope : kSlope, target);
    s.done = least;
    for (State::Block& block : s.blocks) block.y.drop_before(least);
    advance(n + 1, state, then, wave);
  } while (s.up_done < certain);
}

void Bf16Hifigan::upsample(SpareThread::Member::Range panels, const Stage& stage, State::Stage& s,
                           std::int64_t frames) {
  const Bf16Kernels& k = *bf16_kernels();
  constexpr std::int64_t kRows = 24;
  alignas(64) float made[kRows * 64];
  for (const Bf16Weight::Panel& panel : stage.up.panels().subspan(
           static_cast<std::size_t>(panels.first), static_cast<std::size_t>(panels.second - panels.first))) {
    for (std::int64_t f = 0; f < frames; f += kRows) {
      const std::int64_t frame = s.up_done + f;
      Bf16Product p = stage.up.product(panel, s.in.row(frame - stage.left), s.in.channels(), s.in.channels());
      p.rows = std::min(kRows, frames - f);
      p.start = stage.up.bias() + panel.first;
      p.out = made;
      p.out_stride = 64;
      k.product(p);
      k.add({made, 64, p.rows, panel.columns}, nullptr, s.x.row(frame * stage.rate) + panel.first, kSlope,
            s.activated.row(frame * stage.rate) + panel.first, stage.channels * stage.rate);
    }
  }
}

void Bf16Hifigan::run_block(const std::vector<Pair>& pairs, State::Stage& stage, State::Block& block, Next next) const {
  const Bf16Kernels& k = *bf16_kernels();
  const std::int64_t c = stage.x.channels();
  const auto certain = [&](const FirConv& conv, std::int64_t made) {
    return next == Next::end ? made : next == Next::more ? conv.whole(made - conv.reach()) : made - conv.reach();
  };
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    const Pair& pair = pairs[i];
    State::Pair& p = block.pairs[i];
    RowWindow<Bf16>& in = i == 0 ? stage.activated : p.in;
    const std::int64_t middle = std::max(p.middle_done, certain(pair.first, in.end()));
    p.middle.append(middle - p.middle_done);
    if (i > 0) in.pad(pair.first.margin());
    pair.first.run(in, p.middle_done, middle, [&](const FirBlock& b) {
      k.round(b.values, kSlope, p.middle.row(b.row) + b.column, b.row_step * c);
    });
    p.middle_done = middle;
    if (i > 0) in.drop_before(pair.first.first_needed(middle));

    const std::int64_t until = std::max(p.done, certain(pair.second, middle));
    if (i == 0) block.y.append(until - p.done);
    RowWindow<Bf16>* follower = i + 1 < pairs.size() ? &block.pairs[i + 1].in : nullptr;
    if (follower != nullptr) follower->append(until - p.done);
    p.middle.pad(pair.second.margin());
    pair.second.run(p.middle, p.done, until, [&](const FirBlock& b) {
      float* y = block.y.row(b.row) + b.column;
      k.add(b.values, i == 0 ? stage.x.row(b.row) + b.column : y, y, kSlope,
            follower != nullptr ? follower->row(b.row) + b.column : nullptr, b.row_step * c);
    });
    p.done = until;
    p.middle.drop_before(pair.second.first_needed(until));
  }
}

void Bf16Hifigan::finish(State& state, bool ended, std::vector<float>& wave) const {
  const FirConv& last = last_.front();
  const std::int64_t until = std::max(state.last_done, ended ? state.last.end() : state.last.end() - last.reach());
  const std::size_t before = wave.size();
  wave.resize(before + static_cast<std::size_t>(until - state.last_done));
  state.last.pad(last.margin());
  last.run(state.last, state.last_done, until, [&](const FirBlock& b) {
    for (std::int64_t r = 0; r < b.values.rows; ++r) {
      wave[before + static_cast<std::size_t>(b.row + r - state.last_done)] =
          std::tanh(b.values.at[r * b.values.stride]);
    }
  });
  state.last_done = until;
  state.last.drop_before(last.first_needed(until));
}

}  // namespace tts
