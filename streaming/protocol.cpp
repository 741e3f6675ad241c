#include "streaming/protocol.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

#include <simdjson.h>

#include "src/core/json_string.h"
#include "src/core/utf8.h"

namespace tts {
namespace {

namespace ondemand = simdjson::ondemand;

constexpr int kMaxDepth = 4;  // the deepest client message, open.format.codec, has 2

// --- reading ---

struct Member;
using Object = std::vector<Member>;

/// One JSON value of a client message. Strings may hold surrogate halves in three-byte form (see unescape).
struct Node {
  std::variant<std::monostate, bool, std::uint64_t, std::int64_t, double, std::string, Object> value;
  bool array = false;  ///< arrays appear in no client message; their items are not kept

  [[nodiscard]] const char* kind() const noexcept {
    if (array) return "array";
    static constexpr const char* kNames[] = {"null", "boolean", "integer", "integer", "number", "string", "object"};
    return kNames[value.index()];
  }
};

struct Member {
  std::string name;
  Node node;
};

Error bad(std::string detail) {
  return Error{Errc::bad_message, std::move(detail)};
}

/// A piece of client text fit for an error message: valid, short, quoted.
std::string quote(std::string_view text) {
  std::string out = utf8::to_valid(text.substr(0, utf8::floor_boundary(text, 40)));
  if (out.size() < text.size()) out += "...";
  return "'" + out + "'";
}

bool is_high_surrogate(std::uint32_t c) noexcept {
  return c >= 0xD800 && c < 0xDC00;
}
bool is_low_surrogate(std::uint32_t c) noexcept {
  return c >= 0xDC00 && c < 0xE000;
}

/// `raw` starts after the opening quote and ends before the closing one. simdjson has checked the UTF-8 and refused raw
/// control characters. Unlike simdjson's own unescaping, an unpaired surrogate escape is kept (as three bytes).
Result<std::string> unescape(std::string_view raw) {
  std::string out;
  out.reserve(raw.size());
  const auto hex4 = [&raw](std::size_t at) -> std::optional<std::uint32_t> {
    if (raw.size() - at < 4) return std::nullopt;
    std::uint32_t value = 0;
    for (const char c : raw.substr(at, 4)) {
      value <<= 4;
      if (c >= '0' && c <= '9')
        value |= static_cast<std::uint32_t>(c - '0');
      else if (c >= 'a' && c <= 'f')
        value |= static_cast<std::uint32_t>(c - 'a' + 10);
      else if (c >= 'A' && c <= 'F')
        value |= static_cast<std::uint32_t>(c - 'A' + 10);
      else
        return std::nullopt;
    }
    return value;
  };
  for (std::size_t i = 0; i < raw.size();) {
    if (raw[i] != '\\') {
      const std::size_t next = std::min(raw.find('\\', i), raw.size());
      out += raw.substr(i, next - i);
      i = next;
      continue;
    }
    if (i + 1 >= raw.size()) return bad("invalid JSON: a string ends in a backslash");
    const char escape = raw[i + 1];
    i += 2;
    static constexpr std::string_view kFrom = "\"\\/bfnrt";
    static constexpr std::string_view kTo = "\"\\/\b\f\n\r\t";
    if (const std::size_t at = kFrom.find(escape); at != std::string_view::npos) {
      out += kTo[at];
      continue;
    }
    if (escape != 'u') return bad("invalid JSON: unknown escape in a string");
    const auto first = hex4(i);
    if (!first) return bad("invalid JSON: \\u wants four hexadecimal digits");
    i += 4;
    std::uint32_t c = *first;
    if (is_high_surrogate(c) && raw.substr(i, 2) == "\\u") {
      if (const auto second = hex4(i + 2); second && is_low_surrogate(*second)) {
        c = 0x10000 + ((c - 0xD800) << 10) + (*second - 0xDC00);
        i += 6;
      }
    }
    utf8::append(out, c);
  }
  return out;
}

/// The characters between the quotes of a raw JSON token, which may have white space after it.
std::string_view inside_quotes(std::string_view token) noexcept {
  if (token.empty() || token.front() != '"') return {};
  const std::size_t end = token.rfind('"');
  return end == 0 ? std::string_view() : token.substr(1, end - 1);
}

Error bad_json(simdjson::error_code code) {
  if (code == simdjson::UTF8_ERROR) return bad("the message is not valid UTF-8");
  return bad(std::string("invalid JSON: ") + simdjson::error_message(code));
}

Result<Node> read_node(ondemand::value value, int depth);

/// `object` is an ondemand::object. Duplicate keys are refused.
Result<Object> read_object(ondemand::object object, int depth) {
  if (depth > kMaxDepth) return bad("nested deeper than any message of the protocol");
  Object out;
  for (auto entry : object) {
    ondemand::field field;
    if (const auto error = std::move(entry).get(field)) return bad_json(error);
    // simdjson gives the end of a raw key only through unescaping, which refuses surrogate halves: right for keys.
    std::string_view key;
    if (const auto error = field.unescaped_key().get(key)) return bad_json(error);
    std::string name = utf8::to_valid(key);
    for (const Member& seen : out) {
      if (seen.name == name) return bad("field " + quote(name) + " appears twice");
    }
    auto node = read_node(field.value(), depth + 1);
    if (!node) return node.error();
    out.push_back(Member{std::move(name), std::move(*node)});
  }
  return out;
}

Result<Node> read_node(ondemand::value value, int depth) {
  Node node;
  ondemand::json_type type{};
  if (const auto error = value.type().get(type)) return bad_json(error);
  switch (type) {
    case ondemand::json_type::null: {
      bool is_null = false;
      if (const auto error = value.is_null().get(is_null)) return bad_json(error);
      if (!is_null) return bad("invalid JSON: null wanted");
      break;
    }
    case ondemand::json_type::boolean: {
      bool flag = false;
      if (const auto error = value.get_bool().get(flag)) return bad_json(error);
      node.value = flag;
      break;
    }
    case ondemand::json_type::number: {
      ondemand::number number;
      if (const auto error = value.get_number().get(number)) return bad_json(error);
      if (number.is_uint64())
        node.value = number.get_uint64();
      else if (number.is_int64() && number.get_int64() >= 0)
        node.value = static_cast<std::uint64_t>(number.get_int64());
      else if (number.is_int64())
        node.value = number.get_int64();
      else
        node.value = number.get_double();
      break;
    }
    case ondemand::json_type::string: {
      // The raw token first; get_raw_json_string() then moves past it.
      const std::string_view token = value.raw_json_token();
      ondemand::raw_json_string raw;
      if (const auto error = value.get_raw_json_string().get(raw)) return bad_json(error);
      auto text = unescape(inside_quotes(token));
      if (!text) return text.error();
      node.value = std::move(*text);
      break;
    }
    case ondemand::json_type::array: {
      if (depth > kMaxDepth) return bad("nested deeper than any message of the protocol");
      node.array = true;
      ondemand::array array;
      if (const auto error = value.get_array().get(array)) return bad_json(error);
      for (auto item : array) {
        ondemand::value element;
        if (const auto error = std::move(item).get(element)) return bad_json(error);
        auto read = read_node(element, depth + 1);
        if (!read) return read.error();
      }
      break;
    }
    case ondemand::json_type::object: {
      ondemand::object object;
      if (const auto error = value.get_object().get(object)) return bad_json(error);
      auto fields = read_object(object, depth);
      if (!fields) return fields.error();
      node.value = std::move(*fields);
      break;
    }
  }
  return node;
}

/// Takes fields out of an object by name; what is left at the end is unknown. The first failure is kept and the
/// following calls give their fallback, so that a reader needs one check at the end.
class Fields {
 public:
  Fields(const Object& object, std::string prefix) : object_(object), prefix_(std::move(prefix)) {
    taken_.resize(object.size());
  }

