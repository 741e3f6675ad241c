#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

namespace tts {

/// How a sequence goes through a network in windows of a few fixed widths. An output frame depends on `context` input
/// frames on either side, and the ends of the whole sequence count as zeros.
struct WindowPolicy {
  std::int64_t context = 0;
  std::vector<std::int64_t> widths;  ///< ascending; the widest is more than 2 * context

  /// Windows whose inner frames are `fresh` many.
  [[nodiscard]] static WindowPolicy of(std::int64_t context, const std::vector<std::int64_t>& fresh);
  /// Whether this is one of the widths; other windows are those of short sequences.
  [[nodiscard]] bool recurs(std::int64_t width) const;
};

/// One window: input frames [begin, begin + width), those from `known` on not there yet (anything may stand for them);
/// its output frames [begin + skip, begin + skip + take) are exact and are those wanted.
struct Window {
  std::int64_t begin = 0;
  std::int64_t width = 0;
  std::int64_t skip = 0;
  std::int64_t take = 0;
};

/// The windows that give the output frames [done, ready), in order, of a sequence of which `total` input frames are
/// known; ready is total - context, or total when it has `ended`. The first window begins where the sequence does,
/// inner ones drop what their edges spoil, the last one ends with the sequence. All have one of the widths, except that
/// of a sequence that has ended and is too short for that: it is as wide as it needs.
[[nodiscard]] std::vector<Window> plan_windows(const WindowPolicy& policy, std::int64_t done, std::int64_t total,
                                               bool ended);

/// Input frames before this one are in no window of outputs from `done` on.
[[nodiscard]] std::int64_t first_needed(const WindowPolicy& policy, std::int64_t done);

/// Calls `run(first, count)` over n items, at most `most` at once. Where it throws for several, it is called again for
/// each half of them, down to the one that cannot be done: `failed(item, out_of_memory, what)`. So `run` must leave
/// nothing behind when it throws.
void run_in_batches(std::size_t n, std::size_t most,
                    const std::function<void(std::size_t first, std::size_t count)>& run,
                    const std::function<void(std::size_t item, bool out_of_memory, const std::string& what)>& failed);

/// The smallest of ascending `sizes` that holds n; n itself when none does.
[[nodiscard]] std::int64_t bucket_of(std::span<const std::int64_t> sizes, std::int64_t n);

}  // namespace tts
