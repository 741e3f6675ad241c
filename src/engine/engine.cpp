#include "src/engine/engine.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <limits>
#include <mutex>
#include <optional>
#include <random>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>

#include <sys/resource.h>

#include "src/core/bounded_queue.h"
#include "src/core/log.h"

namespace tts {
namespace {

using Clock = std::chrono::steady_clock;

/// How often voices that came or went on disk are looked for.
constexpr std::chrono::milliseconds kLookForVoices{1000};

double ms_between(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double, std::milli>(to - from).count();
}

/// A segment whose phonemes are ready.
struct ReadySegment {
  TextSegment text;
  std::vector<std::int32_t> phonemes;
  std::vector<float> bert;  // [phonemes, the voice's bert_dim], or empty
  double text_ms = 0;
};

/// Everything about one utterance. `mutex` guards what callers and the engine threads share; the rest belongs to the
/// inference thread.
struct Task {
  Task(UtteranceOptions opts, std::shared_ptr<const VoiceCard> c, std::shared_ptr<UtteranceSink> s,
       std::uint64_t seed_value)
      : options(std::move(opts)), card(std::move(c)), sink(std::move(s)), seed(seed_value) {}

  const UtteranceOptions options;
  const std::shared_ptr<const VoiceCard> card;
  const std::shared_ptr<UtteranceSink> sink;
  const std::uint64_t seed;

  std::mutex mutex;
  std::deque<ReadySegment> ready;  // phonemes done, waiting for their turn
  int queued = 0;                  // segments accepted and not finished
  bool ended = false;
  std::optional<std::string> text_failure;  // what the text thread says went wrong
  std::optional<Error> load_failure;        // what the loader says went wrong
  std::shared_ptr<const Voice> loaded;      // from the loader, until the inference thread takes it
  std::optional<Clock::time_point> first_speak;

  std::atomic<bool> cancelled{false};
  std::atomic<std::int64_t> consumed{0};

  // Inference thread only.
  std::shared_ptr<const Voice> voice;  // null until it is in memory; the stream points into it
  std::unique_ptr<SegmentStream> stream;
  ReadySegment segment;
  std::int64_t segment_start = 0;  // sample at which the segment's audio begins
  bool segment_seam = false;       // its first audio is still to come
  int next_chunk = 0;              // tokens to decode in the next turn
  std::uint64_t segment_index = 0;
  std::optional<Clock::time_point> work_start, first_audio;
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
        text_queue_(static_cast<std::size_t>(config_.limits.max_utterances) * 8),
        loader_thread_([this](const std::stop_token& stop) { run_loader(stop); }),
        text_thread_([this](const std::stop_token& stop) { run_text(stop); }),
        inference_thread_([this](const std::stop_token& stop) { run_inference(stop); }) {}

  ~Engine() override {
    loader_thread_.request_stop();
    text_thread_.request_stop();
    inference_thread_.request_stop();
    work_.notify_all();
  }

  std::vector<VoiceInfo> voices() const override { return library_->voices(); }

  bool ready() const override { return true; }

  SynthesizerStats stats() const override {
    const VoiceLibrary::Figures voices = library_->figures();
    const std::lock_guard lock(mutex_);
    SynthesizerStats s = stats_;
    s.live_utterances = static_cast<int>(live_.size());
    s.voices_in_memory = voices.voices_in_memory;
    s.weight_bytes = static_cast<std::int64_t>(voices.bytes);
    s.reader_bytes = static_cast<std::int64_t>(voices.reader_bytes);
    s.voices_dropped = voices.dropped;
    s.texts_unread = voices.texts_unread;
    return s;
  }

  Result<NewVoice> add_voice(const VoiceRequest& request, const VoiceProgress& progress) override {
    return library_->add(request, progress);
  }
  Result<void> remove_voice(const std::string& id) override { return library_->remove(id); }

  Result<std::unique_ptr<Utterance>> open(const UtteranceOptions& options,
                                          std::shared_ptr<UtteranceSink> sink) override;

  Result<void> speak(const TaskPtr& task, TextSegment segment);
  void end(const TaskPtr& task) {
    {
      const std::lock_guard lock(task->mutex);
      task->ended = true;
    }
    wake();
  }
  void cancel(const TaskPtr& task) {
    task->cancelled = true;
    wake();
  }
  void consumed(const TaskPtr& task, std::int64_t samples) {
    task->consumed = samples;
    wake();
  }

 private:
  struct TextJob {
    TaskPtr task;
    TextSegment segment;
  };