  [[nodiscard]] const Node* find(std::string_view name) {
    for (std::size_t i = 0; i < object_.size(); ++i) {
      if (object_[i].name == name) {
        taken_[i] = true;
        return &object_[i].node;
      }
    }
    return nullptr;
  }

  void fail(Errc code, std::string_view name, std::string_view got, std::string_view want) {
    if (error_) return;
    error_ = Error{code, prefix_ + std::string(name) + ": got " + std::string(got) + ", want " + std::string(want)};
  }
  void fail(Error error) {
    if (!error_) error_ = std::move(error);
  }

  [[nodiscard]] const Node* need(std::string_view name, std::string_view want) {
    const Node* node = find(name);
    if (node == nullptr) fail(Errc::bad_message, name, "nothing", want);
    return node;
  }

  /// Valid Unicode of at most `max_bytes`.
  std::optional<std::string> string(const Node* node, std::string_view name, std::size_t max_bytes) {
    if (node == nullptr) return std::nullopt;
    const auto* text = std::get_if<std::string>(&node->value);
    if (text == nullptr) {
      fail(Errc::bad_message, name, node->kind(), "string");
    } else if (text->size() > max_bytes) {
      fail(Errc::bad_message, name, std::to_string(text->size()) + " bytes", "at most " + std::to_string(max_bytes));
    } else if (!utf8::is_valid(*text)) {
      fail(Errc::bad_message, name, "unpaired surrogates", "valid Unicode");
    } else {
      return *text;
    }
    return std::nullopt;
  }

