#include "src/engine/load_meter.h"

#include <algorithm>
#include <cmath>

namespace tts {
namespace {

constexpr double kMemory = 60.0;   ///< seconds of audio after which a measurement counts 1/e
constexpr double kUnknown = 0.25;  ///< of a model as long as none was heard
constexpr double kKnown = 0.5;     ///< seconds of audio before a model's cost is believed
/// What a stream takes outside of the networks: text, resampling, Opus and the socket.
constexpr double kOverhead = 0.015;

}  // namespace

void LoadMeter::audio(const std::string& model, double seconds) {
  Cost& c = cost(model);
  const double keep = std::exp(-seconds / kMemory);
  c.work *= keep;
  c.audio = c.audio * keep + seconds;
}

void LoadMeter::ended(double seconds) {
  mean_length_ += 0.1 * (std::min(seconds, 120.0) - mean_length_);
}

double LoadMeter::per_stream(const std::string& model) const {
  if (const auto own = costs_.find(model); own != costs_.end() && own->second.audio >= kKnown) {
    return own->second.work / own->second.audio + kOverhead;
  }
  double work = 0;
  double audio = 0;
  for (const auto& [name, c] : costs_) {
    work += c.work;
    audio += c.audio;
  }
  return audio < kKnown ? kUnknown : work / audio + kOverhead;
}

std::chrono::milliseconds LoadMeter::retry_after(std::size_t live) const {
  const double seconds = mean_length_ / static_cast<double>(std::max<std::size_t>(1, live));
  return std::chrono::milliseconds(std::lround(1000 * std::clamp(seconds, 0.2, 10.0)));
}

}  // namespace tts