  void wake() {
    {
      const std::lock_guard lock(mutex_);
      ++signal_;
    }
    work_.notify_one();
  }

  void run_text(const std::stop_token& stop);
  void run_loader(const std::stop_token& stop);
  void run_inference(const std::stop_token& stop);
  [[nodiscard]] TaskPtr pick(const std::vector<TaskPtr>& live) const;
  [[nodiscard]] bool runnable(Task& task) const;
  [[nodiscard]] static double lead_seconds(const Task& task, Clock::time_point now);
  /// One turn: start the next segment, or decode one chunk and render it. When that ends the utterance, what is to be
  /// told to its sink, to be called once its slot is free.
  using LastWord = std::function<void()>;
  LastWord advance(Task& task);
  void begin_segment(Task& task, ReadySegment segment);
  void finish_segment(Task& task);
  void emit(Task& task, std::vector<float> pcm);
  void retire(const TaskPtr& task);

  const EngineConfig config_;
  const std::shared_ptr<VoiceLibrary> library_;
  const Phonemize phonemize_;
  const TextRows text_rows_;

  mutable std::mutex mutex_;
  std::condition_variable_any work_;
  std::uint64_t signal_ = 0;  // bumped by everything that may make an utterance runnable
  std::vector<TaskPtr> live_;
  SynthesizerStats stats_;

  BoundedQueue<TextJob> text_queue_;  // full: speak() answers overloaded

  std::mutex loader_mutex_;
  std::condition_variable_any loader_work_;
  std::vector<TaskPtr> to_load_;                     // live utterances at most
  std::vector<std::shared_ptr<const Voice>> trash_;  // freeing a voice takes time, too

