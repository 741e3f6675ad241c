#include "models/kernels_low.h"

#include <bit>
#include <cmath>
#include <random>

#include "tests/doctest.h"

namespace tts {
namespace {

std::vector<float> noise(std::int64_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<std::size_t>(n));
  for (float& v : values) v = normal(random);
  return values;
}

std::size_t at(std::int64_t n) {
  return static_cast<std::size_t>(n);
}

float widened(std::uint16_t bits) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16U);
}

/// A packed weight with the memory it lies in.
struct Packed {
  Packed(const LowKernels& set, LowFormat format, std::span<const float> w, std::int64_t out, std::int64_t in,
         std::span<const float> bias, bool positive)
      : memory(LowLinear::bytes(format, out, in) / 4),
        linear(set, format, w.data(), out, in, bias, positive, memory.data()) {}

  [[nodiscard]] std::vector<float> operator()(const std::vector<float>& x, std::int64_t m, std::int64_t in,
                                              std::int64_t out, bool relu) const {
    LowRows rows;
    rows.reserve(m, in);
    std::vector<float> y(at(m * (out + 2)), 77.0F);
    linear.apply(x.data(), in, m, y.data(), out + 2, rows, relu);
    return y;
  }

  AlignedBuffer<std::uint32_t> memory;
  LowLinear linear;
};

