#include "src/engine/load_meter.h"

#include <algorithm>
#include <cmath>

namespace tts {
namespace {

constexpr double kMemory = 60.0;   ///< seconds of audio after which a measurement counts 1/e
constexpr double kUnknown = 0.25;  ///< of a model as long as none was heard
constexpr double kKnown = 0.5;     ///< seconds of audio before a model's cost is believed
/// What a stream takes outside of the networks, per second of audio: a guess until enough is heard, and what is
/// believed.
constexpr double kOutside = 0.015;
constexpr double kLeastOutside = 0.002;
constexpr double kMostOutside = 0.05;
constexpr double kOutsideKnown = 5.0;  ///< seconds of audio
constexpr double kSilence = 2.0;       ///< seconds without audio, whose work says nothing about streams

}  // namespace

void LoadMeter::work(const std::string& model, double seconds) {
  cost(model).work += seconds;
  known_ += seconds;
}

void LoadMeter::audio(const std::string& model, double seconds) {
  Cost& c = cost(model);
  const double keep = std::exp(-seconds / kMemory);
  c.work *= keep;
  c.audio = c.audio * keep + seconds;
  made_ += seconds;
}

void LoadMeter::process(double seconds, double now) {
  // Work that is under way is known at its end only; the sums are right, so a difference may be below zero.
  if (asked_ >= 0 && now - asked_ < kSilence) {
    const double keep = std::exp(-made_ / kMemory);
    outside_.work = outside_.work * keep + seconds - used_ - known_;
    outside_.audio = outside_.audio * keep + made_;
  }
  used_ = seconds;
  asked_ = now;
  known_ = made_ = 0;
}

double LoadMeter::outside() const {
  if (outside_.audio < kOutsideKnown) return kOutside;
  return std::clamp(outside_.work / outside_.audio, kLeastOutside, kMostOutside);
}

void LoadMeter::ended(double seconds) {
  mean_length_ += 0.1 * (std::min(seconds, 120.0) - mean_length_);
}

double LoadMeter::per_stream(const std::string& model) const {
  if (const auto own = costs_.find(model); own != costs_.end() && own->second.audio >= kKnown) {
    return own->second.work / own->second.audio + outside();
  }
  double work = 0;
  double audio = 0;
  for (const auto& [name, c] : costs_) {
    work += c.work;
    audio += c.audio;
  }
  return audio < kKnown ? kUnknown : work / audio + outside();
}

std::chrono::milliseconds LoadMeter::retry_after(std::size_t live) const {
  const double seconds = mean_length_ / static_cast<double>(std::max<std::size_t>(1, live));
  return std::chrono::milliseconds(std::lround(1000 * std::clamp(seconds, 0.2, 10.0)));
}

}  // namespace tts
