#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace tts {

/// A seam is a position where two separately made stretches of audio meet. A click there is a discontinuity of the
/// wave or of its slope, far larger than the audio around it has of its own.
///
/// Rule. e[i] is the fourth difference of the samples: an impulse, a jump and a kink all show in it, smooth voice
/// hardly does. At a seam, `score` is the largest |e| within +-1 ms over the reference level: the 99th percentile of
/// |e| in the 40 ms on either side (without the seam's own 2 ms), but at least `floor`. Voice has such peaks of its own at
/// glottal closures and in fricatives, so its scores stay near 1 to 4; it is a click when score >= `threshold`.
/// The detector judges seams it is told of; it is not a search for clicks in unknown audio.
struct ClickRule {
  float threshold = 8.0F;
  float floor = 2e-3F;  ///< fourth difference, full scale 1: nothing below this is heard as a click
};

struct SeamScore {
  std::size_t seam = 0;  ///< as given
  std::size_t at = 0;    ///< where the largest difference is
  float score = 0;
  bool click = false;
};

/// One score per seam, in order. Seams too near the ends (less than 3 ms of audio on a side) score 0.
[[nodiscard]] std::vector<SeamScore> score_seams(std::span<const float> pcm, int rate_hz,
                                                 std::span<const std::size_t> seams, const ClickRule& rule = {});

/// The seams that click.
[[nodiscard]] std::vector<SeamScore> find_clicks(std::span<const float> pcm, int rate_hz,
                                                 std::span<const std::size_t> seams, const ClickRule& rule = {});

}  // namespace tts
