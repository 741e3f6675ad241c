#include "models/manifest.h"

#include <algorithm>
#include <fstream>
#include <initializer_list>
#include <set>
#include <sstream>
#include <stdexcept>
#include <system_error>
#include <utility>

#include <simdjson.h>

#include "models/mel_shift.h"
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

  /// Positive integers, at least one.
  std::vector<std::int64_t> integers(std::string_view key, std::int64_t high) {
    simdjson::dom::array array;
    if (take(key).get(array) != simdjson::SUCCESS || array.size() == 0 || array.size() > 16) {
      throw Fault(path_of(key) + ": wanted a list of 1..16 integers");
    }
    std::vector<std::int64_t> out;
    for (const auto element : array) {
      out.push_back(
          integer(simdjson::dom::element(element), path_of(key) + "[" + std::to_string(out.size()) + "]", 1, high));
    }
    return out;
  }

  /// Integer or null.
  std::optional<std::int64_t> integer_or_null(std::string_view key, std::int64_t low, std::int64_t high) {
    const simdjson::dom::element element = take(key);
    if (element.is_null()) {
      return std::nullopt;
    }
    return integer(simdjson::dom::element(element), path_of(key), low, high);
  }

  /// Takes what is left as strings, by key.
  std::vector<std::pair<std::string, std::string>> rest() {
    std::vector<std::pair<std::string, std::string>> out;
    while (!left_.empty()) {
      const std::string key = *left_.begin();
      out.emplace_back(key, string(key));
    }
    return out;
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

std::string identifier(Fields& fields, std::string_view key) {
  std::string id = fields.string(key);
  if (id.empty() || id.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_-") != std::string::npos) {
    throw Fault(fields.path_of(key) + ": got \"" + id + "\", wanted [a-z0-9_-]+");
  }
  return id;
}

/// What both formats say of a voice.
void read_head(Fields& top, std::int64_t rate_hz, VoiceManifest& m) {
  m.id = identifier(top, "id");
  m.name = top.string("name");
  m.languages = top.strings("languages");
  m.sample_rate_hz = top.integer("sample_rate_hz", rate_hz, rate_hz);
  m.license = top.string("license");
  Fields text = top.object("text");
  m.word_separator = text.string("word_separator");
  text.end();
}

/// Sizes that may be left out.
using Sizes = std::initializer_list<std::pair<const char*, std::int64_t*>>;
void read_sizes(Fields& fields, const Sizes& sizes) {
  for (const auto& [key, value] : sizes) {
    if (fields.has(key)) {
      *value = fields.integer(key, 1, kMaxSize);
    }
  }
}

/// Widths that a pruned T2S has.
void read_t2s_widths(Fields& t2s, T2SConfig& c) {
  read_sizes(t2s, {{"filter", &c.filter}, {"head_dim", &c.head_dim}});
  if (c.head_dim == 0) {
    divides(c.heads, c.hidden, "t2s.heads");
  }
}

void read_published_t2s(Fields t2s, const std::filesystem::path& folder, ModelForm form, VoiceManifest& m) {
  T2SConfig& c = m.t2s.config;
  c = T2SConfig{};
  c.phoneme_vocab = form == ModelForm::v1 ? 512 : 732;
  m.t2s.file = t2s.file("file", folder);
  read_sizes(t2s, {{"layers", &c.layers},
                   {"hidden", &c.hidden},
                   {"heads", &c.heads},
                   {"phoneme_vocab", &c.phoneme_vocab},
                   {"vocab", &c.vocab}});
  if (t2s.has("bert_dim")) {
    c.bert_dim = t2s.integer("bert_dim", 0, kMaxSize);
  }
  if (t2s.has("max_tokens")) {
    c.max_tokens = t2s.integer("max_tokens", 1, 4000);
  }
  read_t2s_widths(t2s, c);
  if (t2s.has("sampling")) {
    Fields sampling = t2s.object("sampling");
    SamplingParams& p = m.t2s.sampling;
    if (sampling.has("top_k")) {
      p.top_k = static_cast<int>(sampling.integer("top_k", 1, kMaxSize));
    }
    if (sampling.has("top_p")) {
      p.top_p = static_cast<float>(sampling.number("top_p", 1e-6, 1.0));
    }
    if (sampling.has("temperature")) {
      p.temperature = static_cast<float>(sampling.number("temperature", 1e-5, 100.0));
    }
    if (sampling.has("repetition_penalty")) {
      p.repetition_penalty = static_cast<float>(sampling.number("repetition_penalty", 1.0, 100.0));
    }
    if (sampling.has("min_tokens")) {
      p.min_tokens = sampling.integer("min_tokens", 0, 4000);
    }
    sampling.end();
  }
  t2s.end();
}

/// Rates and kernels of a generator that starts with `channels` and gives `samples` for a frame.
void read_upsampling(Fields& fields, const char* channels_key, std::int64_t& channels, std::int64_t samples,
                     PublishedConfig& c) {
  read_sizes(fields, {{channels_key, &channels}});
  if (fields.has("upsample_rates")) {
    c.upsample_rates = fields.integers("upsample_rates", 1000);
  }
  if (fields.has("upsample_kernels")) {
    c.upsample_kernels = fields.integers("upsample_kernels", 1000);
  }
  std::int64_t product = 1;
  for (const std::int64_t rate : c.upsample_rates) {
    product = std::min(product * rate, kMaxSize);
  }
  if (product != samples) {
    throw Fault(fields.path_of("upsample_rates") + ": got a product of " + std::to_string(product) + ", wanted " +
                std::to_string(samples));
  }
  bool fits = c.upsample_kernels.size() == c.upsample_rates.size();
  for (std::size_t i = 0; fits && i < c.upsample_rates.size(); ++i) {
    const std::int64_t more = c.upsample_kernels[i] - c.upsample_rates[i];
    fits = more >= 0 && more % 2 == 0;
  }
  if (!fits) {
    throw Fault(fields.path_of("upsample_kernels") +
                ": wanted one for each rate, as large as the rate or larger by an even number");
  }
  divides(std::int64_t{1} << c.upsample_rates.size(), channels, fields.path_of(channels_key));
}

/// What of a flow's schedule is optional in both formats.
void read_flow(Fields& acoustic, FlowSchedule& flow) {
  if (acoustic.has("solver")) {
    const auto solver = parse_flow_solver(acoustic.string("solver"));
    if (!solver) {
      throw Fault(acoustic.path_of("solver") + ": " + solver.error().detail);
    }
    flow.solver = *solver;
  }
  if (acoustic.has("grid")) {
    const auto grid = parse_flow_grid(acoustic.string("grid"));
    if (!grid) {
      throw Fault(acoustic.path_of("grid") + ": " + grid.error().detail);
    }
    flow.grid = *grid;
  }
  if (acoustic.has("temperature")) flow.temperature = acoustic.number("temperature", 0.0, 2.0);
}

void read_published_acoustic(Fields a, const std::filesystem::path& folder, VoiceManifest& m) {
  PublishedConfig& c = *m.published;
  m.acoustic.file = a.file("file", folder);
  read_sizes(a, {{"codes", &c.codes},
                 {"code_dim", &c.code_dim},
                 {"phonemes", &c.phonemes},
                 {"hidden", &c.hidden},
                 {"filter", &c.filter},
                 {"heads", &c.heads},
                 {"layers_ssl", &c.layers_ssl},
                 {"layers_text", &c.layers_text},
                 {"layers_post", &c.layers_post},
                 {"mrte_dim", &c.mrte_dim},
                 {"mrte_heads", &c.mrte_heads},
                 {"ref_bins", &c.ref_bins},
                 {"style_dim", &c.style_dim},
                 {"ssl_dim", &c.ssl_dim}});
  if (!has_speaker_network(c.form)) {
    c.ge_dim = c.mrte_dim;
  }
  read_sizes(a, {{"ge_dim", &c.ge_dim}});
  if (has_speaker_network(c.form)) {
    read_sizes(a, {{"speaker_dim", &c.speaker_dim}});
  } else if (c.ge_dim != c.mrte_dim) {
    throw Fault("acoustic.ge_dim: got " + std::to_string(c.ge_dim) +
                ", wanted acoustic.mrte_dim = " + std::to_string(c.mrte_dim));
  }
  if (a.has("lookahead_tokens")) {
    c.lookahead = a.integer_or_null("lookahead_tokens", 0, 100);
  }
  divides(c.heads, c.hidden, "acoustic.heads");
  divides(c.mrte_heads, c.mrte_dim, "acoustic.mrte_heads");
  divides(2, c.style_dim, "acoustic.style_dim");
  divides(2, c.hidden, "acoustic.hidden");
  if (uses_flow_matching(c.form)) {
    read_sizes(a, {{"feature_dim", &c.feature_dim},
                   {"wns_layers", &c.wns_layers},
                   {"dit_dim", &c.dit.dim},
                   {"dit_depth", &c.dit.depth},
                   {"dit_heads", &c.dit.heads},
                   {"dit_text_layers", &c.dit.text_layers},
                   {"dit_filter", &c.dit.filter},
                   {"mel_bands", &c.dit.mel}});
    c.dit.text_dim = c.feature_dim;
    if (a.has("steps")) {
      c.flow.steps = static_cast<int>(a.integer("steps", 1, 128));
    }
    read_flow(a, c.flow);
    if (a.has("guidance")) {
      c.flow.guidance = a.number("guidance", 0.0, 10.0);
    }
    if (a.has("prompt_frames")) {
      c.prompt_frames = a.integer("prompt_frames", 1, c.form == ModelForm::v3 ? 468 : 500);
    }
  } else {
    read_sizes(a, {{"flow_layers", &c.flow_layers}});
    if (a.has("flow_ahead_frames")) {
      c.flow_ahead = a.integer("flow_ahead_frames", 0, 1000);
    }
    read_upsampling(a, "decoder_channels", c.decoder_channels, 640, c);
  }
  a.end();
}

VoiceManifest read_published(Fields top, const std::filesystem::path& folder) {
  VoiceManifest m;
  m.folder = folder;
  const std::string name = top.string("form");
  const auto form = parse_model_form(name);
  if (!form) {
    throw Fault("form: got \"" + name + "\", wanted v1, v2, v2pro, v2proplus, v3 or v4");
  }
  m.published = published_config(*form);
  read_head(top, sample_rate_hz(*form), m);
  m.pause_ms = 300;
  if (top.has("pause_ms")) {
    m.pause_ms = static_cast<int>(top.integer("pause_ms", 0, 5000));
  }
  if (top.has("model")) {
    m.model = (folder / "..").lexically_normal() / identifier(top, "model");
  } else {
    read_published_t2s(top.object("t2s"), folder, *form, m);
    read_published_acoustic(top.object("acoustic"), folder, m);
    PublishedConfig& c = *m.published;
    if (m.t2s.config.vocab != c.codes + 1) {
      throw Fault("t2s.vocab: got " + std::to_string(m.t2s.config.vocab) +
                  ", wanted acoustic.codes + 1 = " + std::to_string(c.codes + 1));
    }
    if (uses_flow_matching(*form)) {
      Fields vocoder = top.object("vocoder");
      m.vocoder.file = vocoder.file("file", folder);
      read_upsampling(vocoder, "channels", c.vocoder_channels, *form == ModelForm::v3 ? 256 : 480, c);
      vocoder.end();
    }
  }
  if (top.has("reference")) {
    Fields reference = top.object("reference");
    m.reference = reference.file("file", folder);
    reference.end();
  } else if (!m.model.empty()) {
    throw Fault("reference: missing (a folder that names a model is a voice)");
  }
  if (top.has("sha256")) {
    for (const auto& [file, sum] : top.object("sha256").rest()) {
      if (sum.size() != 64 || sum.find_first_not_of("0123456789abcdef") != std::string::npos) {
        throw Fault("sha256." + file + ": got \"" + sum + "\", wanted 64 lower-case hex digits");
      }
    }
  }
  top.end();
  return m;
}

/// The networks of the starter form.
void read_starter_networks(Fields& top, const std::filesystem::path& folder, VoiceManifest& m) {
  Fields t2s = top.object("t2s");
  m.t2s.file = t2s.file("file", folder);
  m.t2s.config.layers = t2s.integer("layers", 1, 1000);
  m.t2s.config.hidden = t2s.integer("hidden", 1, kMaxSize);
  m.t2s.config.heads = t2s.integer("heads", 1, kMaxSize);
  read_t2s_widths(t2s, m.t2s.config);
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
  a.flow.steps = static_cast<int>(acoustic.integer("steps", 1, 64));
  read_flow(acoustic, a.flow);
  if (acoustic.has("postfilter")) a.postfilter = acoustic.number("postfilter", 0.0, 2.0);
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
  if (vocoder.has("gain_db")) {
    v.gain_db = vocoder.number("gain_db", -40.0, 40.0);
  }
  vocoder.end();

  if (top.has("tokenizer")) {
    Fields tokenizer = top.object("tokenizer");
    VoiceManifest::TokenizerPart& part = m.tokenizer.emplace();
    part.file = tokenizer.file("file", folder);
    part.config.dim = tokenizer.integer("dim", 1, kMaxSize);
    part.config.layers = tokenizer.integer("layers", 1, 1000);
    part.config.mel_bands = tokenizer.integer("mel_bands", 1, 1000);
    tokenizer.end();
  }
}

VoiceManifest read(simdjson::dom::element root, const std::filesystem::path& folder) {
  VoiceManifest m;
  m.folder = folder;
  Fields top(root, "");
  if (top.integer("format", 1, 2) == 2) {
    return read_published(std::move(top), folder);
  }
  read_head(top, SourceFilterVocoder::kRateHz, m);
  if (top.has("model")) {
    m.model = (folder / "..").lexically_normal() / identifier(top, "model");
  } else {
    read_starter_networks(top, folder, m);
  }
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

namespace {

Result<VoiceManifest> read_manifest_file(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / "manifest.json";
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  if (!in) {
    return Error{Errc::bad_file, path.string() + ": cannot be read"};
  }
  return parse_manifest(text.str(), folder);
}

/// A manifest of the same format as `voice` that names no other model.
Result<VoiceManifest> load_own_networks(const std::filesystem::path& folder, const VoiceManifest& voice) {
  Result<VoiceManifest> m = read_manifest_file(folder);
  if (m && (m->published.has_value() != voice.published.has_value() || !m->model.empty())) {
    return Error{
        Errc::bad_file,
        (folder / "manifest.json").string() +
            (voice.published ? ": got no networks of a published form, wanted a manifest of format 2 with them"
                             : ": got no networks of the starter form, wanted a manifest of format 1 with them")};
  }
  return m;
}

}  // namespace

Result<VoiceManifest> load_manifest(const std::filesystem::path& folder) {
  Result<VoiceManifest> voice = read_manifest_file(folder);
  if (!voice || voice->model.empty()) {
    return voice;
  }
  const std::string label = (folder / "manifest.json").string() + ": model: ";
  std::error_code fault;
  if (std::filesystem::equivalent(voice->model, folder, fault)) {
    return Error{Errc::bad_file, label + "got this folder itself, wanted another"};
  }
  const Result<VoiceManifest> model = load_own_networks(voice->model, *voice);
  if (!model) {
    return Error{Errc::bad_file, label + model.error().detail};
  }
  if (model->published && model->published->form != voice->published->form) {
    return Error{Errc::bad_file, label + "got a model of the form " + std::string(to_string(model->published->form)) +
                                     ", wanted " + std::string(to_string(voice->published->form))};
  }
  voice->published = model->published;
  voice->t2s = model->t2s;
  voice->acoustic = model->acoustic;
  voice->vocoder = model->vocoder;
  voice->tokenizer = model->tokenizer;
  return voice;
}

AcousticModel load_acoustic_model(const VoiceManifest& manifest, Precision precision) {
  return {WeightScope(load_weights(manifest.acoustic.file)).with(precision), manifest.acoustic.config,
          WeightScope(load_weights(manifest.vocoder.file)).with(precision), manifest.vocoder.config};
}

namespace {

/// The speaker's fit of a reference file, if it has one.
SpeakerFit load_speaker_fit(const VoiceManifest& manifest, const WeightSource& tensors) {
  if (!tensors.has("fit.style")) return {};
  const AcousticConfig& c = manifest.acoustic.config;
  SpeakerFit fit{.style = tensors.get("fit.style", {c.mrte_dim}),
                 .conditioning = tensors.get("fit.conditioning", {c.wns_layers, 2 * c.feature_dim}),
                 .norms = tensors.get("fit.norms", {c.estimator.layers, 3 * c.estimator.dim}),
                 .out_norm = tensors.get("fit.out_norm", {2 * c.estimator.dim})};
  check_speaker_fit(fit, c);
  return fit;
}

}  // namespace

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
    AcousticModel::Speaker speaker = model.make_speaker_from_mel(
        tensors->get("mel", {mel->shape[0], manifest.acoustic.config.ref_bins}), load_speaker_fit(manifest, *tensors));
    if (file->find("mel_shift") != nullptr) {
      speaker.mel_shift = tensors->get("mel_shift", {manifest.acoustic.config.estimator.mel});
      check_mel_shift(speaker.mel_shift);
    }
    return speaker;
  }
  throw ModelError(manifest.reference.string() + ": wanted a tensor \"ge\" [" +
                   std::to_string(manifest.acoustic.config.mrte_dim) + "] or \"mel\" [frames, " +
                   std::to_string(manifest.acoustic.config.ref_bins) + "]");
}

}  // namespace tts
