#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "src/audio/wav.h"

// libsndfile 1.2.0 does not free its Vorbis state when the headers of an Ogg file are broken: 6 KB a file, not ours.
extern "C" const char* __lsan_default_suppressions() { return "leak:vorbis_info_init\nleak:libvorbis\n"; }

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  tts::AudioFileLimits limits;
  limits.max_bytes = 1U << 20U;
  limits.max_duration = std::chrono::seconds(5);
  const auto file = tts::read_audio({data, size}, limits);
  if (!file) return 0;
  if (file->pcm.empty() || file->rate_hz < limits.min_rate_hz || file->rate_hz > limits.max_rate_hz) std::abort();
  for (const float x : file->pcm) {
    if (!(std::abs(x) <= 1.0F)) std::abort();
  }
  return 0;
}
