#include "models/bf16_weight.h"

#include <algorithm>
#include <cmath>

#include "models/fixed_point.h"
#include "src/core/spare_thread.h"

namespace tts {
namespace {

constexpr std::int64_t kLanes = 16;
constexpr std::int64_t kMostVectors = Bf16Kernels::kMostVectors;
constexpr std::int64_t kTile = 12;                  ///< rows that the kernel takes at once at most
constexpr std::int64_t kWorthSharing = 10'000'000;  ///< multiplications, some 90 us

}  // namespace

Bf16Weight::Bf16Weight(const float* weight, std::int64_t out, std::int64_t taps, std::int64_t in,
                       std::span<const float> bias, const Bf16Kernels& kernels)
    : out_(out),
      taps_(taps),
      in_(in),
      scale_(static_cast<std::size_t>(kernels.fixed_point ? (out + kLanes - 1) / kLanes * kLanes : 0)),
      bias_(static_cast<std::size_t>((out + kLanes - 1) / kLanes * kLanes)) {
  std::vector<float> finenesses(scale_.size());
  scale_.fill(0.0F);
  for (std::int64_t c = 0; c < out && kernels.fixed_point; ++c) {
    const float fine = FixedPoint::fineness(weight + c * taps * in, taps, in);
    finenesses[static_cast<std::size_t>(c)] = fine;
    scale_.data()[c] = fine == 0 ? 0.0F : 1.0F / fine;
  }
  const auto packed = [&](float value, std::int64_t c) {
    if (!kernels.fixed_point) return to_bf16(value);
    return static_cast<std::uint16_t>(std::lrintf(value * finenesses[static_cast<std::size_t>(c)]));
  };
  bias_.fill(0.0F);
  std::copy(bias.begin(), bias.end(), bias_.data());
  const std::int64_t pairs = (in + 1) / 2;
  const auto is_zero = [&](const Panel& panel, std::int64_t tap) {
    for (std::int64_t c = panel.first; c < panel.first + panel.columns; ++c) {
      const float* row = weight + (c * taps + tap) * in;
      if (std::any_of(row, row + in, [](float v) { return v != 0.0F; })) return false;
    }
    return true;
  };
  std::int64_t size = 0;
  for (std::int64_t first = 0; first < out; first += kMostVectors * kLanes) {
    Panel panel{.first = first, .columns = std::min(kMostVectors * kLanes, out - first)};
    panel.vectors = (panel.columns + kLanes - 1) / kLanes;
    std::int64_t end = taps;
    while (panel.first_tap < end && is_zero(panel, panel.first_tap)) ++panel.first_tap;
    while (end > panel.first_tap && is_zero(panel, end - 1)) --end;
    panel.taps = end - panel.first_tap;
    panel.at = size;
    size += 2 * panel.taps * pairs * panel.vectors * kLanes;
    panels_.push_back(panel);
  }
  joined_ = kernels.beside == 1 && std::all_of(panels_.begin(), panels_.end(), [&](const Panel& panel) {
    return panel.first_tap == panels_.front().first_tap && panel.taps == panels_.front().taps;
  });
  packed_ = AlignedBuffer<std::uint16_t>(static_cast<std::size_t>(size), /*huge=*/true);
  std::uint16_t* to = packed_.data();
  for (const Panel& panel : panels_) {
    const std::int64_t end = panel.first + panel.vectors * kLanes;
    const std::int64_t beside = std::min(kernels.beside, panel.vectors) * kLanes;
    for (std::int64_t first = panel.first; first < end; first += beside) {
      for (std::int64_t tap = panel.first_tap; tap < panel.first_tap + panel.taps; ++tap) {
        for (std::int64_t pair = 0; pair < pairs; ++pair) {
          for (std::int64_t c = first; c < first + beside; ++c) {
            const float* row = weight + (c * taps + tap) * in;
            for (std::int64_t i = 2 * pair; i < 2 * pair + 2; ++i) {
              *to++ = c < out && i < in ? packed(row[i], c) : std::uint16_t{0};
            }
          }
        }
      }
    }
  }
}

Bf16Product Bf16Weight::product(const Panel& panel, const Bf16* x, std::int64_t row_stride,
                                std::int64_t tap_stride) const {
  Bf16Product p;
  p.x = x + panel.first_tap * tap_stride;
  p.row_stride = row_stride;
  p.tap_stride = tap_stride;
  p.taps = panel.taps;
  p.pairs = (in_ + 1) / 2;
  p.weight = packed_.data() + panel.at;
  p.scale = scale_.size() == 0 ? nullptr : scale_.data() + panel.first;
  p.vectors = panel.vectors;
  p.columns = panel.columns;
  return p;
}

void Bf16Weight::apply(const float* x, std::int64_t stride, std::int64_t rows, float* y, bool relu) const {
  if (rows == 0) return;
  thread_local std::vector<Bf16> rounded;
  const std::int64_t depth = taps_ * in_;
  // Rows that overlap or touch are one run of numbers; but what comes after an odd number of them is a row's own.
  const bool dense = stride <= depth && depth % 2 == 0;
  const std::int64_t pitch = dense ? stride : depth + 1;
  rounded.resize(static_cast<std::size_t>((rows - 1) * pitch + depth + 1));
  if (dense) {
    bf16_kernels()->round({x, 0, 1, (rows - 1) * stride + depth}, 1.0F, rounded.data(), 0);
  } else {
    bf16_kernels()->round({x, stride, rows, depth}, 1.0F, rounded.data(), pitch);
  }
  // What meets the zero weight of an odd number of channels must be a number, and no larger than they are.
  for (std::int64_t row = dense ? rows - 1 : 0; row < rows; ++row) {
    rounded[static_cast<std::size_t>(row * pitch + depth)] = 0;
  }
  apply(rounded.data(), pitch, rows, y, out_, relu);
}

void Bf16Weight::apply(const Bf16* x, std::int64_t stride, std::int64_t rows, float* y, std::int64_t y_stride,
                       bool relu, const float* start) const {
  const auto some = [&](const SpareThread::Member& m) {
    const auto mine = m.share(rows, kTile);
    for (const Panel& panel : panels_) {
      Bf16Product p = product(panel, x + mine.first * stride, stride, in_);
      if (joined_) {
        p.vectors = padded_out() / kLanes;
        p.columns = out_;
      }
      p.rows = mine.second - mine.first;
      p.start = (start != nullptr ? start : bias()) + panel.first;
      p.out = y + mine.first * y_stride + panel.first;
      p.out_stride = y_stride;
      p.relu = relu;
      bf16_kernels()->product(p);
      if (joined_) break;
    }
  };
  if (rows * taps_ * in_ * out_ >= kWorthSharing) {
    SpareThread::share(some);
  } else {
    some(SpareThread::Member());
  }
}

}  // namespace tts
