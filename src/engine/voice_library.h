#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "src/engine/synthesizer.h"
#include "src/engine/voice.h"
#include "src/text/frontend.h"

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
  std::uint64_t version = 0;      ///< another one: the voice is not what it was
  bool is_chinese = false;        ///< made of Chinese speech: its texts will want the TextReader
};

/// The network that tells a T2S about Chinese text what phonemes do not (BERT). Const and thread-safe.
class TextReader {
 public:
  virtual ~TextReader() = default;
  /// [phonemes, dim] row-major; empty when nothing of `spoken` is Chinese. Errc::bad_file when the network is of
  /// another width than `dim`.
  [[nodiscard]] virtual Result<std::vector<float>> rows(const Phonemized& spoken, std::int64_t dim) const = 0;
  /// What it takes in memory, once it is there.
  [[nodiscard]] virtual std::uint64_t bytes() const = 0;
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
  /// What the text reader takes in memory. Errc::bad_file when there is none, or it is broken. Thread-safe and cheap.
  [[nodiscard]] virtual Result<std::uint64_t> reader_bytes() const {
    return Error{Errc::bad_file, "no network that reads texts"};
  }
  /// Of the models in memory. Thread-safe and cheap.
  [[nodiscard]] virtual SlotFigures slots() const { return {}; }
  /// Loads the text reader; never beside load().
  [[nodiscard]] virtual Result<std::shared_ptr<const TextReader>> load_reader() {
    return Error{Errc::bad_file, "no network that reads texts"};
  }
  /// Synthesizer::add_voice and remove_voice.
  [[nodiscard]] virtual Result<NewVoice> add(const VoiceRequest&, const VoiceProgress&) {
    return Error{Errc::forbidden, "no voices can be made here"};
  }
  [[nodiscard]] virtual Result<void> remove(const std::string&) {
    return Error{Errc::forbidden, "no voices can be removed here"};
  }
};

/// The voices of a source and its text reader, of which as many are in memory as a budget allows: what is asked for is
/// loaded, and what was not used for the longest time is let go. A voice lives on for as long as an utterance holds it,
/// and counts for as long as it lives. Thread-safe; only load, text_rows, refresh, add and remove take time.
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
  /// The voice, loaded if it is not in memory, the text reader with it if it is Chinese. One load at a time, others
  /// wait. Errc::overloaded when what is being spoken with leaves no room within the budget, which a model that is
  /// alone in memory may exceed; Errc::internal when it cannot be loaded.
  [[nodiscard]] Result<std::shared_ptr<const Voice>> load(const VoiceCard& card);
  /// What the text reader says of a text, for a T2S that takes `dim` values a phoneme. The reader is loaded if it is
  /// not in memory; where it is missing, broken, or has no room beside what is being spoken with, the answer is empty,
  /// which is counted, and logged whenever the reason is a new one.
  [[nodiscard]] std::vector<float> text_rows(const Phonemized& spoken, std::int64_t dim);
  /// Looks for voices that came, went or changed, if the source says so.
  void refresh();

  [[nodiscard]] Result<NewVoice> add(const VoiceRequest& request, const VoiceProgress& progress);
  [[nodiscard]] Result<void> remove(const std::string& id);

  struct Figures {
    int voices_in_memory = 0;
    std::uint64_t bytes = 0;         ///< of weights
    std::uint64_t reader_bytes = 0;  ///< of these the text reader's
    std::int64_t dropped = 0;        ///< voices, for want of room
    std::int64_t texts_unread = 0;   ///< texts for which text_rows had no answer
    SlotFigures slots;
  };
  [[nodiscard]] Figures figures() const;

 private:
  /// What is in memory, or was.
  template <class T>
  struct Held {
    std::shared_ptr<const T> kept;  ///< null: not held by the library
    std::weak_ptr<const T> alive;
    std::uint64_t last_used = 0;

    [[nodiscard]] bool is_idle() const { return kept && kept.use_count() == 1; }
    [[nodiscard]] bool is_alive(bool used_only) const { return !alive.expired() && !(used_only && is_idle()); }
    /// What is kept; taken up again when it was let go and somebody still uses it.
    const std::shared_ptr<const T>& get() {
      if (!kept) kept = alive.lock();
      return kept;
    }
    void put(std::shared_ptr<const T> loaded, std::uint64_t now) {
      alive = loaded;
      kept = std::move(loaded);
      last_used = now;
    }
    [[nodiscard]] std::shared_ptr<const T> drop() {
      alive.reset();  // idle: nobody else has it
      return std::exchange(kept, nullptr);
    }
  };
  struct Entry {
    std::shared_ptr<const VoiceCard> card;
    Held<Voice> voice;
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
  /// Lets go what is idle, least lately used first, until `wanted` more bytes are within the budget. With load_mutex_
  /// held. Errc::overloaded, saying that `what` needs them, when what is used leaves no room.
  Result<void> make_room(const std::string& what, const std::function<std::uint64_t(bool used_only)>& wanted);
  /// With load_mutex_ held.
  Result<std::shared_ptr<const TextReader>> load_reader();
  /// Loads it if it is not in memory.
  Result<std::shared_ptr<const TextReader>> reader();
  void tell_unread(const std::string& why);

  const std::unique_ptr<VoiceSource> source_;
  const std::uint64_t budget_;
  std::mutex scan_mutex_;  ///< of the source's scan
  std::mutex add_mutex_;   ///< of its add and remove
  std::mutex load_mutex_;  ///< of its load and load_reader
  mutable std::mutex mutex_;
  std::map<std::string, Entry> entries_;  ///< by id
  std::vector<Leaver> leavers_;
  Held<TextReader> reader_;
  std::uint64_t reader_bytes_ = 0;
  std::uint64_t clock_ = 0;
  std::int64_t dropped_ = 0;
  std::int64_t texts_unread_ = 0;
  std::string told_;  ///< why a text was not read, as last logged
};

/// Voices that are there from the start and stay.
[[nodiscard]] std::unique_ptr<VoiceSource> fixed_voices(std::vector<std::shared_ptr<const Voice>> voices);

}  // namespace tts
