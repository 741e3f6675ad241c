#include "models/kernels.h"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <new>

#include <sys/mman.h>

#include "models/kernels_impl.h"

namespace tts {

void* allocate_aligned(std::size_t bytes, bool huge) {
  constexpr std::size_t kHugePage = std::size_t{1} << 21U;
  const std::size_t align = huge && bytes >= kHugePage ? kHugePage : 64;
  const std::size_t whole = (std::max<std::size_t>(bytes, 1) + align - 1) / align * align;
  void* memory = std::aligned_alloc(align, whole);
  if (memory == nullptr) throw std::bad_alloc();
#if defined(MADV_HUGEPAGE)
  if (align == kHugePage) (void)madvise(memory, whole, MADV_HUGEPAGE);  // a wish: without it, it is only slower
#endif
  return memory;
}

void free_aligned(void* memory) noexcept {
  std::free(memory);
}

std::vector<const Kernels*> supported_kernels() {
  std::vector<const Kernels*> found;
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512bw")) {
    found.push_back(&kernels_avx512());
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c"))
    found.push_back(&kernels_avx2());
#endif
  found.push_back(&kernels_base());
  return found;
}

const Kernels& kernels() {
  static const Kernels& widest = *supported_kernels().front();
  return widest;
}

std::size_t packed_size(const Kernels& kernels, std::int64_t out, std::int64_t in) {
  const std::int64_t panels = (out + kernels.panel - 1) / kernels.panel;
  return static_cast<std::size_t>(panels * kernels.panel * in);
}

void pack(const Kernels& kernels, const float* weight, std::int64_t out, std::int64_t in, std::int64_t stride_out,
          std::int64_t stride_in, float* packed) {
  const std::int64_t panel = kernels.panel;
  for (std::int64_t first = 0; first < out; first += panel) {
    const std::int64_t columns = std::min(panel, out - first);
    float* to = packed + first * in;
    for (std::int64_t i = 0; i < in; ++i, to += panel) {
      const float* from = weight + first * stride_out + i * stride_in;
      if (stride_out == 1) {
        std::copy_n(from, columns, to);
      } else {
        for (std::int64_t o = 0; o < columns; ++o) to[o] = from[o * stride_out];
      }
      std::fill(to + columns, to + panel, 0.0F);
    }
  }
}

std::optional<std::uint16_t> exact_half(float value) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = (bits >> 16U) & 0x8000U;
  const std::int32_t exponent = static_cast<std::int32_t>((bits >> 23U) & 0xFFU) - 127;
  const std::uint32_t fraction = bits & 0x7FFFFFU;
  if ((bits << 1U) == 0) return static_cast<std::uint16_t>(sign);
  if (exponent > 15 || exponent < -24) return std::nullopt;
  if (exponent >= -14) {
    if ((fraction & 0x1FFFU) != 0) return std::nullopt;
    return static_cast<std::uint16_t>(sign | (static_cast<std::uint32_t>(exponent + 15) << 10U) | (fraction >> 13U));
  }
  const auto shift = static_cast<std::uint32_t>(13 + (-14 - exponent));  // subnormal: no implicit one
  const std::uint32_t whole = fraction | 0x800000U;
  if ((whole & ((1U << shift) - 1U)) != 0) return std::nullopt;
  return static_cast<std::uint16_t>(sign | (whole >> shift));
}

PackedLinear::PackedLinear(const Kernels& kernels, const float* weight, std::int64_t out, std::int64_t in,
                           std::span<const float> bias)
    : kernels_(&kernels),
      in_(in),
      out_(out),
      packed_(packed_size(kernels, out, in)),
      bias_(packed_size(kernels, out, 1)) {
  pack(kernels, weight, out, in, in, 1, packed_.data());
  bias_.fill(0.0F);
  std::copy(bias.begin(), bias.end(), bias_.data());
  if (kernels.linear_half == nullptr) return;
  const std::span<const float> values(packed_.data(), packed_.size());
  if (!std::all_of(values.begin(), values.end(), [](float v) { return exact_half(v).has_value(); })) return;
  half_.reserve(values.size());
  for (const float v : values) half_.push_back(*exact_half(v));
  packed_ = FloatBuffer();
}

void PackedLinear::apply(const float* x, std::int64_t ldx, std::int64_t m, float* y, std::int64_t ldy,
                         bool relu) const {
  if (is_half()) {
    kernels_->linear_half(x, ldx, m, half_.data(), bias_.data(), in_, out_, y, ldy, relu);
  } else {
    kernels_->linear(x, ldx, m, packed_.data(), bias_.data(), in_, out_, y, ldy, relu);
  }
}

}  // namespace tts
