#include "src/app/bench_streams.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <memory>
#include <random>
#include <span>
#include <sstream>
#include <type_traits>
#include <utility>

#include <sys/resource.h>
#include <unistd.h>

#include <simdjson.h>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/websocket.hpp>

#include "src/core/cpu_time.h"
#include "src/core/json_string.h"
#include "src/core/small_file.h"
#include "streaming/protocol.h"

namespace tts {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace websocket = beast::websocket;
using tcp = asio::ip::tcp;
using namespace std::chrono_literals;

namespace {

using Clock = std::chrono::steady_clock;
using Time = Clock::time_point;

constexpr auto kUse = asio::as_tuple(asio::use_awaitable);
constexpr auto kTick = 100ms;  // how soon a stop is seen
constexpr auto kDrain = 5s;    // for the server to notice that the clients have gone
constexpr double kOwedMs = kMaxFirstPacketMs;
constexpr auto kThrow = [](const std::exception_ptr& failure) {
  if (failure) std::rethrow_exception(failure);
};

double to_ms(Clock::duration duration) {
  return std::chrono::duration<double, std::milli>(duration).count();
}

double to_seconds(Clock::duration duration) {
  return std::chrono::duration<double>(duration).count();
}

// "VmRSS:   1234 kB" of /proc/self/status in MB.
double status_mb(const std::string& status, std::string_view key) {
  const std::size_t at = status.find(key);
  return at == std::string::npos ? 0 : std::strtod(status.c_str() + at + key.size(), nullptr) / 1024;
}

// On systems that refuse, it stays the peak since the start.
void reset_peak_memory(const std::string& pid) {
  std::ofstream("/proc/" + pid + "/clear_refs") << "5";
}

// Two descriptors a stream, the server's end included.
void allow_descriptors(int streams) {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  const rlim_t wanted = 256 + 2 * static_cast<rlim_t>(streams);
  if (limit.rlim_cur >= wanted) return;
  limit.rlim_cur = std::min(wanted, limit.rlim_max);
  (void)::setrlimit(RLIMIT_NOFILE, &limit);
}

std::size_t length_of_code_point(char lead) {
  const auto byte = static_cast<unsigned char>(lead);
  return byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

/// Text up to and with the end of its first sentence, white space after it included.
std::size_t first_sentence_end(std::string_view text) {
  for (std::size_t i = 0; i < text.size(); i += length_of_code_point(text[i])) {
    const std::string_view rest = text.substr(i);
    for (const std::string_view mark : {"。", "！", "？"}) {
      if (rest.starts_with(mark)) return i + mark.size();
    }
    const bool mark = text[i] == '.' || text[i] == '!' || text[i] == '?';
    if (mark && i + 1 < text.size() && (text[i + 1] == ' ' || text[i + 1] == '\n')) return i + 2;
  }
  return text.size();
}

/// What a message of the server says, as far as a listener cares.
struct Said {
  std::string type, code;
  std::uint32_t ctx = 0;
  std::int64_t rate = 0, frame_samples = 0, pre_skip = 0, retry_after_ms = 0;
};

class MessageReader {
 public:
  Said read(std::string_view json) {
    Said said;
    simdjson::dom::element root;
    if (parser_.parse(json.data(), json.size()).get(root) != simdjson::SUCCESS) return said;
    const auto text = [&](const char* name, std::string& out) {
      if (std::string_view value; root[name].get_string().get(value) == simdjson::SUCCESS) out = value;
    };
    const auto integer = [&](const char* name, auto& out) {
      using Number = std::remove_reference_t<decltype(out)>;
      if (std::int64_t value = 0; root[name].get_int64().get(value) == simdjson::SUCCESS) {
        out = static_cast<Number>(value);
      }
    };
    text("type", said.type);
    text("code", said.code);
    integer("ctx", said.ctx);
    integer("rate", said.rate);
    integer("frame_samples", said.frame_samples);
    integer("pre_skip", said.pre_skip);
    integer("retry_after_ms", said.retry_after_ms);
    return said;
  }

 private:
  simdjson::dom::parser parser_;
};

/// Everything the clients of one load have in common. One thread.
struct Run {
  Run(const LoadOptions& given, std::uint16_t server_port) : options(given), port(server_port) {}

  const LoadOptions& options;
  std::uint16_t port;
  asio::io_context io{1};
  MessageReader reader;
  bool over = false;  // the clients leave

  LoadReport report;  // its counters; what is computed of the samples below comes at the end
  std::vector<double> first_packet_ms, from_word_ms, retry_after_ms, late_ms;
  int replies_heard = 0;
  int replies_ok = 0;
};

/// One listener: connects, and hears reply after reply until the run is over.
class Listener {
 public:
  Listener(Run& run, int index)
      : run_(run),
        index_(index),
        socket_(run.io),
        timer_(run.io),
        changed_(run.io),
        random_(run.options.seed * 1'000'003 + static_cast<std::uint64_t>(index)) {}

  void start(Time at) { asio::co_spawn(run_.io, talk(at), kThrow); }

  void leave() {
    timer_.cancel();
    changed_.cancel();
    beast::get_lowest_layer(socket_).close();
  }

  /// The reply that is being heard is not finished: what can be said of it.
  void conclude(Time now) {
    if (live_) end_reply(now, false);
  }

  [[nodiscard]] bool heard() const noexcept { return heard_; }
  [[nodiscard]] Clock::duration worst_underrun() const {
    return std::max(worst_underrun_, live_ ? playback_.worst_underrun() : Clock::duration{});
  }
  [[nodiscard]] Clock::duration worst_lag() const {
    return std::max(worst_lag_, live_ ? playback_.lag() : Clock::duration{});
  }

 private:
  enum class Phase { opening, speaking, done, refused, failed };

  asio::awaitable<void> talk(Time at);
  asio::awaitable<void> listen();
  asio::awaitable<bool> connect();
  asio::awaitable<bool> reply();
  asio::awaitable<bool> send(std::string message);
  asio::awaitable<void> sleep_until(Time at);
  void on_message(std::string_view json, Time now);
  void on_packet(std::span<const std::uint8_t> bytes, Time now);
  void begin_reply();
  void end_reply(Time now, bool whole);
  [[nodiscard]] std::string about(std::string_view type, std::string_view more = {}) const {
    return std::string("{\"type\":\"").append(type).append("\",\"ctx\":") + std::to_string(ctx_) + std::string(more) +
           "}";
  }

  Run& run_;
  const int index_;
  websocket::stream<beast::tcp_stream> socket_;
  asio::steady_timer timer_;    // of talk()
  asio::steady_timer changed_;  // cancelled by listen() when there is news
  std::mt19937_64 random_;
  bool greeted_ = false;
  bool gone_ = false;  // the server has closed the socket

  // The reply that is being heard.
  bool live_ = false;
  std::uint32_t ctx_ = 0;
  Phase phase_ = Phase::opening;
  Playback playback_;
  Clock::duration frame_{};
  Clock::duration pre_skip_{};
  std::optional<Time> first_word_, first_sentence_;
  std::chrono::milliseconds retry_after_{0};

  // Over all replies.
  bool heard_ = false;
  Clock::duration worst_underrun_{};
  Clock::duration worst_lag_{};
};

asio::awaitable<void> Listener::sleep_until(Time at) {
  if (run_.over) co_return;
  timer_.expires_at(at);
  const auto [cancelled] = co_await timer_.async_wait(kUse);
  if (!cancelled) run_.late_ms.push_back(to_ms(Clock::now() - at));
}

asio::awaitable<bool> Listener::send(std::string message) {
  if (run_.over || gone_) co_return false;
  socket_.text(true);
  const auto [error, n] = co_await socket_.async_write(asio::buffer(message), kUse);
  co_return !error;
}

asio::awaitable<bool> Listener::connect() {
  auto& stream = beast::get_lowest_layer(socket_);
  const auto [failed] = co_await stream.async_connect(tcp::endpoint(asio::ip::address_v4::loopback(), run_.port), kUse);
  if (failed) {
    if (!run_.over) ++run_.report.errors["connect"];
    co_return false;
  }
  boost::system::error_code ignored;
  stream.socket().set_option(tcp::no_delay(true), ignored);
  websocket::response_type response;
  const auto [refused] =
      co_await socket_.async_handshake(response, "127.0.0.1:" + std::to_string(run_.port), "/v1/stream", kUse);
  if (refused) {
    if (run_.over) co_return false;
    if (response.result_int() == 503) {
      ++run_.report.replies;
      ++run_.report.refused;
    } else {
      ++run_.report.errors["connect"];
    }
    co_return false;
  }
  co_return true;
}

asio::awaitable<void> Listener::talk(Time at) {
  co_await sleep_until(at);
  if (run_.over) co_return;
  // No co_await beside && or ||: GCC 12 makes an invalid instruction of it.
  const bool connected = co_await connect();
  if (!connected) co_return;
  asio::co_spawn(run_.io, listen(), kThrow);
  while (!greeted_ && !gone_ && !run_.over) {
    changed_.expires_at(Time::max());
    co_await changed_.async_wait(kUse);
  }
  for (bool good = true; good && !gone_ && !run_.over;) good = co_await reply();
}

/// One context from its opening to its last sound. False when the socket is of no more use.
asio::awaitable<bool> Listener::reply() {
  begin_reply();
  const LoadOptions& options = run_.options;
  const std::string open =
      about("open", ",\"voice\":" + json_string(options.voice) + ",\"lang\":" + json_string(options.lang) +
                        ",\"seed\":" + std::to_string(random_() >> 16) +
                        ",\"format\":{\"codec\":\"opus\",\"rate\":48000,\"frame_ms\":20}");
  if (!co_await send(open)) co_return false;
  const auto wait_while = [this](Phase phase) -> asio::awaitable<void> {
    while (phase_ == phase && !gone_ && !run_.over) {
      changed_.expires_at(Time::max());
      co_await changed_.async_wait(kUse);
    }
  };
  co_await wait_while(Phase::opening);

  if (phase_ == Phase::speaking) {
    if (options.credit) {
      if (!co_await send(about("credit", ",\"ms\":" + std::to_string(options.credit->count())))) co_return false;
    }
    const std::size_t which =
        (static_cast<std::size_t>(index_) * 7 + static_cast<std::size_t>(ctx_)) % options.replies.size();
    const std::vector<Burst> bursts = to_bursts(options.replies[which], options.words_per_second, random_());
    const Time begin = Clock::now();
    for (const Burst& burst : bursts) {
      if (burst.at.count() > 0) co_await sleep_until(begin + burst.at);
      if (phase_ != Phase::speaking || gone_ || run_.over) break;
      const Time now = Clock::now();
      if (!first_word_) first_word_ = now;
      if (burst.completes_first) first_sentence_ = now;
      if (!co_await send(about("text", ",\"text\":" + json_string(burst.text)))) co_return false;
    }
    if (phase_ == Phase::speaking) {
      if (!co_await send(about("end"))) co_return false;
    }
    co_await wait_while(Phase::speaking);
  }
  if (gone_ || run_.over) co_return false;

  const Phase how = phase_;
  const Time now = Clock::now();
  Time next = now + options.pause;
  if (playback_.started()) next = std::max(now, playback_.dry()) + options.pause;
  if (how != Phase::done) next = now + std::max(retry_after_, 100ms);
  end_reply(now, how == Phase::done);
  if (next > now) co_await sleep_until(next);
  co_return true;
}

void Listener::begin_reply() {
  ++ctx_;
  phase_ = Phase::opening;
  playback_ = Playback(run_.options.jitter);
  first_word_.reset();
  first_sentence_.reset();
  retry_after_ = 0ms;
  live_ = true;
  ++run_.report.replies;
}

void Listener::end_reply(Time now, bool whole) {
  live_ = false;
  if (playback_.started()) {
    if (!whole && phase_ == Phase::speaking) playback_.starve(now);
    ++run_.replies_heard;
    run_.report.underruns += playback_.underruns();
    worst_underrun_ = std::max(worst_underrun_, playback_.worst_underrun());
    worst_lag_ = std::max(worst_lag_, playback_.lag());
    if (playback_.worst_underrun() <= kMaxUnderrun) ++run_.replies_ok;
  } else if (phase_ == Phase::speaking && first_sentence_ && to_ms(now - *first_sentence_) >= kOwedMs) {
    ++run_.report.first_packets_owed;
    run_.first_packet_ms.push_back(to_ms(now - *first_sentence_));
    run_.from_word_ms.push_back(to_ms(now - *first_word_));
  }
  if (whole) ++run_.report.replies_done;
}

asio::awaitable<void> Listener::listen() {
  beast::flat_buffer buffer;
  for (;;) {
    const auto [error, n] = co_await socket_.async_read(buffer, kUse);
    if (error) break;
    const Time now = Clock::now();
    const auto* bytes = static_cast<const std::uint8_t*>(buffer.cdata().data());
    if (socket_.got_binary()) {
      on_packet({bytes, buffer.size()}, now);
    } else {
      on_message({reinterpret_cast<const char*>(bytes), buffer.size()}, now);
    }
    buffer.consume(buffer.size());
  }
  if (!run_.over) ++run_.report.errors["closed"];
  gone_ = true;
  timer_.cancel();
  changed_.cancel();
}

void Listener::on_message(std::string_view json, Time now) {
  const Said said = run_.reader.read(json);
  if (said.type == "hello") {
    greeted_ = true;
  } else if (said.ctx != ctx_ || !live_) {
    return;
  } else if (said.type == "opened") {
    phase_ = Phase::speaking;
    const auto of_samples = [&](std::int64_t samples) {
      return std::chrono::duration_cast<Clock::duration>(
          std::chrono::duration<double>(static_cast<double>(samples) / static_cast<double>(said.rate)));
    };
    if (said.rate > 0) {
      frame_ = of_samples(said.frame_samples);
      pre_skip_ = of_samples(said.pre_skip);
    }
  } else if (said.type == "done") {
    phase_ = Phase::done;
  } else if (said.type == "error" && phase_ != Phase::refused && phase_ != Phase::failed) {
    retry_after_ = std::chrono::milliseconds(said.retry_after_ms);
    if (said.code == "overloaded") {
      phase_ = Phase::refused;
      ++run_.report.refused;
      run_.retry_after_ms.push_back(static_cast<double>(said.retry_after_ms));
    } else {
      if (playback_.started()) playback_.starve(now);
      phase_ = Phase::failed;
      ++run_.report.errors[said.code];
    }
  } else {
    return;
  }
  timer_.cancel();
  changed_.cancel();
}

void Listener::on_packet(std::span<const std::uint8_t> bytes, Time now) {
  const auto header = decode_header(bytes);
  if (!header || header->ctx != ctx_ || !live_) return;
  ++run_.report.packets;
  run_.report.heard_seconds += to_seconds(frame_);
  const bool first = !playback_.started();
  playback_.packet(now, first ? frame_ - pre_skip_ : frame_);
  if (!first) return;
  heard_ = true;
  // A custom text may be spoken from a clause on, before its first sentence is complete.
  run_.first_packet_ms.push_back(first_sentence_ ? to_ms(now - *first_sentence_) : 0);
  run_.from_word_ms.push_back(first_word_ ? to_ms(now - *first_word_) : 0);
}

/// What had been used at one moment.
struct Used {
  explicit Used(Observer& observer) : server(observer.look()) {}
  Time at = Clock::now();
  double client_cpu = thread_cpu_seconds();
  Observed server;
};

void summarize(Run& run, const std::vector<std::unique_ptr<Listener>>& listeners) {
  LoadReport& report = run.report;
  report.first_packet_ms = quantiles(run.first_packet_ms);
  report.first_packet_from_word_ms = quantiles(run.from_word_ms);
  report.retry_after_ms = quantiles(run.retry_after_ms);
  report.client_late_ms = quantiles(run.late_ms);
  std::vector<double> worst;
  int ok = 0;
  report.worst_lag_ms = 0;
  for (const auto& listener : listeners) {
    if (!listener->heard()) continue;
    worst.push_back(to_ms(listener->worst_underrun()));
    if (listener->worst_underrun() <= kMaxUnderrun) ++ok;
    report.worst_lag_ms = std::max(report.worst_lag_ms, to_ms(listener->worst_lag()));
  }
  report.streams_heard = static_cast<int>(worst.size());
  report.worst_underrun_ms = quantiles(std::move(worst));
  report.share_streams_ok = static_cast<double>(ok) / report.streams;
  report.share_replies_ok = run.replies_heard > 0 ? static_cast<double>(run.replies_ok) / run.replies_heard : 0;
}

void measure(LoadReport& report, const Used& from, const Used& to, int rate_hz) {
  report.seconds = to_seconds(to.at - from.at);
  report.rss_mb = to.server.memory.rss_mb;
  report.peak_rss_mb = to.server.memory.peak_rss_mb;
  if (report.seconds <= 0) return;
  const SynthesizerStats& before = from.server.stats;
  const SynthesizerStats& after = to.server.stats;
  const double busy = after.busy_seconds_total - before.busy_seconds_total;
  const double audio = static_cast<double>(after.samples_total - before.samples_total) / rate_hz;
  const auto tokens = static_cast<double>(after.tokens_total - before.tokens_total);
  report.tokens_per_second = tokens / report.seconds;
  report.tokens_per_busy_second = busy > 0 ? tokens / busy : 0;
  report.audio_per_second = audio / report.seconds;
  report.client_cpu_seconds = to.client_cpu - from.client_cpu;
  report.server_cpu_seconds = to.server.cpu_seconds - from.server.cpu_seconds;
  report.rtf = audio > 0 ? busy / audio : 0;
  report.cpu_rtf = audio > 0 ? report.server_cpu_seconds / audio : 0;
}

// --- observers ---

class HereObserver final : public Observer {
 public:
  explicit HereObserver(const Synthesizer& synthesizer) : synthesizer_(synthesizer) {}
  Observed look() override {
    return {synthesizer_.stats(), process_cpu_seconds() - thread_cpu_seconds(), memory_use()};
  }
  void forget_peak() override { reset_peak_memory("self"); }

 private:
  const Synthesizer& synthesizer_;
};

/// The body of GET http://127.0.0.1:port`target`; empty when there is none.
std::string http_get(std::uint16_t port, const std::string& target) {
  asio::io_context io;
  tcp::socket socket(io);
  boost::system::error_code error;
  socket.connect(tcp::endpoint(asio::ip::address_v4::loopback(), port), error);
  if (error) return {};
  asio::write(socket, asio::buffer("GET " + target + " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"),
              error);
  std::string reply;
  asio::read(socket, asio::dynamic_buffer(reply), error);
  const std::size_t head = reply.find("\r\n\r\n");
  return reply.starts_with("HTTP/1.1 200") && head != std::string::npos ? reply.substr(head + 4) : std::string();
}

class ThereObserver final : public Observer {
 public:
  ThereObserver(std::uint16_t port, int pid) : port_(port), pid_(pid > 0 ? std::to_string(pid) : "") {}

  Observed look() override {
    const std::string metrics = http_get(port_, "/metrics");
    const auto value = [&](const std::string& name) {
      const std::size_t at = metrics.find("\n" + name + " ");
      return at == std::string::npos ? 0.0 : std::strtod(metrics.c_str() + at + name.size() + 2, nullptr);
    };
    Observed seen;
    seen.stats.live_utterances = static_cast<int>(value("sonorant_utterances"));
    seen.stats.tokens_total = static_cast<std::int64_t>(value("sonorant_tokens_total"));
    seen.stats.samples_total = static_cast<std::int64_t>(value("sonorant_samples_total"));
    seen.stats.busy_seconds_total = value("sonorant_busy_seconds_total");
    if (pid_.empty()) {
      seen.memory.rss_mb = value("sonorant_resident_memory_bytes") / 1024 / 1024;
      return seen;
    }
    seen.memory = memory_use(pid_);
    // After the name in parentheses: utime and stime are the 12th and 13th words.
    const std::string stat = read_small_file("/proc/" + pid_ + "/stat");
    std::istringstream words(stat.substr(std::min(stat.rfind(')') + 1, stat.size())));
    std::string word;
    for (int i = 0; i < 11; ++i) words >> word;
    double user = 0, system = 0;
    words >> user >> system;
    seen.cpu_seconds = (user + system) / static_cast<double>(::sysconf(_SC_CLK_TCK));
    return seen;
  }
  void forget_peak() override {
    if (!pid_.empty()) reset_peak_memory(pid_);
  }

 private:
  std::uint16_t port_;
  std::string pid_;
};

}  // namespace

Quantiles quantiles(std::vector<double> values) {
  if (values.empty()) return {};
  std::sort(values.begin(), values.end());
  const auto rank = [&](double share) {
    const auto n = static_cast<std::size_t>(std::ceil(share * static_cast<double>(values.size())));
    return values[std::max<std::size_t>(n, 1) - 1];
  };
  return {rank(0.5), rank(0.95), rank(0.99), values.front(), values.back(), static_cast<std::int64_t>(values.size())};
}

MemoryUse memory_use(const std::string& pid) {
  const std::string status = read_small_file("/proc/" + pid + "/status");
  return {status_mb(status, "VmRSS:"), status_mb(status, "VmHWM:")};
}

std::unique_ptr<Observer> observe_here(const Synthesizer& synthesizer) {
  return std::make_unique<HereObserver>(synthesizer);
}

std::unique_ptr<Observer> observe_there(std::uint16_t port, int pid) {
  return std::make_unique<ThereObserver>(port, pid);
}

Result<std::vector<VoiceInfo>> voices_there(std::uint16_t port) {
  const Error nobody{Errc::internal, "127.0.0.1:" + std::to_string(port) + ": there is no server of this kind"};
  const std::string json = http_get(port, "/v1/voices");
  simdjson::dom::parser parser;
  simdjson::dom::array listed;
  if (parser.parse(json)["voices"].get_array().get(listed) != simdjson::SUCCESS) return nobody;
  std::vector<VoiceInfo> voices;
  for (const simdjson::dom::element each : listed) {
    std::string_view id;
    std::int64_t rate = 0;
    if (each["id"].get_string().get(id) != simdjson::SUCCESS) return nobody;
    if (each["rate"].get_int64().get(rate) != simdjson::SUCCESS || rate <= 0) return nobody;
    voices.push_back({std::string(id), std::string(id), {}, static_cast<int>(rate)});
  }
  return voices;
}

// --- Playback ---

void Playback::packet(Time now, Duration length) {
  if (!dry_) {
    dry_ = now + jitter_ + length;
    return;
  }
  starve(now);
  *dry_ += length;
}

void Playback::starve(Time now) {
  if (!dry_ || now <= *dry_) return;
  const Duration gap = now - *dry_;
  worst_ = std::max(worst_, gap);
  lag_ += gap;
  ++underruns_;
  dry_ = now;
}

// --- Burst ---

std::vector<Burst> to_bursts(std::string_view text, double words_per_second, std::uint64_t seed) {
  const std::size_t first_end = first_sentence_end(text);
  std::mt19937_64 random(seed);
  std::vector<Burst> bursts;
  double at_seconds = 0;
  std::size_t begin = 0;
  while (begin < text.size()) {
    const int wanted = 1 + static_cast<int>(random() % 4);
    int words = 0;
    std::size_t end = begin;
    while (end < text.size() && words < wanted) {
      const std::size_t length = std::min(length_of_code_point(text[end]), text.size() - end);
      if (text[end] == ' ' || length >= 3) ++words;
      end += length;
    }
    Burst burst;
    burst.text = text.substr(begin, end - begin);
    burst.at = std::chrono::microseconds(static_cast<std::int64_t>(at_seconds * 1e6));
    burst.completes_first = begin < first_end && first_end <= end;
    bursts.push_back(std::move(burst));
    const double unevenness = 0.5 + static_cast<double>(random() % 1024) / 1024;  // 0.5 .. 1.5
    at_seconds += std::max(words, 1) / words_per_second * unevenness;
    begin = end;
  }
  return bursts;
}

// --- loads ---

bool holds(const LoadReport& report) {
  return report.refused == 0 && report.errors.empty() && report.streams_heard == report.streams &&
         report.share_streams_ok >= kMinShareOk && report.first_packet_ms.p95 <= kMaxFirstPacketMs;
}

int find_largest(int from, int most, const std::function<std::optional<bool>(int n)>& probe) {
  int good = 0;
  int bad = most + 1;
  int n = std::clamp(from, 1, most);
  while (good + 1 < bad) {
    const auto held = probe(n);
    if (!held) break;
    (*held ? good : bad) = n;
    n = bad > most ? std::min(2 * good, most) : good + (bad - good) / 2;
  }
  return good;
}

Result<LoadReport> run_load(std::uint16_t port, const LoadOptions& options, Observer& observer, int rate_hz,
                            const std::function<void(const LoadReport&)>& progress, const std::atomic<bool>& stop) {
  allow_descriptors(options.streams);
  observer.forget_peak();
  Run run(options, port);
  run.report.streams = options.streams;
  std::vector<std::unique_ptr<Listener>> listeners;
  const Time start = Clock::now();
  for (int i = 0; i < options.streams; ++i) {
    listeners.push_back(std::make_unique<Listener>(run, i));
    listeners.back()->start(start + options.ramp * i / options.streams);
  }

  std::optional<Used> from;
  const auto conduct = [&]() -> asio::awaitable<void> {
    asio::steady_timer tick(run.io);
    Time told = start;
    for (Time at = start;; at += kTick) {
      tick.expires_at(at);
      co_await tick.async_wait(kUse);
      const Time now = Clock::now();
      if (!from && now >= start + options.ramp) from.emplace(observer);
      if (from && now >= from->at + options.window) break;
      if (stop) break;
      if (progress && now - told >= 1s) {
        told = now;
        summarize(run, listeners);
        run.report.seconds = to_seconds(now - start);
        progress(run.report);
      }
    }
    const Used to(observer);
    for (const auto& listener : listeners) listener->conclude(to.at);
    run.report.interrupted = stop;
    measure(run.report, from.value_or(to), to, rate_hz);
    run.over = true;
    for (const auto& listener : listeners) listener->leave();
  };
  asio::co_spawn(run.io, conduct(), kThrow);
  run.io.run();
  summarize(run, listeners);

  // The next load must not begin beside the rest of this one.
  const Time patience = Clock::now() + kDrain;
  while (observer.look().stats.live_utterances > 0 && Clock::now() < patience) {
    const timespec pause{0, 20'000'000};
    ::nanosleep(&pause, nullptr);
  }
  if (run.report.replies == 0 && !run.report.errors.empty()) {
    return Error{Errc::internal, "127.0.0.1:" + std::to_string(port) + ": no client could connect"};
  }
  return std::move(run.report);
}

std::vector<std::string> bench_replies() {
  static constexpr std::array kSentences{"The harbour lay still this morning before the boats came in.",
                                         "Nobody had expected them back so early in the year.",
                                         "A man on the pier waved with both arms until they saw him.",
                                         "You can reach the office by the stairs behind the kitchen.",
                                         "Please take the second door on the left and wait inside.",
                                         "The meeting starts at half past nine and ends before lunch.",
                                         "I have put the report on your desk with my notes beside it.",
                                         "Most of the numbers look fine to me.",
                                         "Two of them should be checked again before Friday.",
                                         "Our train leaves from platform four in about ten minutes.",
                                         "There is still time for a coffee and something to read.",
                                         "It will rain in the afternoon and clear up after sunset.",
                                         "Take an umbrella with you if you walk home late.",
                                         "The garden needs more water than it did last summer.",
                                         "Some of the roses have already opened in the warm corner.",
                                         "She played the song twice and nobody in the room spoke.",
                                         "Then the old clock in the hall struck eleven.",
                                         "We found the key under the mat where you had left it.",
                                         "The lamp in the hall is broken and I will bring a new one.",
                                         "That is a good question and the answer is rather short.",
                                         "Light takes about eight minutes from the sun to the earth.",
                                         "Sound would need fourteen years for the same way.",
                                         "Turn the handle slowly and listen for a small click.",
                                         "Everything else will happen by itself after that."};
  std::vector<std::string> replies;
  for (std::size_t i = 0; i < kSentences.size(); ++i) {
    std::string reply = kSentences[i];
    for (std::size_t more = 1; more < 3; ++more) {
      reply += ' ';
      reply += kSentences[(i + more) % kSentences.size()];
    }
    replies.push_back(std::move(reply));
  }
  return replies;
}

}  // namespace tts
