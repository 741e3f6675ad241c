#include "models/bf16_kernels.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <random>
#include <vector>

#include "models/bf16_weight.h"
#include "tests/doctest.h"

namespace tts {
namespace {

float widened(Bf16 bits) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16U);
}

std::vector<float> normal(std::int64_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> distribution;
  std::vector<float> values(static_cast<std::size_t>(n));
  for (float& v : values) v = distribution(random);
  return values;
}

std::vector<Bf16> rounded(const std::vector<float>& values) {
  std::vector<Bf16> out;
  for (const float v : values) out.push_back(to_bf16(v));
  return out;
}

double leaky(double v, double slope) {
  return std::max(v, v * slope);
}

/// Largest difference of rounded numbers to exact ones, in halves of the last bit that bf16 keeps.
double units(const std::vector<Bf16>& got, const std::vector<double>& want) {
  double worst = got.size() == want.size() ? 0 : 1e9;
  for (std::size_t i = 0; i < std::min(got.size(), want.size()); ++i) {
    const double half = std::max(std::ldexp(std::abs(want[i]), -8), 1e-4 / 256);
    worst = std::max(worst, std::abs(static_cast<double>(widened(got[i])) - want[i]) / half);
  }
  return worst;
}
constexpr double kRounded = 1.02;  // a half and what float32 loses before