  std::optional<std::int64_t> integer(const Node* node, std::string_view name, std::int64_t min, std::int64_t max,
                                      Errc code = Errc::bad_message) {
    if (node == nullptr) return std::nullopt;
    const std::string want = "integer " + std::to_string(min) + " to " + std::to_string(max);
    if (const auto* value = std::get_if<std::uint64_t>(&node->value)) {
      if (*value <= static_cast<std::uint64_t>(std::max<std::int64_t>(max, 0)) && (max >= 0) &&
          (min <= 0 || *value >= static_cast<std::uint64_t>(min))) {
        return static_cast<std::int64_t>(*value);
      }
      fail(code, name, std::to_string(*value), want);
    } else if (const auto* negative = std::get_if<std::int64_t>(&node->value)) {
      if (*negative >= min && *negative <= max) return *negative;
      fail(code, name, std::to_string(*negative), want);
    } else {
      fail(Errc::bad_message, name, node->kind(), want);
    }
    return std::nullopt;
  }

  std::optional<double> number(const Node* node, std::string_view name, double min, double max, std::string_view want) {
    if (node == nullptr) return std::nullopt;
    double value = 0;
    if (const auto* u = std::get_if<std::uint64_t>(&node->value))
      value = static_cast<double>(*u);
    else if (const auto* i = std::get_if<std::int64_t>(&node->value))
      value = static_cast<double>(*i);
    else if (const auto* d = std::get_if<double>(&node->value))
      value = *d;
    else {
      fail(Errc::bad_message, name, node->kind(), want);
      return std::nullopt;
    }
    if (std::isfinite(value) && value >= min && value <= max) return value;
    fail(Errc::bad_message, name, std::to_string(value), want);
    return std::nullopt;
  }

  const Object* object(const Node* node, std::string_view name) {
    if (node == nullptr) return nullptr;
    const auto* fields = std::get_if<Object>(&node->value);
    if (fields == nullptr || node->array) {
      fail(Errc::bad_message, name, node->kind(), "object");
      return nullptr;
    }
    return fields;
  }

  MessageId id(std::string_view name) {
    const Node* node = find(name);
    if (node == nullptr) return {};
    if (std::holds_alternative<std::uint64_t>(node->value) || std::holds_alternative<std::int64_t>(node->value)) {
      const auto value =
          integer(node, name, std::numeric_limits<std::int64_t>::min(), std::numeric_limits<std::int64_t>::max());
      return value ? MessageId(*value) : MessageId();
    }
    auto text = string(node, name, kMaxIdBytes);
    return text ? MessageId(std::move(*text)) : MessageId();
  }

  /// The first failure, or the first field nobody asked for.
  [[nodiscard]] std::optional<Error> finish() {
    if (error_) return error_;
    for (std::size_t i = 0; i < object_.size(); ++i) {
      if (!taken_[i]) return bad("unknown field " + quote(prefix_ + object_[i].name));
    }
    return std::nullopt;
  }

