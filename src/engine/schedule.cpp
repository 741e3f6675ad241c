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

std::optional<std::size_t> next_to_render(std::span<const StreamView> streams) {
  std::optional<std::size_t> best;
  for (std::size_t i = 0; i < streams.size(); ++i) {
    if (has_chunk(streams[i]) && (!best || is_more_urgent(streams[i], streams[*best]))) best = i;
  }
  return best;
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
