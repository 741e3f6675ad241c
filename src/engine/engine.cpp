#include "src/engine/engine.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <condition_variable>
#include <deque>
#include <exception>
#include <limits>
#include <map>
#include <mutex>
#include <optional>
#include <random>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>

#include <sys/resource.h>

#include "src/core/assert.h"
#include "src/core/bounded_queue.h"
#include "src/core/cpu_time.h"
#include "src/core/log.h"
#include "src/core/spare_thread.h"
#include "src/engine/load_meter.h"
#include "src/engine/quality.h"
#include "src/engine/schedule.h"

namespace tts {
namespace {

using Clock = std::chrono::steady_clock;

/// A listener with less audio than this ahead must not wait for others, in seconds.
constexpr double kUrgentLead = 0.4;

/// A prefill waits at most this long for running streams, in seconds.
constexpr double kPrefillPatience = 0.2;

/// How often the load is looked at, at most, while nothing else happens.
constexpr std::chrono::milliseconds kLookAtLoad{50};
/// A chunk is held up by others that are turned into audio with it for so long at most, in seconds, unless its listener
/// has more than that to hear.
constexpr double kRenderPatience = 0.02;

/// How often voices that came or went on disk are looked for.
constexpr std::chrono::milliseconds kLookForVoices{1000};

double ms_between(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double, std::milli>(to - from).count();
}

double seconds_of(Clock::time_point time) {
  return std::chrono::duration<double>(time.time_since_epoch()).count();
}

/// What a piece of work took of the threads that did it.
struct Spent {
  double ms = 0;           // of time
  double cpu_seconds = 0;  // of the processor
};

/// Measures from its making on. While it lives, its thread is at work, with the spare thread, if one is given, when a
/// processor is free.
class Stopwatch {
 public:
  explicit Stopwatch(SpareThread* spare) {
    if (spare != nullptr) shift_.emplace(*spare);
  }
  [[nodiscard]] Spent spent() const {
    const double helped = shift_ ? shift_->helped_seconds() : 0;
    return {ms_between(start_, Clock::now()), thread_cpu_seconds() - cpu_ + helped};
  }

 private:
  std::optional<SpareThread::Shift> shift_;
  Clock::time_point start_ = Clock::now();
  double cpu_ = thread_cpu_seconds();
};

/// What went wrong in `work`, in words; empty: nothing.
template <class Work>
std::string fault_of(Work&& work) {
  try {
    work();
  } catch (const std::exception& e) {
    return e.what();
  }
  return {};
}

/// A segment whose phonemes are ready.
struct ReadySegment {
  TextSegment text;
  std::vector<std::int32_t> phonemes;
  std::vector<float> bert;  // [phonemes, the voice's bert_dim], or empty
  double text_ms = 0;
  std::string failure;  // what the text thread says went wrong; empty: nothing
};

/// A segment that is being spoken. What is not said to belong to a thread is guarded by the engine's mutex.
struct Segment {
  explicit Segment(ReadySegment r) : text(std::move(r)) {}

  ReadySegment text;
  std::unique_ptr<SegmentStream> stream;  // null when there is nothing to speak in it
  bool prefilled = false;                 // and no token was taken back since
  bool tokens_done = false;
  bool prepared = false;            // the audio side has done, or is at, what it can do beforehand
  std::size_t seen = 0;             // tokens taken over from the stream
  std::vector<std::int32_t> fresh;  // of these, not yet given to render()
  int chunk = 0;                    // tokens that are meant for the next one,
  int wanted = 0;                   // and what is useful of them
  std::int64_t start_sample = 0;    // of the utterance: where its audio begins
  bool seam = true;                 // its first audio is still to come
};

/// How far an utterance has come. Only forward, but that one who was silent for long waits anew.
enum class Phase {
  opened,   ///< no text yet
  waiting,  ///< has text; the machine is full
  running,  ///< admitted
  ended,    ///< its sink has had, or is having, its last word
};

/// Everything about one utterance. Guarded by the engine's mutex, but for what is const and `cancelled`.
struct Task {
  Task(UtteranceOptions opts, std::shared_ptr<const VoiceCard> c, std::shared_ptr<UtteranceSink> s,
       std::uint64_t seed_value)
      : options(std::move(opts)), card(std::move(c)), sink(std::move(s)), seed(seed_value) {}

  void go_to(Phase next) {
    TTS_ASSERT(next > phase || (phase == Phase::running && next == Phase::waiting));
    phase = next;
  }

  const UtteranceOptions options;
  const std::shared_ptr<const VoiceCard> card;
  const std::shared_ptr<UtteranceSink> sink;
  const std::uint64_t seed;

  std::atomic<bool> cancelled{false};

