#include "src/engine/schedule.h"

#include <algorithm>
#include <cmath>

namespace tts {
namespace {

/// The least tokens that a chunk after the first is grown from, and may be cut down to.
constexpr int kSmallChunk = 4;

bool has_chunk(const StreamView& s) {
  return !s.rendering && !s.paused && (s.tokens_done || s.fresh >= s.wanted);
}

bool wants_token(const StreamView& s) {
  return s.prefilled && !s.tokens_done && !s.decoding && !s.paused && s.fresh < s.wanted;
}

}  // namespace

bool is_more_urgent(const Urgency& a, const Urgency& b) {
  return a.lead != b.lead ? a.lead < b.lead : a.since < b.since;
}

void RenderTimes::took(const RenderGroup& group, std::size_t chunks, double seconds) {
  constexpr double kFade = 0.95;
  constexpr std::size_t kMostGroups = 64;  // more are of networks that are long gone
  auto line = std::find_if(lines_.begin(), lines_.end(), [&](const Line& l) { return l.group == group; });
  if (line == lines_.end()) {
    if (lines_.size() == kMostGroups) lines_.clear();
    line = lines_.insert(lines_.end(), Line{.group = group});
  }
  const auto n = static_cast<double>(chunks);
  const auto add = [](double& sum, double value) { sum = kFade * sum + value; };
  add(line->weight, 1);
  add(line->chunks, n);
  add(line->chunks2, n * n);
  add(line->seconds, seconds);
  add(line->product, n * seconds);
}

double RenderTimes::expected(const RenderGroup& group, std::size_t chunks) const {
  const auto line = std::find_if(lines_.begin(), lines_.end(), [&](const Line& l) { return l.group == group; });
  if (line == lines_.end()) return 0;
  const auto n = static_cast<double>(chunks);
  const double proportional = n * line->seconds / line->chunks;
  const double spread = line->weight * line->chunks2 - line->chunks * line->chunks;
  if (spread < 1e-6 * line->weight * line->chunks2) return proportional;
  const double slope = std::max(0.0, (line->weight * line->product - line->chunks * line->seconds) / spread);
  const double offset = std::max(0.0, (line->seconds - slope * line->chunks) / line->weight);
  return offset + slope * n;
}

std::vector<std::size_t> next_to_render(std::span<const StreamView> streams, const RenderTimes& times,
                                        double patience) {
  std::vector<std::size_t> order;
  for (std::size_t i = 0; i < streams.size(); ++i) {
    if (has_chunk(streams[i])) order.push_back(i);
  }
  if (order.empty()) return order;
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return is_more_urgent(streams[a], streams[b]); });
  const StreamView& first = streams[order.front()];
  std::erase_if(order, [&](std::size_t i) {
    return &streams[i] != &first && (first.group.networks == nullptr || streams[i].group != first.group);
  });
  const double held_up = std::max(patience, std::isfinite(first.lead) ? first.lead / 2 : 0.0);
  const double alone = times.expected(first.group, 1);
  std::size_t most = 1;
  while (most < order.size() && most < static_cast<std::size_t>(std::max(1, first.together)) &&
         times.expected(first.group, most + 1) - alone <= held_up) {
    ++most;
  }
  order.resize(most);
  return order;
}

std::vector<std::size_t> next_to_decode(std::span<const StreamView> streams, double urgent_lead, std::size_t max_rows) {
  std::vector<std::size_t> order;
  for (std::size_t i = 0; i < streams.size(); ++i) {
    if (wants_token(streams[i])) order.push_back(i);
  }
  if (order.empty()) return order;
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return is_more_urgent(streams[a], streams[b]); });
  const StreamView& first = streams[order.front()];
  const bool hurry = first.lead < urgent_lead;
  std::erase_if(order, [&](std::size_t i) {
    return streams[i].batch != first.batch || (hurry && streams[i].lead >= urgent_lead);
  });
  if (order.size() > max_rows) order.resize(max_rows);
  return order;
}

bool may_prefill(std::span<const StreamView> streams, double prefill_seconds, double held_up, double patience) {
  if (held_up >= patience) return true;
  return std::none_of(streams.begin(), streams.end(), [&](const StreamView& s) {
    const bool running = std::isfinite(s.lead) && !s.paused && !s.tokens_done;
    return running && s.lead < 2 * prefill_seconds;
  });
}

int grown_chunk(int previous, double growth, double lead, double tokens_per_second, int max_tokens) {
  const int grown = static_cast<int>(std::lround(std::max(previous, kSmallChunk) * growth));
  const int in_time = static_cast<int>(std::clamp(lead * tokens_per_second, 0.0, 1e6));
  return std::min({grown, std::max(in_time, kSmallChunk), max_tokens});
}

}  // namespace tts
