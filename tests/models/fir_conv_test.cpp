#include "models/fir_conv.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "tests/doctest.h"

namespace tts {
namespace {

std::vector<float> random_numbers(std::size_t n, std::uint32_t seed) {
  std::mt19937 generator(seed);
  std::vector<float> out(n);
  for (float& v : out) v = static_cast<float>(generator() % 2001) / 1000.0F - 1.0F;
  return out;
}

/// A stream of `rows` rows, `chunk` at a time.
std::vector<float> run(const FirConv& conv, const std::vector<float>& x, std::int64_t channels, std::int64_t chunk) {
  const auto rows = static_cast<std::int64_t>(x.size()) / channels;
  RowWindow<Bf16> window(channels, conv.past());
  std::vector<float> out(x.size());
  std::int64_t done = 0;
  for (std::int64_t at = 0; at < rows; at += chunk) {
    const std::int64_t n = std::min(chunk, rows - at);
    bf16_kernels()->round({x.data() + at * channels, channels, n, channels}, 1.0F, window.append(n), channels);
    const std::int64_t until = at + n == rows ? rows : std::max(done, at + n - conv.reach());
    window.pad(conv.margin());
    conv.run(window, done, until, [&](const FirBlock& b) {
      for (std::int64_t r = 0; r < b.values.rows; ++r) {
        for (std::int64_t c = 0; c < b.values.columns; ++c) {
          out[static_cast<std::size_t>((b.row + r * b.row_step) * channels + b.column + c)] =
              b.values.at[r * b.values.stride + c];
        }
      }
    });
    done = until;
    window.drop_before(conv.first_needed(done));
  }
  return out;
}

TEST_SUITE("models/fir_conv") {
  TEST_CASE("fast and plain filters agree with the sum written out, in any chunking to the last bit") {
    if (bf16_kernels() == nullptr) return;
    constexpr std::int64_t kChannels = 32;
    constexpr std::int64_t kRows = 97;
    const std::vector<float> x = random_numbers(kRows * kChannels, 1);
    const std::vector<float> bias = random_numbers(kChannels, 2);
    for (const std::int64_t kernel : {3, 7, 11}) {
      for (const std::int64_t dilation : {1, 3, 5}) {
        const std::vector<float> w = random_numbers(static_cast<std::size_t>(kChannels * kernel * kChannels), 3);
        for (const bool fast : {false, true}) {
          CAPTURE(kernel);
          CAPTURE(dilation);
          CAPTURE(fast);
          const FirConv conv(w.data(), kChannels, kernel, kChannels, bias, dilation, fast);
          const std::vector<float> whole = run(conv, x, kChannels, kRows);
          double error = 0;
          double power = 0;
          for (std::int64_t t = 0; t < kRows; ++t) {
            for (std::int64_t o = 0; o < kChannels; ++o) {
              double sum = bias[static_cast<std::size_t>(o)];
              for (std::int64_t k = 0; k < kernel; ++k) {
                const std::int64_t from = t + (k - kernel / 2) * dilation;
                for (std::int64_t i = 0; from >= 0 && from < kRows && i < kChannels; ++i) {
                  sum += static_cast<double>(w[static_cast<std::size_t>((o * kernel + k) * kChannels + i)]) *
                         static_cast<double>(x[static_cast<std::size_t>(from * kChannels + i)]);
                }
              }
              const double d = sum - static_cast<double>(whole[static_cast<std::size_t>(t * kChannels + o)]);
              error += d * d;
              power += sum * sum;
            }
          }
          CHECK(std::sqrt(error / power) < 0.01);
          for (const std::int64_t chunk : {1, 13, 40}) {
            CAPTURE(chunk);
            CHECK(run(conv, x, kChannels, chunk) == whole);
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace tts