  std::jthread loader_thread_;
  std::jthread text_thread_;  // the threads are last: they stop before what they use goes away
  std::jthread inference_thread_;
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

Result<std::unique_ptr<Utterance>> Engine::open(const UtteranceOptions& options, std::shared_ptr<UtteranceSink> sink) {
  const auto card = library_->find(options.voice);
  if (!card) return Error{Errc::unknown_voice, "no voice \"" + options.voice + "\""};
  const auto& langs = card->info.langs;
  if (options.lang != "auto" && std::find(langs.begin(), langs.end(), options.lang) == langs.end()) {
    return Error{Errc::unsupported_format, "voice \"" + options.voice + "\" does not speak \"" + options.lang + "\""};
  }
  auto task = std::make_shared<Task>(options, card, std::move(sink), options.seed ? *options.seed : random_seed());
  task->loaded = library_->in_memory(*card);
  const bool is_loaded = task->loaded != nullptr;
  {
    const std::lock_guard lock(mutex_);
    if (live_.size() >= static_cast<std::size_t>(config_.limits.max_utterances)) {
      return Error{Errc::overloaded, std::to_string(live_.size()) + " utterances are live, which is the limit"};
    }
    live_.push_back(task);
    ++stats_.utterances_total;
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

Result<void> Engine::speak(const TaskPtr& task, TextSegment segment) {
  {
    const std::lock_guard lock(task->mutex);
    if (task->queued >= config_.limits.max_queued_segments) {
      return Error{Errc::overloaded, std::to_string(task->queued) + " segments are queued, which is the limit"};
    }
    ++task->queued;
    if (!task->first_speak) task->first_speak = Clock::now();
  }
  if (!text_queue_.try_push(TextJob{task, std::move(segment)})) {
    const std::lock_guard lock(task->mutex);
    --task->queued;
    return Error{Errc::overloaded, "the text queue is full"};
  }
  return {};
}

void Engine::run_text(const std::stop_token& stop) {
  while (auto job = text_queue_.pop(stop)) {
    const auto start = Clock::now();
    ReadySegment ready{std::move(job->segment), {}, {}, 0};
    std::optional<std::string> failure;  // words, not the exception: no object is shared by two threads
    if (!job->task->cancelled) {
      try {
        FrontendOptions options;
        options.lang = job->task->options.lang;
        options.languages = job->task->card->info.langs;
        options.word_separator = job->task->card->word_separator;
        Phonemized spoken = phonemize_(ready.text.text, options);
        const std::int64_t bert_dim = job->task->card->bert_dim;
        if (text_rows_ && bert_dim > 0 && !spoken.bert.empty()) ready.bert = text_rows_(spoken, bert_dim);
        ready.phonemes = std::move(spoken.phonemes);
      } catch (const std::exception& e) {
        failure = e.what();
      }
    }
    ready.text_ms = ms_between(start, Clock::now());
    {
      const std::lock_guard lock(job->task->mutex);
      if (failure) job->task->text_failure = std::move(failure);
      job->task->ready.push_back(std::move(ready));
    }
    wake();
  }
}

// Loads beside the inference thread, on what time that leaves of a busy machine.
void Engine::run_loader(const std::stop_token& stop) {
  (void)::setpriority(PRIO_PROCESS, 0, 5);  // of this thread alone
  while (!stop.stop_requested()) {
    std::vector<TaskPtr> tasks;
    std::vector<std::shared_ptr<const Voice>> trash;
    {
      std::unique_lock lock(loader_mutex_);
      loader_work_.wait_for(lock, stop, kLookForVoices, [this] { return !to_load_.empty(); });
      tasks.swap(to_load_);
      trash.swap(trash_);
    }
    trash.clear();
    library_->refresh();
    for (const TaskPtr& task : tasks) {
      if (stop.stop_requested()) return;
      if (task->cancelled) continue;
      auto voice = library_->load(*task->card);
      {
        const std::lock_guard lock(task->mutex);
        if (voice) {
          task->loaded = std::move(*voice);
        } else {
          task->load_failure = voice.error();
        }
      }
      wake();
    }
  }
}

double Engine::lead_seconds(const Task& task, Clock::time_point now) {
  if (!task.first_audio) return -std::numeric_limits<double>::infinity();
  return static_cast<double>(task.metrics.samples) / task.card->info.rate_hz -
         ms_between(*task.first_audio, now) / 1000;
}

bool Engine::runnable(Task& task) const {
  if (task.cancelled) return true;
  const std::int64_t ahead = task.metrics.samples - task.consumed;
  const bool far_ahead = ahead * 1000 > config_.limits.max_ahead.count() * task.card->info.rate_hz;
  if (task.stream) return !far_ahead;
  const std::lock_guard lock(task.mutex);
  if (task.loaded) task.voice = std::move(task.loaded);
  if (task.load_failure) return true;
  if (!task.ready.empty()) return task.voice && !far_ahead;
  return task.ended && task.queued == 0;
}

TaskPtr Engine::pick(const std::vector<TaskPtr>& live) const {
  const auto now = Clock::now();
  TaskPtr best;
  double best_lead = 0;
  for (const TaskPtr& task : live) {
    if (!runnable(*task)) continue;
    if (task->cancelled) return task;
    const double lead = lead_seconds(*task, now);
    if (!best || lead < best_lead) {
      best = task;
      best_lead = lead;
    }
  }
  return best;
}

void Engine::run_inference(const std::stop_token& stop) {
  std::uint64_t seen = 0;
  std::vector<TaskPtr> live;
  while (!stop.stop_requested()) {
    {
      const std::lock_guard lock(mutex_);
      live = live_;
      seen = signal_;
    }
    const TaskPtr task = pick(live);
    if (!task) {
      live.clear();
      std::unique_lock lock(mutex_);
      work_.wait(lock, stop, [&] { return signal_ != seen; });
      continue;
    }
    LastWord last_word;
    const auto start = Clock::now();
    try {
      last_word = advance(*task);
    } catch (const std::exception& failure) {
      get_logger("engine")->error("utterance failed voice={} what={}", log_value(task->options.voice),
                                  log_value(failure.what()));
      last_word = [sink = task->sink] { sink->on_error(Error{Errc::internal, "synthesis failed"}); };
    }
    {
      const std::lock_guard lock(mutex_);
      stats_.busy_seconds_total += ms_between(start, Clock::now()) / 1000;
    }
    if (last_word) {
      retire(task);
      last_word();
    }
  }
}

void Engine::retire(const TaskPtr& task) {
  task->stream.reset();
  {
    const std::scoped_lock lock(loader_mutex_, task->mutex);
    if (task->voice) trash_.push_back(std::move(task->voice));
    if (task->loaded) trash_.push_back(std::move(task->loaded));
  }
  const std::lock_guard lock(mutex_);
  std::erase(live_, task);
}

Engine::LastWord Engine::advance(Task& task) {
  if (task.cancelled) return [sink = task.sink] { sink->on_cancelled(); };
  {
    const std::lock_guard lock(task.mutex);
    if (task.load_failure) return [sink = task.sink, error = *task.load_failure] { sink->on_error(error); };
  }
  const auto start = Clock::now();
  if (!task.work_start) task.work_start = start;
  if (!task.stream) {
    std::optional<ReadySegment> next;
    {
      const std::lock_guard lock(task.mutex);
      if (task.text_failure) throw std::runtime_error(*task.text_failure);
      if (!task.ready.empty()) {
        next = std::move(task.ready.front());
        task.ready.pop_front();
      }
    }
    if (!next) {  // runnable() said: ended and nothing left
      if (task.metrics.samples > 0) {
        task.metrics.rtf =
            task.metrics.busy_ms * task.card->info.rate_hz / (1000.0 * static_cast<double>(task.metrics.samples));
      }
      return [sink = task.sink, metrics = task.metrics] { sink->on_done(metrics); };
    }
    begin_segment(task, std::move(*next));
  }
  if (task.stream) {
    const int decoded = task.stream->decode(task.stream->useful(task.next_chunk));
    task.metrics.tokens += decoded;
    if (task.metrics.first_token_ms == 0 && decoded > 0) {
      task.metrics.prefill_ms = task.stream->prefill_ms();
      task.metrics.first_token_ms = ms_between(*task.first_speak, Clock::now());
    }
    {
      const std::lock_guard lock(mutex_);
      stats_.tokens_total += decoded;
    }
    if (task.cancelled) return {};  // before the costly part; answered in the next turn
    std::vector<float> pcm = task.stream->render();
    task.metrics.busy_ms += ms_between(start, Clock::now());
    const bool finished = task.stream->finished();
    emit(task, std::move(pcm));
    const double grown =
        std::max(task.next_chunk - (task.segment_seam ? task.voice->lookahead_tokens() : 0), 4) * config_.chunks.growth;
    task.next_chunk = std::min(config_.chunks.max_tokens, static_cast<int>(std::lround(grown)));
    if (finished) finish_segment(task);
  } else {
    finish_segment(task);  // nothing to speak in it
  }
  return {};
}

void Engine::begin_segment(Task& task, ReadySegment segment) {
  if (task.segment_index == 0) {
    task.metrics.queue_ms = std::max(0.0, ms_between(*task.first_speak, *task.work_start) - segment.text_ms);
    task.metrics.text_ms = segment.text_ms;
  }
  task.segment = std::move(segment);
  task.segment_start = task.metrics.samples;
  task.segment_seam = true;
  if (!task.segment.phonemes.empty()) {
    SegmentRequest request;
    request.phonemes = task.segment.phonemes;
    request.bert = std::move(task.segment.bert);
    request.sampling = task.options.sampling;
    request.seed = task.seed + task.segment_index * 0x9E3779B97F4A7C15ULL;
    request.speed = task.options.speed;
    task.stream = task.voice->begin(request);
    const bool first = !task.first_audio;
    task.next_chunk =
        task.voice->lookahead_tokens() + (first ? config_.chunks.first_tokens : 2 * config_.chunks.first_tokens);
  }
  ++task.segment_index;
}

void Engine::emit(Task& task, std::vector<float> pcm) {
  if (pcm.empty()) return;
  for (const float sample : pcm) {
    if (!std::isfinite(sample)) throw std::runtime_error("the waveform holds a value that is not finite");
  }
  if (!task.first_audio) {
    task.first_audio = Clock::now();
    task.metrics.first_audio_ms = ms_between(*task.first_speak, *task.first_audio);
  }
  const auto count = static_cast<std::int64_t>(pcm.size());
  task.metrics.samples += count;
  {
    const std::lock_guard lock(mutex_);
    stats_.samples_total += count;
  }
  AudioChunk chunk;
  chunk.pcm = std::move(pcm);
  chunk.seam = std::exchange(task.segment_seam, false);
  task.sink->on_audio(std::move(chunk));
}

void Engine::finish_segment(Task& task) {
  task.stream.reset();
  if (task.metrics.samples > task.segment_start) {
    AudioChunk chunk;
    chunk.marks.push_back({task.segment.text.text, task.segment.text.in_start, task.segment.text.in_end,
                           task.segment_start, task.metrics.samples});
    task.sink->on_audio(std::move(chunk));
  }
  if (task.segment.text.flush) task.sink->on_flushed(task.segment.text.flush_id, task.metrics.samples);
  {
    const std::lock_guard lock(task.mutex);
    --task.queued;
  }
  wake();
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
  return std::make_unique<Engine>(config, std::move(library), std::move(phonemize), std::move(text_rows));
}

}  // namespace tts
