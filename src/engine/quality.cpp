#include "src/engine/quality.h"

#include <algorithm>
#include <cmath>
#include <set>

namespace tts {

Quality next_quality(const QualityRule& rule, Quality quality, double load, double now) {
  if (quality.trend != 0 && rule.hold > 0) {
    const double due = std::floor(std::max(0.0, now - quality.since) / rule.hold);
    const int possible = quality.trend > 0 ? rule.steps - quality.steps : quality.steps;
    quality.steps += quality.trend * static_cast<int>(std::min(due, static_cast<double>(possible)));
    quality.since += due * rule.hold;
  }
  const int trend = load > rule.above ? 1 : load < rule.below ? -1 : 0;
  if (trend != quality.trend) {
    quality.trend = trend;
    quality.since = now;
  }
  if (rule.hold <= 0 && trend != 0) quality.steps = trend > 0 ? rule.steps : 0;
  return quality;
}

std::string lighter_voice(const LighterVoices& lighter, std::string id, int steps) {
  for (; steps > 0; --steps) {
    const auto next = lighter.find(id);
    if (next == lighter.end()) break;
    id = next->second;
  }
  return id;
}

int most_steps(const LighterVoices& lighter) {
  const int all = static_cast<int>(lighter.size());
  int most = 0;
  for (const auto& [id, instead] : lighter) {
    int steps = 0;
    for (auto at = lighter.find(id); at != lighter.end() && steps < all; at = lighter.find(at->second)) ++steps;
    most = std::max(most, steps);
  }
  return most;
}

bool can_stand_in(const VoiceInfo& lighter, const VoiceInfo& voice) {
  return lighter.rate_hz == voice.rate_hz &&
         std::all_of(voice.langs.begin(), voice.langs.end(), [&](const std::string& lang) {
           return std::find(lighter.langs.begin(), lighter.langs.end(), lang) != lighter.langs.end();
         });
}

Result<void> check_lighter_voices(const LighterVoices& lighter, std::span<const VoiceInfo> voices) {
  const auto bad = [](const std::string& id, const std::string& instead, const std::string& what) {
    return Error{Errc::bad_file, "engine.lighter_voices: " + id + "=" + instead + ": " + what};
  };
  const auto find = [&](const std::string& id) {
    return std::find_if(voices.begin(), voices.end(), [&](const VoiceInfo& voice) { return voice.id == id; });
  };
  for (const auto& [id, instead] : lighter) {
    std::set<std::string> passed{id};
    for (auto at = lighter.find(id); at != lighter.end(); at = lighter.find(at->second)) {
      if (!passed.insert(at->second).second) return bad(id, instead, "goes in a circle back to " + at->second);
    }
    const auto voice = find(id);
    const auto other = find(instead);
    if (voice == voices.end()) return bad(id, instead, "there is no voice " + id);
    if (other == voices.end()) return bad(id, instead, "there is no voice " + instead);
    if (voice->rate_hz != other->rate_hz) {
      return bad(id, instead,
                 "got " + std::to_string(other->rate_hz) + " Hz, wanted the same as " + id + ", " +
                     std::to_string(voice->rate_hz) + " Hz");
    }
    if (!can_stand_in(*other, *voice)) return bad(id, instead, instead + " does not speak all languages of " + id);
  }
  return {};
}

}  // namespace tts
