#include "src/core/gpu_figures.h"

#include "tests/doctest.h"

namespace tts {

TEST_CASE("a machine without the driver's library has no figures") {
  CHECK(GpuReader::open("libno-such-library.so.1") == nullptr);
  CHECK(GpuReader::open("libm.so.6") == nullptr);  // a library, but another one
}

TEST_CASE("every GPU that answers is told of") {
  const auto reader = GpuReader::open(SONORANT_FAKE_NVML);
  REQUIRE(reader != nullptr);
  for (int again = 0; again < 2; ++again) {
    const auto gpus = reader->read();
    REQUIRE(gpus.size() == 2);
    CHECK(gpus[0].index == 0);
    CHECK(gpus[0].name == "First \"card\"");
    CHECK(gpus[0].utilization == doctest::Approx(0.37));
    CHECK(gpus[0].memory_used_bytes == 250);
    CHECK(gpus[0].memory_total_bytes == 1000);
    CHECK(gpus[1].name == "Second");
    CHECK(gpus[1].utilization == 0);
    CHECK(gpus[1].memory_used_bytes == 10);
  }
}

}  // namespace tts
