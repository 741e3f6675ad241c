#include "streaming/context.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "src/core/assert.h"
#include "src/core/utf8.h"

namespace tts {
namespace {

using namespace std::chrono_literals;

constexpr std::int64_t kMaxQueuedSeconds = 120;  // six times the synthesizer's own limit
constexpr double kGuessMsPerChar = 65;           // while nothing better is known

std::chrono::steady_clock::duration to_duration(double ms) {
  return std::chrono::duration_cast<std::chrono::steady_clock::duration>(std::chrono::duration<double, std::milli>(ms));
}

double to_ms(std::chrono::steady_clock::duration duration) {
  return std::chrono::duration<double, std::milli>(duration).count();
}

bool is_punctuation(std::string_view code_point) {
  if (code_point.size() == 1) {
    const char c = code_point.front();
    return std::string_view(".,;:!?\"')]}").find(c) != std::string_view::npos;
  }
  static constexpr std::string_view kMarks = "。！？，；：、”’»」』）】》…";
  return kMarks.find(code_point) != std::string_view::npos;
}

std::string_view code_point_at(std::string_view text, std::size_t byte) {
  std::size_t end = byte + 1;
  while (end < text.size() && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) ++end;
  return text.substr(byte, end - byte);
}

}  // namespace

std::optional<ContextState> next_state(ContextState state, ContextEvent event) noexcept {
  const bool live = state == ContextState::open || state == ContextState::ending;
  switch (event) {
    case ContextEvent::end:
      if (state == ContextState::open) return ContextState::ending;
      break;
    case ContextEvent::finish:
      if (state == ContextState::ending) return ContextState::done;
      break;
    case ContextEvent::cancel:
      if (live) return ContextState::cancelled;
      break;
    case ContextEvent::fail:
      if (live) return ContextState::failed;
      break;
  }
  return std::nullopt;
}

std::optional<std::chrono::milliseconds> retry_after(const Error& error) noexcept {
  if (error.code != Errc::overloaded && error.code != Errc::rate_limited) return std::nullopt;
  return error.retry_after_ms > 0 ? std::chrono::milliseconds(error.retry_after_ms) : 1000ms;
}

// --- PlaybackClock ---

void PlaybackClock::on_send(Clock::time_point now, double sent_ms, Clock::time_point owed_since) {
  if (!start_) {
    start_ = now - to_duration(sent_ms);
    return;
  }
  const Clock::time_point dry = *start_ + to_duration(sent_ms);
  if (now <= dry) return;
  worst_lag_ms_ = std::max(worst_lag_ms_, to_ms(now - std::max(dry, owed_since)));
  *start_ += now - dry;
}

double PlaybackClock::played_ms(Clock::time_point now, double sent_ms) const {
  return start_ ? std::clamp(to_ms(now - *start_), 0.0, sent_ms) : 0.0;
}

std::optional<PlaybackClock::Clock::time_point> PlaybackClock::time_of(double position_ms) const {
  if (!start_) return std::nullopt;
  return *start_ + to_duration(position_ms);
}

// --- ContextSink ---

ContextSink::ContextSink(std::function<void()> wake, int voice_rate_hz, ServerMetrics& metrics)
    : wake_(std::move(wake)), voice_rate_hz_(voice_rate_hz), metrics_(metrics) {}

void ContextSink::add_queued(std::int64_t samples) {
  queued_samples_ += samples;
  metrics_.live_queued_audio_us.fetch_add(samples * 1'000'000 / voice_rate_hz_);
}

void ContextSink::put(Event event) {
  std::deque<Event> dropped;  // destroyed outside the lock
  const std::lock_guard lock(mutex_);
  if (!wake_) return;
  if (const auto* chunk = std::get_if<AudioChunk>(&event)) {
    const auto samples = static_cast<std::int64_t>(chunk->pcm.size());
    received_samples_ += samples;
    if (queued_samples_ + samples > kMaxQueuedSeconds * voice_rate_hz_) {
      dropped.swap(events_);
      add_queued(-queued_samples_);
      event = Error{Errc::internal, "the synthesizer ran away from a client that takes no audio"};
    } else {
      add_queued(samples);
    }
  }
  const bool was_empty = events_.empty();
  events_.push_back(std::move(event));
  if (was_empty) wake_();
}

void ContextSink::on_audio(AudioChunk chunk) {
  put(std::move(chunk));
}
void ContextSink::on_flushed(std::string flush_id, std::int64_t at_sample) {
  put(Flushed{std::move(flush_id), at_sample});
}
void ContextSink::on_done(const UtteranceMetrics& metrics) {
  put(metrics);
}
void ContextSink::on_cancelled() {
  put(Cancelled{});
}
void ContextSink::on_error(const Error& error) {
  put(error);
}

std::optional<ContextSink::Event> ContextSink::pop() {
  const std::lock_guard lock(mutex_);
  if (events_.empty()) return std::nullopt;
  std::optional<Event> event(std::move(events_.front()));
  events_.pop_front();
  if (const auto* chunk = std::get_if<AudioChunk>(&*event)) add_queued(-static_cast<std::int64_t>(chunk->pcm.size()));
  return event;
}

std::int64_t ContextSink::received_samples() const {
  const std::lock_guard lock(mutex_);
  return received_samples_;
}

void ContextSink::close() {
  std::deque<Event> dropped;
  std::function<void()> wake;
  const std::lock_guard lock(mutex_);
  wake.swap(wake_);
  dropped.swap(events_);
  add_queued(-queued_samples_);
}

// --- Context ---

Result<std::unique_ptr<Context>> Context::open(const OpenMessage& message, Synthesizer& synthesizer,
                                               const ProtocolLimits& limits, const FeedOptions& feed_defaults,
                                               ServerMetrics& metrics, std::function<void()> wake,
                                               Clock::time_point now) {
  const std::vector<VoiceInfo> voices = synthesizer.voices();
  const auto voice = std::find_if(voices.begin(), voices.end(),
                                  [&message](const VoiceInfo& info) { return info.id == message.options.voice; });
  if (voice == voices.end()) {
    return Error{Errc::unknown_voice, "voice: got '" + utf8::to_valid(message.options.voice) + "', see hello.voices"};
  }
  auto packetizer = Packetizer::make(message.format, voice->rate_hz);
  if (!packetizer) return packetizer.error();
  FeedOptions feed = feed_defaults;
  if (message.buffering.min_chars) feed.min_chars = *message.buffering.min_chars;
  if (message.buffering.max_delay) feed.max_delay = *message.buffering.max_delay;
  feed.max_chars = std::max(feed.max_chars, 2 * feed.min_chars);

  std::unique_ptr<Context> context(
      new Context(message, limits, feed, metrics, std::move(*packetizer), voice->rate_hz, now));
  context->sink_ = std::make_shared<ContextSink>(std::move(wake), voice->rate_hz, metrics);
  auto utterance = synthesizer.open(message.options, context->sink_);
  if (!utterance) return utterance.error();
  context->utterance_ = std::move(*utterance);
  metrics.contexts.fetch_add(1);
  return context;
}

Context::Context(const OpenMessage& message, const ProtocolLimits& limits, const FeedOptions& feed,
                 ServerMetrics& metrics, Packetizer packetizer, int voice_rate_hz, Clock::time_point now)
    : id_(message.ctx),
      format_(message.format),
      marks_(message.marks),
      limits_(limits),
      metrics_(metrics),
      voice_rate_hz_(voice_rate_hz),
      feed_(feed),
      packetizer_(std::move(packetizer)),
      last_active_(now) {
  metrics_.live_contexts.fetch_add(1);
}

Context::~Context() {
  release();
  metrics_.live_contexts.fetch_sub(1);
}

OpenedMessage Context::opened() const {
  return OpenedMessage{id_, format_.rate_hz, packetizer_.frame_samples(), packetizer_.pre_skip()};
}

void Context::move_to(ContextEvent event) {
  const auto next = next_state(state_, event);
  TTS_ASSERT(next);
  state_ = *next;
}

void Context::release() {
  if (sink_) sink_->close();
  utterance_.reset();  // cancels
  metrics_.live_pending_segments.fetch_sub(static_cast<std::int64_t>(pending_.size()));
  pending_.clear();
  after_audio_.reset();
}

Result<void> Context::text(std::string_view bytes, Clock::time_point now) {
  last_active_ = now;
  if (state_ != ContextState::open) return Error{Errc::bad_message, "text after end"};
  const std::size_t chars = utf8::count_code_points(bytes);
  if (feed_.size() + chars > limits_.max_text_chars) {
    return Error{Errc::text_too_long, "text: got " + std::to_string(feed_.size() + chars) +
                                          " characters on the context, want at most " +
                                          std::to_string(limits_.max_text_chars)};
  }
  metrics_.text_chars.fetch_add(static_cast<std::int64_t>(chars));
  return speak(feed_.push(bytes, now), now);
}

Result<void> Context::flush(MessageId id, Clock::time_point now) {
  last_active_ = now;
  if (state_ != ContextState::open) return Error{Errc::bad_message, "flush after end"};
  if (flushes_.size() >= static_cast<std::size_t>(limits_.max_pending_flushes)) {
    return Error{Errc::rate_limited, "flush: " + std::to_string(flushes_.size()) + " are not answered yet"};
  }
  flushes_.push_back(std::move(id));
  return speak(feed_.flush({}), now);
}

Result<void> Context::end(Clock::time_point now) {
  last_active_ = now;
  if (state_ != ContextState::open) return Error{Errc::bad_message, "end twice"};
  move_to(ContextEvent::end);
  return speak(feed_.end(), now);
}

void Context::credit(std::chrono::milliseconds ahead, Clock::time_point now) {
  last_active_ = now;
  max_ahead_ = ahead;
}

Result<void> Context::speak(std::vector<TextSegment> segments, Clock::time_point now) {
  for (TextSegment& segment : segments) {
    if (!segment.text.empty()) {
      spoken_.push_back(Spoken{segment.in_start, segment.in_end, now});
      if (!first_text_ && sent_ms_ == 0) first_text_ = now;
    }
    pending_.push_back(std::move(segment));
    metrics_.live_pending_segments.fetch_add(1);
  }
  return submit();
}

Result<void> Context::submit() {
  if (!utterance_) return {};
  while (!pending_.empty()) {
    if (auto taken = utterance_->speak(pending_.front()); !taken) {
      if (taken.error().code == Errc::overloaded)
        return {};  // its queue is full; audio of an earlier segment will come
      return taken.error();
    }
    pending_.pop_front();
    metrics_.live_pending_segments.fetch_sub(1);
  }
  if (state_ == ContextState::ending && !end_sent_) {
    end_sent_ = true;
    utterance_->end();
  }
  return {};
}

bool Context::may_send(Clock::time_point now) const {
  if (!max_ahead_) return true;
  const auto due = clock_.time_of(sent_ms_ - static_cast<double>(max_ahead_->count()));
  return !due || now >= *due;
}

std::optional<Context::Outgoing> Context::next(Clock::time_point now) {
  if (state_ != ContextState::open && state_ != ContextState::ending) return std::nullopt;
  if (auto submitted = submit(); !submitted) return fail(submitted.error());
  while (true) {
    if (packetizer_.ready()) {
      if (!may_send(now)) return std::nullopt;
      auto packet = packetizer_.next();
      if (!packet) return fail(packet.error());
      const auto header = encode_header(AudioHeader{format_.codec, packet->flags, id_, packet->seq, packet->position});
      Outgoing frame;
      frame.binary = true;
      frame.data.reserve(header.size() + packet->payload.size());
      frame.data.append(header.begin(), header.end());
      frame.data.append(packet->payload.begin(), packet->payload.end());
      frame.voice_samples = packet->voice_samples;
      frame.audio_ms = format_.frame_ms;
      frame.seam = (packet->flags & kFrameSeam) != 0;
      return frame;
    }
    if (after_audio_) {
      std::optional<Outgoing> message = std::exchange(after_audio_, std::nullopt);
      if (message->final) {
        message->data = to_json(DoneMessage{id_, packetizer_.audio_ms(), *done_, clock_.worst_lag_ms()});
        move_to(ContextEvent::finish);
        release();
      }
      return message;
    }
    auto event = sink_->pop();
    if (!event) return std::nullopt;
    if (auto message = handle(std::move(*event))) return message;
    if (auto submitted = submit(); !submitted) return fail(submitted.error());
  }
}

std::optional<Context::Outgoing> Context::handle(ContextSink::Event event) {
  if (auto* chunk = std::get_if<AudioChunk>(&event)) {
    if (chunk->seam) {
      if (seams_.size() < spoken_.size()) owed_since_ = spoken_[seams_.size()].since;
      seams_.push_back(packetizer_.voice_samples());
    }
    packetizer_.push(chunk->pcm, chunk->seam);
    std::vector<MarkItem> items;
    for (Mark& mark : chunk->marks) {
      MarkItem item{std::move(mark.text), mark.in_start, mark.in_end, packetizer_.start_ms(mark.start_sample),
                    packetizer_.end_ms(mark.end_sample)};
      if (!heard_.empty()) item.t0_ms = std::max(item.t0_ms, heard_.back().t0_ms);  // times never go back
      item.t1_ms = std::max(item.t1_ms, item.t0_ms);
      heard_.push_back(item);
      items.push_back(std::move(item));
    }
    if (!marks_ || items.empty()) return std::nullopt;
    return message(to_json(MarksMessage{id_, std::move(items)}));
  }
  if (const auto* flushed = std::get_if<ContextSink::Flushed>(&event)) {
    if (flushes_.empty()) return fail(Error{Errc::internal, "the synthesizer answered a flush that was not asked for"});
    packetizer_.flush();
    const std::int64_t at = std::min(flushed->at_sample, packetizer_.voice_samples());
    after_audio_ = message(to_json(FlushedMessage{id_, std::move(flushes_.front()), packetizer_.end_ms(at)}));
    flushes_.pop_front();
    return std::nullopt;
  }
  if (const auto* metrics = std::get_if<UtteranceMetrics>(&event)) {
    if (!next_state(state_, ContextEvent::finish)) {
      return fail(Error{Errc::internal, "the synthesizer finished before the end of the text"});
    }
    packetizer_.finish();
    done_ = *metrics;
    // worst_lag_ms is known only when the last frame is out; next() writes the message then.
    after_audio_ = message({});
    after_audio_->final = true;
    return std::nullopt;
  }
  if (const auto* error = std::get_if<Error>(&event)) return fail(*error);
  return fail(Error{Errc::internal, "the synthesizer cancelled the utterance"});
}

Context::Outgoing Context::message(std::string json) {
  Outgoing out;
  out.data = std::move(json);
  return out;
}

Context::Outgoing Context::fail(const Error& error) {
  move_to(ContextEvent::fail);
  release();
  Outgoing out = Context::message(to_json(ErrorMessage{id_, error, retry_after(error)}));
  out.final = true;
  out.error = error.code;
  return out;
}

void Context::written(const Outgoing& frame, Clock::time_point now) {
  if (!frame.binary) return;
  last_active_ = now;
  clock_.on_send(now, sent_ms_, frame.seam ? owed_since_ : Clock::time_point::min());
  sent_ms_ += frame.audio_ms;
  metrics_.packets.fetch_add(1, std::memory_order_relaxed);
  metrics_.packet_bytes.fetch_add(static_cast<std::int64_t>(frame.data.size()), std::memory_order_relaxed);
  metrics_.audio_sent_us.fetch_add(static_cast<std::int64_t>(frame.audio_ms * 1000), std::memory_order_relaxed);
  if (first_text_) {
    metrics_.first_packet.observe(now - *first_text_);
    first_text_.reset();
  }
  if (utterance_) utterance_->consumed(frame.voice_samples);
}

Result<void> Context::tick(Clock::time_point now) {
  if (now - last_active_ >= limits_.context_timeout) {
    return Error{Errc::timeout,
                 "no text in and no audio out for " + std::to_string(limits_.context_timeout.count()) + " ms"};
  }
  if (state_ != ContextState::open) return {};
  return speak(feed_.poll(now), now);
}

Context::Clock::time_point Context::wake_at(Clock::time_point now) const {
  Clock::time_point at = last_active_ + limits_.context_timeout;
  if (state_ == ContextState::open) {
    if (const auto deadline = feed_.deadline()) at = std::min(at, *deadline);
  }
  if (max_ahead_ && packetizer_.ready()) {
    const auto due = clock_.time_of(sent_ms_ - static_cast<double>(max_ahead_->count()));
    at = std::min(at, due.value_or(now));
  }
  return at;
}

CancelledMessage Context::cancel(std::optional<double> played_ms, Clock::time_point now) {
  move_to(ContextEvent::cancel);
  CancelledMessage message;
  message.ctx = id_;
  message.generated_ms = packetizer_.end_ms(sink_->received_samples());
  const double sent_ms = std::min(packetizer_.sent_ms(), message.generated_ms);
  message.played_ms = played_ms ? std::min(*played_ms, sent_ms) : clock_.played_ms(now, sent_ms);
  const std::size_t heard = utf8::byte_offset(feed_.text(), heard_until(message.played_ms));
  message.spoken_text = feed_.text().substr(0, heard);
  message.remaining_text = feed_.text().substr(heard);
  release();
  return message;
}

/// When each piece of text is heard: the synthesizer's marks, and for what has none yet the segments by their seams,
/// the last of them guessed from the pace so far.
std::vector<MarkItem> Context::timeline() const {
  constexpr double kRoundingMs = 1;
  std::vector<MarkItem> items = heard_;
  std::size_t segment = 0;
  std::size_t seam = 0;
  if (!items.empty()) {
    while (segment < spoken_.size() && spoken_[segment].in_start < items.back().in_end) ++segment;
    while (seam < seams_.size() && packetizer_.start_ms(seams_[seam]) < items.back().t1_ms - kRoundingMs) ++seam;
  }
  for (; seam < seams_.size() && segment < spoken_.size(); ++seam, ++segment) {
    MarkItem item;
    item.in_start = spoken_[segment].in_start;
    item.in_end = spoken_[segment].in_end;
    item.t0_ms = packetizer_.start_ms(seams_[seam]);
    if (seam + 1 < seams_.size()) {
      item.t1_ms = packetizer_.end_ms(seams_[seam + 1]);
    } else if (done_) {
      item.t1_ms = packetizer_.audio_ms();
    } else {
      const double pace =
          item.in_start > 0 && item.t0_ms > 0 ? item.t0_ms / static_cast<double>(item.in_start) : kGuessMsPerChar;
      const auto length = static_cast<double>(item.in_end - item.in_start);
      item.t1_ms = std::max(item.t0_ms + length * pace, packetizer_.audio_ms());
    }
    items.push_back(std::move(item));
  }
  return items;
}

/// Code points of the text that were heard in `played_ms`: whole words, with the punctuation after them.
std::size_t Context::heard_until(double played_ms) const {
  constexpr double kRoundingMs = 1;
  const std::string& text = feed_.text();
  std::size_t heard = 0;
  for (const MarkItem& item : timeline()) {
    if (item.t1_ms <= played_ms + kRoundingMs) {
      heard = std::max(heard, item.in_end);
      continue;
    }
    if (item.t0_ms < played_ms && item.in_end > item.in_start) {
      // Inside a piece: in proportion, down to the last gap between words.
      const double part = (played_ms - item.t0_ms) / (item.t1_ms - item.t0_ms);
      const auto reached =
          item.in_start + static_cast<std::size_t>(part * static_cast<double>(item.in_end - item.in_start));
      const std::size_t begin = utf8::byte_offset(text, item.in_start);
      const std::size_t end = utf8::byte_offset(text, reached);
      const std::size_t gap = std::string_view(text).substr(begin, end - begin).find_last_of(" \t\r\n");
      if (gap != std::string_view::npos) {
        heard = std::max(heard, item.in_start + utf8::count_code_points(std::string_view(text).substr(begin, gap)));
      }
    }
    break;
  }
  if (heard == 0) return 0;
  std::size_t byte = utf8::byte_offset(text, heard);
  while (byte < text.size()) {
    const std::string_view c = code_point_at(text, byte);
    if (!is_punctuation(c)) break;
    byte += c.size();
    ++heard;
  }
  return std::min(heard, feed_.size());
}

}  // namespace tts