  Phase phase = Phase::opened;
  std::deque<ReadySegment> ready;  // phonemes done, waiting for their turn
  int queued = 0;                  // segments accepted and not finished
  bool ended = false;
  std::int64_t consumed = 0;  // samples
  std::optional<Error> failure;
  std::shared_ptr<const Voice> voice;             // null until it is in memory; the streams point into it
  std::deque<std::unique_ptr<Segment>> speaking;  // the first is heard, the last is decoded; at most two
  std::uint64_t segments_begun = 0;
  int hands = 0;           // threads that are at it without the mutex
  bool decoding = false;   // one of them is at tokens,
  bool rendering = false;  // one at audio
  Clock::time_point opened_at = Clock::now();
  Clock::time_point waiting_since{};
  Clock::time_point turn_began{};  // when the text came that broke the silence
  Playback playback;               // of this turn
  std::optional<Clock::time_point> first_speak, work_start, first_audio;
  UtteranceMetrics metrics;
};

using TaskPtr = std::shared_ptr<Task>;

class Engine final : public Synthesizer {
 public:
  Engine(EngineConfig config, std::shared_ptr<VoiceLibrary> library, Phonemize phonemize, TextRows text_rows)
      : config_(std::move(config)),
        library_(std::move(library)),
        phonemize_(std::move(phonemize)),
        text_rows_(std::move(text_rows)),
        load_(working_threads(config_), config_.admission.max_load),
        quality_rule_(quality_rule(config_.admission)),
        text_queue_(static_cast<std::size_t>(config_.limits.max_utterances) * 8),
        loader_thread_([this](const std::stop_token& stop) { run_loader(stop); }),
        text_thread_([this](const std::stop_token& stop) { run_text(stop); }),
        token_thread_([this](const std::stop_token& stop) { run_tokens(stop); }) {
    for (int i = 0; i < audio_threads(config_); ++i) {
      audio_threads_.emplace_back([this](const std::stop_token& stop) { run_audio(stop); });
    }
  }

  ~Engine() override {
    loader_thread_.request_stop();
    text_thread_.request_stop();
    token_thread_.request_stop();
    for (std::jthread& thread : audio_threads_) thread.request_stop();
  }

  std::vector<VoiceInfo> voices() const override { return library_->voices(); }

  bool ready() const override { return true; }

  SynthesizerStats stats() const override;

  Result<NewVoice> add_voice(const VoiceRequest& request, const VoiceProgress& progress) override {
    return library_->add(request, progress);
  }
  Result<void> remove_voice(const std::string& id) override { return library_->remove(id); }

  Result<std::unique_ptr<Utterance>> open(const UtteranceOptions& options,
                                          std::shared_ptr<UtteranceSink> sink) override;

  Result<void> speak(const TaskPtr& task, TextSegment segment);
  void end(const TaskPtr& task) {
    const std::lock_guard lock(mutex_);
    task->ended = true;
    wake_tokens();
  }
  void cancel(const TaskPtr& task) {
    task->cancelled = true;
    const std::lock_guard lock(mutex_);
    wake();
  }
  void consumed(const TaskPtr& task, std::int64_t samples) {
    const std::lock_guard lock(mutex_);
    const bool was_paused = is_paused(*task);
    task->consumed = samples;
    if (was_paused) wake();
  }

 private:
  struct TextJob {
    TaskPtr task;
    TextSegment segment;
  };
  using Lock = std::unique_lock<std::mutex>;

  static int audio_threads(const EngineConfig& config) {
    return config.audio_threads > 0 ? config.audio_threads
                                    : std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  }
  static double working_threads(const EngineConfig& config) {
    return std::min(1 + audio_threads(config), std::max(1, static_cast<int>(std::thread::hardware_concurrency())));
  }

  static QualityRule quality_rule(const AdmissionPolicy& policy) {
    return {.above = policy.reduce_above,
            .below = policy.reduce_below,
            .hold = std::chrono::duration<double>(policy.reduce_hold).count(),
            .steps = (policy.reduced_flow_steps > 0 ? 1 : 0) + most_steps(policy.lighter_voices)};
  }

  void wake_tokens() {
    ++token_signal_;
    token_work_.notify_one();
  }
  void wake_audio() {
    ++audio_signal_;
    audio_work_.notify_all();
  }
  void wake() {
    wake_tokens();
    wake_audio();
  }

  void run_text(const std::stop_token& stop);
  void run_loader(const std::stop_token& stop);
  void run_tokens(const std::stop_token& stop);
  void run_audio(const std::stop_token& stop);

  /// Who speaks when `asked` was asked for, and the voice if it is in memory.
  struct Speaker {
    std::shared_ptr<const VoiceCard> card;
    std::shared_ptr<const Voice> voice;
  };
  [[nodiscard]] Speaker choose_speaker(const std::shared_ptr<const VoiceCard>& asked);

  // With the mutex held; those that take the lock let go of it while they work, and hold it again when they return.
  /// Says the last word of every utterance that is over and that no thread is at. True if there was one.
  bool part(Lock& lock);
  /// Lets waiting utterances in, in their order, or refuses them when they have waited too long.
  void admit();
  [[nodiscard]] double current_load() const;
  void watch_quality() { quality_ = next_quality(quality_rule_, quality_, current_load(), seconds_of(Clock::now())); }
  /// Whether an utterance speaks, or has only just spoken.
  [[nodiscard]] bool keeps_place(const Task& task, Clock::time_point now) const {
    return task.queued > 0 || kept_seconds(task, now) > 0;
  }
  [[nodiscard]] double kept_seconds(const Task& task, Clock::time_point now) const {
    return task.playback.lead(seconds_of(now)) + std::chrono::duration<double>(config_.admission.keep_place).count();
  }
  [[nodiscard]] static Urgency urgency(const Task& task, Clock::time_point now);
  [[nodiscard]] StreamView view(const Task& task, const Segment& segment, Clock::time_point now) const;
  [[nodiscard]] bool is_paused(const Task& task) const;
  /// Helps while few speak; with many, every processor has utterances of its own to work on.
  [[nodiscard]] SpareThread* spare() {
    constexpr std::ptrdiff_t kFew = 2;
    const auto speak = std::count_if(live_.begin(), live_.end(), [](const TaskPtr& task) {
      return !task->speaking.empty() || !task->ready.empty();
    });
    return speak <= kFew ? &spare_ : nullptr;
  }
  [[nodiscard]] bool can_begin(const Task& task) const;
  /// Whether the segment being decoded waits to be read again, because tokens of it were taken back.
  [[nodiscard]] bool can_reread(const Task& task) const;
  /// The utterance that wants a prefill, the most urgent first.
  [[nodiscard]] TaskPtr next_to_read(Clock::time_point now) const;
  /// Whether a prefill for this utterance may come now; if not, it is held up from now on.
  bool may_read(const Task& task);
  bool begin(Lock& lock, const TaskPtr& task);
  bool reread(Lock& lock, const TaskPtr& task);
  /// The prefill of a segment.
  [[nodiscard]] Spent read(Lock& lock, Task& task, Segment& segment, std::string& what);
  bool decode(Lock& lock);
  void take_tokens(Task& task, Segment& segment);
  bool prepare(Lock& lock);
  bool render(Lock& lock);
  /// Its first segment's chunk is being turned into audio: when the next one will be due.
  void begin_chunk(Task& task, double lead);
  /// Hands on what came of it.
  void end_chunk(Lock& lock, Task& task, SegmentStream::Job& job, Clock::time_point made_at);
  void finish_segment(Lock& lock, Task& task);
  void account(Task& task, const Spent& spent);
  /// Nothing when `what` is empty. The listener is told no details of an internal failure.
  void fail(Task& task, const std::string& what, Errc code = Errc::internal);
  [[nodiscard]] Clock::time_point next_deadline() const;

