#include "models/huggingface.h"

#include <fstream>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>

#include <simdjson.h>

namespace tts {
namespace {

namespace fs = std::filesystem;
using Element = simdjson::dom::element;

constexpr std::uintmax_t kMaxFileBytes = 64U << 20U;
constexpr std::int64_t kMaxSize = 1 << 20;

/// A fault of the file; becomes an Error at the door.
struct Fault : std::runtime_error {
  using std::runtime_error::runtime_error;
};

std::int64_t integer(Element e, const std::string& key, std::int64_t low = 1, std::int64_t high = kMaxSize) {
  std::int64_t value = 0;
  if (e.get(value) != simdjson::SUCCESS || value < low || value > high) {
    throw Fault(key + ": got " + simdjson::minify(e) + ", wanted an integer in " + std::to_string(low) + ".." +
                std::to_string(high));
  }
  return value;
}

Element required(Element object, const char* key) {
  Element value;
  if (object[key].get(value) != simdjson::SUCCESS) throw Fault(std::string(key) + " is missing");
  return value;
}

std::int64_t size_of(Element object, const char* key) {
  return integer(required(object, key), key);
}

std::vector<std::int64_t> sizes_of(Element object, const char* key) {
  simdjson::dom::array array;
  if (required(object, key).get(array) != simdjson::SUCCESS) throw Fault(std::string(key) + ": wanted an array");
  std::vector<std::int64_t> values;
  for (const Element e : array) values.push_back(integer(e, key));
  return values;
}

double eps_of(Element object, double otherwise) {
  Element e;
  if (object["layer_norm_eps"].get(e) != simdjson::SUCCESS) return otherwise;
  double value = 0;
  if (e.get(value) != simdjson::SUCCESS || !(value > 0 && value < 1)) {
    throw Fault("layer_norm_eps: got " + simdjson::minify(e) + ", wanted a number in (0, 1)");
  }
  return value;
}

/// Refuses a key that is there with another value than the one this build computes.
template <class T>
void only(Element object, const char* key, const T& supported) {
  Element e;
  if (object[key].get(e) != simdjson::SUCCESS || e.is_null()) return;
  T value{};
  if (e.get(value) != simdjson::SUCCESS || value != supported) {
    throw Fault(std::string(key) + ": " + simdjson::minify(e) + " is not supported");
  }
}

/// Refuses a component of another type.
void kind(Element component, const char* what, std::string_view supported) {
  std::string_view type;
  if (component["type"].get(type) != simdjson::SUCCESS || type != supported) {
    throw Fault(std::string(what) + ".type: got " + (type.empty() ? std::string("none") : std::string(type)) +
                ", wanted " + std::string(supported));
  }
}

bool flag(Element object, const char* key, bool otherwise) {
  Element e;
  if (object[key].get(e) != simdjson::SUCCESS || e.is_null()) return otherwise;
  bool value = false;
  if (e.get(value) != simdjson::SUCCESS) throw Fault(std::string(key) + ": wanted true or false");
  return value;
}

std::string text(Element object, const char* key, std::string otherwise) {
  Element e;
  if (object[key].get(e) != simdjson::SUCCESS) return otherwise;
  std::string_view value;
  if (e.get(value) != simdjson::SUCCESS) throw Fault(std::string(key) + ": wanted a string");
  return std::string(value);
}

/// Calls `read` with the document; what it throws, and JSON that is none, become an Error.
template <class T, class Read>
Result<T> parse(std::string_view json, Read&& read) {
  simdjson::dom::parser parser;
  Element root;
  const simdjson::padded_string padded(json);
  if (const auto error = parser.parse(padded).get(root); error != simdjson::SUCCESS) {
    return Error{Errc::bad_file, std::string("not JSON: ") + simdjson::error_message(error)};
  }
  try {
    if (!root.is_object()) throw Fault("wanted an object");
    return read(root);
  } catch (const Fault& fault) {
    return Error{Errc::bad_file, fault.what()};
  }
}

Result<std::string> read_file(const fs::path& path) {
  std::error_code error;
  const std::uintmax_t size = fs::file_size(path, error);
  if (error) return Error{Errc::bad_file, path.string() + ": " + error.message()};
  if (size > kMaxFileBytes) {
    return Error{Errc::bad_file, path.string() + ": got " + std::to_string(size) + " bytes, wanted at most " +
                                     std::to_string(kMaxFileBytes)};
  }
  std::ifstream file(path, std::ios::binary);
  std::string bytes(static_cast<std::size_t>(size), '\0');
  if (!file.read(bytes.data(), static_cast<std::streamsize>(size))) {
    return Error{Errc::bad_file, path.string() + ": cannot be read"};
  }
  return bytes;
}

template <class T, class Parse>
Result<T> read_and_parse(const fs::path& path, Parse&& parse_text) {
  const Result<std::string> bytes = read_file(path);
  if (!bytes) return bytes.error();
  Result<T> parsed = parse_text(*bytes);
  if (!parsed) return Error{parsed.error().code, path.string() + ": " + parsed.error().detail};
  return parsed;
}

}  // namespace

Result<BertConfig> parse_bert_config(std::string_view json) {
  return parse<BertConfig>(json, [](Element root) {
    only<std::string_view>(root, "hidden_act", "gelu");
    only<std::string_view>(root, "position_embedding_type", "absolute");
    BertConfig c;
    c.vocab = size_of(root, "vocab_size");
    c.hidden = size_of(root, "hidden_size");
    c.layers = size_of(root, "num_hidden_layers");
    c.heads = size_of(root, "num_attention_heads");
    c.ff = size_of(root, "intermediate_size");
    c.positions = size_of(root, "max_position_embeddings");
    c.types = size_of(root, "type_vocab_size");
    c.eps = eps_of(root, c.eps);
    return c;
  });
}

Result<HubertConfig> parse_hubert_config(std::string_view json) {
  return parse<HubertConfig>(json, [](Element root) {
    only<std::string_view>(root, "hidden_act", "gelu");
    only<std::string_view>(root, "feat_extract_activation", "gelu");
    only<std::string_view>(root, "feat_extract_norm", "group");
    only(root, "conv_bias", false);
    only(root, "do_stable_layer_norm", false);
    only(root, "feat_proj_layer_norm", true);
    only(root, "conv_pos_batch_norm", false);
    HubertConfig c;
    c.conv_channels = sizes_of(root, "conv_dim");
    c.conv_kernels = sizes_of(root, "conv_kernel");
    c.conv_strides = sizes_of(root, "conv_stride");
    c.hidden = size_of(root, "hidden_size");
    c.layers = size_of(root, "num_hidden_layers");
    c.heads = size_of(root, "num_attention_heads");
    c.ff = size_of(root, "intermediate_size");
    c.position_kernel = size_of(root, "num_conv_pos_embeddings");
    c.position_groups = size_of(root, "num_conv_pos_embedding_groups");
    c.eps = eps_of(root, c.eps);
    return c;
  });
}

Result<WordPiece> parse_tokenizer(std::string_view json) {
  Result<std::pair<WordPiece::Vocabulary, WordPieceOptions>> parts =
      parse<std::pair<WordPiece::Vocabulary, WordPieceOptions>>(json, [](Element root) {
        const Element normalizer = required(root, "normalizer");
        kind(normalizer, "normalizer", "BertNormalizer");
        kind(required(root, "pre_tokenizer"), "pre_tokenizer", "BertPreTokenizer");
        const Element model = required(root, "model");
        only<std::string_view>(model, "type", "WordPiece");
        WordPieceOptions options;
        options.clean = flag(normalizer, "clean_text", options.clean);
        options.split_chinese = flag(normalizer, "handle_chinese_chars", options.split_chinese);
        options.lowercase = flag(normalizer, "lowercase", options.lowercase);
        options.strip_accents = flag(normalizer, "strip_accents", options.lowercase);  // null: as lowercase
        options.unknown = text(model, "unk_token", options.unknown);
        options.continuation = text(model, "continuing_subword_prefix", options.continuation);
        Element longest;
        if (model["max_input_chars_per_word"].get(longest) == simdjson::SUCCESS) {
          options.max_word = static_cast<std::size_t>(integer(longest, "max_input_chars_per_word"));
        }
        simdjson::dom::object entries;
        if (required(model, "vocab").get(entries) != simdjson::SUCCESS) throw Fault("vocab: wanted an object");
        WordPiece::Vocabulary vocabulary;
        vocabulary.reserve(entries.size());
        for (const auto entry : entries) {
          const std::int64_t id =
              integer(entry.value, "vocab." + std::string(entry.key), 0, std::numeric_limits<std::int32_t>::max());
          vocabulary.insert_or_assign(std::string(entry.key), static_cast<std::int32_t>(id));
        }
        return std::pair(std::move(vocabulary), std::move(options));
      });
  if (!parts) return parts.error();
  return WordPiece::make(std::move(parts->first), std::move(parts->second));
}

Result<BertConfig> read_bert_config(const fs::path& file) {
  return read_and_parse<BertConfig>(file, parse_bert_config);
}

Result<HubertConfig> read_hubert_config(const fs::path& file) {
  return read_and_parse<HubertConfig>(file, parse_hubert_config);
}

Result<WordPiece> load_tokenizer(const fs::path& folder) {
  const fs::path json = folder / "tokenizer.json";
  std::error_code error;
  if (fs::exists(json, error)) return read_and_parse<WordPiece>(json, parse_tokenizer);
  return read_and_parse<WordPiece>(folder / "vocab.txt",
                                   [](std::string_view lines) { return WordPiece::from_lines(lines); });
}

}  // namespace tts
