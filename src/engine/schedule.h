#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "models/token_renderer.h"

namespace tts {

/// How far a listener is who plays at once what is made for him and, when there was nothing for a while, goes on with
/// whatever comes next. Times are seconds on one clock.
class Playback {
 public:
  void made(double now, double seconds) { until_ = std::max(until_, now) + seconds; }
  /// Seconds still to be heard; negative: for so long there was silence; -infinity before the first sound.
  [[nodiscard]] double lead(double now) const { return until_ - now; }

 private:
  double until_ = -std::numeric_limits<double>::infinity();
};

/// How soon an utterance needs something. Times are seconds on one clock.
struct Urgency {
  double lead = 0;   ///< audio made and not yet heard; -infinity for one that begins to speak, or begins again
  double since = 0;  ///< when the utterance began to wait for that first sound
};

/// What the scheduler sees of one segment that is being spoken.
struct StreamView : Urgency {
  int fresh = 0;                ///< tokens drawn and not yet turned into audio
  int wanted = 0;               ///< tokens of its next chunk
  bool prefilled = false;       ///< tokens can be drawn
  bool tokens_done = false;     ///< there will be no more of them
  bool paused = false;          ///< its listener is far behind already
  bool decoding = false;        ///< a thread is at its tokens
  bool rendering = false;       ///< a thread is at its audio
  const void* batch = nullptr;  ///< equal for streams that can be stepped together
  RenderGroup group{};          ///< of its chunk,
  int together = 1;             ///< and how many chunks of one group may be turned into audio in one call
};

/// How long a call takes that turns chunks of several streams into audio, by their group: a line, offset and seconds a
/// chunk, through the calls of late.
class RenderTimes {
 public:
  void took(const RenderGroup& group, std::size_t chunks, double seconds);
  /// 0 for a group that was not met yet; proportional for one met with one number of chunks only.
  [[nodiscard]] double expected(const RenderGroup& group, std::size_t chunks) const;

 private:
  struct Line {
    RenderGroup group;
    double weight = 0, chunks = 0, chunks2 = 0, seconds = 0, product = 0;  ///< sums, fading
  };
  std::vector<Line> lines_;  ///< few: networks in memory, times their buckets
};

/// Who is next. Pure functions of what is there, so that the rules can be tested without threads:
/// the listener who runs dry first comes first, one who has heard nothing yet before all others, and among these the
/// one who has waited longest.

/// True when `a` comes before `b`.
[[nodiscard]] bool is_more_urgent(const Urgency& a, const Urgency& b);

/// The streams whose chunks are to be turned into audio now, in one call: the most urgent of those that have one
/// complete, and behind it others of its group as far as they are not expected to hold it up by more than `patience`
/// seconds, or by half of the lead it has. Empty when there is none.
[[nodiscard]] std::vector<std::size_t> next_to_render(std::span<const StreamView> streams,
                                                      const RenderTimes& times = {}, double patience = 0);

/// The streams to draw a token of in one step, the most urgent first; empty when none wants one. All share a batch.
/// While one of them is short of audio (less than `urgent_lead` seconds), those with a comfortable lead stay out of the
/// step, which is quicker without them.
[[nodiscard]] std::vector<std::size_t> next_to_decode(std::span<const StreamView> streams, double urgent_lead,
                                                      std::size_t max_rows);

/// Whether a prefill of about `prefill_seconds` may come before the next decode step: not while a running stream would
/// run dry meanwhile. A prefill that has been held up for `held_up` seconds of `patience` goes ahead nevertheless.
[[nodiscard]] bool may_prefill(std::span<const StreamView> streams, double prefill_seconds, double held_up,
                               double patience);

/// Tokens of the next chunk after one of `previous`: longer by `growth`, but no longer than the audio that is still to
/// be heard meanwhile, so that even on a machine that is only just fast enough it is ready in time.
[[nodiscard]] int grown_chunk(int previous, double growth, double lead, double tokens_per_second, int max_tokens);

}  // namespace tts