  const EngineConfig config_;
  const std::shared_ptr<VoiceLibrary> library_;
  const Phonemize phonemize_;
  const TextRows text_rows_;

  mutable std::mutex mutex_;
  std::condition_variable_any token_work_, audio_work_;
  std::uint64_t token_signal_ = 0, audio_signal_ = 0;  // bumped by what may give these threads something to do
  std::vector<TaskPtr> live_;
  SynthesizerStats stats_;
  LoadMeter load_;
  const QualityRule quality_rule_;
  Quality quality_;
  RenderTimes render_times_;
  std::map<const void*, int> render_calls_;  // being made, by the networks of their group
  double prefill_seconds_ = 0;               // the slowest of late
  bool out_of_slots_ = false;                // until a segment's tokens are all drawn
  std::optional<Clock::time_point> prefill_held_up_;

  BoundedQueue<TextJob> text_queue_;  // full: speak() answers overloaded

  std::mutex loader_mutex_;
  std::condition_variable_any loader_work_;
  std::vector<TaskPtr> to_load_;                            // live utterances at most
  std::vector<std::shared_ptr<const VoiceCard>> to_bring_;  // lighter voices that are missed, each once
  std::vector<std::shared_ptr<const Voice>> trash_;         // freeing a voice takes time, too

  SpareThread spare_{static_cast<int>(working_threads(config_))};
  std::jthread loader_thread_;
  std::jthread text_thread_;  // the threads are last: they stop before what they use goes away
  std::jthread token_thread_;
  std::vector<std::jthread> audio_threads_;
};

/// The caller's end of a task; cancels when dropped.
class Handle final : public Utterance {
 public:
  Handle(Engine& engine, TaskPtr task) : engine_(engine), task_(std::move(task)) {}
  ~Handle() override { engine_.cancel(task_); }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;

  Result<void> speak(TextSegment segment) override { return engine_.speak(task_, std::move(segment)); }
  void end() override { engine_.end(task_); }
  void cancel() override { engine_.cancel(task_); }
  void consumed(std::int64_t samples) override { engine_.consumed(task_, samples); }

