#include "models/window_plan.h"

#include <algorithm>
#include <exception>

#include "models/device_call.h"

namespace tts {

WindowPolicy WindowPolicy::of(std::int64_t context, const std::vector<std::int64_t>& fresh) {
  WindowPolicy policy{.context = context, .widths = {}};
  for (const std::int64_t n : fresh) policy.widths.push_back(2 * context + n);
  return policy;
}

bool WindowPolicy::recurs(std::int64_t width) const {
  return std::binary_search(widths.begin(), widths.end(), width);
}

std::vector<Window> plan_windows(const WindowPolicy& policy, std::int64_t done, std::int64_t total, bool ended) {
  const std::int64_t context = policy.context;
  const std::int64_t ready = ended ? total : total - context;
  std::vector<Window> out;
  while (done < ready) {
    const std::int64_t from = std::max<std::int64_t>(0, done - context);
    const std::int64_t rest = total - from;
    Window w{.begin = from, .width = bucket_of(policy.widths, rest), .skip = 0, .take = 0};
    if (w.width > policy.widths.back()) {
      w.width = policy.widths.back();  // not the last one
    } else if (ended && total >= w.width) {
      w.begin = total - w.width;
    } else if (ended) {
      w.width = rest;
    }
    const std::int64_t end = w.begin + w.width;
    const std::int64_t good = end >= total ? ready : end - context;
    w.skip = done - w.begin;
    w.take = good - done;
    out.push_back(w);
    done = good;
  }
  return out;
}

std::int64_t first_needed(const WindowPolicy& policy, std::int64_t done) {
  return std::max<std::int64_t>(0, std::min(done - policy.context, done - policy.widths.back()));
}

void run_in_batches(std::size_t n, std::size_t most,
                    const std::function<void(std::size_t first, std::size_t count)>& run,
                    const std::function<void(std::size_t item, bool out_of_memory, const std::string& what)>& failed) {
  const std::function<void(std::size_t, std::size_t)> part = [&](std::size_t first, std::size_t count) {
    try {
      run(first, count);
      return;
    } catch (const DeviceOutOfMemory& e) {
      if (count == 1) failed(first, true, e.what());
    } catch (const std::exception& e) {
      if (count == 1) failed(first, false, e.what());
    }
    if (count == 1) return;
    part(first, count / 2);
    part(first + count / 2, count - count / 2);
  };
  for (std::size_t first = 0; first < n; first += most) part(first, std::min(most, n - first));
}

std::int64_t bucket_of(std::span<const std::int64_t> sizes, std::int64_t n) {
  const auto found = std::lower_bound(sizes.begin(), sizes.end(), n);
  return found == sizes.end() ? n : *found;
}

}  // namespace tts