 private:
  const Object& object_;
  std::string prefix_;
  std::vector<bool> taken_;
  std::optional<Error> error_;
};

template <std::size_t N>
std::string list(const std::array<int, N>& values) {
  std::string out;
  for (const int value : values) out += (out.empty() ? "" : ", ") + std::to_string(value);
  return out;
}

std::optional<Error> read_format(const Object& object, AudioFormat& format) {
  Fields fields(object, "format.");
  if (const auto codec = fields.string(fields.find("codec"), "codec", 32)) {
    if (*codec == "opus")
      format.codec = Codec::opus;
    else if (*codec == "pcm_s16le")
      format.codec = Codec::pcm_s16le;
    else
      fields.fail(Errc::unsupported_format, "codec", quote(*codec), "opus or pcm_s16le");
  }
  const auto one_of = [&fields](std::string_view name, const auto& allowed, int& target) {
    const auto value = fields.integer(fields.find(name), name, 0, std::numeric_limits<int>::max());
    if (!value) return;
    if (std::find(allowed.begin(), allowed.end(), *value) == allowed.end()) {
      fields.fail(Errc::unsupported_format, name, std::to_string(*value), "one of " + list(allowed));
    } else {
      target = static_cast<int>(*value);
    }
  };
  one_of("rate", kAudioRatesHz, format.rate_hz);
  one_of("frame_ms", kFrameMs, format.frame_ms);
  if (const auto bitrate =
          fields.integer(fields.find("bitrate"), "bitrate", kMinBitrateBps, kMaxBitrateBps, Errc::unsupported_format)) {
    format.bitrate_bps = static_cast<int>(*bitrate);
  }
  return fields.finish();
}

std::optional<Error> read_sampling(const Object& object, SamplingOptions& sampling) {
  Fields fields(object, "sampling.");
  constexpr double kTiny = 1e-3;
  if (const auto v = fields.number(fields.find("temperature"), "temperature", kTiny, 5, "0.001 to 5")) {
    sampling.temperature = static_cast<float>(*v);
  }
  if (const auto v = fields.integer(fields.find("top_k"), "top_k", 1, 1024)) sampling.top_k = static_cast<int>(*v);
  if (const auto v = fields.number(fields.find("top_p"), "top_p", kTiny, 1, "0.001 to 1")) {
    sampling.top_p = static_cast<float>(*v);
  }
  if (const auto v = fields.number(fields.find("repetition_penalty"), "repetition_penalty", 1, 5, "1 to 5")) {
    sampling.repetition_penalty = static_cast<float>(*v);
  }
  return fields.finish();
}

std::optional<Error> read_buffering(const Object& object, Buffering& buffering) {
  Fields fields(object, "buffering.");
  if (const auto v = fields.integer(fields.find("min_chars"), "min_chars", 0, kMaxMinChars)) {
    buffering.min_chars = static_cast<int>(*v);
  }
  if (const auto v = fields.integer(fields.find("max_delay_ms"), "max_delay_ms", 0, kMaxMaxDelay.count())) {
    buffering.max_delay = std::chrono::milliseconds(*v);
  }
  return fields.finish();
}

OpenMessage read_open(Fields& fields, std::uint32_t ctx) {
  OpenMessage message;
  message.ctx = ctx;
  if (auto voice = fields.string(fields.find("voice"), "voice", 128)) message.options.voice = std::move(*voice);
  if (auto lang = fields.string(fields.find("lang"), "lang", 16)) message.options.lang = std::move(*lang);
  if (const Object* format = fields.object(fields.find("format"), "format")) {
    if (auto error = read_format(*format, message.format)) fields.fail(std::move(*error));
  }
  if (const Node* marks = fields.find("marks")) {
    if (const auto* flag = std::get_if<bool>(&marks->value))
      message.marks = *flag;
    else
      fields.fail(Errc::bad_message, "marks", marks->kind(), "boolean");
  }
  if (const Node* seed = fields.find("seed")) {
    if (const auto* value = std::get_if<std::uint64_t>(&seed->value))
      message.options.seed = *value;
    else
      fields.fail(Errc::bad_message, "seed", seed->kind(), "integer 0 to 18446744073709551615");
  }
  if (const auto speed = fields.number(fields.find("speed"), "speed", 0.5, 2, "0.5 to 2")) {
    message.options.speed = static_cast<float>(*speed);
  }
  if (const Object* sampling = fields.object(fields.find("sampling"), "sampling")) {
    if (auto error = read_sampling(*sampling, message.options.sampling)) fields.fail(std::move(*error));
  }
  if (const Object* buffering = fields.object(fields.find("buffering"), "buffering")) {
    if (auto error = read_buffering(*buffering, message.buffering)) fields.fail(std::move(*error));
  }
  return message;
}

TextMessage read_text(Fields& fields, std::uint32_t ctx) {
  TextMessage message{ctx, {}};
  const Node* node = fields.need("text", "string");
  if (node == nullptr) return message;
  const auto* text = std::get_if<std::string>(&node->value);
  if (text == nullptr) {
    fields.fail(Errc::bad_message, "text", node->kind(), "string");
    return message;
  }
  // Only a half at either end can have its other half in a neighbouring message.
  std::string_view inner = *text;
  constexpr std::size_t kHalf = 3;
  const auto unit = [](std::string_view bytes) -> std::uint32_t {
    return (static_cast<std::uint32_t>(bytes[0] & 0x0F) << 12) | (static_cast<std::uint32_t>(bytes[1] & 0x3F) << 6) |
           static_cast<std::uint32_t>(bytes[2] & 0x3F);
  };
  const auto is_half = [&unit](std::string_view bytes, bool (*test)(std::uint32_t) noexcept) {
    return static_cast<unsigned char>(bytes[0]) == 0xED && test(unit(bytes));
  };
  if (inner.size() >= kHalf && is_half(inner.substr(0, kHalf), is_low_surrogate)) inner.remove_prefix(kHalf);
  if (inner.size() >= kHalf && is_half(inner.substr(inner.size() - kHalf), is_high_surrogate)) {
    inner.remove_suffix(kHalf);
  }
  if (!utf8::is_valid(inner)) {
    fields.fail(Errc::bad_message, "text", "an unpaired surrogate inside", "valid Unicode");
  } else {
    message.text = *text;
  }
  return message;
}

std::variant<ClientMessage, RefusedMessage> read_message(const Object& object) {
  Fields fields(object, "");
  const Node* ctx_node = fields.find("ctx");
  std::optional<std::uint32_t> ctx;
  if (ctx_node != nullptr) {
    const auto* value = std::get_if<std::uint64_t>(&ctx_node->value);
    if (value != nullptr && *value <= std::numeric_limits<std::uint32_t>::max()) {
      ctx = static_cast<std::uint32_t>(*value);
    }
  }
  const auto type = fields.string(fields.need("type", "string"), "type", 64);
  if (!type) return RefusedMessage{ctx, *fields.finish()};

  const bool ping = *type == "ping";
  if (!ping && *type != "open" && *type != "text" && *type != "flush" && *type != "end" && *type != "cancel" &&
      *type != "credit") {
    return RefusedMessage{ctx, bad("unknown message type " + quote(*type))};
  }
  if (ping) {
    if (ctx_node != nullptr) return RefusedMessage{ctx, bad("unknown field 'ctx'")};
    PingMessage message{fields.id("id")};
    if (auto error = fields.finish()) return RefusedMessage{std::nullopt, std::move(*error)};
    return message;
  }
  if (!ctx) {
    fields.fail(Errc::bad_message, "ctx", ctx_node == nullptr ? "nothing" : ctx_node->kind(),
                "integer 0 to 4294967295");
    return RefusedMessage{std::nullopt, *fields.finish()};
  }

  ClientMessage message;
  if (*type == "open") {
    message = read_open(fields, *ctx);
  } else if (*type == "text") {
    message = read_text(fields, *ctx);
  } else if (*type == "flush") {
    message = FlushMessage{*ctx, fields.id("id")};
  } else if (*type == "end") {
    message = EndMessage{*ctx};
  } else if (*type == "cancel") {
    constexpr double kDayMs = 86'400'000;
    message = CancelMessage{*ctx, fields.number(fields.find("played_ms"), "played_ms", 0, kDayMs, "0 to 86400000")};
  } else {
    constexpr std::int64_t kDayMs = 86'400'000;
    const auto ms = fields.integer(fields.need("ms", "integer"), "ms", 0, kDayMs);
    message = CreditMessage{*ctx, std::chrono::milliseconds(ms.value_or(0))};
  }
  if (auto error = fields.finish()) return RefusedMessage{ctx, std::move(*error)};
  return message;
}

// --- writing ---

/// Appends one JSON object member by member; the caller keeps the braces balanced.
class Json {
 public:
  Json& open(char brace) {
    comma();
    out_ += brace;
    fresh_ = true;
    return *this;
  }
  Json& close(char brace) {
    out_ += brace;
    fresh_ = false;
    return *this;
  }
  Json& key(std::string_view name) {
    comma();
    out_ += '"';
    out_ += name;
    out_ += "\":";
    fresh_ = true;
    return *this;
  }
  Json& value(std::string_view text) {
    comma();
    append_json_string(out_, text);
    return *this;
  }
  Json& value(const char* text) { return value(std::string_view(text)); }
  Json& value(bool flag) { return raw(flag ? "true" : "false"); }
  Json& value(std::int64_t number) { return raw(std::to_string(number)); }
  Json& value(int number) { return raw(std::to_string(number)); }
  Json& value(std::uint32_t number) { return raw(std::to_string(number)); }
  Json& value(std::size_t number) { return raw(std::to_string(number)); }
  /// Rounded to a thousandth; JSON has no infinities, which become null.
  Json& value(double number) {
    if (!std::isfinite(number)) return raw("null");
    char text[64];
    const double rounded = std::round(number * 1000) / 1000;
    const int n = std::snprintf(text, sizeof text, "%.3f", rounded == 0 ? 0.0 : rounded);
    std::string_view digits(text, static_cast<std::size_t>(std::clamp<int>(n, 0, sizeof text - 1)));
    while (digits.ends_with('0')) digits.remove_suffix(1);
    if (digits.ends_with('.')) digits.remove_suffix(1);
    return raw(digits);
  }
  Json& id(const MessageId& id) {
    if (const auto* number = std::get_if<std::int64_t>(&id)) return value(*number);
    if (const auto* text = std::get_if<std::string>(&id)) return value(*text);
    return raw("null");
  }
  template <class T>
  Json& member(std::string_view name, const T& content) {
    return key(name).value(content);
  }

