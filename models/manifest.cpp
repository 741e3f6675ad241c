#include "models/manifest.h"

#include <algorithm>
#include <fstream>
#include <set>
#include <sstream>
#include <stdexcept>
#include <utility>

#include <simdjson.h>

#include "src/core/safetensors.h"

namespace tts {
namespace {

/// A fault in the manifest, with the path of the key; becomes an Error at the door.
struct Fault : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// The fields of one JSON object: each is taken once, and what is left over is a fault.
class Fields {
 public:
  Fields(simdjson::dom::element element, std::string path) : path_(std::move(path)) {
    if (element.get(object_) != simdjson::SUCCESS) {
      throw Fault((path_.empty() ? std::string("manifest") : path_) + ": wanted an object");
    }
    for (const auto field : object_) {
      if (!left_.emplace(field.key).second) {
        throw Fault(path_of(field.key) + ": given twice");
      }
    }
  }

  [[nodiscard]] bool has(std::string_view key) const { return left_.count(std::string(key)) > 0; }

  Fields object(std::string_view key) { return {take(key), path_of(key)}; }

  std::string string(std::string_view key) {
    std::string_view value;
    if (take(key).get(value) != simdjson::SUCCESS) {
      throw Fault(path_of(key) + ": wanted a string");
    }
    return std::string(value);
  }

  std::int64_t integer(std::string_view key, std::int64_t low, std::int64_t high) {
    return integer(take(key), path_of(key), low, high);
  }

  double number(std::string_view key, double low, double high) {
    double value = 0;
    if (take(key).get(value) != simdjson::SUCCESS || !(value >= low && value <= high)) {
      throw Fault(path_of(key) + ": wanted a number in " + std::to_string(low) + ".." + std::to_string(high));
    }
    return value;
  }

  /// The name of a file in the voice's folder.
  std::filesystem::path file(std::string_view key, const std::filesystem::path& folder) {
    const std::string name = string(key);
    if (name.empty() || name[0] == '.' || name.find_first_of("/\\") != std::string::npos) {
      throw Fault(path_of(key) + ": got \"" + name + "\", wanted the name of a file in the voice's folder");
    }
    return folder / name;
  }

  std::vector<std::string> strings(std::string_view key) {
    simdjson::dom::array array;
    if (take(key).get(array) != simdjson::SUCCESS || array.size() == 0) {
      throw Fault(path_of(key) + ": wanted a list of strings, at least one");
    }
    std::vector<std::string> out;
    for (const auto element : array) {
      std::string_view value;
      if (element.get(value) != simdjson::SUCCESS) {
        throw Fault(path_of(key) + ": wanted strings only");
      }
      out.emplace_back(value);
    }
    return out;
  }

  std::optional<AttentionWindow> window(std::string_view key) {
    const simdjson::dom::element element = take(key);
    if (element.is_null()) {
      return std::nullopt;
    }
    simdjson::dom::array array;
    if (element.get(array) != simdjson::SUCCESS || array.size() != 2) {
      throw Fault(path_of(key) + ": wanted [left, right] or null");
    }
    return AttentionWindow{integer(array.at(0), path_of(key) + "[0]", 0, 100000),
                           integer(array.at(1), path_of(key) + "[1]", 0, 100000)};
  }

  void expect(std::string_view key, std::string_view wanted) {
    const std::string got = string(key);
    if (got != wanted) {
      throw Fault(path_of(key) + ": got \"" + got + "\", wanted \"" + std::string(wanted) + "\"");
    }
  }

  void end() const {
    if (!left_.empty()) {
      throw Fault(path_of(*left_.begin()) + ": unknown key");
    }
  }

  [[nodiscard]] std::string path_of(std::string_view key) const {
    return path_.empty() ? std::string(key) : path_ + "." + std::string(key);
  }

 private:
  simdjson::dom::element take(std::string_view key) {
    const auto found = left_.find(std::string(key));
    if (found == left_.end()) {
      throw Fault(path_of(key) + ": missing");
    }
    left_.erase(found);
    return object_.at_key(key).value();
  }

