#include "models/kernels.h"

#include <cmath>
#include <random>

#include "src/core/safetensors.h"
#include "tests/doctest.h"

namespace tts {
namespace {

std::vector<float> noise(std::size_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(n);
  for (float& v : values) v = normal(random);
  return values;
}

std::size_t at(std::int64_t n) {
  return static_cast<std::size_t>(n);
}

TEST_SUITE("models/kernels") {
  TEST_CASE("every instruction set multiplies like the definition, at odd sizes too") {
    for (const Kernels* set : supported_kernels()) {
      CAPTURE(set->name);
      for (const std::int64_t m : {1, 2, 3, 6, 7, 13}) {
        for (const auto& [out, in] : std::vector<std::pair<std::int64_t, std::int64_t>>{{1, 1}, {49, 32}, {130, 67}}) {
          CAPTURE(m);
          CAPTURE(out);
          const std::vector<float> w = noise(at(out * in), 1);
          const std::vector<float> bias = noise(at(out), 2);
          const std::vector<float> x = noise(at(m * (in + 3)), 3);
          const PackedLinear linear(*set, w.data(), out, in, bias);
          for (const bool relu : {false, true}) {
            std::vector<float> y(at(m * (out + 2)), 77.0F);
            linear.apply(x.data(), in + 3, m, y.data(), out + 2, relu);
            double worst = 0;
            for (std::int64_t r = 0; r < m; ++r) {
              for (std::int64_t o = 0; o < out; ++o) {
                double sum = bias[at(o)];
                for (std::int64_t i = 0; i < in; ++i)
                  sum += static_cast<double>(w[at(o * in + i)]) * x[at(r * (in + 3) + i)];
                if (relu) sum = std::max(sum, 0.0);
                worst = std::max(worst, std::abs(sum - y[at(r * (out + 2) + o)]));
              }
              CHECK(y[at(r * (out + 2) + out)] == 77.0F);  // nothing beyond the row
            }
            CHECK(worst < 2e-5);
          }
        }
      }
    }
  }

  TEST_CASE("a weight of exact halves is kept as halves and gives the same numbers") {
    for (const Kernels* set : supported_kernels()) {
      CAPTURE(set->name);
      for (const std::int64_t m : {1, 5, 8}) {
        const std::int64_t out = 70;
        const std::int64_t in = 33;
        std::vector<float> w(at(out * in));
        for (std::size_t i = 0; i < w.size(); ++i) w[i] = half_to_float(static_cast<std::uint16_t>(i * 11 % 0x7C00));
        const std::vector<float> x = noise(at(m * in), 3);
        const PackedLinear halves(*set, w.data(), out, in, {});
        CHECK(halves.is_half() == (set->linear_half != nullptr));
        std::vector<float> packed(packed_size(*set, out, in));
        pack(*set, w.data(), out, in, in, 1, packed.data());
        std::vector<float> got(at(m * out));
        std::vector<float> want(at(m * out));
        halves.apply(x.data(), in, m, got.data(), out);
        set->linear(x.data(), in, m, packed.data(), nullptr, in, out, want.data(), out, false);
        CHECK((got == want));
        w[5] = 0.1F;  // one value that no half equals
        CHECK_FALSE(PackedLinear(*set, w.data(), out, in, {}).is_half());
      }
    }
  }

  TEST_CASE("exact_half finds every half and nothing else") {
    int wrong = 0;
    for (std::uint32_t bits = 0; bits < 0x10000U; ++bits) {
      if ((bits & 0x7C00U) == 0x7C00U) continue;  // infinities and NaNs
      const auto half = static_cast<std::uint16_t>(bits);
      const auto found = exact_half(half_to_float(half));
      wrong += found && *found == half ? 0 : 1;
    }
    CHECK(wrong == 0);
    for (const float value : {0.1F, 65536.0F, 1e-8F, 65519.0F, 1.00048828125F, 8.9e-8F, INFINITY, NAN}) {
      CAPTURE(value);
      CHECK_FALSE(exact_half(value));
    }
  }

  TEST_CASE("softmax sums to one and follows exp, also far below the maximum") {
    for (const Kernels* set : supported_kernels()) {
      CAPTURE(set->name);
      for (const std::int64_t n : {1, 5, 16, 37, 200}) {
        std::vector<float> row = noise(at(n), 4);
        for (float& v : row) v *= 20.0F;
        if (n > 3) row[3] = -1e4F;
        std::vector<double> want(row.begin(), row.end());
        double largest = -1e30;
        for (const double v : want) largest = std::max(largest, v);
        double total = 0;
        for (double& v : want) total += v = std::exp((v - largest) * 0.5);
        set->softmax(row.data(), n, 0.5F);
        double worst = 0;
        for (std::size_t i = 0; i < want.size(); ++i) worst = std::max(worst, std::abs(want[i] / total - row[i]));
        CHECK(worst < 1e-6);
      }
    }
  }

  TEST_CASE("attention equals the definition for every head width") {
    for (const Kernels* set : supported_kernels()) {
      CAPTURE(set->name);
      for (const std::int64_t width : {5, 8, 16, 32, 64}) {
        CAPTURE(width);
        const std::int64_t heads = 3;
        const std::int64_t hidden = heads * width;
        for (const std::int64_t length : {1, 2, 33}) {
          const std::vector<float> q = noise(at(hidden), 5);
          const std::vector<float> k = noise(at(length * hidden), 6);
          const std::vector<float> v = noise(at(length * hidden), 7);
          std::vector<float> scores(at(heads * length));
          std::vector<float> out(at(hidden));
          set->attend(q.data(), k.data(), v.data(), length, hidden, heads, scores.data(), out.data());
          double worst = 0;
          for (std::int64_t h = 0; h < heads; ++h) {
            std::vector<double> weights(at(length));
            double total = 0;
            for (std::int64_t t = 0; t < length; ++t) {
              double dot = 0;
              for (std::int64_t d = 0; d < width; ++d)
                dot += static_cast<double>(q[at(h * width + d)]) * k[at(t * hidden + h * width + d)];
              total += weights[at(t)] = std::exp(dot / std::sqrt(static_cast<double>(width)));
            }
            for (std::int64_t d = 0; d < width; ++d) {
              double sum = 0;
              for (std::int64_t t = 0; t < length; ++t)
                sum += weights[at(t)] / total * v[at(t * hidden + h * width + d)];
              worst = std::max(worst, std::abs(sum - out[at(h * width + d)]));
            }
          }
          CHECK(worst < 1e-5);
        }
      }
    }
  }

  TEST_CASE("add_norm leaves mean bias and deviation gain") {
    for (const Kernels* set : supported_kernels()) {
      CAPTURE(set->name);
      for (const std::int64_t n : {7, 64, 100}) {
        std::vector<float> x = noise(at(n), 8);
        const std::vector<float> residual = noise(at(n), 9);
        const std::vector<float> gain = noise(at(n), 10);
        const std::vector<float> bias = noise(at(n), 11);
        std::vector<double> sum(at(n));
        double mean = 0;
        for (std::size_t i = 0; i < sum.size(); ++i) mean += sum[i] = static_cast<double>(x[i]) + residual[i];
        mean /= static_cast<double>(n);
        double variance = 0;
        for (const double v : sum) variance += (v - mean) * (v - mean) / static_cast<double>(n);
        set->add_norm(x.data(), residual.data(), gain.data(), bias.data(), n);
        double worst = 0;
        for (std::size_t i = 0; i < sum.size(); ++i) {
          worst = std::max(worst, std::abs((sum[i] - mean) / std::sqrt(variance + 1e-5) * gain[i] + bias[i] - x[i]));
        }
        CHECK(worst < 1e-5);
      }
    }
  }
}

}  // namespace
}  // namespace tts
