#pragma once

#include <chrono>
#include <map>
#include <string>

namespace tts {

/// How much of the machine the live streams take, from what their work was measured to take, and whether one more would
/// still be in time. Not thread-safe.
class LoadMeter {
 public:
  /// `threads`: that can work at once; `limit`: share of them that live streams may take together.
  LoadMeter(double threads, double limit) : threads_(threads), limit_(limit) {}

  /// Processor seconds that a model spent, and the seconds of audio that came of it.
  void work(const std::string& model, double seconds);
  void audio(const std::string& model, double seconds);
  /// Processor seconds that went into something live streams do not need again, such as the loading of a voice.
  void aside(double seconds) { known_ += seconds; }
  /// Processor seconds the process has used until now, in seconds of any clock. What they grew by beyond `work` and
  /// `aside` since the last call is what the audio in between took outside of the networks: text, resampling, Opus and
  /// the socket.
  void process(double seconds, double now);
  /// An utterance was live for so long.
  void ended(double seconds);

  /// Processor seconds per second of audio of a model; the mean of the others for one that was not heard yet, and a
  /// cautious guess while nothing is known.
  [[nodiscard]] double per_stream(const std::string& model) const;
  /// Share of the machine that one stream of a model takes.
  [[nodiscard]] double share(const std::string& model) const { return per_stream(model) / threads_; }
  /// Whether a stream of `model` may join when the others take `load`. The first always may.
  [[nodiscard]] bool admits(double load, const std::string& model) const {
    return load <= 0 || load + share(model) <= limit_;
  }
  /// When it makes sense to ask again, with so many live.
  [[nodiscard]] std::chrono::milliseconds retry_after(std::size_t live) const;

 private:
  struct Cost {
    double work = 0;  ///< both fade with the audio made, so that the newest minute counts most
    double audio = 0;
  };
  Cost& cost(const std::string& model) { return costs_[model]; }
  [[nodiscard]] double outside() const;

  double threads_;
  double limit_;
  std::map<std::string, Cost> costs_;
  Cost outside_;              ///< of all models
  double known_ = 0;          ///< processor seconds whose use is known, and
  double made_ = 0;           ///< seconds of audio, since the last `process`
  double used_ = 0;           ///< what that one said
  double asked_ = -1;         ///< and when it was
  double mean_length_ = 2.0;  ///< seconds an utterance is live
};

}  // namespace tts
