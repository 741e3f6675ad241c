#include "streaming/protocol.h"

#include <string>
#include <vector>

#include "src/core/utf8.h"
#include "tests/doctest.h"
#include "tests/streaming/test_client.h"

namespace tts {
namespace {

std::variant<ClientMessage, RefusedMessage> parse(std::string_view json) {
  MessageParser parser;
  return parser.parse(json);
}

template <class T>
T accepted(std::string_view json) {
  auto parsed = parse(json);
  if (const auto* refused = std::get_if<RefusedMessage>(&parsed)) {
    FAIL(json << " was refused: " << refused->error.detail);
  }
  auto& message = std::get<ClientMessage>(parsed);
  REQUIRE(std::holds_alternative<T>(message));
  return std::get<T>(message);
}

RefusedMessage refused(std::string_view json) {
  auto parsed = parse(json);
  if (!std::holds_alternative<RefusedMessage>(parsed)) FAIL(json << " was accepted");
  return std::get<RefusedMessage>(parsed);
}

}  // namespace

TEST_SUITE("streaming/protocol") {
  TEST_CASE("an open with nothing but a context takes the defaults of the protocol") {
    const auto open = accepted<OpenMessage>(R"({"type":"open","ctx":0})");
    CHECK(open.ctx == 0);
    CHECK(open.options.voice == "starter");
    CHECK(open.options.lang == "auto");
    CHECK(open.format.codec == Codec::opus);
    CHECK(open.format.rate_hz == 48000);
    CHECK(open.format.frame_ms == 20);
    CHECK_FALSE(open.format.bitrate_bps);
    CHECK_FALSE(open.marks);
    CHECK_FALSE(open.options.seed);
    CHECK(open.options.speed == 1.0F);
    CHECK_FALSE(open.options.sampling.temperature);
    CHECK_FALSE(open.buffering.min_chars);
    CHECK_FALSE(open.buffering.max_delay);
  }

  TEST_CASE("an open with everything is read in any order of its fields") {
    const auto open = accepted<OpenMessage>(
        R"({"buffering":{"max_delay_ms":250,"min_chars":20},"sampling":{"temperature":0.8,"top_k":15,"top_p":1,
          "repetition_penalty":1.35},"speed":2,"seed":18446744073709551615,"marks":true,
          "format":{"frame_ms":60,"bitrate":64000,"rate":16000,"codec":"pcm_s16le"},"lang":"en","voice":"anna",
          "ctx":4294967295,"type":"open"})");
    CHECK(open.ctx == 4294967295U);
    CHECK(open.options.voice == "anna");
    CHECK(open.options.lang == "en");
    CHECK(open.format.codec == Codec::pcm_s16le);
    CHECK(open.format.rate_hz == 16000);
    CHECK(open.format.frame_ms == 60);
    CHECK(open.format.bitrate_bps == 64000);
    CHECK(open.marks);
    CHECK(open.options.seed == 18446744073709551615ULL);
    CHECK(open.options.speed == 2.0F);
    CHECK(open.options.sampling.temperature == 0.8F);
    CHECK(open.options.sampling.top_k == 15);
    CHECK(open.options.sampling.top_p == 1.0F);
    CHECK(open.options.sampling.repetition_penalty == 1.35F);
    CHECK(open.buffering.min_chars == 20);
    CHECK(open.buffering.max_delay == std::chrono::milliseconds(250));
  }

  TEST_CASE("the other client messages") {
    CHECK(accepted<TextMessage>(R"({"type":"text","ctx":1,"text":""})").text.empty());
    CHECK(accepted<TextMessage>(R"( {"type" : "text" , "ctx" : 1 , "text" : "a \"b\" \\ \/ \u00e9\n\ud83d\ude00" } )")
              .text == "a \"b\" \\ / \u00e9\n\U0001F600");
    CHECK(std::holds_alternative<std::monostate>(accepted<FlushMessage>(R"({"type":"flush","ctx":1})").id));
    CHECK(std::get<std::string>(accepted<FlushMessage>(R"({"type":"flush","ctx":1,"id":"a"})").id) == "a");
    CHECK(std::get<std::int64_t>(accepted<FlushMessage>(R"({"type":"flush","ctx":1,"id":-3})").id) == -3);
    CHECK(accepted<EndMessage>(R"({"type":"end","ctx":9})").ctx == 9);
    CHECK_FALSE(accepted<CancelMessage>(R"({"type":"cancel","ctx":9})").played_ms);
    CHECK(accepted<CancelMessage>(R"({"type":"cancel","ctx":9,"played_ms":12.5})").played_ms == 12.5);
    CHECK(accepted<CreditMessage>(R"({"type":"credit","ctx":9,"ms":300})").ahead.count() == 300);
    CHECK(std::get<std::int64_t>(accepted<PingMessage>(R"({"type":"ping","id":5})").id) == 5);
    CHECK(std::holds_alternative<std::monostate>(accepted<PingMessage>(R"({"type":"ping"})").id));
  }

  TEST_CASE("surrogate halves are kept at the ends of a text only") {
    CHECK(accepted<TextMessage>(R"({"type":"text","ctx":1,"text":"a\ud83d"})").text == "a\xED\xA0\xBD");
    CHECK(accepted<TextMessage>(R"({"type":"text","ctx":1,"text":"\ude00b"})").text ==
          "\xED\xB8\x80"
          "b");
    CHECK(accepted<TextMessage>(R"({"type":"text","ctx":1,"text":"\ud83d"})").text == "\xED\xA0\xBD");
    refused(R"({"type":"text","ctx":1,"text":"a\ud83db"})");
    refused(R"({"type":"text","ctx":1,"text":"\ud83db"})");
    refused(R"({"type":"text","ctx":1,"text":"b\ude00"})");
    refused(R"({"type":"text","ctx":1,"text":"\ude00\ude00"})");
    refused(R"({"type":"open","ctx":1,"voice":"\ud83d"})");
  }

  TEST_CASE("what is wrong is refused with the right code, on the right context") {
    struct Row {
      std::string json;
      Errc code;
      std::optional<std::uint32_t> ctx;
      std::string detail;  ///< part of it
    };
    const std::optional<std::uint32_t> none;
    const Row rows[] = {
        {"", Errc::bad_message, none, "JSON"},
        {"nonsense", Errc::bad_message, none, ""},
        {"{", Errc::bad_message, none, "JSON"},
        {"[]", Errc::bad_message, none, "object"},
        {"3", Errc::bad_message, none, "object"},
        {"null", Errc::bad_message, none, "object"},
        {R"({"type":"end","ctx":1)", Errc::bad_message, none, "JSON"},
        {R"({"type":"end","ctx":1} x)", Errc::bad_message, none, "JSON"},
        {R"({"type":"end","ctx":1}{"type":"end","ctx":1})", Errc::bad_message, none, "JSON"},
        {R"({"type":"end","ctx":1,})", Errc::bad_message, none, "JSON"},
        {R"({"type":"end" "ctx":1})", Errc::bad_message, none, "JSON"},
        {R"({type:"end","ctx":1})", Errc::bad_message, none, "JSON"},
        {R"({"type":"text","ctx":1,"text":"\x"})", Errc::bad_message, none, "JSON"},
        {R"({"type":"text","ctx":1,"text":"\u12g4"})", Errc::bad_message, none, "hexadecimal"},
        {"{\"type\":\"text\",\"ctx\":1,\"text\":\"\xFF\"}", Errc::bad_message, none, "UTF-8"},
        {"{\"type\":\"text\",\"ctx\":1,\"text\":\"\xED\xA0\xBD\"}", Errc::bad_message, none, "UTF-8"},
        {"{\"type\":\"text\",\"ctx\":1,\"text\":\"a\nb\"}", Errc::bad_message, none, "JSON"},
        {"{}", Errc::bad_message, none, "type: got nothing"},
        {R"({"ctx":7})", Errc::bad_message, 7, "type: got nothing"},
        {R"({"type":3,"ctx":7})", Errc::bad_message, 7, "type: got integer"},
        {R"({"type":"speak","ctx":7})", Errc::bad_message, 7, "unknown message type 'speak'"},
        {R"({"type":"speak"})", Errc::bad_message, none, "unknown message type"},
        {R"({"type":"hello","ctx":7})", Errc::bad_message, 7, "unknown message type"},
        {R"({"type":"end"})", Errc::bad_message, none, "ctx: got nothing"},
        {R"({"type":"end","ctx":"1"})", Errc::bad_message, none, "ctx: got string"},
        {R"({"type":"end","ctx":-1})", Errc::bad_message, none, "ctx"},
        {R"({"type":"end","ctx":1.0})", Errc::bad_message, none, "ctx: got number"},
        {R"({"type":"end","ctx":4294967296})", Errc::bad_message, none, "ctx"},
        {R"({"type":"end","ctx":null})", Errc::bad_message, none, "ctx: got null"},
        {R"({"type":"end","ctx":1,"ctx":2})", Errc::bad_message, none, "twice"},
        {R"({"type":"end","ctx":1,"now":true})", Errc::bad_message, 1, "unknown field 'now'"},
        {R"({"type":"end","ctx":1,"a":{"b":[1,{"c":2}]}})", Errc::bad_message, 1, "unknown field 'a'"},
        {R"({"type":"end","ctx":1,"a":[[[[[[1]]]]]]})", Errc::bad_message, none, "nested"},
        {R"({"type":"ping","ctx":1})", Errc::bad_message, 1, "unknown field 'ctx'"},
        {R"({"type":"ping","id":1.5})", Errc::bad_message, none, "id"},
        {R"({"type":"ping","id":{}})", Errc::bad_message, none, "id: got object"},
        {R"({"type":"text","ctx":1})", Errc::bad_message, 1, "text: got nothing"},
        {R"({"type":"text","ctx":1,"text":5})", Errc::bad_message, 1, "text: got integer"},
        {R"({"type":"text","ctx":1,"text":null})", Errc::bad_message, 1, "text: got null"},
        {R"({"type":"text","ctx":1,"text":["a"]})", Errc::bad_message, 1, "text: got array"},
        {R"({"type":"open","ctx":1,"voice":5})", Errc::bad_message, 1, "voice"},
        {R"({"type":"open","ctx":1,"lang":"a-language-too-long"})", Errc::bad_message, 1, "lang"},
        {R"({"type":"open","ctx":1,"format":"opus"})", Errc::bad_message, 1, "format: got string"},
        {R"({"type":"open","ctx":1,"format":{"codec":"mp3"}})", Errc::unsupported_format, 1, "format.codec"},
        {R"({"type":"open","ctx":1,"format":{"rate":44100}})", Errc::unsupported_format, 1, "format.rate"},
        {R"({"type":"open","ctx":1,"format":{"rate":"48000"}})", Errc::bad_message, 1, "format.rate"},
        {R"({"type":"open","ctx":1,"format":{"frame_ms":5}})", Errc::unsupported_format, 1, "format.frame_ms"},
        {R"({"type":"open","ctx":1,"format":{"bitrate":5999}})", Errc::unsupported_format, 1, "format.bitrate"},
        {R"({"type":"open","ctx":1,"format":{"bitrate":510001}})", Errc::unsupported_format, 1, "format.bitrate"},
        {R"({"type":"open","ctx":1,"format":{"channels":1}})", Errc::bad_message, 1, "unknown field 'format.channels'"},
        {R"({"type":"open","ctx":1,"marks":1})", Errc::bad_message, 1, "marks"},
        {R"({"type":"open","ctx":1,"seed":-1})", Errc::bad_message, 1, "seed"},
        {R"({"type":"open","ctx":1,"seed":1.5})", Errc::bad_message, 1, "seed"},
        {R"({"type":"open","ctx":1,"speed":0.49})", Errc::bad_message, 1, "speed"},
        {R"({"type":"open","ctx":1,"speed":2.01})", Errc::bad_message, 1, "speed"},
        {R"({"type":"open","ctx":1,"speed":"1"})", Errc::bad_message, 1, "speed"},
        {R"({"type":"open","ctx":1,"sampling":{"temperature":0}})", Errc::bad_message, 1, "sampling.temperature"},
        {R"({"type":"open","ctx":1,"sampling":{"top_k":0}})", Errc::bad_message, 1, "sampling.top_k"},
        {R"({"type":"open","ctx":1,"sampling":{"top_k":1.5}})", Errc::bad_message, 1, "sampling.top_k"},
        {R"({"type":"open","ctx":1,"sampling":{"top_p":1.1}})", Errc::bad_message, 1, "sampling.top_p"},
        {R"({"type":"open","ctx":1,"sampling":{"repetition_penalty":0.9}})", Errc::bad_message, 1,
         "repetition_penalty"},
        {R"({"type":"open","ctx":1,"sampling":{"beams":4}})", Errc::bad_message, 1, "unknown field 'sampling.beams'"},
        {R"({"type":"open","ctx":1,"buffering":{"min_chars":-1}})", Errc::bad_message, 1, "buffering.min_chars"},
        {R"({"type":"open","ctx":1,"buffering":{"max_delay_ms":60000}})", Errc::bad_message, 1,
         "buffering.max_delay_ms"},
        {R"({"type":"open","ctx":1,"buffering":[]})", Errc::bad_message, 1, "buffering: got array"},
        {R"({"type":"cancel","ctx":1,"played_ms":-1})", Errc::bad_message, 1, "played_ms"},
        {R"({"type":"cancel","ctx":1,"played_ms":"1"})", Errc::bad_message, 1, "played_ms"},
        {R"({"type":"credit","ctx":1})", Errc::bad_message, 1, "ms: got nothing"},
        {R"({"type":"credit","ctx":1,"ms":1.5})", Errc::bad_message, 1, "ms"},
        {R"({"type":"credit","ctx":1,"ms":-1})", Errc::bad_message, 1, "ms"},
    };
    for (const Row& row : rows) {
      CAPTURE(row.json);
      const RefusedMessage got = refused(row.json);
      CAPTURE(got.error.detail);
      CHECK(to_string(got.error.code) == std::string(to_string(row.code)));
      CHECK(got.ctx == row.ctx);
      CHECK(got.error.detail.find(row.detail) != std::string::npos);
      CHECK(utf8::is_valid(got.error.detail));
    }
    refused(R"({"type":"flush","ctx":1,"id":")" + std::string(kMaxIdBytes + 1, 'x') + "\"}");
  }

  TEST_CASE("every cut of a message and every changed byte is refused or read, never more") {
    const std::string good =
        R"({"type":"open","ctx":3,"voice":"st\u0061rter","format":{"codec":"opus","rate":24000},"speed":1.5,"marks":true})";
    accepted<OpenMessage>(good);
    MessageParser parser;
    for (std::size_t n = 0; n < good.size(); ++n) {
      CAPTURE(n);
      CHECK(std::holds_alternative<RefusedMessage>(parser.parse(std::string_view(good).substr(0, n))));
    }
    for (std::size_t n = 0; n < good.size(); ++n) {
      for (const char c : {'\0', '"', '{', '}', '\\', ',', '\x80', '9', ' '}) {
        std::string changed = good;
        changed[n] = c;
        static_cast<void>(parser.parse(changed));
      }
    }
    CHECK(std::holds_alternative<ClientMessage>(parser.parse(good)));
  }

  TEST_CASE("server messages are the protocol's JSON") {
    const std::string hello =
        to_json(HelloMessage{"s1", "sonorant/1", {}, {VoiceInfo{"starter", "Starter", {"en", "zh"}, 24000}}});
    CHECK(json_at(hello, "/type") == "hello");
    CHECK(json_at(hello, "/protocol") == "1");
    CHECK(json_at(hello, "/session") == "s1");
    CHECK(json_at(hello, "/server") == "sonorant/1");
    CHECK(json_at(hello, "/limits/max_contexts") == "1");
    CHECK(json_at(hello, "/limits/max_message_bytes") == "65536");
    CHECK(json_at(hello, "/limits/max_text_chars") == "100000");
    CHECK(json_at(hello, "/limits/slow_client_timeout_ms") == "10000");
    CHECK(json_at(hello, "/voices/0/id") == "starter");
    CHECK(json_at(hello, "/voices/0/langs/1") == "zh");
    CHECK(json_at(hello, "/voices/0/rate") == "24000");
    CHECK(json_at(hello, "/formats/0/codec") == "opus");
    CHECK(json_at(hello, "/formats/1/codec") == "pcm_s16le");
    CHECK(json_at(hello, "/formats/0/rates") == "[48000,24000,16000]");

    CHECK(to_json(OpenedMessage{5, 48000, 960, 312}) ==
          R"({"type":"opened","ctx":5,"rate":48000,"channels":1,"frame_samples":960,"pre_skip":312})");
    CHECK(
        to_json(MarksMessage{5, {{"say \"hi\"", 0, 8, 0, 412.5}}}) ==
        R"({"type":"marks","ctx":5,"items":[{"text":"say \"hi\"","in_start":0,"in_end":8,"t0_ms":0,"t1_ms":412.5}]})");
    CHECK(to_json(FlushedMessage{5, std::string("f\n1"), 1000}) ==
          R"({"type":"flushed","ctx":5,"id":"f\n1","t_ms":1000})");
    CHECK(to_json(FlushedMessage{5, std::int64_t{7}, 0.0004}) == R"({"type":"flushed","ctx":5,"id":7,"t_ms":0})");
    CHECK(to_json(FlushedMessage{5, {}, 1}) == R"({"type":"flushed","ctx":5,"id":null,"t_ms":1})");
    UtteranceMetrics metrics;
    metrics.queue_ms = 1.25;
    metrics.tokens = 50;
    metrics.rtf = 0.125;
    CHECK(to_json(DoneMessage{5, 2000, metrics, 3}) ==
          R"({"type":"done","ctx":5,"audio_ms":2000,"metrics":{"queue_ms":1.25,"text_ms":0,"prefill_ms":0,)"
          R"("first_token_ms":0,"first_audio_ms":0,"tokens":50,"rtf":0.125,"worst_lag_ms":3}})");
    metrics.voice = "anna_small";
    metrics.flow_steps = 2;
    metrics.reduced_segments = 3;
    CHECK(to_json(DoneMessage{5, 2000, metrics, 3})
              .ends_with(R"("worst_lag_ms":3,"voice":"anna_small","flow_steps":2,"reduced_segments":3}})"));
    CHECK(
        to_json(CancelledMessage{5, 900, 500, "Hello", " there"}) ==
        R"({"type":"cancelled","ctx":5,"generated_ms":900,"played_ms":500,"spoken_text":"Hello","remaining_text":" there"})");
    CHECK(to_json(ErrorMessage{5, Error{Errc::unknown_voice, "x"}, std::nullopt}) ==
          R"({"type":"error","ctx":5,"code":"unknown_voice","message":"x"})");
    CHECK(to_json(ErrorMessage{std::nullopt, Error{Errc::overloaded, "x"}, std::chrono::milliseconds(1000)}) ==
          R"({"type":"error","code":"overloaded","message":"x","retry_after_ms":1000})");
    CHECK(to_json(PongMessage{}) == R"({"type":"pong"})");
    CHECK(to_json(PongMessage{std::int64_t{3}}) == R"({"type":"pong","id":3})");
  }

  TEST_CASE("strings survive the way out whatever is in them") {
    std::string all;
    for (int c = 0; c < 128; ++c) all += static_cast<char>(c);
    all += "\u00e9\u4f60\U0001F600";
    CHECK(json_at(to_json(ErrorMessage{std::nullopt, Error{Errc::internal, all}, std::nullopt}), "/message") == all);
    CHECK(json_at(to_json(ErrorMessage{std::nullopt, Error{Errc::internal, "a\xFFz"}, std::nullopt}), "/message") ==
          "a\uFFFDz");
    CHECK(json_at(to_json(FlushedMessage{1, {}, 1e300 * 1e300}), "/t_ms") == "null");
  }

  TEST_CASE("audio headers are little-endian, 20 bytes, and come back") {
    const AudioHeader header{Codec::pcm_s16le, kFrameFirst | kFrameSeam, 0x01020304, 0x05060708, 0x1112131415161718ULL};
    const auto bytes = encode_header(header);
    const std::vector<std::uint8_t> want{1, 2, 5,    0,    4,    3,    2,    1,    8,    7,
                                         6, 5, 0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11};
    CHECK(std::vector<std::uint8_t>(bytes.begin(), bytes.end()) == want);
    const auto back = decode_header(bytes);
    REQUIRE(back);
    CHECK(*back == header);
    for (std::size_t n = 0; n < kAudioHeaderBytes; ++n) CHECK_FALSE(decode_header(std::span(bytes).first(n)));
    for (const auto& [at, value] : {std::pair{0, 2}, {1, 0}, {1, 3}, {2, 8}, {3, 1}}) {
      auto bad = bytes;
      bad[static_cast<std::size_t>(at)] = static_cast<std::uint8_t>(value);
      CHECK_FALSE(decode_header(bad));
    }
  }
}

}  // namespace tts