 private:
  Engine& engine_;
  TaskPtr task_;
};

std::uint64_t random_seed() {
  thread_local std::mt19937_64 generator{std::random_device{}()};
  return generator();
}

SynthesizerStats Engine::stats() const {
  const VoiceLibrary::Figures voices = library_->figures();
  const std::lock_guard lock(mutex_);
  SynthesizerStats s = stats_;
  s.live_utterances = static_cast<int>(live_.size());
  s.waiting_utterances = static_cast<int>(
      std::count_if(live_.begin(), live_.end(), [](const TaskPtr& task) { return task->phase == Phase::waiting; }));
  s.load = current_load();
  s.quality_steps = quality_.steps;
  s.voices_in_memory = voices.voices_in_memory;
  s.weight_bytes = static_cast<std::int64_t>(voices.bytes);
  s.voices_dropped = voices.dropped;
  s.reader_bytes = static_cast<std::int64_t>(voices.reader_bytes);
  s.texts_unread = voices.texts_unread;
  s.slots = voices.slots.slots;
  s.slots_taken = voices.slots.taken;
  s.slot_bytes = static_cast<std::int64_t>(voices.slots.bytes);
  return s;
}

Result<std::unique_ptr<Utterance>> Engine::open(const UtteranceOptions& options, std::shared_ptr<UtteranceSink> sink) {
  const auto card = library_->find(options.voice);
  if (!card) return Error{Errc::unknown_voice, "no voice \"" + options.voice + "\""};
  const auto& langs = card->info.langs;
  if (options.lang != "auto" && std::find(langs.begin(), langs.end(), options.lang) == langs.end()) {
    return Error{Errc::unsupported_format, "voice \"" + options.voice + "\" does not speak \"" + options.lang + "\""};
  }
  Speaker speaker = choose_speaker(card);
  auto task =
      std::make_shared<Task>(options, speaker.card, std::move(sink), options.seed ? *options.seed : random_seed());
  task->voice = std::move(speaker.voice);
  task->metrics.voice = speaker.card->info.id;
  const bool is_loaded = task->voice != nullptr;
  {
    const std::lock_guard lock(mutex_);
    if (live_.size() >= static_cast<std::size_t>(config_.limits.max_utterances)) {
      ++stats_.refused_total;
      return Error{Errc::overloaded, std::to_string(live_.size()) + " utterances are live, which is the limit",
                   static_cast<int>(load_.retry_after(live_.size()).count())};
    }
    live_.push_back(task);
    ++stats_.utterances_total;
    if (speaker.card != card) ++stats_.lighter_utterances_total;
  }
  if (!is_loaded) {
    {
      const std::lock_guard lock(loader_mutex_);
      to_load_.push_back(task);
    }
    loader_work_.notify_one();
  }
  return std::unique_ptr<Utterance>(std::make_unique<Handle>(*this, std::move(task)));
}

Engine::Speaker Engine::choose_speaker(const std::shared_ptr<const VoiceCard>& asked) {
  const AdmissionPolicy& policy = config_.admission;
  int steps = 0;
  if (!policy.lighter_voices.empty()) {
    const std::lock_guard lock(mutex_);
    watch_quality();
    steps = quality_.steps - (policy.reduced_flow_steps > 0 ? 1 : 0);
  }
  std::shared_ptr<const VoiceCard> missed;  // the lightest, if it has to be loaded
  for (; steps > 0; --steps) {
    const std::string id = lighter_voice(policy.lighter_voices, asked->info.id, steps);
    if (id == asked->info.id) break;
    auto lighter = library_->find(id);  // it may have changed since the start, or gone
    if (!lighter || !can_stand_in(lighter->info, asked->info)) continue;
    if (auto voice = library_->in_memory(*lighter)) return {std::move(lighter), std::move(voice)};
    if (!missed) missed = std::move(lighter);
  }
  auto voice = library_->in_memory(*asked);
  if (!missed) return {asked, std::move(voice)};
  if (!voice) return {std::move(missed), nullptr};  // one of the two has to be loaded
  {
    const std::lock_guard lock(loader_mutex_);
    if (std::find(to_bring_.begin(), to_bring_.end(), missed) == to_bring_.end()) to_bring_.push_back(missed);
  }
  loader_work_.notify_one();
  return {asked, std::move(voice)};
}

Result<void> Engine::speak(const TaskPtr& task, TextSegment segment) {
  const std::lock_guard lock(mutex_);
  if (task->queued >= config_.limits.max_queued_segments) {
    return Error{Errc::overloaded, std::to_string(task->queued) + " segments are queued, which is the limit"};
  }
  if (!text_queue_.try_push(TextJob{task, std::move(segment)})) {
    return Error{Errc::overloaded, "the text queue is full"};
  }
  const auto now = Clock::now();
  if (!task->first_speak) task->first_speak = now;
  if (task->phase == Phase::opened || (task->phase == Phase::running && !keeps_place(*task, now))) {
    task->go_to(Phase::waiting);
    task->waiting_since = now;
  }
  if (task->queued == 0 && task->playback.lead(seconds_of(now)) <= 0) {
    task->turn_began = now;
    task->playback = {};
  }
  ++task->queued;
  return {};
}

void Engine::run_text(const std::stop_token& stop) {
  while (auto job = text_queue_.pop(stop)) {
    const SpareThread::Shift shift(spare_);
    const auto start = Clock::now();
    ReadySegment ready{std::move(job->segment), {}, {}, 0, {}};
    if (!job->task->cancelled) {
      // Words, not the exception: no object is shared by two threads.
      ready.failure = fault_of([&] {
        FrontendOptions options;
        options.lang = job->task->options.lang;
        options.languages = job->task->card->info.langs;
        options.word_separator = job->task->card->word_separator;
        Phonemized spoken = phonemize_(ready.text.text, options);
        const std::int64_t bert_dim = job->task->card->bert_dim;
        if (text_rows_ && bert_dim > 0 && !spoken.bert.empty()) ready.bert = text_rows_(spoken, bert_dim);
        ready.phonemes = std::move(spoken.phonemes);
      });
    }
    ready.text_ms = ms_between(start, Clock::now());
    const std::lock_guard lock(mutex_);
    job->task->ready.push_back(std::move(ready));
    wake_tokens();
  }
}

// Loads beside the others, on what time they leave of a busy machine.
void Engine::run_loader(const std::stop_token& stop) {
  (void)::setpriority(PRIO_PROCESS, 0, 5);  // of this thread alone
  double used = thread_cpu_seconds();
  while (!stop.stop_requested()) {
    std::vector<TaskPtr> tasks;
    std::vector<std::shared_ptr<const VoiceCard>> missed;
    std::vector<std::shared_ptr<const Voice>> trash;
    {
      std::unique_lock lock(loader_mutex_);
      loader_work_.wait_for(lock, stop, kLookForVoices, [this] { return !to_load_.empty() || !to_bring_.empty(); });
      tasks.swap(to_load_);
      missed.swap(to_bring_);
      trash.swap(trash_);
    }
    trash.clear();
    library_->refresh();
    for (const TaskPtr& task : tasks) {
      if (stop.stop_requested()) return;
      if (task->cancelled) continue;
      auto voice = library_->load(*task->card);
      const std::lock_guard lock(mutex_);
      if (voice) {
        task->voice = std::move(*voice);
      } else {
        task->failure = voice.error();
      }
      wake_tokens();
    }
    for (const auto& card : missed) {
      if (stop.stop_requested()) return;
      (void)library_->load(*card);  // the library keeps it, if there is room
    }
    const double before = std::exchange(used, thread_cpu_seconds());
    const std::lock_guard lock(mutex_);
    load_.aside(used - before);
  }
}

// The token thread: lets utterances in, reads their texts, and draws the tokens of all of them together.
void Engine::run_tokens(const std::stop_token& stop) {
  Lock lock(mutex_);
  while (!stop.stop_requested()) {
    const std::uint64_t seen = token_signal_;
    if (part(lock)) continue;
    admit();
    watch_quality();
    const TaskPtr task = next_to_read(Clock::now());
    if (!task) prefill_held_up_.reset();
    const bool has_read = task && (can_reread(*task) ? reread(lock, task) : begin(lock, task));
    // Between two prefills everyone who needs one gets a token.
    if (decode(lock) || has_read || token_signal_ != seen) continue;
    token_work_.wait_until(lock, stop, next_deadline(), [&] { return token_signal_ != seen; });
  }
}

// An audio thread: semantic tokens to samples, chunk after chunk of whoever runs dry first.
void Engine::run_audio(const std::stop_token& stop) {
  Lock lock(mutex_);
  while (!stop.stop_requested()) {
    const std::uint64_t seen = audio_signal_;
    if (part(lock) || render(lock) || prepare(lock)) continue;
    audio_work_.wait(lock, stop, [&] { return audio_signal_ != seen; });
  }
}

bool Engine::part(Lock& lock) {
  for (const TaskPtr& found : live_) {
    if (found->hands > 0 || found->phase == Phase::ended) continue;
    const bool done = found->ended && found->queued == 0;
    if (!found->cancelled && !found->failure && !done) continue;
    const TaskPtr task = found;  // live_ changes
    task->go_to(Phase::ended);
    std::deque<std::unique_ptr<Segment>> segments;
    segments.swap(task->speaking);
    if (!segments.empty()) out_of_slots_ = false;
    const std::shared_ptr<const Voice> voice = std::move(task->voice);
    std::erase(live_, task);
    UtteranceMetrics metrics = task->metrics;
    if (metrics.samples > 0) {
      metrics.rtf = metrics.busy_ms * task->card->info.rate_hz / (1000.0 * static_cast<double>(metrics.samples));
    }
    const std::optional<Error> failure = task->failure;
    load_.ended(ms_between(task->opened_at, Clock::now()) / 1000);
    wake_tokens();
    lock.unlock();
    segments.clear();
    if (voice) {
      const std::lock_guard loader_lock(loader_mutex_);
      trash_.push_back(voice);
    }
    if (task->cancelled) {
      task->sink->on_cancelled();
    } else if (failure) {
      task->sink->on_error(*failure);
    } else {
      task->sink->on_done(metrics);
    }
    lock.lock();
    return true;
  }
  return false;
}

double Engine::current_load() const {
  const auto now = Clock::now();
  double load = 0;
  for (const TaskPtr& task : live_) {
    if (task->phase == Phase::running && keeps_place(*task, now)) load += load_.share(task->card->model);
  }
  return load;
}

void Engine::admit() {
  double load = current_load();
  bool full = false;  // whoever came first goes first
  const auto now = Clock::now();
  for (const TaskPtr& task : live_) {
    if (task->phase != Phase::waiting || task->failure || task->cancelled) continue;
    if (!full && load_.admits(load, task->card->model)) {
      task->go_to(Phase::running);
      load += load_.share(task->card->model);
      continue;
    }
    full = true;
    if (now - task->waiting_since < config_.admission.max_wait) continue;
    ++stats_.refused_total;
    task->failure =
        Error{Errc::overloaded, "the machine is full", static_cast<int>(load_.retry_after(live_.size()).count())};
    wake_tokens();
  }
}

Clock::time_point Engine::next_deadline() const {
  const auto now = Clock::now();
  auto first = now + std::chrono::seconds(10);
  for (const TaskPtr& task : live_) {
    if (task->phase == Phase::waiting) first = std::min(first, task->waiting_since + config_.admission.max_wait);
    if (task->phase != Phase::running || task->queued > 0 || !keeps_place(*task, now)) continue;
    const std::chrono::duration<double> kept(kept_seconds(*task, now));  // then its place is free, by time alone
    first = std::min(first, now + std::chrono::ceil<Clock::duration>(kept));
  }
  if (prefill_held_up_) first = std::min(first, now + std::chrono::milliseconds(5));
  // Loads fall by time alone: while quality is down, or about to step, they have to be looked at.
  const bool may_change = quality_.steps > 0 || (quality_.trend > 0 && quality_.steps < quality_rule_.steps);
  if (may_change) first = std::min(first, now + std::max(config_.admission.reduce_hold, kLookAtLoad));
  return first;
}

bool Engine::is_paused(const Task& task) const {
  const std::int64_t ahead = task.metrics.samples - task.consumed;
  return ahead * 1000 > config_.limits.max_ahead.count() * task.card->info.rate_hz;
}

Urgency Engine::urgency(const Task& task, Clock::time_point now) {
  return {task.playback.lead(seconds_of(now)), seconds_of(task.turn_began)};
}

StreamView Engine::view(const Task& task, const Segment& segment, Clock::time_point now) const {
  StreamView v{urgency(task, now)};
  v.fresh = static_cast<int>(segment.fresh.size());
  v.wanted = segment.wanted;
  v.prefilled = segment.prefilled;
  v.tokens_done = segment.tokens_done;
  v.paused = task.cancelled || task.failure || is_paused(task);
  v.decoding = task.decoding;
  v.rendering = task.rendering;
  v.batch = segment.stream ? segment.stream->batch() : nullptr;
  return v;
}

bool Engine::can_begin(const Task& task) const {
  if (out_of_slots_ || task.phase != Phase::running || !task.voice) return false;
  if (task.ready.empty() || task.speaking.size() >= 2 || is_paused(task)) return false;
  return task.speaking.empty() || task.speaking.back()->tokens_done;
}

bool Engine::can_reread(const Task& task) const {
  if (task.speaking.empty() || (is_paused(task) && !out_of_slots_)) return false;
  const Segment& segment = *task.speaking.back();
  return segment.stream && !segment.prefilled && !segment.tokens_done;
}

TaskPtr Engine::next_to_read(Clock::time_point now) const {
  TaskPtr best;
  for (const TaskPtr& task : live_) {
    if (task->cancelled || task->failure || task->decoding) continue;
    if (!can_reread(*task) && !can_begin(*task)) continue;
    if (!best || is_more_urgent(urgency(*task, now), urgency(*best, now))) best = task;
  }
  return best;
}

bool Engine::may_read(const Task& task) {
  const auto now = Clock::now();
  std::vector<StreamView> views;
  for (const TaskPtr& other : live_) {
    if (other.get() != &task && !other->speaking.empty()) views.push_back(view(*other, *other->speaking.back(), now));
  }
  if (!prefill_held_up_) prefill_held_up_ = now;
  if (!may_prefill(views, prefill_seconds_, ms_between(*prefill_held_up_, now) / 1000, kPrefillPatience)) return false;
  prefill_held_up_.reset();
  return true;
}

Spent Engine::read(Lock& lock, Task& task, Segment& segment, std::string& what) {
  const Stopwatch watch(spare());
  lock.unlock();
  what = fault_of([&] { segment.stream->prefill(); });
  const Spent spent = watch.spent();
  lock.lock();
  segment.prefilled = what.empty();
  prefill_seconds_ = std::max(spent.ms / 1000, 0.9 * prefill_seconds_);
  account(task, spent);
  return spent;
}

/// Reads the text of a segment once more; false when that has to wait.
bool Engine::reread(Lock& lock, const TaskPtr& task) {
  if (!may_read(*task)) return false;
  std::string what;
  task->decoding = true;
  ++task->hands;
  (void)read(lock, *task, *task->speaking.back(), what);
  task->decoding = false;
  --task->hands;
  fail(*task, what);
  return what.empty();
}

/// Starts the next segment of an utterance; false when that has to wait.
bool Engine::begin(Lock& lock, const TaskPtr& task) {
  if (!may_read(*task)) return false;
  if (!task->work_start) task->work_start = Clock::now();
  auto segment = std::make_unique<Segment>(std::move(task->ready.front()));
  task->ready.pop_front();
  if (!segment->text.failure.empty()) {
    fail(*task, segment->text.failure);
    return true;
  }
  if (task->segments_begun == 0) {
    task->metrics.text_ms = segment->text.text_ms;
    task->metrics.queue_ms = std::max(0.0, ms_between(*task->first_speak, *task->work_start) - segment->text.text_ms);
  }
  Segment& s = *segment;
  const std::uint64_t index = task->segments_begun++;
  if (s.text.phonemes.empty()) {
    s.tokens_done = true;
    task->speaking.push_back(std::move(segment));
    wake_audio();
    return true;
  }
  SegmentRequest request;
  request.phonemes = std::move(s.text.phonemes);
  request.bert = std::move(s.text.bert);
  request.sampling = task->options.sampling;
  request.seed = task->seed + index * 0x9E3779B97F4A7C15ULL;
  request.speed = task->options.speed;
  const bool first = index == 0;
  const Voice& voice = *task->voice;
  int flow_steps = voice.flow_steps();
  if (const int fewer = config_.admission.reduced_flow_steps; quality_.steps > 0 && fewer > 0 && fewer < flow_steps) {
    request.flow_steps = flow_steps = fewer;
  }
  task->decoding = true;
  ++task->hands;
  lock.unlock();
  std::unique_ptr<SegmentStream> stream;
  std::string what = fault_of([&] { stream = voice.begin(request); });
  lock.lock();
  if (stream) {
    s.stream = std::move(stream);
    const bool awaited = task->playback.lead(seconds_of(Clock::now())) <= 0;
    s.chunk = voice.lookahead_tokens() + (awaited ? 1 : 2) * config_.chunks.first_tokens;
    s.wanted = s.stream->useful(0, s.chunk);
    if (request.flow_steps > 0) {
      ++task->metrics.reduced_segments;
      ++stats_.reduced_segments_total;
    }
    int& fewest = task->metrics.flow_steps;
    fewest = fewest == 0 ? flow_steps : std::min(fewest, flow_steps);
    task->speaking.push_back(std::move(segment));
    wake_audio();  // it can be prepared meanwhile
    const Spent spent = read(lock, *task, s, what);
    if (first) task->metrics.prefill_ms = spent.ms;
  } else if (what.empty()) {  // every slot is taken
    s.text.phonemes = std::move(request.phonemes);
    s.text.bert = std::move(request.bert);
    task->ready.push_front(std::move(s.text));
    --task->segments_begun;
    out_of_slots_ = true;
  }
  task->decoding = false;
  --task->hands;
  fail(*task, what);
  return what.empty() && !out_of_slots_;
}

bool Engine::decode(Lock& lock) {
  const auto now = Clock::now();
  std::vector<StreamView> views;
  std::vector<TaskPtr> owners;
  for (const TaskPtr& task : live_) {
    if (task->speaking.empty()) continue;
    views.push_back(view(*task, *task->speaking.back(), now));
    owners.push_back(task);
    if (out_of_slots_ && !task->cancelled && !task->failure) {  // others wait for the slot: on to the segment's end
      views.back().paused = false;
      views.back().wanted = std::numeric_limits<int>::max();
    }
  }
  const std::vector<std::size_t> chosen =
      next_to_decode(views, kUrgentLead, static_cast<std::size_t>(std::max(1, config_.networks.slots)));
  if (chosen.empty()) return false;
  std::vector<TaskPtr> tasks;
  std::vector<SegmentStream*> streams;
  for (const std::size_t i : chosen) {
    tasks.push_back(owners[i]);
    streams.push_back(owners[i]->speaking.back()->stream.get());
    owners[i]->decoding = true;
    ++owners[i]->hands;
  }
  const Stopwatch watch(spare());
  lock.unlock();
  std::vector<std::string> failures(streams.size());
  std::string what = fault_of([&] { streams.front()->step(streams); });
  if (!what.empty() && streams.size() == 1) {
    failures.front() = std::move(what);
  } else if (!what.empty()) {
    // What the step of all cannot do, that of most can: who is to blame is found one by one.
    for (std::size_t i = 0; i < streams.size(); ++i) {
      failures[i] = fault_of([&] { streams[i]->step({&streams[i], 1}); });
    }
  }
  Spent share = watch.spent();
  share.ms /= static_cast<double>(tasks.size());
  share.cpu_seconds /= static_cast<double>(tasks.size());
  lock.lock();
  ++stats_.decode_steps_total;
  for (std::size_t i = 0; i < tasks.size(); ++i) {
    Task& task = *tasks[i];
    task.decoding = false;
    --task.hands;
    account(task, share);
    if (failures[i].empty()) take_tokens(task, *task.speaking.back());
    fail(task, failures[i]);
    if (task.cancelled) wake_audio();
  }
  return true;
}

void Engine::take_tokens(Task& task, Segment& segment) {
  const auto tokens = segment.stream->tokens();
  const auto count = static_cast<std::int64_t>(tokens.size() - segment.seen);
  segment.fresh.insert(segment.fresh.end(), tokens.begin() + static_cast<std::ptrdiff_t>(segment.seen), tokens.end());
  segment.seen = tokens.size();
  task.metrics.tokens += count;
  stats_.tokens_total += count;
  if (task.metrics.first_token_ms == 0 && count > 0) {
    task.metrics.first_token_ms = ms_between(*task.first_speak, Clock::now());
  }
  if (static_cast<int>(segment.fresh.size()) >= segment.wanted || segment.stream->finished()) wake_audio();
  if (!segment.stream->finished()) {
    segment.prefilled = !segment.stream->needs_prefill();
    return;
  }
  segment.tokens_done = true;
  const GuardFigures guard = segment.stream->guard();
  task.metrics.guard += guard;
  stats_.guard += guard;
  if (guard.faults > 0) {
    get_logger("engine")->info("guard voice={} faults={} retries={} resumes={} cuts={}", log_value(task.options.voice),
                               guard.faults, guard.retries, guard.resumes, guard.cuts);
  }
  out_of_slots_ = false;
  fail(task, segment.stream->failure());
}

void Engine::account(Task& task, const Spent& spent) {
  task.metrics.busy_ms += spent.ms;
  stats_.busy_seconds_total += spent.ms / 1000;
  load_.work(task.card->model, spent.cpu_seconds);
}

void Engine::fail(Task& task, const std::string& what, Errc code) {
  if (what.empty()) return;
  get_logger("engine")->error("utterance failed voice={} what={}", log_value(task.options.voice), log_value(what));
  if (!task.failure && code == Errc::overloaded) {
    task.failure = Error{code, what, static_cast<int>(load_.retry_after(live_.size()).count())};
  } else if (!task.failure) {
    task.failure = Error{Errc::internal, "synthesis failed"};
  }
  wake_tokens();
}

bool Engine::prepare(Lock& lock) {
  TaskPtr best;
  Segment* segment = nullptr;
  const auto now = Clock::now();
  for (const TaskPtr& task : live_) {
    if (task->rendering || task->cancelled || task->failure) continue;
    const auto found = std::find_if(task->speaking.begin(), task->speaking.end(),
                                    [](const auto& s) { return s->stream && !s->prepared; });
    if (found == task->speaking.end()) continue;
    if (best && !is_more_urgent(urgency(*task, now), urgency(*best, now))) continue;
    best = task;
    segment = found->get();
  }
  if (!best) return false;
  segment->prepared = true;
  best->rendering = true;
  ++best->hands;
  const Stopwatch watch(spare());
  lock.unlock();
  const std::string what = fault_of([&] { segment->stream->prepare(); });
  const Spent spent = watch.spent();
  lock.lock();
  best->rendering = false;
  --best->hands;
  account(*best, spent);
  fail(*best, what);
  return true;
}

bool Engine::render(Lock& lock) {
  const auto now = Clock::now();
  std::vector<StreamView> views;
  std::vector<TaskPtr> owners;
  for (const TaskPtr& task : live_) {
    if (task->speaking.empty()) continue;
    const Segment& segment = *task->speaking.front();
    StreamView v = view(*task, segment, now);
    v.together = config_.render_batch > 0 ? config_.render_batch : task->voice->render_batch();
    if (v.together > 1 && !v.rendering && segment.stream) {
      v.group = segment.stream->render_group(v.fresh, v.tokens_done);
      const auto calls = render_calls_.find(v.group.networks);
      if (calls != render_calls_.end() && calls->second >= task->voice->render_calls()) continue;
    }
    views.push_back(v);
    owners.push_back(task);
  }
  const std::vector<std::size_t> chosen = next_to_render(views, render_times_, kRenderPatience);
  if (chosen.empty()) return false;
  std::vector<TaskPtr> tasks;
  std::vector<std::vector<std::int32_t>> tokens;
  std::vector<SegmentStream::Job> jobs;
  for (const std::size_t i : chosen) {
    Task& task = *tasks.emplace_back(owners[i]);
    Segment& segment = *task.speaking.front();
    tokens.push_back(std::exchange(segment.fresh, {}));
    jobs.push_back({.stream = segment.stream.get(), .tokens = tokens.back(), .last = segment.tokens_done});
    begin_chunk(task, views[i].lead);
  }
  const RenderGroup group = views[chosen.front()].group;
  if (group.networks != nullptr) ++render_calls_[group.networks];
  wake_tokens();
  const Stopwatch watch(spare());
  lock.unlock();

  // A segment without a stream has nothing to say, and is alone.
  const std::string what = fault_of([&] {
    if (jobs.front().stream != nullptr) jobs.front().stream->render_together(jobs);
  });
  for (SegmentStream::Job& job : jobs) {
    if (!what.empty() && !job.failure) job.fail(Errc::internal, what.c_str());
    if (!std::all_of(job.samples.begin(), job.samples.end(), [](float x) { return std::isfinite(x); })) {
      job.fail(Errc::internal, "the waveform holds a value that is not finite");
    }
  }
  Spent share = watch.spent();
  const auto made_at = Clock::now();
  lock.lock();
  if (group.networks != nullptr) {
    if (--render_calls_[group.networks] == 0) render_calls_.erase(group.networks);
    if (what.empty()) render_times_.took(group, jobs.size(), share.ms / 1000);
    wake_audio();
  }
  share.ms /= static_cast<double>(jobs.size());
  share.cpu_seconds /= static_cast<double>(jobs.size());
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    account(*tasks[i], share);
    end_chunk(lock, *tasks[i], jobs[i], made_at);
  }
  wake_tokens();
  return true;
}

void Engine::begin_chunk(Task& task, double lead) {
  Segment& segment = *task.speaking.front();
  task.rendering = true;
  ++task.hands;
  segment.prepared = true;
  if (segment.seam) segment.start_sample = task.metrics.samples;
  // The token thread can go on with the next chunk; this one is heard when that is needed.
  const int body = segment.chunk - (segment.seam ? task.voice->lookahead_tokens() : 0);
  segment.chunk = grown_chunk(body, config_.chunks.growth, std::isfinite(lead) ? lead : 0.0,
                              task.voice->tokens_per_second(), config_.chunks.max_tokens);
  if (segment.stream) segment.wanted = segment.stream->useful(static_cast<std::int64_t>(segment.seen), segment.chunk);
}

void Engine::end_chunk(Lock& lock, Task& task, SegmentStream::Job& job, Clock::time_point made_at) {
  Segment& segment = *task.speaking.front();
  const auto samples = static_cast<std::int64_t>(job.samples.size());
  load_.audio(task.card->model, static_cast<double>(samples) / task.card->info.rate_hz);
  load_.process(process_cpu_seconds(), seconds_of(Clock::now()));
  const bool heard = !job.failure && !task.cancelled && !task.failure;
  AudioChunk chunk;
  if (heard && samples > 0) {
    if (!task.first_audio) {
      task.first_audio = made_at;
      task.metrics.first_audio_ms = ms_between(*task.first_speak, made_at);
    }
    task.playback.made(seconds_of(made_at), static_cast<double>(samples) / task.card->info.rate_hz);
    task.metrics.samples += samples;
    stats_.samples_total += samples;
    chunk.pcm = std::move(job.samples);
    chunk.seam = std::exchange(segment.seam, false);
    lock.unlock();
    task.sink->on_audio(std::move(chunk));
    lock.lock();
  }
  if (heard && job.last) finish_segment(lock, task);
  task.rendering = false;
  --task.hands;
  if (job.failure) fail(task, job.failure->detail, job.failure->code);
}

void Engine::finish_segment(Lock& lock, Task& task) {
  const std::unique_ptr<Segment> segment = std::move(task.speaking.front());
  task.speaking.pop_front();
  const std::int64_t end = task.metrics.samples;
  lock.unlock();
  TextSegment& text = segment->text.text;
  if (end > segment->start_sample) {
    AudioChunk chunk;
    chunk.marks.push_back({text.text, text.in_start, text.in_end, segment->start_sample, end});
    task.sink->on_audio(std::move(chunk));
  }
  if (text.flush) task.sink->on_flushed(text.flush_id, end);
  segment->stream.reset();
  lock.lock();
  --task.queued;
}

}  // namespace

std::unique_ptr<Synthesizer> make_engine(const EngineConfig& config, std::vector<std::shared_ptr<const Voice>> voices,
                                         Phonemize phonemize) {
  auto library = std::make_shared<VoiceLibrary>(fixed_voices(voices), 0);
  for (const auto& voice : voices) {
    if (const auto card = library->find(voice->info().id)) (void)library->load(*card);
  }
  return make_engine(config, std::move(library), std::move(phonemize));
}

std::unique_ptr<Synthesizer> make_engine(const EngineConfig& config, std::shared_ptr<VoiceLibrary> library,
                                         Phonemize phonemize, TextRows text_rows) {
  if (auto checked = check_lighter_voices(config.admission.lighter_voices, library->voices()); !checked) {
    throw std::runtime_error(checked.error().detail);
  }
  return std::make_unique<Engine>(config, std::move(library), std::move(phonemize), std::move(text_rows));
}

}  // namespace tts
