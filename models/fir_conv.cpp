#include "models/fir_conv.h"

#include <algorithm>
#include <numeric>

namespace tts {
namespace {

constexpr std::int64_t kPhases = 4;
constexpr std::int64_t kSequences = 9;
constexpr std::int64_t kRowsRead = 7;
constexpr std::int64_t kPanel = 64;

/// One product of a fast filter. Products build on each other: slot[to] = slot[start] + slot[more] + product.
/// Slot 0 is the bias, slot 1 zero.
struct Product {
  int part;  ///< of the kernel, and the sequence it meets
  int start;
  int more;   ///< -1: none
  int to;     ///< kOut: the next phase of the output
  int phase;  ///< of the output, or -1
};
constexpr int kOut = 7;
constexpr int kSlots = 8;
// Sequences and parts are numbered as the transform lists them: 0..2 meet the even taps, 3..5 the sums of both, 6..8
// the odd ones; in each three likewise.
constexpr std::array<Product, kSequences> kProducts{{
    {4, 0, -1, 2, -1},  // shared by all four phases
    {3, 2, -1, 3, -1},  // by 0 and 1
    {5, 2, -1, 4, -1},  // by 2 and 3
    {1, 1, -1, 5, -1},  // by 0 and 2
    {0, 3, 5, kOut, 0},
    {2, 4, 5, kOut, 2},
    {7, 1, -1, 6, -1},  // by 1 and 3
    {6, 3, 6, kOut, 1},
    {8, 4, 6, kOut, 3},
}};

using Taps = std::vector<float>;  // [out, taps, in]

struct Split {
  Taps even, sum, odd;
};

/// Taps 2j, 2j + 1 and the sum of both.
Split split_taps(const Taps& h, std::int64_t out, std::int64_t taps, std::int64_t in) {
  Split s;
  const auto size = static_cast<std::size_t>(out * taps / 2 * in);
  s.even.resize(size);
  s.sum.resize(size);
  s.odd.resize(size);
  for (std::int64_t o = 0; o < out; ++o) {
    for (std::int64_t t = 0; t < taps / 2; ++t) {
      for (std::int64_t i = 0; i < in; ++i) {
        const auto at = static_cast<std::size_t>((o * taps / 2 + t) * in + i);
        const float a = h[static_cast<std::size_t>((o * taps + 2 * t) * in + i)];
        const float b = h[static_cast<std::size_t>((o * taps + 2 * t + 1) * in + i)];
        s.even[at] = a;
        s.odd[at] = b;
        s.sum[at] = a + b;
      }
    }
  }
  return s;
}

void negate(Taps& taps) {
  for (float& v : taps) v = -v;
}

}  // namespace

FirConv::FirConv(const float* weight, std::int64_t out, std::int64_t kernel, std::int64_t in,
                 std::span<const float> bias, std::int64_t dilation, bool fast)
    : out_(out), in_(in), kernel_(kernel), dilation_(dilation) {
  if (!fast) {
    parts_.emplace_back(weight, out, kernel, in, bias);
    return;
  }
  taps_ = (kernel + kPhases - 1) / kPhases;
  const std::int64_t padded = kPhases * taps_;
  pad_ = padded - kernel;
  Taps whole(static_cast<std::size_t>(out * padded * in), 0.0F);
  for (std::int64_t o = 0; o < out; ++o) {
    std::copy_n(weight + o * kernel * in, kernel * in, whole.data() + (o * padded + pad_) * in);
  }
  // Two outputs from three products: y0 = (x0 - x1) h0 + x1 (h0 + h1), y1 = x1 (h0 + h1) - (x1 - x2) h1.
  Split first = split_taps(whole, out, padded, in);
  negate(first.odd);
  for (const Taps* half : {&first.even, &first.sum, &first.odd}) {
    Split second = split_taps(*half, out, padded / 2, in);
    negate(second.odd);
    for (const Taps* quarter : {&second.even, &second.sum, &second.odd}) {
      parts_.emplace_back(quarter->data(), out, taps_, in, parts_.size() == 4 ? bias : std::span<const float>());
    }
  }
}

std::int64_t FirConv::whole(std::int64_t until) const {
  const std::int64_t block = parts_.size() == 1 ? 1 : kPhases * dilation_;
  return until > 0 ? until / block * block : until;
}

std::int64_t FirConv::first_needed(std::int64_t done) const {
  return whole(done) - past();
}

std::int64_t FirConv::margin() const {
  return reach() + (parts_.size() == 1 ? 0 : kPhases * dilation_) + 1;
}

void FirConv::run(const RowWindow<Bf16>& x, std::int64_t from, std::int64_t until, const Sink& sink) const {
  if (until <= from) return;
  if (parts_.size() == 1) {
    run_plain(x, from, until, sink);
  } else {
    run_fast(x, from, until, sink);
  }
}

void FirConv::run_plain(const RowWindow<Bf16>& x, std::int64_t from, std::int64_t until, const Sink& sink) const {
  constexpr std::int64_t kRows = 48;
  alignas(64) std::array<float, kRows * kPanel> made;
  const Bf16Weight& weight = parts_.front();
  for (const Bf16Weight::Panel& panel : weight.panels()) {
    for (std::int64_t row = from; row < until; row += kRows) {
      Bf16Product p = weight.product(panel, x.row(row - reach()), in_, dilation_ * in_);
      p.rows = std::min(kRows, until - row);
      p.start = weight.bias() + panel.first;
      p.out = made.data();
      p.out_stride = kPanel;
      bf16_kernels()->product(p);
      sink({.values = {made.data(), kPanel, p.rows, panel.columns}, .row = row, .row_step = 1, .column = panel.first});
    }
  }
}

void FirConv::run_fast(const RowWindow<Bf16>& x, std::int64_t from, std::int64_t until, const Sink& sink) const {
  const std::int64_t d = dilation_;
  const std::int64_t block = kPhases * d;
  const std::int64_t first = from / block;
  const std::int64_t blocks = (until + block - 1) / block - first;
  // The window of output phase 0 of the first block begins here.
  const std::int64_t origin = first * block - past();

  // The nine sequences, each a quarter as fast as the stream: row u * d + q.
  const std::int64_t length = (blocks + taps_ - 1) * d;
  thread_local std::vector<Bf16> sequences;
  sequences.resize(static_cast<std::size_t>(kSequences * length * in_));
  for (std::int64_t u = 0; u < blocks + taps_ - 1; ++u) {
    std::array<const Bf16*, kRowsRead> rows{};
    for (std::int64_t n = 0; n < kRowsRead; ++n) {
      rows[static_cast<std::size_t>(n)] = x.row(origin + u * block + n * d);
    }
    std::array<Bf16*, kSequences> to{};
    for (std::int64_t s = 0; s < kSequences; ++s) {
      to[static_cast<std::size_t>(s)] = sequences.data() + (s * length + u * d) * in_;
    }
    bf16_kernels()->split(rows.data(), d * in_, to.data());
  }

  // As many rows at once as stay in the cache nearest by: whole tiles of six, whole rounds of the dilation.
  constexpr std::int64_t kTile = 6;
  constexpr std::int64_t kMostRows = 48;
  const std::int64_t round = std::lcm(kTile, d);
  const std::int64_t at_once = std::max(d, std::min(kMostRows / d * d, (24 + round - 1) / round * round));
  alignas(64) std::array<std::array<float, kMostRows * kPanel>, kSlots> slots;
  alignas(64) static constexpr std::array<float, kPanel> kZeros{};
  const std::int64_t rows = blocks * d;
  for (std::size_t n_panel = 0; n_panel < parts_.front().panels().size(); ++n_panel) {
    for (std::int64_t row = 0; row < rows; row += at_once) {
      for (const Product& step : kProducts) {
        const auto& weight = parts_[static_cast<std::size_t>(step.part)];
        const Bf16Weight::Panel& panel = weight.panels()[n_panel];
        const auto slot = [&](int n) { return slots[static_cast<std::size_t>(n)].data(); };
        Bf16Product p = weight.product(panel, sequences.data() + (step.part * length + row) * in_, in_, d * in_);
        p.rows = std::min(at_once, rows - row);
        p.start = step.start == 0 ? weight.bias() + panel.first : step.start == 1 ? kZeros.data() : slot(step.start);
        p.start_stride = step.start < 2 ? 0 : kPanel;
        if (step.more >= 0) {
          p.more = slot(step.more);
          p.more_stride = kPanel;
        }
        p.out = slot(step.to);
        p.out_stride = kPanel;
        bf16_kernels()->product(p);
        if (step.phase < 0) continue;
        for (std::int64_t q = 0; q < d; ++q) {
          const std::int64_t at = (first + row / d) * block + step.phase * d + q;  // of block row 0
          const std::int64_t skip = at < from ? (from - at + block - 1) / block : 0;
          const std::int64_t end = std::min(p.rows / d, until > at ? (until - at + block - 1) / block : 0);
          if (end <= skip) continue;
          sink({.values = {p.out + (skip * d + q) * kPanel, d * kPanel, end - skip, panel.columns},
                .row = at + skip * block,
                .row_step = block,
                .column = panel.first});
        }
      }
    }
  }
}

}  // namespace tts