  static std::int64_t integer(simdjson::simdjson_result<simdjson::dom::element> element, const std::string& path,
                              std::int64_t low, std::int64_t high) {
    std::int64_t value = 0;
    if (element.get(value) != simdjson::SUCCESS || value < low || value > high) {
      throw Fault(path + ": wanted an integer in " + std::to_string(low) + ".." + std::to_string(high));
    }
    return value;
  }

  simdjson::dom::object object_;
  std::string path_;
  std::set<std::string> left_;
};

constexpr std::int64_t kMaxSize = 1 << 20;

void divides(std::int64_t parts, std::int64_t whole, const std::string& path) {
  if (whole % parts != 0) {
    throw Fault(path + ": got " + std::to_string(parts) + ", wanted a divisor of " + std::to_string(whole));
  }
}

VoiceManifest read(simdjson::dom::element root, const std::filesystem::path& folder) {
  VoiceManifest m;
  m.folder = folder;
  Fields top(root, "");
  (void)top.integer("format", 1, 1);
  m.id = top.string("id");
  if (m.id.empty() || m.id.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_-") != std::string::npos) {
    throw Fault("id: got \"" + m.id + "\", wanted [a-z0-9_-]+");
  }
  m.name = top.string("name");
  m.languages = top.strings("languages");
  m.sample_rate_hz = top.integer("sample_rate_hz", SourceFilterVocoder::kRateHz, SourceFilterVocoder::kRateHz);
  m.license = top.string("license");

  Fields text = top.object("text");
  m.word_separator = text.string("word_separator");
  text.end();

  Fields t2s = top.object("t2s");
  m.t2s.file = t2s.file("file", folder);
  m.t2s.config.layers = t2s.integer("layers", 1, 1000);
  m.t2s.config.hidden = t2s.integer("hidden", 1, kMaxSize);
  m.t2s.config.heads = t2s.integer("heads", 1, kMaxSize);
  divides(m.t2s.config.heads, m.t2s.config.hidden, "t2s.heads");
  m.t2s.config.phoneme_vocab = t2s.integer("phoneme_vocab", 1, kMaxSize);
  m.t2s.config.vocab = t2s.integer("vocab", 2, kMaxSize);
  m.t2s.config.bert_dim = t2s.integer("bert_dim", 0, kMaxSize);
  if (t2s.has("max_tokens")) {
    m.t2s.config.max_tokens = t2s.integer("max_tokens", 1, 4000);
  }
  Fields sampling = t2s.object("sampling");
  m.t2s.sampling.top_k = static_cast<int>(sampling.integer("top_k", 1, kMaxSize));
  m.t2s.sampling.top_p = static_cast<float>(sampling.number("top_p", 1e-6, 1.0));
  m.t2s.sampling.temperature = static_cast<float>(sampling.number("temperature", 1e-5, 100.0));
  m.t2s.sampling.repetition_penalty = static_cast<float>(sampling.number("repetition_penalty", 1.0, 100.0));
  m.t2s.sampling.min_tokens = sampling.integer("min_tokens", 0, 4000);
  sampling.end();
  t2s.end();

  Fields acoustic = top.object("acoustic");
  AcousticConfig& a = m.acoustic.config;
  m.acoustic.file = acoustic.file("file", folder);
  const std::pair<const char*, std::int64_t*> sizes[] = {
      {"codes", &a.codes},           {"code_dim", &a.code_dim},       {"phonemes", &a.phonemes},
      {"hidden", &a.hidden},         {"filter", &a.filter},           {"heads", &a.heads},
      {"layers_ssl", &a.layers_ssl}, {"layers_text", &a.layers_text}, {"layers_post", &a.layers_post},
      {"mrte_dim", &a.mrte_dim},     {"mrte_heads", &a.mrte_heads},   {"ref_bins", &a.ref_bins},
      {"style_dim", &a.style_dim},   {"feature_dim", &a.feature_dim}, {"wns_layers", &a.wns_layers},
  };
  for (const auto& [key, value] : sizes) {
    *value = acoustic.integer(key, 1, kMaxSize);
  }
  divides(a.heads, a.hidden, "acoustic.heads");
  divides(a.mrte_heads, a.mrte_dim, "acoustic.mrte_heads");
  divides(2, a.style_dim, "acoustic.style_dim");
  a.attention_window = acoustic.window("attention_window");
  a.steps = static_cast<int>(acoustic.integer("steps", 1, 64));
  Fields estimator = acoustic.object("estimator");
  estimator.expect("type", "causal_convnext");
  a.estimator.features = a.feature_dim;
  a.estimator.dim = estimator.integer("dim", 1, kMaxSize);
  a.estimator.inner = estimator.integer("ff", 1, kMaxSize);
  a.estimator.layers = estimator.integer("layers", 1, 1000);
  a.estimator.kernel = estimator.integer("kernel", 1, 1000);
  estimator.end();
  acoustic.end();
  if (m.t2s.config.vocab != a.codes + 1) {
    throw Fault("t2s.vocab: got " + std::to_string(m.t2s.config.vocab) +
                ", wanted acoustic.codes + 1 = " + std::to_string(a.codes + 1));
  }
  if (m.t2s.config.phoneme_vocab != a.phonemes) {
    throw Fault("t2s.phoneme_vocab: got " + std::to_string(m.t2s.config.phoneme_vocab) +
                ", wanted acoustic.phonemes = " + std::to_string(a.phonemes));
  }

  Fields vocoder = top.object("vocoder");
  m.vocoder.file = vocoder.file("file", folder);
  vocoder.expect("type", "source_filter_istft");
  SourceFilterConfig& v = m.vocoder.config;
  v.dim = vocoder.integer("dim", 1, kMaxSize);
  v.inner = vocoder.integer("ff", 1, kMaxSize);
  v.layers = vocoder.integer("layers", 1, 1000);
  v.f0_dim = vocoder.integer("f0_dim", 1, kMaxSize);
  v.f0_inner = vocoder.integer("f0_ff", 1, kMaxSize);
  v.f0_layers = vocoder.integer("f0_layers", 1, 1000);
  vocoder.end();

  Fields reference = top.object("reference");
  m.reference = reference.file("file", folder);
  reference.end();
  top.end();
  return m;
}

}  // namespace

Result<VoiceManifest> parse_manifest(const std::string& json, const std::filesystem::path& folder) {
  const std::string file = (folder / "manifest.json").string();
  simdjson::dom::parser parser;
  simdjson::dom::element root;
  const simdjson::padded_string padded(json);
  if (const auto error = parser.parse(padded).get(root); error != simdjson::SUCCESS) {
    return Error{Errc::bad_file, file + ": " + simdjson::error_message(error)};
  }
  try {
    return read(root, folder);
  } catch (const Fault& fault) {
    return Error{Errc::bad_file, file + ": " + fault.what()};
  }
}

Result<VoiceManifest> load_manifest(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / "manifest.json";
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  if (!in) {
    return Error{Errc::bad_file, path.string() + ": cannot be read"};
  }
  return parse_manifest(text.str(), folder);
}

AcousticModel load_acoustic_model(const VoiceManifest& manifest) {
  return {WeightScope(load_weights(manifest.acoustic.file)), manifest.acoustic.config,
          WeightScope(load_weights(manifest.vocoder.file)), manifest.vocoder.config};
}

AcousticModel::Speaker load_speaker(const VoiceManifest& manifest, const AcousticModel& model) {
  const Result<SafeTensors> file = SafeTensors::open(manifest.reference);
  if (!file) {
    throw ModelError(file.error().detail);
  }
  const std::shared_ptr<const WeightSource> tensors = load_weights(manifest.reference);
  if (file->find("ge") != nullptr) {
    return model.make_speaker(tensors->get("ge", {manifest.acoustic.config.mrte_dim}));
  }
  if (const TensorView* mel = file->find("mel"); mel != nullptr && mel->shape.size() == 2) {
    return model.make_speaker_from_mel(tensors->get("mel", {mel->shape[0], manifest.acoustic.config.ref_bins}));
  }
  throw ModelError(manifest.reference.string() + ": wanted a tensor \"ge\" [" +
                   std::to_string(manifest.acoustic.config.mrte_dim) + "] or \"mel\" [frames, " +
                   std::to_string(manifest.acoustic.config.ref_bins) + "]");
}

}  // namespace tts
