#include "src/audio/resampler.h"

#include <stdexcept>
#include <string>
#include <utility>

#include <soxr.h>

#include "src/audio/pcm.h"

namespace tts {
namespace {

constexpr int kMinRateHz = 1'000;
constexpr int kMaxRateHz = 768'000;
// libsoxr's own block length of 2^10 holds back 38 ms at 24 -> 48 kHz; blocks of 2^8 hold back 17 ms at the same
// quality.
constexpr unsigned kLog2BlockSamples = 8;

void check(soxr_error_t error) {
  if (error != nullptr) throw std::runtime_error(std::string("libsoxr: ") + error);
}

}  // namespace

void StreamResampler::SoxrFree::operator()(soxr* handle) const noexcept {
  soxr_delete(handle);
}

StreamResampler::StreamResampler(SoxrHandle soxr, int in_rate_hz, int out_rate_hz) noexcept
    : soxr_(std::move(soxr)), in_rate_hz_(in_rate_hz), out_rate_hz_(out_rate_hz) {}

Result<StreamResampler> StreamResampler::make(int in_rate_hz, int out_rate_hz) {
  for (const int rate_hz : {in_rate_hz, out_rate_hz}) {
    if (rate_hz < kMinRateHz || rate_hz > kMaxRateHz) {
      return Error{Errc::unsupported_format, "rate: got " + std::to_string(rate_hz) + ", want " +
                                                 std::to_string(kMinRateHz) + " to " + std::to_string(kMaxRateHz)};
    }
  }
  if (in_rate_hz == out_rate_hz) return StreamResampler(nullptr, in_rate_hz, out_rate_hz);
  const soxr_io_spec_t io = soxr_io_spec(SOXR_FLOAT32_I, SOXR_FLOAT32_I);
  const soxr_quality_spec_t quality = soxr_quality_spec(SOXR_HQ, SOXR_LINEAR_PHASE);
  soxr_runtime_spec_t runtime = soxr_runtime_spec(1);
  runtime.log2_min_dft_size = kLog2BlockSamples;
  runtime.log2_large_dft_size = kLog2BlockSamples;
  soxr_error_t error = nullptr;
  SoxrHandle soxr(soxr_create(in_rate_hz, out_rate_hz, 1, &error, &io, &quality, &runtime));
  if (!soxr)
    return Error{Errc::unsupported_format, std::string("libsoxr: ") + (error != nullptr ? error : "no handle")};
  return StreamResampler(std::move(soxr), in_rate_hz, out_rate_hz);
}

std::vector<float> StreamResampler::push(std::span<const float> pcm) {
  if (!soxr_) return {pcm.begin(), pcm.end()};
  std::vector<float> out;
  std::size_t used = 0;
  taken_ += static_cast<std::int64_t>(pcm.size());
  for (;;) {
    const std::size_t had = out.size();
    // Room for all that can come of this input and of what the library held back.
    const auto due = static_cast<std::size_t>(scale_samples(taken_, in_rate_hz_, out_rate_hz_) - given_) + 16;
    out.resize(had + due);
    std::size_t in_done = 0;
    std::size_t out_done = 0;
    check(soxr_process(soxr_.get(), pcm.data() + used, pcm.size() - used, &in_done, out.data() + had, due, &out_done));
    used += in_done;
    given_ += static_cast<std::int64_t>(out_done);
    out.resize(had + out_done);
    if (used == pcm.size() && out_done < due) return out;
  }
}

std::vector<float> StreamResampler::finish() {
  if (!soxr_) return {};
  const std::int64_t wanted = scale_samples(taken_, in_rate_hz_, out_rate_hz_);
  std::vector<float> out;
  while (given_ < wanted) {
    const std::size_t had = out.size();
    out.resize(had + static_cast<std::size_t>(wanted - given_));
    std::size_t out_done = 0;
    check(soxr_process(soxr_.get(), nullptr, 0, nullptr, out.data() + had, out.size() - had, &out_done));
    given_ += static_cast<std::int64_t>(out_done);
    out.resize(had + out_done);
    if (out_done == 0) {  // the library rounds the last sample down: it is silence after the end of the input
      out.resize(had + static_cast<std::size_t>(wanted - given_), 0.0F);
      break;
    }
  }
  check(soxr_clear(soxr_.get()));
  taken_ = 0;
  given_ = 0;
  return out;
}

Result<std::vector<float>> resample(std::span<const float> pcm, int in_rate_hz, int out_rate_hz) {
  auto resampler = StreamResampler::make(in_rate_hz, out_rate_hz);
  if (!resampler) return resampler.error();
  std::vector<float> out = resampler->push(pcm);
  const std::vector<float> tail = resampler->finish();
  out.insert(out.end(), tail.begin(), tail.end());
  return out;
}

}  // namespace tts
