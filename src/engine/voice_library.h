#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "src/engine/synthesizer.h"
#include "src/engine/voice.h"

namespace tts {

/// What is known of a voice without its weights.
struct VoiceCard {
  VoiceInfo info;
  std::string word_separator;  ///< phoneme symbol put between words; empty: none
  std::int64_t bert_dim = 0;   ///< width of the text features it takes; 0: it takes none
  std::string place;           ///< what the source knows it by
  std::string model;           ///< voices of the same model share its weights
  std::uint64_t model_bytes = 0;
  std::uint64_t voice_bytes = 0;  ///< of what is its own
  std::int64_t version = 0;       ///< another one: the voice is not what it was
};

/// Where voices come from. scan, load, add and remove are called by one thread at a time each, load beside the others.
class VoiceSource {
 public:
  virtual ~VoiceSource() = default;
  /// True when a scan would say something new; cheap.
  [[nodiscard]] virtual bool changed() { return false; }
  /// All voices. `strict`: throws std::exception for one that cannot be read, which is passed over otherwise.
  [[nodiscard]] virtual std::vector<VoiceCard> scan(bool strict) = 0;
  /// Loads what is not in memory yet. Throws std::exception naming the file and the fault.
  [[nodiscard]] virtual std::shared_ptr<const Voice> load(const VoiceCard& card) = 0;
  /// Synthesizer::add_voice and remove_voice.
  [[nodiscard]] virtual Result<NewVoice> add(const VoiceRequest&, const VoiceProgress&) {
    return Error{Errc::forbidden, "no voices can be made here"};
  }
  [[nodiscard]] virtual Result<void> remove(const std::string&) {
    return Error{Errc::forbidden, "no voices can be removed here"};
  }
};

/// The voices of a source, of which as many are in memory as a budget allows: one that is asked for is loaded, and
/// those that were not used for the longest time are let go. A voice lives on for as long as an utterance holds it, and
/// counts for as long as it lives. Thread-safe; only load, refresh, add and remove take time.
class VoiceLibrary {
 public:
  /// budget_bytes of weights, 0 for no limit. Throws what the source's strict scan throws.
  VoiceLibrary(std::unique_ptr<VoiceSource> source, std::uint64_t budget_bytes);

  /// In the order of their ids.
  [[nodiscard]] std::vector<VoiceInfo> voices() const;
  /// nullptr when there is none.
  [[nodiscard]] std::shared_ptr<const VoiceCard> find(const std::string& id) const;
  /// nullptr when it would have to be loaded. Otherwise it counts as used now.
  [[nodiscard]] std::shared_ptr<const Voice> in_memory(const VoiceCard& card);
  /// True when it can be loaded and nothing has to go for it.
  [[nodiscard]] bool fits(const VoiceCard& card) const;
  /// The voice, loaded if it is not in memory. One load at a time, others wait. Errc::overloaded when the voices that
  /// are being spoken with leave no room within the budget, which a model that is alone in memory may exceed;
  /// Errc::internal when it cannot be loaded.
  [[nodiscard]] Result<std::shared_ptr<const Voice>> load(const VoiceCard& card);
  /// Looks for voices that came, went or changed, if the source says so.
  void refresh();

  [[nodiscard]] Result<NewVoice> add(const VoiceRequest& request, const VoiceProgress& progress);
  [[nodiscard]] Result<void> remove(const std::string& id);

  struct Figures {
    int voices_in_memory = 0;
    std::uint64_t bytes = 0;
    std::int64_t dropped = 0;  ///< for want of room
  };
  [[nodiscard]] Figures figures() const;

 private:
  struct Entry {
    std::shared_ptr<const VoiceCard> card;
    std::shared_ptr<const Voice> voice;  ///< null: not held
    std::weak_ptr<const Voice> alive;
    std::uint64_t last_used = 0;
  };
  /// A voice that is no more in the library and may still be spoken with.
  struct Leaver {
    std::shared_ptr<const VoiceCard> card;
    std::weak_ptr<const Voice> alive;
  };

  void take_in(std::vector<VoiceCard> cards);
  /// Bytes in memory; idle ones (held by nobody but the library) left out when `used_only`. With mutex_ held.
  [[nodiscard]] std::uint64_t bytes_alive(bool used_only) const;
  [[nodiscard]] std::uint64_t bytes_for(const VoiceCard& card, bool used_only) const;
  [[nodiscard]] static bool is_alive(const Entry& entry, bool used_only);

  const std::unique_ptr<VoiceSource> source_;
  const std::uint64_t budget_;
  std::mutex scan_mutex_;  ///< of the source's scan
  std::mutex add_mutex_;   ///< of its add and remove
  std::mutex load_mutex_;  ///< of its load
  mutable std::mutex mutex_;
  std::map<std::string, Entry> entries_;  ///< by id
  std::vector<Leaver> leavers_;
  std::uint64_t clock_ = 0;
  std::int64_t dropped_ = 0;
};

/// Voices that are there from the start and stay.
[[nodiscard]] std::unique_ptr<VoiceSource> fixed_voices(std::vector<std::shared_ptr<const Voice>> voices);

}  // namespace tts
