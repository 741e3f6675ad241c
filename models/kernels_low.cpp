#include "models/kernels_low.h"

#include <algorithm>
#include <cmath>

#include "models/fixed_point.h"
#include "models/kernels_low_impl.h"

namespace tts {
namespace {

std::size_t size(std::int64_t n) {
  return static_cast<std::size_t>(n);
}

std::int64_t per_group(LowFormat format) {
  return format == LowFormat::int8 ? 4 : 2;
}

std::int64_t whole(std::int64_t n, std::int64_t unit) {
  return (n + unit - 1) / unit * unit;
}

}  // namespace

std::vector<const LowKernels*> supported_low_kernels() {
  std::vector<const LowKernels*> found;
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool vnni = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                    __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") &&
                    __builtin_cpu_supports("avx512vnni");
  if (vnni && __builtin_cpu_supports("avx512bf16")) found.push_back(&low_kernels_avx512_bf16());
  if (vnni) found.push_back(&low_kernels_avx512_vnni());
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) found.push_back(&low_kernels_avx2());
#endif
  found.push_back(&low_kernels_base());
  return found;
}

const LowKernels& low_kernels() {
  static const LowKernels& best = *supported_low_kernels().front();
  return best;
}

void LowRows::reserve(std::int64_t rows, std::int64_t in) {
  const std::size_t groups = size(rows * whole(in, 4) / 2);  // of 16 bits; bytes take half of it
  const std::size_t scales = size(rows * (whole(in, FixedPoint::kRun) / FixedPoint::kRun));
  if (groups > groups_.size()) groups_ = AlignedBuffer<std::uint32_t>(groups);
  if (scales > scales_.size()) scales_ = FloatBuffer(scales);
}

std::size_t LowLinear::bytes(LowFormat format, std::int64_t out, std::int64_t in) {
  const std::int64_t unit = per_group(format);
  return size(whole(out, LowKernels::kPanel) * (whole(in, unit) / unit) * 4);
}

LowLinear::LowLinear(const LowKernels& kernels, LowFormat format, const float* weight, std::int64_t out,
                     std::int64_t in, std::span<const float> bias, bool positive, std::uint32_t* memory)
    : kernels_(&kernels),
      format_(format),
      positive_(positive),
      in_(in),
      out_(out),
      packed_(memory),
      bias_(size(whole(out, LowKernels::kPanel))) {
  bias_.fill(0.0F);
  std::copy(bias.begin(), bias.end(), bias_.data());
  const std::int64_t strip = kernels.strip;
  const std::int64_t unit = per_group(format);
  const std::int64_t groups = whole(in, unit) / unit;
  std::fill_n(memory, bytes(format, out, in) / 4, 0U);
  if (format != LowFormat::bf16) {
    scales_ = FloatBuffer(bias_.size());
    scales_.fill(0.0F);
  }
  const bool shifted = format == LowFormat::int8 && !positive && kernels.spread == 1;
  if (shifted) {
    shift_ = AlignedBuffer<std::int32_t>(bias_.size());
    shift_.fill(0);
  }
  for (std::int64_t o = 0; o < out; ++o) {
    const float* row = weight + o * in;
    std::uint32_t* to = memory + o / strip * strip * groups + o % strip;
    if (format == LowFormat::bf16) {
      for (std::int64_t i = 0; i < in; ++i) {
        to[i / 2 * strip] |= static_cast<std::uint32_t>(to_bf16(row[i])) << size(16 * (i % 2));
      }
      continue;
    }
    if (format == LowFormat::int16) {
      const float fineness = FixedPoint::fineness(row, 1, in);
      for (std::int64_t i = 0; i < in; ++i) {
        const auto q = static_cast<std::uint16_t>(std::lrint(row[i] * fineness));
        to[i / 2 * strip] |= static_cast<std::uint32_t>(q) << size(16 * (i % 2));
      }
      scales_.data()[o] = fineness == 0 ? 0.0F : 1.0F / fineness;
      continue;
    }
    float most = 0.0F;
    for (std::int64_t i = 0; i < in; ++i) most = std::max(most, std::abs(row[i]));
    const float inverse = most > 1e-30F ? 127.0F / most : 0.0F;
    std::int32_t total = 0;
    for (std::int64_t i = 0; i < in; ++i) {
      const auto q = static_cast<std::int32_t>(std::lrint(std::clamp(row[i] * inverse, -127.0F, 127.0F)));
      total += q;
      to[i / 4 * strip] |= (static_cast<std::uint32_t>(q) & 255U) << size(8 * (i % 4));
    }
    scales_.data()[o] = most / 127.0F;
    if (shifted) shift_.data()[o] = 128 * total;
  }
}

void LowLinear::take(const float* x, std::int64_t ldx, std::int64_t m, LowRows& rows) const {
  const std::int64_t unit = per_group(format_);
  const std::int64_t groups = whole(in_, unit) / unit;
  if (format_ == LowFormat::int8) {
    kernels_->quantise(x, ldx, m, in_, positive_, rows.groups_.data(), kernels_->spread * groups, rows.scales_.data());
  } else if (format_ == LowFormat::int16) {
    kernels_->fix(x, ldx, m, in_, rows.groups_.data(), groups, rows.scales_.data());
  } else {
    kernels_->round(x, ldx, m, in_, rows.groups_.data(), groups);
  }
}

void LowLinear::multiply(std::int64_t m, float* y, std::int64_t ldy, const LowRows& rows, bool relu, std::int64_t first,
                         std::int64_t end) const {
  if (end <= first) return;
  const std::int64_t unit = per_group(format_);
  const std::int64_t groups = whole(in_, unit) / unit;
  const std::uint32_t* q = rows.groups_.data();
  const std::uint32_t* packed = packed_ + first * groups;
  if (format_ == LowFormat::int8) {
    const std::int32_t* shift = shift_.size() == 0 ? nullptr : shift_.data() + first;
    kernels_->linear_int8(q, kernels_->spread * groups, rows.scales_.data(), m, packed, scales_.data() + first, shift,
                          bias_.data() + first, groups, end - first, y + first, ldy, relu);
  } else if (format_ == LowFormat::int16) {
    kernels_->linear_int16(q, groups, rows.scales_.data(), m, packed, scales_.data() + first, bias_.data() + first,
                           groups, end - first, y + first, ldy, relu);
  } else {
    kernels_->linear_bf16(q, groups, m, packed, bias_.data() + first, groups, end - first, y + first, ldy, relu);
  }
}

}  // namespace tts