  [[nodiscard]] std::string take() { return std::move(out_); }

 private:
  Json& raw(std::string_view text) {
    comma();
    out_ += text;
    return *this;
  }
  void comma() {
    if (!fresh_) out_ += ',';
    fresh_ = false;
  }

  std::string out_;
  bool fresh_ = true;
};

void write_voice(Json& json, const VoiceInfo& voice) {
  json.open('{').member("id", voice.id).member("name", voice.name).key("langs").open('[');
  for (const std::string& lang : voice.langs) json.value(lang);
  json.close(']').member("rate", voice.rate_hz).close('}');
}

void write_voices(Json& json, std::span<const VoiceInfo> voices) {
  json.key("voices").open('[');
  for (const VoiceInfo& voice : voices) write_voice(json, voice);
  json.close(']');
}

template <std::size_t N>
void write_list(Json& json, std::string_view name, const std::array<int, N>& values) {
  json.key(name).open('[');
  for (const int value : values) json.value(value);
  json.close(']');
}

template <class Int>
void put(std::uint8_t* at, Int value) noexcept {
  for (std::size_t i = 0; i < sizeof(Int); ++i) at[i] = static_cast<std::uint8_t>(value >> (8 * i));
}

template <class Int>
Int get(const std::uint8_t* at) noexcept {
  Int value = 0;
  for (std::size_t i = 0; i < sizeof(Int); ++i) value = static_cast<Int>(value | (static_cast<Int>(at[i]) << (8 * i)));
  return value;
}

constexpr std::uint8_t kKindOpus = 1;
constexpr std::uint8_t kKindPcm = 2;

}  // namespace

const char* to_string(Codec codec) noexcept {
  return codec == Codec::opus ? "opus" : "pcm_s16le";
}

struct MessageParser::Impl {
  ondemand::parser parser;
  std::string buffer;  ///< the message and simdjson's padding
};

MessageParser::MessageParser() : impl_(std::make_unique<Impl>()) {}
MessageParser::~MessageParser() = default;
MessageParser::MessageParser(MessageParser&&) noexcept = default;
MessageParser& MessageParser::operator=(MessageParser&&) noexcept = default;

std::variant<ClientMessage, RefusedMessage> MessageParser::parse(std::string_view json) {
  std::string& buffer = impl_->buffer;
  buffer.assign(json);
  buffer.append(simdjson::SIMDJSON_PADDING, '\0');
  const auto refuse = [](Error error) { return RefusedMessage{std::nullopt, std::move(error)}; };
  ondemand::document document;
  const simdjson::padded_string_view padded(buffer.data(), json.size(), buffer.size());
  if (const auto error = impl_->parser.iterate(padded).get(document)) return refuse(bad_json(error));
  ondemand::object root;
  if (const auto error = document.get_object().get(root)) {
    if (error == simdjson::INCORRECT_TYPE) return refuse(bad("the message is not a JSON object"));
    return refuse(bad_json(error));
  }
  auto object = read_object(root, 1);
  if (!object) return refuse(object.error());
  // At the end, and only there, simdjson has no current location.
  if (document.current_location().error() != simdjson::OUT_OF_BOUNDS)
    return refuse(bad("invalid JSON: more after the object"));
  return read_message(*object);
}

std::string to_json(const HelloMessage& message) {
  const ProtocolLimits& limits = message.limits;
  Json json;
  json.open('{').member("type", "hello").member("protocol", kProtocolVersion).member("session", message.session);
  json.member("server", message.server);
  json.key("limits").open('{');
  json.member("max_message_bytes", limits.max_message_bytes);
  json.member("max_text_chars", limits.max_text_chars);
  json.member("max_contexts", limits.max_contexts);
  json.member("max_sessions", limits.max_sessions);
  json.member("max_pending_flushes", limits.max_pending_flushes);
  json.member("context_timeout_ms", limits.context_timeout.count());
  json.member("slow_client_timeout_ms", limits.slow_client_timeout.count());
  json.member("idle_timeout_ms", limits.idle_timeout.count());
  json.member("max_min_chars", kMaxMinChars);
  json.member("max_max_delay_ms", kMaxMaxDelay.count());
  json.member("max_id_bytes", kMaxIdBytes);
  json.close('}');
  write_voices(json, message.voices);
  json.key("formats").open('[');
  json.open('{').member("codec", to_string(Codec::opus));
  write_list(json, "rates", kAudioRatesHz);
  write_list(json, "frame_ms", kFrameMs);
  write_list(json, "bitrate", std::array{kMinBitrateBps, kMaxBitrateBps});
  json.close('}');
  json.open('{').member("codec", to_string(Codec::pcm_s16le));
  write_list(json, "rates", kAudioRatesHz);
  write_list(json, "frame_ms", kFrameMs);
  json.close('}').close(']').close('}');
  return json.take();
}

std::string to_json(const OpenedMessage& message) {
  Json json;
  json.open('{').member("type", "opened").member("ctx", message.ctx).member("rate", message.rate_hz);
  json.member("channels", 1).member("frame_samples", message.frame_samples).member("pre_skip", message.pre_skip);
  return json.close('}').take();
}

std::string to_json(const MarksMessage& message) {
  Json json;
  json.open('{').member("type", "marks").member("ctx", message.ctx).key("items").open('[');
  for (const MarkItem& item : message.items) {
    json.open('{').member("text", item.text).member("in_start", item.in_start).member("in_end", item.in_end);
    json.member("t0_ms", item.t0_ms).member("t1_ms", item.t1_ms).close('}');
  }
  return json.close(']').close('}').take();
}

std::string to_json(const FlushedMessage& message) {
  Json json;
  json.open('{').member("type", "flushed").member("ctx", message.ctx).key("id").id(message.id);
  return json.member("t_ms", message.t_ms).close('}').take();
}

std::string to_json(const DoneMessage& message) {
  const UtteranceMetrics& metrics = message.metrics;
  Json json;
  json.open('{').member("type", "done").member("ctx", message.ctx).member("audio_ms", message.audio_ms);
  json.key("metrics").open('{').member("queue_ms", metrics.queue_ms).member("text_ms", metrics.text_ms);
  json.member("prefill_ms", metrics.prefill_ms).member("first_token_ms", metrics.first_token_ms);
  json.member("first_audio_ms", metrics.first_audio_ms).member("tokens", metrics.tokens).member("rtf", metrics.rtf);
  json.member("worst_lag_ms", message.worst_lag_ms);
  if (metrics.guard.faults > 0) {
    json.member("guard_faults", metrics.guard.faults).member("guard_retries", metrics.guard.retries);
    json.member("guard_resumes", metrics.guard.resumes).member("guard_cuts", metrics.guard.cuts);
  }
  if (!metrics.voice.empty()) json.member("voice", metrics.voice);
  if (metrics.flow_steps > 0) json.member("flow_steps", metrics.flow_steps);
  if (metrics.reduced_segments > 0) json.member("reduced_segments", metrics.reduced_segments);
  return json.close('}').close('}').take();
}

std::string to_json(const CancelledMessage& message) {
  Json json;
  json.open('{').member("type", "cancelled").member("ctx", message.ctx);
  json.member("generated_ms", message.generated_ms).member("played_ms", message.played_ms);
  json.member("spoken_text", message.spoken_text).member("remaining_text", message.remaining_text);
  return json.close('}').take();
}

std::string to_json(const ErrorMessage& message) {
  Json json;
  json.open('{').member("type", "error");
  if (message.ctx) json.member("ctx", *message.ctx);
  json.member("code", to_string(message.error.code)).member("message", message.error.detail);
  if (message.retry_after) json.member("retry_after_ms", message.retry_after->count());
  return json.close('}').take();
}

std::string to_json(const PongMessage& message) {
  Json json;
  json.open('{').member("type", "pong");
  if (!std::holds_alternative<std::monostate>(message.id)) json.key("id").id(message.id);
  return json.close('}').take();
}

std::string to_json(const NewVoice& made) {
  Json json;
  json.open('{').key("voice");
  write_voice(json, made.info);
  json.key("existed").value(made.existed).key("notes").open('[');
  for (const std::string& note : made.notes) json.value(note);
  json.close(']').close('}');
  return json.take();
}

std::string to_json(std::span<const VoiceInfo> voices) {
  Json json;
  json.open('{');
  write_voices(json, voices);
  return json.close('}').take();
}

std::array<std::uint8_t, kAudioHeaderBytes> encode_header(const AudioHeader& header) noexcept {
  std::array<std::uint8_t, kAudioHeaderBytes> out{};
  out[0] = kProtocolVersion;
  out[1] = header.codec == Codec::opus ? kKindOpus : kKindPcm;
  put(out.data() + 2, header.flags);
  put(out.data() + 4, header.ctx);
  put(out.data() + 8, header.seq);
  put(out.data() + 12, header.position);
  return out;
}

Result<AudioHeader> decode_header(std::span<const std::uint8_t> frame) {
  if (frame.size() < kAudioHeaderBytes) {
    return bad("audio frame: got " + std::to_string(frame.size()) + " bytes, want at least 20");
  }
  if (frame[0] != kProtocolVersion) return bad("audio frame: got version " + std::to_string(frame[0]) + ", want 1");
  if (frame[1] != kKindOpus && frame[1] != kKindPcm) {
    return bad("audio frame: got kind " + std::to_string(frame[1]) + ", want 1 or 2");
  }
  AudioHeader header;
  header.codec = frame[1] == kKindOpus ? Codec::opus : Codec::pcm_s16le;
  header.flags = get<std::uint16_t>(frame.data() + 2);
  if ((header.flags & ~(kFrameFirst | kFrameLast | kFrameSeam)) != 0) {
    return bad("audio frame: got flags " + std::to_string(header.flags) + ", want 1, 2 and 4 only");
  }
  header.ctx = get<std::uint32_t>(frame.data() + 4);
  header.seq = get<std::uint32_t>(frame.data() + 8);
  header.position = get<std::uint64_t>(frame.data() + 12);
  return header;
}

}  // namespace tts
