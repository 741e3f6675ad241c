#include "src/engine/voice_library.h"

#include <algorithm>
#include <chrono>
#include <exception>
#include <map>
#include <utility>

#include "src/core/log.h"

namespace tts {
namespace {

/// Adds up what lives; a model once.
class Sum {
 public:
  void add(const VoiceCard& card) {
    own_ += card.voice_bytes;
    models_[card.model] = card.model_bytes;
  }
  [[nodiscard]] bool has(const std::string& model) const { return models_.contains(model); }
  [[nodiscard]] std::uint64_t bytes() const {
    std::uint64_t sum = own_;
    for (const auto& [model, bytes] : models_) sum += bytes;
    return sum;
  }

 private:
  std::uint64_t own_ = 0;
  std::map<std::string, std::uint64_t> models_;
};

std::string megabytes(std::uint64_t bytes) {
  return std::to_string((bytes + 999'999) / 1'000'000) + " MB";
}

class FixedVoices final : public VoiceSource {
 public:
  explicit FixedVoices(std::vector<std::shared_ptr<const Voice>> voices) : voices_(std::move(voices)) {}
  std::vector<VoiceCard> scan(bool) override {
    std::vector<VoiceCard> cards;
    for (const auto& voice : voices_) {
      VoiceCard card;
      card.info = voice->info();
      card.word_separator = voice->word_separator();
      card.place = card.model = card.info.id;
      cards.push_back(std::move(card));
    }
    return cards;
  }
  std::shared_ptr<const Voice> load(const VoiceCard& card) override {
    for (const auto& voice : voices_) {
      if (voice->info().id == card.place) return voice;
    }
    return nullptr;
  }

 private:
  const std::vector<std::shared_ptr<const Voice>> voices_;
};

}  // namespace

std::unique_ptr<VoiceSource> fixed_voices(std::vector<std::shared_ptr<const Voice>> voices) {
  return std::make_unique<FixedVoices>(std::move(voices));
}

VoiceLibrary::VoiceLibrary(std::unique_ptr<VoiceSource> source, std::uint64_t budget_bytes)
    : source_(std::move(source)), budget_(budget_bytes) {
  take_in(source_->scan(true));
}

void VoiceLibrary::take_in(std::vector<VoiceCard> cards) {
  std::vector<std::shared_ptr<const Voice>> gone;  // let go outside the lock
  const std::lock_guard lock(mutex_);
  std::map<std::string, Entry> entries;
  for (VoiceCard& card : cards) {
    const std::string id = card.info.id;
    if (entries.contains(id)) {
      get_logger("engine")->warn("two voices of one id, the first is taken id={} other={}", log_value(id),
                                 log_value(card.place));
      continue;
    }
    const auto known = entries_.find(id);
    if (known != entries_.end() && known->second.card->version == card.version &&
        known->second.card->place == card.place) {
      entries.emplace(id, known->second);
    } else {
      entries.emplace(id, Entry{std::make_shared<const VoiceCard>(std::move(card)), {}});
    }
  }
  for (auto& [id, entry] : entries_) {
    const auto kept = entries.find(id);
    if (kept != entries.end() && kept->second.card == entry.card) continue;
    if (entry.voice.is_alive(false)) leavers_.push_back({entry.card, entry.voice.alive});
    if (entry.voice.kept) gone.push_back(std::move(entry.voice.kept));
  }
  entries_ = std::move(entries);
}

std::vector<VoiceInfo> VoiceLibrary::voices() const {
  const std::lock_guard lock(mutex_);
  std::vector<VoiceInfo> out;
  for (const auto& [id, entry] : entries_) out.push_back(entry.card->info);
  return out;
}

std::shared_ptr<const VoiceCard> VoiceLibrary::find(const std::string& id) const {
  const std::lock_guard lock(mutex_);
  const auto found = entries_.find(id);
  return found == entries_.end() ? nullptr : found->second.card;
}

std::shared_ptr<const Voice> VoiceLibrary::in_memory(const VoiceCard& card) {
  const std::lock_guard lock(mutex_);
  const auto found = entries_.find(card.info.id);
  if (found == entries_.end() || found->second.card->version != card.version) return nullptr;
  found->second.voice.last_used = ++clock_;
  return found->second.voice.kept;
}

std::uint64_t VoiceLibrary::bytes_alive(bool used_only) const {
  Sum sum;
  for (const auto& [id, entry] : entries_) {
    if (entry.voice.is_alive(used_only)) sum.add(*entry.card);
  }
  for (const Leaver& leaver : leavers_) {
    if (!leaver.alive.expired()) sum.add(*leaver.card);
  }
  return sum.bytes() + (reader_.is_alive(used_only) ? reader_bytes_ : 0);
}

std::uint64_t VoiceLibrary::bytes_for(const VoiceCard& card, bool used_only) const {
  const auto has_model = [&](const VoiceCard& other) { return other.model == card.model; };
  const bool is_there =
      std::any_of(
          entries_.begin(), entries_.end(),
          [&](const auto& item) { return item.second.voice.is_alive(used_only) && has_model(*item.second.card); }) ||
      std::any_of(leavers_.begin(), leavers_.end(),
                  [&](const Leaver& leaver) { return !leaver.alive.expired() && has_model(*leaver.card); });
  return card.voice_bytes + (is_there ? 0 : card.model_bytes);
}

bool VoiceLibrary::fits(const VoiceCard& card) const {
  const auto reader = card.is_chinese ? source_->reader_bytes() : Result<std::uint64_t>(0);
  const std::lock_guard lock(mutex_);
  const std::uint64_t alive = bytes_alive(false);
  const std::uint64_t with_it = reader && !reader_.is_alive(false) ? *reader : 0;
  return budget_ == 0 || alive == 0 || alive + bytes_for(card, false) + with_it <= budget_;
}

Result<void> VoiceLibrary::make_room(const std::string& what,
                                     const std::function<std::uint64_t(bool used_only)>& wanted) {
  if (budget_ == 0) return {};
  std::vector<std::shared_ptr<const void>> gone;  // freed outside the lock, before the new weights come
  const std::lock_guard lock(mutex_);
  std::erase_if(leavers_, [](const Leaver& leaver) { return leaver.alive.expired(); });
  const std::uint64_t used = bytes_alive(true);
  if (used > 0 && used + wanted(true) > budget_) {
    return Error{Errc::overloaded, what + " needs " + megabytes(wanted(true)) + ", but " + megabytes(used) + " of " +
                                       megabytes(budget_) + " are being spoken with"};
  }
  while (bytes_alive(false) + wanted(false) > budget_) {
    Entry* oldest = nullptr;
    for (auto& [id, entry] : entries_) {
      if (entry.voice.is_idle() && (oldest == nullptr || entry.voice.last_used < oldest->voice.last_used)) {
        oldest = &entry;
      }
    }
    if (reader_.is_idle() && (oldest == nullptr || reader_.last_used < oldest->voice.last_used)) {
      get_logger("engine")->info("text reader dropped");
      gone.push_back(reader_.drop());
    } else if (oldest != nullptr) {
      get_logger("engine")->info("voice dropped id={}", oldest->card->info.id);
      ++dropped_;
      gone.push_back(oldest->voice.drop());
    } else {
      break;
    }
  }
  return {};
}

Result<std::shared_ptr<const Voice>> VoiceLibrary::load(const VoiceCard& card) {
  const std::lock_guard one_load(load_mutex_);
  {
    const std::lock_guard lock(mutex_);
    const auto found = entries_.find(card.info.id);
    if (found != entries_.end() && found->second.card->version == card.version) {
      found->second.voice.last_used = ++clock_;
      if (const auto& voice = found->second.voice.get()) return voice;
    }
  }
  const auto wanted = [&](bool used_only) { return bytes_for(card, used_only); };
  if (auto room = make_room("voice \"" + card.info.id + "\"", wanted); !room) return room.error();
  std::shared_ptr<const Voice> voice;
  const auto start = std::chrono::steady_clock::now();
  try {
    voice = source_->load(card);
  } catch (const std::exception& failure) {
    get_logger("engine")->error("voice not loaded id={} what={}", log_value(card.info.id), log_value(failure.what()));
  }
  if (!voice) return Error{Errc::internal, "voice \"" + card.info.id + "\" could not be loaded"};
  get_logger("engine")->info(
      "voice loaded id={} ms={}", card.info.id,
      std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - start).count());
  {
    const std::lock_guard lock(mutex_);
    const auto found = entries_.find(card.info.id);
    if (found != entries_.end() && found->second.card->version == card.version) {
      found->second.voice.put(voice, ++clock_);
    } else {
      leavers_.push_back({std::make_shared<const VoiceCard>(card), voice});
    }
  }
  if (card.is_chinese) {
    if (const auto reader = load_reader(); !reader) tell_unread(reader.error().detail);
  }
  return voice;
}

Result<std::shared_ptr<const TextReader>> VoiceLibrary::load_reader() {
  {
    const std::lock_guard lock(mutex_);
    reader_.last_used = ++clock_;
    if (const auto& reader = reader_.get()) return reader;
  }
  const auto bytes = source_->reader_bytes();
  if (!bytes) return bytes.error();
  if (auto room = make_room("the network that reads Chinese", [&](bool) { return *bytes; }); !room) return room.error();
  auto loaded = source_->load_reader();
  if (!loaded) return loaded.error();
  get_logger("engine")->info("text reader loaded bytes={}", (*loaded)->bytes());
  const std::lock_guard lock(mutex_);
  reader_bytes_ = (*loaded)->bytes();
  reader_.put(*loaded, ++clock_);
  return std::move(*loaded);
}

Result<std::shared_ptr<const TextReader>> VoiceLibrary::reader() {
  {
    const std::lock_guard lock(mutex_);
    reader_.last_used = ++clock_;
    if (reader_.kept) return reader_.kept;
  }
  if (auto bytes = source_->reader_bytes(); !bytes) return bytes.error();  // waits for no load
  const std::lock_guard one_load(load_mutex_);
  return load_reader();
}

std::vector<float> VoiceLibrary::text_rows(const Phonemized& spoken, std::int64_t dim) {
  std::string why;
  if (const auto network = reader()) {
    auto rows = (*network)->rows(spoken, dim);
    if (rows) return std::move(*rows);
    why = rows.error().detail;
  } else {
    why = network.error().detail;
  }
  tell_unread(why);
  const std::lock_guard lock(mutex_);
  ++texts_unread_;
  return {};
}

void VoiceLibrary::tell_unread(const std::string& why) {
  {
    const std::lock_guard lock(mutex_);
    if (std::exchange(told_, why) == why) return;
  }
  get_logger("engine")->warn("Chinese is spoken without text features what={}", log_value(why));
}

void VoiceLibrary::refresh() {
  const std::lock_guard one_scan(scan_mutex_);
  if (!source_->changed()) return;
  try {
    take_in(source_->scan(false));
  } catch (const std::exception& failure) {
    get_logger("engine")->error("voices not read what={}", log_value(failure.what()));
  }
}

Result<NewVoice> VoiceLibrary::add(const VoiceRequest& request, const VoiceProgress& progress) {
  const std::lock_guard one_at_a_time(add_mutex_);
  auto made = source_->add(request, progress);
  if (made) refresh();
  return made;
}

Result<void> VoiceLibrary::remove(const std::string& id) {
  const std::lock_guard one_at_a_time(add_mutex_);
  auto done = source_->remove(id);
  if (done) refresh();
  return done;
}

VoiceLibrary::Figures VoiceLibrary::figures() const {
  Figures out;
  out.slots = source_->slots();
  const std::lock_guard lock(mutex_);
  for (const auto& [id, entry] : entries_) out.voices_in_memory += entry.voice.is_alive(false) ? 1 : 0;
  out.bytes = bytes_alive(false);
  out.reader_bytes = reader_.is_alive(false) ? reader_bytes_ : 0;
  out.dropped = dropped_;
  out.texts_unread = texts_unread_;
  return out;
}

}  // namespace tts