TEST_SUITE("models/kernels_low") {
  TEST_CASE("bf16 is the nearest, ties to even") {
    CHECK(to_bf16(1.0F) == 0x3F80);
    CHECK(to_bf16(std::bit_cast<float>(0x3F808000U)) == 0x3F80);
    CHECK(to_bf16(std::bit_cast<float>(0x3F818000U)) == 0x3F82);
    CHECK(to_bf16(std::bit_cast<float>(0x3F808001U)) == 0x3F81);
    CHECK(std::isnan(widened(to_bf16(NAN))));
  }

  TEST_CASE("products equal the definition with rounded factors, at odd sizes too") {
    for (const LowKernels* set : supported_low_kernels()) {
      CAPTURE(set->name);
      for (const auto& [out, in] :
           std::vector<std::pair<std::int64_t, std::int64_t>>{{1, 1}, {49, 32}, {130, 67}, {65, 515}}) {
        CAPTURE(out);
        const std::vector<float> w = noise(out * in, 1);
        const std::vector<float> bias = noise(out, 2);
        for (const bool positive : {false, true}) {
          CAPTURE(positive);
          const std::int64_t m = 7;
          std::vector<float> x = noise(m * in, 3);
          if (positive) {
            for (float& v : x) v = std::max(v, 0.0F);
          }
          const auto check = [&](LowFormat format, const std::vector<double>& want, double tolerance) {
            const Packed packed(*set, format, w, out, in, bias, positive);
            for (const bool relu : {false, true}) {
              const std::vector<float> y = packed(x, m, in, out, relu);
              double worst = 0;
              for (std::int64_t r = 0; r < m; ++r) {
                for (std::int64_t o = 0; o < out; ++o) {
                  const double wanted = relu ? std::max(want[at(r * out + o)], 0.0) : want[at(r * out + o)];
                  worst = std::max(worst, std::abs(wanted - y[at(r * (out + 2) + o)]));
                }
                CHECK(y[at(r * (out + 2) + out)] == 77.0F);  // nothing beyond the row
              }
              CHECK(worst < tolerance);
            }
          };
          std::vector<double> rounded(at(m * out));
          std::vector<double> exact(at(m * out));
          std::vector<double> bytes(at(m * out));
          const float byte_levels = positive ? 255.0F : 127.0F;
          const float levels = set->spread == 2 ? static_cast<float>(LowKernels::kWordLevels) : byte_levels;
          for (std::int64_t r = 0; r < m; ++r) {
            float x_most = 0;
            for (std::int64_t i = 0; i < in; ++i) x_most = std::max(x_most, std::abs(x[at(r * in + i)]));
            for (std::int64_t o = 0; o < out; ++o) {
              float w_most = 0;
              for (std::int64_t i = 0; i < in; ++i) w_most = std::max(w_most, std::abs(w[at(o * in + i)]));
              double sum = 0;
              double whole = 0;
              double plain = 0;
              for (std::int64_t i = 0; i < in; ++i) {
                const float a = x[at(r * in + i)];
                const float b = w[at(o * in + i)];
                sum += static_cast<double>(widened(to_bf16(a))) * widened(to_bf16(b));
                plain += static_cast<double>(a) * b;
                if (x_most > 0) whole += std::nearbyint(a * (levels / x_most)) * std::nearbyint(b * (127.0F / w_most));
              }
              rounded[at(r * out + o)] = sum + bias[at(o)];
              exact[at(r * out + o)] = plain + bias[at(o)];
              bytes[at(r * out + o)] = whole * (x_most / levels) * (w_most / 127.0F) + bias[at(o)];
            }
          }
          // Inputs of some 3 are rounded to 2^-11, weights to a hundred-thousandth; five hundred products at most.
          if (set->half == LowFormat::int16) check(LowFormat::int16, exact, 0.02);
          if (set->half == LowFormat::bf16) check(LowFormat::bf16, rounded, 2e-5);
          check(LowFormat::int8, bytes, 2e-5);
        }
      }
    }
  }

  TEST_CASE("a row's products are the same bits whatever rows it shares a call with") {
    const std::int64_t out = 200;
    const std::int64_t in = 300;
    const std::vector<float> w = noise(out * in, 4);
    for (const LowKernels* set : supported_low_kernels()) {
      for (const LowFormat format : {set->half, LowFormat::int8}) {
        const Packed packed(*set, format, w, out, in, {}, false);
        const std::vector<float> x = noise(17 * in, 5);
        const std::vector<float> all = packed(x, 17, in, out, false);
        int different = 0;
        for (std::int64_t m = 1; m <= 9; ++m) {
          for (std::int64_t first = 0; first + m <= 17; ++first) {
            const std::vector<float> some(x.begin() + first * in, x.begin() + (first + m) * in);
            const std::vector<float> y = packed(some, m, in, out, false);
            different += std::equal(y.begin(), y.end(), all.begin() + first * (out + 2)) ? 0 : 1;
          }
        }
        CHECK(different == 0);
      }
    }
  }

  TEST_CASE("a row of zeros gives the bias, one with what is not a number none") {
    for (const LowKernels* set : supported_low_kernels()) {
      for (const LowFormat format : {set->half, LowFormat::int8}) {
        const std::vector<float> bias = noise(70, 6);
        const Packed packed(*set, format, noise(70 * 20, 7), 70, 20, bias, false);
        std::vector<float> x(4 * 20);
        x[20 + 7] = NAN;
        x[2 * 20 + 19] = -INFINITY;
        const std::vector<float> y = packed(x, 4, 20, 70, false);
        CHECK(std::equal(bias.begin(), bias.end(), y.begin()));
        CHECK(std::none_of(y.begin() + 72, y.begin() + 72 + 70, [](float v) { return std::isfinite(v); }));
        CHECK(std::none_of(y.begin() + 144, y.begin() + 144 + 70, [](float v) { return std::isfinite(v); }));
        CHECK(std::equal(bias.begin(), bias.end(), y.begin() + 216));
      }
    }
  }

  TEST_CASE("sums at their largest do not overflow") {
    const std::int64_t in = 2048;
    for (const LowKernels* set : supported_low_kernels()) {
      CAPTURE(set->name);
      for (const LowFormat format : {set->half, LowFormat::int8}) {
        const std::vector<float> w(at(in), 0.75F);
        const Packed packed(*set, format, w, 1, in, {}, false);
        for (const std::int64_t m : {1, 3}) {
          const std::vector<float> y = packed(std::vector<float>(at(m * in), -1.9999F), m, in, 1, false);
          const auto want = doctest::Approx(-1.9999 * 0.75 * static_cast<double>(in)).epsilon(4e-3);
          for (std::int64_t r = 0; r < m; ++r) CHECK(y[at(r * 3)] == want);
        }
      }
    }
  }

  TEST_CASE("attention over a cache filled in any order equals the definition") {
    for (const LowKernels* set : supported_low_kernels()) {
      CAPTURE(set->name);
      for (const std::int64_t width : {16, 32, 48, 64}) {
        CAPTURE(width);
        const std::int64_t heads = 3;
        const std::int64_t hidden = heads * width;
        const std::int64_t capacity = 80;
        const std::int64_t n = 75;
        const std::vector<float> k = noise(n * hidden, 8);
        const std::vector<float> v = noise(n * hidden, 9);
        const std::vector<float> q = noise(9 * hidden, 10);
        // Nothing that the memory held before may count, not even a NaN.
        std::vector<std::uint16_t> keys(at(hidden * capacity), 0x7FC0);
        std::vector<std::uint16_t> values(at(hidden * capacity), 0x7FC0);
        std::vector<float> scratch(LowKernels::attend_scratch(capacity));
        std::vector<float> weights(at(heads * n));
        std::vector<float> out(at(9 * hidden));
        const auto put = [&](std::int64_t first, std::int64_t count, bool fresh) {
          set->cache(k.data() + first * hidden, v.data() + first * hidden, hidden, first, count, fresh, hidden, heads,
                     capacity, keys.data(), values.data());
        };
        const auto check = [&](const std::vector<std::int32_t>& lengths) {
          const auto m = static_cast<std::int64_t>(lengths.size());
          set->attend(q.data(), hidden, m, lengths.data(), keys.data(), values.data(), hidden, heads, capacity,
                      scratch.data(), out.data(), hidden, m == 1 ? weights.data() : nullptr);
          double worst = 0;
          double worst_weight = 0;
          for (std::int64_t r = 0; r < m; ++r) {
            for (std::int64_t h = 0; h < heads; ++h) {
              const std::int64_t length = lengths[at(r)];
              std::vector<double> p(at(length));
              double total = 0;
              for (std::int64_t t = 0; t < length; ++t) {
                double dot = 0;
                for (std::int64_t d = h * width; d < (h + 1) * width; ++d) {
                  dot += static_cast<double>(q[at(r * hidden + d)]) * k[at(t * hidden + d)];
                }
                total += p[at(t)] = std::exp(dot / std::sqrt(static_cast<double>(width)));
              }
              for (std::int64_t t = 0; t < length && m == 1; ++t) {
                worst_weight = std::max(worst_weight, std::abs(p[at(t)] / total - weights[at(h * length + t)]));
              }
              for (std::int64_t d = h * width; d < (h + 1) * width; ++d) {
                double sum = 0;
                for (std::int64_t t = 0; t < length; ++t) sum += p[at(t)] / total * v[at(t * hidden + d)];
                worst = std::max(worst, std::abs(sum - out[at(r * hidden + d)]));
              }
            }
          }
          CHECK(worst < 0.03);
          CHECK(worst_weight < 0.02);
        };
        put(0, 5, true);
        check({5});
        put(5, 1, true);
        check({6});
        put(6, 32, true);
        put(38, 1, true);
        check({39, 7, 1, 20, 39, 39, 38, 2, 12});
        put(39, 36, true);
        check({75});
        for (const std::int64_t again : {40, 41, 74}) put(again, 1, /*fresh=*/again == 74);  // as a ring does
        check({75});
      }
    }
  }
}

}  // namespace
}  // namespace tts