TEST_SUITE("models/bf16_kernels") {
  TEST_CASE("a product equals the sum written out at every shape, and a row does not depend on its company") {
    for (const Bf16Kernels* set : supported_bf16_kernels()) {
      CAPTURE(set->name);
      // taps, channels, columns, tap stride in rows
      for (const auto& [taps, in, out, dilation] :
           std::vector<std::array<std::int64_t, 4>>{{1, 2, 1, 1}, {1, 34, 17, 1}, {3, 16, 64, 1}, {3, 32, 40, 5},
                                                    {2, 64, 25, 3}, {1, 6000, 16, 1}, {1, 33000, 16, 1}}) {
        CAPTURE(taps);
        CAPTURE(in);
        CAPTURE(out);
        const std::vector<float> w = normal(out * taps * in, 1);
        const Bf16Weight weight(w.data(), out, taps, in, {}, *set);
        const std::int64_t most = in > 1000 ? 4 : 31;
        const std::vector<Bf16> x = rounded(normal((most + (taps - 1) * dilation) * in, 2));
        const std::vector<float> start = normal(most * 64, 3);
        const std::vector<float> more = normal(most * 64, 4);
        const auto run = [&](std::int64_t first, std::int64_t rows, bool with_more, bool relu) {
          Bf16Product p = weight.product(weight.panels().front(), x.data() + first * in, in, dilation * in);
          p.rows = rows;
          p.start = start.data() + first * 64;
          p.start_stride = 64;
          if (with_more) {
            p.more = more.data() + first * 64;
            p.more_stride = 64;
          }
          p.relu = relu;
          std::vector<float> y(static_cast<std::size_t>(rows * (out + 1)), 77.0F);
          p.out = y.data();
          p.out_stride = out + 1;
          set->product(p);
          return y;
        };
        for (const bool with_more : {false, true}) {
          const std::vector<float> all = run(0, most, with_more, false);
          const std::vector<float> cut = run(0, most, with_more, true);
          double worst = 0;
          for (std::int64_t r = 0; r < most; ++r) {
            for (std::int64_t o = 0; o < out; ++o) {
              double sum = start[static_cast<std::size_t>(r * 64 + o)];
              if (with_more) sum += more[static_cast<std::size_t>(r * 64 + o)];
              double size = 1;
              for (std::int64_t t = 0; t < taps; ++t) {
                for (std::int64_t i = 0; i < in; ++i) {
                  const float factor = w[static_cast<std::size_t>((o * taps + t) * in + i)];
                  const double product =
                      static_cast<double>(widened(x[static_cast<std::size_t>((r + t * dilation) * in + i)])) *
                      static_cast<double>(set->fixed_point ? factor : widened(to_bf16(factor)));
                  sum += product;
                  size += product * product;
                }
              }
              const auto at = static_cast<std::size_t>(r * (out + 1) + o);
              worst = std::max(worst, std::abs(sum - all[at]) / std::sqrt(size));
              CHECK(cut[at] == std::max(all[at], 0.0F));
            }
            CHECK(all[static_cast<std::size_t>(r * (out + 1) + out)] == 77.0F);  // nothing beyond the columns
          }
          // Sums are float32's, one number after the other; or of integers, for which weights are rounded finer.
          const double sums = 1e-9 * static_cast<double>(std::max<std::int64_t>(taps * in, 10'000));
          CHECK(worst < (set->fixed_point ? 1e-3 : sums));
          int different = 0;
          for (std::int64_t rows = 1; rows <= std::min<std::int64_t>(most, 14); ++rows) {
            for (std::int64_t first = 0; first + rows <= most; ++first) {
              const std::vector<float> some = run(first, rows, with_more, false);
              different += std::equal(some.begin(), some.end(), all.begin() + first * (out + 1)) ? 0 : 1;
            }
          }
          CHECK(different == 0);
        }
      }
    }
  }

  TEST_CASE("sums at their largest do not overflow, and what is not a number stays with its row") {
    constexpr std::int64_t kIn = 1024;
    for (const Bf16Kernels* set : supported_bf16_kernels()) {
      CAPTURE(set->name);
      for (const float size : {1e-20F, 1.0F, 1e20F}) {
        const std::vector<float> w(kIn, size);
        const Bf16Weight weight(w.data(), 1, 1, kIn, {}, *set);
        // The last number before the next power of two, in all places; in a few, beside nothing.
        const float most = 1.9921875F;
        std::vector<Bf16> x(4 * kIn, Bf16{0});
        std::fill_n(x.begin(), kIn, to_bf16(most));
        std::fill_n(x.begin() + kIn, 3, to_bf16(-most));
        x[2 * kIn + 5] = to_bf16(NAN);
        x[3 * kIn + 1023] = to_bf16(INFINITY);
        const std::vector<float> start(16);
        std::vector<float> y(4);
        Bf16Product p = weight.product(weight.panels().front(), x.data(), kIn, kIn);
        p.rows = 4;
        p.start = start.data();
        p.out = y.data();
        p.out_stride = 1;
        set->product(p);
        CHECK(y[0] == doctest::Approx(most * kIn * size).epsilon(4e-3));
        CHECK(y[1] == doctest::Approx(-most * 3 * size).epsilon(4e-3));
        CHECK(std::isnan(y[2]));
        CHECK(!std::isfinite(y[3]));
      }
    }
  }

  TEST_CASE("a row of an odd length does not see the next one") {
    if (bf16_kernels() == nullptr) return;
    constexpr std::int64_t kIn = 33;
    const Bf16Weight weight(normal(16 * kIn, 8).data(), 16, 1, kIn, {});
    std::vector<float> x = normal(2 * kIn, 9);
    x[kIn] = 1e6F;
    std::vector<float> lone(16);
    std::vector<float> both(32);
    weight.apply(x.data(), kIn, 1, lone.data(), false);
    weight.apply(x.data(), kIn, 2, both.data(), false);
    CHECK(std::equal(lone.begin(), lone.end(), both.begin()));
  }

  TEST_CASE("many short rows are the same as each alone") {
    constexpr std::int64_t kRows = 40'000;
    constexpr std::int64_t kIn = 2;
    for (const Bf16Kernels* set : supported_bf16_kernels()) {
      const Bf16Weight weight(normal(16 * kIn, 10).data(), 16, 1, kIn, {}, *set);
      const std::vector<Bf16> x = rounded(normal(kRows * kIn, 11));
      const std::vector<float> start(16);
      const auto run = [&](std::int64_t first, std::int64_t rows) {
        std::vector<float> y(static_cast<std::size_t>(rows * 16));
        Bf16Product p = weight.product(weight.panels().front(), x.data() + first * kIn, kIn, kIn);
        p.rows = rows;
        p.start = start.data();
        p.out = y.data();
        p.out_stride = 16;
        set->product(p);
        return y;
      };
      const std::vector<float> all = run(0, kRows);
      for (const std::int64_t row : {0, 4095, 4096, 32767, 39'999}) {
        const std::vector<float> lone = run(row, 1);
        CHECK(std::equal(lone.begin(), lone.end(), all.begin() + row * 16));
      }
    }
  }

  TEST_CASE("a weight that is not a number makes its column none") {
    for (const Bf16Kernels* set : supported_bf16_kernels()) {
      for (const float fault : {NAN, INFINITY}) {
        std::vector<float> w = normal(3 * 32, 7);
        w[32 + 9] = fault;
        const Bf16Weight weight(w.data(), 3, 1, 32, {}, *set);
        const std::vector<Bf16> x(32, to_bf16(1.0F));
        const std::vector<float> start(16);
        std::vector<float> y(3);
        Bf16Product p = weight.product(weight.panels().front(), x.data(), 32, 32);
        p.rows = 1;
        p.start = start.data();
        p.out = y.data();
        p.out_stride = 3;
        set->product(p);
        CHECK(std::isfinite(y[0]));
        CHECK(!std::isfinite(y[1]));
        CHECK(std::isfinite(y[2]));
      }
    }
  }

  TEST_CASE("rounding is to the nearest, ties to even, at every length, and keeps what is not a number") {
    for (const Bf16Kernels* set : supported_bf16_kernels()) {
      CAPTURE(set->name);
      for (std::int64_t n = 1; n <= 35; ++n) {
        std::vector<float> x = normal(n, 5);
        x[0] = std::bit_cast<float>(0x3F818000U);  // a tie
        const std::vector<Bf16> want = rounded(x);
        std::vector<Bf16> got(static_cast<std::size_t>(n + 1), Bf16{7});
        set->round({x.data(), 0, 1, n}, 1.0F, got.data(), 0);
        CHECK(std::equal(want.begin(), want.end(), got.begin()));
        CHECK(got.back() == 7);
      }
      const std::vector<float> strange = {NAN, -NAN, INFINITY, -INFINITY, std::bit_cast<float>(0x7F800001U), 0.0F,
                                          -0.0F, 3e38F};
      std::vector<Bf16> got(strange.size());
      set->round({strange.data(), 0, 1, 8}, 1.0F, got.data(), 0);
      CHECK(std::isnan(widened(got[0])));
      CHECK(std::isnan(widened(got[1])));
      CHECK(widened(got[2]) == INFINITY);
      CHECK(widened(got[3]) == -INFINITY);
      CHECK(std::isnan(widened(got[4])));
      CHECK(widened(got[5]) == 0.0F);
      CHECK(widened(got[6]) == 0.0F);
    }
  }

  TEST_CASE("what is done number by number equals its definition") {
    constexpr std::int64_t kRows = 3;
    constexpr std::int64_t kColumns = 48;
    constexpr std::int64_t kStride = 64;
    constexpr float kSlope = 0.1F;
    const std::vector<float> v = normal(kRows * kStride, 6);
    const std::vector<float> base = normal(kRows * kStride, 7);
    const auto number = [](const std::vector<float>& from, std::int64_t row, std::int64_t i) {
      return static_cast<double>(from[static_cast<std::size_t>(row * kStride + i)]);
    };
    for (const Bf16Kernels* set : supported_bf16_kernels()) {
      CAPTURE(set->name);
      // What each writes: kRows rows of kColumns numbers, kStride apart.
      const auto check = [&](const auto& call, const auto& want) {
        std::vector<Bf16> all(kRows * kStride, Bf16{7});
        call(all.data());
        std::vector<Bf16> got;
        std::vector<double> wanted;
        for (std::int64_t r = 0; r < kRows; ++r) {
          for (std::int64_t i = 0; i < kStride; ++i) {
            const Bf16 made = all[static_cast<std::size_t>(r * kStride + i)];
            if (i >= kColumns) {
              CHECK(made == 7);
              continue;
            }
            got.push_back(made);
            wanted.push_back(want(r, i));
          }
        }
        CHECK(units(got, wanted) < kRounded);
      };
      const FloatBlock block{v.data(), kStride, kRows, kColumns};
      const auto sigmoid = [](double x) { return 1.0 / (1.0 + std::exp(-x)); };
      check([&](Bf16* to) { set->round(block, kSlope, to, kStride); },
            [&](std::int64_t r, std::int64_t i) { return leaky(number(v, r, i), kSlope); });
      check([&](Bf16* to) { set->gelu(block, to, kStride); },
            [&](std::int64_t r, std::int64_t i) {
              const double x = number(v, r, i);
              return 0.5 * x * (1.0 + std::tanh(0.7978845608 * (x + 0.044715 * x * x * x)));
            });
      check([&](Bf16* to) { set->gate(block, base.data(), to, kStride); },
            [&](std::int64_t r, std::int64_t i) { return std::tanh(number(v, r, i)) * sigmoid(number(base, r, i)); });

      for (const bool with_base : {false, true}) {
        std::vector<float> y(kRows * kStride);
        const auto sum = [&](std::int64_t r, std::int64_t i) {
          return number(v, r, i) + (with_base ? number(base, r, i) : 0.0);
        };
        check([&](Bf16* to) { set->add(block, with_base ? base.data() : nullptr, y.data(), kSlope, to, kStride); },
              [&](std::int64_t r, std::int64_t i) { return leaky(sum(r, i), kSlope); });
        std::vector<float> again(kRows * kStride);
        set->add(block, with_base ? base.data() : nullptr, again.data(), kSlope, nullptr, kStride);
        CHECK(again == y);
        CHECK(std::abs(static_cast<double>(y[kStride + 5]) - sum(1, 5)) < 1e-6);
      }

      std::vector<float> gated = base;
      set->add_gated(block, v.data(), gated.data(), kStride);
      double worst = 0;
      for (std::int64_t r = 0; r < kRows; ++r) {
        for (std::int64_t i = 0; i < kColumns; ++i) {
          const double sum = number(base, r, i) + number(v, r, i) * number(v, 0, i);
          worst = std::max(worst, std::abs(sum - number(gated, r, i)));
        }
      }
      CHECK(worst < 2e-6);

      const std::vector<const float*> several = {v.data(), base.data(), v.data() + kStride};
      std::vector<Bf16> average(kColumns);
      std::vector<double> wanted;
      for (std::int64_t i = 0; i < kColumns; ++i) {
        wanted.push_back(leaky((number(v, 0, i) + number(base, 0, i) + number(v, 1, i)) / 3.0, kSlope));
      }
      set->mean(several.data(), 3, kColumns, kSlope, average.data());
      CHECK(units(average, wanted) < kRounded);

      // The transform of two levels: differences of neighbours, of every second and of both.
      std::vector<std::vector<Bf16>> rows;
      std::vector<const Bf16*> from;
      for (unsigned n = 0; n < 7; ++n) rows.push_back(rounded(normal(kColumns, 8 + n)));
      for (const auto& row : rows) from.push_back(row.data());
      std::vector<std::vector<Bf16>> made(9, std::vector<Bf16>(kColumns));
      std::vector<Bf16*> to;
      for (auto& row : made) to.push_back(row.data());
      set->split(from.data(), kColumns, to.data());
      const int parts[9][7] = {{1, -1, -1, 1, 0, 0, 0}, {0, 0, 1, -1, 0, 0, 0},  {0, 0, 1, -1, -1, 1, 0},
                               {0, 1, 0, -1, 0, 0, 0},  {0, 0, 0, 1, 0, 0, 0},   {0, 0, 0, 1, 0, -1, 0},
                               {0, 1, -1, -1, 1, 0, 0}, {0, 0, 0, 1, -1, 0, 0},  {0, 0, 0, 1, -1, -1, 1}};
      for (std::size_t s = 0; s < 9; ++s) {
        std::vector<double> sums;
        for (std::size_t i = 0; i < kColumns; ++i) {
          double sum = 0;
          for (std::size_t n = 0; n < 7; ++n) sum += parts[s][n] * static_cast<double>(widened(rows[n][i]));
          sums.push_back(sum);
        }
        CHECK(units(made[s], sums) < kRounded);
      }
    }
  }

  TEST_CASE("a depthwise convolution and its layer norm equal their definition") {
    constexpr std::int64_t kRows = 4;
    constexpr std::int64_t kChannels = 80;
    constexpr std::int64_t kTaps = 7;
    const std::vector<float> x = normal((kRows + kTaps - 1) * kChannels, 20);
    const std::vector<float> weight = normal(kTaps * kChannels, 21);
    const std::vector<float> depthwise_bias = normal(kChannels, 22);
    const std::vector<float> gain = normal(kChannels, 23);
    const std::vector<float> bias = normal(kChannels, 24);
    std::vector<double> want;
    for (std::int64_t r = 0; r < kRows; ++r) {
      std::vector<double> sums;
      double mean = 0;
      for (std::int64_t c = 0; c < kChannels; ++c) {
        double sum = depthwise_bias[static_cast<std::size_t>(c)];
        for (std::int64_t t = 0; t < kTaps; ++t) {
          sum += static_cast<double>(x[static_cast<std::size_t>((r + t) * kChannels + c)]) *
                 static_cast<double>(weight[static_cast<std::size_t>(t * kChannels + c)]);
        }
        sums.push_back(sum);
        mean += sum / kChannels;
      }
      double variance = 0;
      for (const double sum : sums) variance += (sum - mean) * (sum - mean) / kChannels;
      for (std::size_t c = 0; c < kChannels; ++c) {
        want.push_back((sums[c] - mean) / std::sqrt(variance + 1e-6) * static_cast<double>(gain[c]) +
                       static_cast<double>(bias[c]));
      }
    }
    for (const Bf16Kernels* set : supported_bf16_kernels()) {
      CAPTURE(set->name);
      std::vector<Bf16> got(kRows * kChannels);
      set->depthwise_norm(x.data(), kRows, kChannels, weight.data(), kTaps, depthwise_bias.data(), gain.data(),
                          bias.data(), 1e-6F, got.data());
      CHECK(units(got, want) < 1.1);
    }
  }
}

}  // namespace
}  // namespace tts
