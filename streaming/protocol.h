#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "src/core/result.h"
#include "src/engine/synthesizer.h"

namespace tts {

inline constexpr int kProtocolVersion = 1;
inline constexpr std::string_view kSubprotocol = "sonorant.v1";

enum class Codec { opus, pcm_s16le };

[[nodiscard]] const char* to_string(Codec codec) noexcept;

inline constexpr std::array<int, 3> kAudioRatesHz{48'000, 24'000, 16'000};
inline constexpr std::array<int, 4> kFrameMs{10, 20, 40, 60};
inline constexpr int kMinBitrateBps = 6'000;
inline constexpr int kMaxBitrateBps = 510'000;

/// The audio a client asks for. Every value has been checked by the parser.
struct AudioFormat {
  Codec codec = Codec::opus;
  int rate_hz = 48'000;            ///< one of kAudioRatesHz
  std::optional<int> bitrate_bps;  ///< kMinBitrateBps .. kMaxBitrateBps; unset: the rate's default; Opus only
  int frame_ms = 20;               ///< one of kFrameMs
};

/// When text is handed to the synthesizer without a flush; unset fields take the server's defaults.
struct Buffering {
  std::optional<int> min_chars;                        ///< 0 .. kMaxMinChars
  std::optional<std::chrono::milliseconds> max_delay;  ///< 0 .. kMaxMaxDelay
};
inline constexpr int kMaxMinChars = 200;
inline constexpr std::chrono::milliseconds kMaxMaxDelay{10'000};

/// What a client calls a flush or a ping: nothing, an integer or a string (at most kMaxIdBytes), given back as it came.
using MessageId = std::variant<std::monostate, std::int64_t, std::string>;
inline constexpr std::size_t kMaxIdBytes = 128;

// --- client to server ---

struct OpenMessage {
  std::uint32_t ctx = 0;
  UtteranceOptions options;
  AudioFormat format;
  bool marks = false;
  Buffering buffering;
};
struct TextMessage {
  std::uint32_t ctx = 0;
  /// UTF-8, except that a surrogate half at the very start or end, escaped as \uD8.. or \uDC.. by a client that cut its
  /// text between UTF-16 units, stays as its three-byte form. TextFeed joins the halves of two messages.
  std::string text;
};
struct FlushMessage {
  std::uint32_t ctx = 0;
  MessageId id;
};
struct EndMessage {
  std::uint32_t ctx = 0;
};
struct CancelMessage {
  std::uint32_t ctx = 0;
  std::optional<double> played_ms;  ///< >= 0
};
struct CreditMessage {
  std::uint32_t ctx = 0;
  std::chrono::milliseconds ahead{0};  ///< 0 .. 24 h
};
struct PingMessage {
  MessageId id;
};

using ClientMessage =
    std::variant<OpenMessage, TextMessage, FlushMessage, EndMessage, CancelMessage, CreditMessage, PingMessage>;

/// A message that was refused. `ctx` is set when the message carried a usable one: the error ends that context.
struct RefusedMessage {
  std::optional<std::uint32_t> ctx;
  Error error;
};

/// Parses text frames of clients. Strict: unknown types and fields, missing fields, duplicate fields, wrong types and
/// values out of range are refused with Errc::bad_message, formats outside the lists above with
/// Errc::unsupported_format. Never throws on any input. One thread at a time (keeps simdjson's buffers).
class MessageParser {
 public:
  MessageParser();
  ~MessageParser();
  MessageParser(MessageParser&&) noexcept;
  MessageParser& operator=(MessageParser&&) noexcept;

  [[nodiscard]] std::variant<ClientMessage, RefusedMessage> parse(std::string_view json);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// --- server to client ---

/// Every limit a client can run into; `hello` announces them all.
struct ProtocolLimits {
  std::size_t max_message_bytes = 64 * 1024;              ///< of one text frame
  std::size_t max_text_chars = 100'000;                   ///< code points sent on one context
  int max_contexts = 1;                                   ///< live at once on one socket
  int max_sessions = 64;                                  ///< sockets live at once
  int max_pending_flushes = 64;                           ///< flushes of one context not yet answered
  std::chrono::milliseconds context_timeout{300'000};     ///< neither text in nor audio out for so long: `timeout`
  std::chrono::milliseconds slow_client_timeout{10'000};  ///< one frame not taken for so long: `slow_client`
  std::chrono::milliseconds idle_timeout{60'000};         ///< nothing from the client, answers to pings included
};

struct HelloMessage {
  std::string session;
  std::string server;
  ProtocolLimits limits;
  std::vector<VoiceInfo> voices;
};
struct OpenedMessage {
  std::uint32_t ctx = 0;
  int rate_hz = 0;
  int frame_samples = 0;
  int pre_skip = 0;  ///< samples at rate_hz
};
struct MarkItem {
  std::string text;
  std::size_t in_start = 0;  ///< code points into all text of the context
  std::size_t in_end = 0;
  double t0_ms = 0;  ///< since the start of the context's audio, pre-skip removed
  double t1_ms = 0;
};
struct MarksMessage {
  std::uint32_t ctx = 0;
  std::vector<MarkItem> items;
};
struct FlushedMessage {
  std::uint32_t ctx = 0;
  MessageId id;
  double t_ms = 0;
};
struct DoneMessage {
  std::uint32_t ctx = 0;
  double audio_ms = 0;
  UtteranceMetrics metrics;
  double worst_lag_ms = 0;
};
struct CancelledMessage {
  std::uint32_t ctx = 0;
  double generated_ms = 0;
  double played_ms = 0;
  std::string spoken_text;
  std::string remaining_text;
};
struct ErrorMessage {
  std::optional<std::uint32_t> ctx;
  Error error;
  std::optional<std::chrono::milliseconds> retry_after;
};
struct PongMessage {
  MessageId id;
};

/// Each gives one JSON object; ill-formed UTF-8 in a string becomes U+FFFD.
[[nodiscard]] std::string to_json(const HelloMessage& message);
[[nodiscard]] std::string to_json(const OpenedMessage& message);
[[nodiscard]] std::string to_json(const MarksMessage& message);
[[nodiscard]] std::string to_json(const FlushedMessage& message);
[[nodiscard]] std::string to_json(const DoneMessage& message);
[[nodiscard]] std::string to_json(const CancelledMessage& message);
[[nodiscard]] std::string to_json(const ErrorMessage& message);
[[nodiscard]] std::string to_json(const PongMessage& message);
/// {"voices": [...]}: the body of GET /v1/voices.
[[nodiscard]] std::string to_json(std::span<const VoiceInfo> voices);
/// {"voice": {...}, "existed", "notes"}: the answer to POST /v1/voices.
[[nodiscard]] std::string to_json(const NewVoice& made);

// --- audio frames ---

inline constexpr std::size_t kAudioHeaderBytes = 20;
inline constexpr std::uint16_t kFrameFirst = 1;
inline constexpr std::uint16_t kFrameLast = 2;
inline constexpr std::uint16_t kFrameSeam = 4;

struct AudioHeader {
  Codec codec = Codec::opus;
  std::uint16_t flags = 0;
  std::uint32_t ctx = 0;
  std::uint32_t seq = 0;
  std::uint64_t position = 0;  ///< of the first sample, at the announced rate, pre-skip not removed

  friend bool operator==(const AudioHeader&, const AudioHeader&) = default;
};

[[nodiscard]] std::array<std::uint8_t, kAudioHeaderBytes> encode_header(const AudioHeader& header) noexcept;
/// Errc::bad_message when `frame` is shorter than a header, of another version or kind, or has unknown flags.
[[nodiscard]] Result<AudioHeader> decode_header(std::span<const std::uint8_t> frame);

}  // namespace tts
