#include "models/sample_conv.h"

#include <ATen/ATen.h>

#include "models/weights.h"
#include "tests/doctest.h"

namespace tts {
namespace {

double distance(const at::Tensor& got, const at::Tensor& want) {
  REQUIRE(got.sizes() == want.sizes());
  return ((got - want).abs().max() / want.abs().max()).item<double>();
}

TEST_SUITE("models/sample_conv") {
  TEST_CASE("convolutions of every width, kernel and dilation give ATen's numbers") {
    at::manual_seed(3);
    for (const std::int64_t channels : {1, 3, 16, 24, 48, 128}) {
      for (const std::int64_t kernel : {1, 3, 11}) {
        for (const std::int64_t dilation : {1, 3, 5}) {
          for (const std::int64_t samples : {1, 2, 17, 130}) {
            CAPTURE(channels);
            CAPTURE(kernel);
            CAPTURE(dilation);
            CAPTURE(samples);
            const at::Tensor weight = at::randn({channels, 5, kernel});
            const at::Tensor bias = at::randn({channels});
            const at::Tensor x = at::randn({samples + (kernel - 1) * dilation, 5});
            const SampleConv conv(weight, bias, dilation);
            CHECK(conv.span() == (kernel - 1) * dilation);
            const at::Tensor want =
                at::conv1d(x.t().unsqueeze(0), weight, bias, 1, at::IntArrayRef({0}), dilation).squeeze(0).t();
            CHECK(distance(conv.valid(x), want) < 1e-5);
          }
        }
      }
    }
    const SampleConv conv(at::randn({2, 5, 3}), at::Tensor());
    CHECK(conv.valid(at::randn({2, 5})).size(0) == 0);
    CHECK_THROWS_AS((void)conv.valid(at::randn({9, 4})), ModelError);
  }

  TEST_CASE("upsampling gives ATen's numbers away from the ends") {
    struct Shape {
      std::int64_t kernel, rate;
    };
    for (const Shape shape : {Shape{16, 10}, {20, 10}, {16, 8}, {8, 2}, {2, 2}, {12, 6}, {4, 2}}) {
      CAPTURE(shape.kernel);
      CAPTURE(shape.rate);
      const at::Tensor weight = at::randn({6, 3, shape.kernel});
      const at::Tensor bias = at::randn({3});
      const at::Tensor x = at::randn({12, 6});
      const SampleUpsampler up(weight, bias, shape.rate);
      const at::Tensor whole =
          at::conv_transpose1d(x.t().unsqueeze(0), weight, bias, shape.rate, (shape.kernel - shape.rate) / 2)
              .squeeze(0)
              .t();
      const std::int64_t frames = 12 - up.left() - up.right();
      CHECK(distance(up.valid(x), whole.narrow(0, up.left() * shape.rate, frames * shape.rate)) < 1e-5);
    }
    CHECK_THROWS_AS(SampleUpsampler(at::randn({2, 2, 5}), at::randn({2}), 2), ModelError);
  }
}

}  // namespace
}  // namespace tts
