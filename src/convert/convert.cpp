#include "src/convert/convert.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <map>
#include <memory>
#include <set>
#include <system_error>
#include <utility>

#include "src/convert/checkpoint.h"
#include "src/convert/lora.h"
#include "src/convert/wording.h"
#include "src/core/digest.h"
#include "src/core/json_string.h"
#include "src/core/utf8.h"

namespace tts {
namespace {

namespace fs = std::filesystem;
using Kind = PickleValue::Kind;
using Index = std::map<std::string_view, const TensorView*>;

Error bad_file(const std::string& label, const std::string& what) {
  return {Errc::bad_file, label + ": " + what};
}
Error bad_request(const std::string& what) {
  return {Errc::unsupported_format, what};
}

// ---- What a file holds ----------------------------------------------------------------------------------------------

/// One of the given files, read.
struct Source {
  std::shared_ptr<Checkpoint> file;
  NetworkKind kind = NetworkKind::t2s;
  std::vector<TensorView> tensors;
  const PickleValue* config = nullptr;  ///< nullptr when it has none
  std::int64_t rank = 0;                ///< of a LoRA, 0 when not said
};

bool has(const std::vector<TensorView>& tensors, std::string_view name) {
  return std::ranges::find(tensors, name, &TensorView::name) != tensors.end();
}
bool has_prefix(const std::vector<TensorView>& tensors, std::string_view prefix) {
  return std::ranges::any_of(tensors, [&](const TensorView& tensor) { return tensor.name.starts_with(prefix); });
}

void rename_part(std::string& name, std::string_view part, std::string_view better) {
  if (name.ends_with(part)) name.replace(name.size() - part.size(), part.size(), better);
}

/// Prefixes that wrappers leave, and the newer spelling of weight norm.
void tidy_names(std::vector<TensorView>& tensors) {
  constexpr std::string_view kParallel = "module.";
  const bool is_wrapped = !tensors.empty() && std::ranges::all_of(tensors, [&](const TensorView& tensor) {
    return tensor.name.starts_with(kParallel);
  });
  for (TensorView& tensor : tensors) {
    if (is_wrapped) tensor.name.erase(0, kParallel.size());
    rename_part(tensor.name, ".parametrizations.weight.original0", ".weight_g");
    rename_part(tensor.name, ".parametrizations.weight.original1", ".weight_v");
  }
}

/// The state dict among what a checkpoint holds.
const PickleValue* find_state(const PickleValue& root) {
  for (const char* key : {"weight", "state_dict", "model", "generator"}) {
    const PickleValue* state = root.find(key);
    if (state != nullptr && state->kind == Kind::dict) return state;
  }
  return root.kind == Kind::dict ? &root : nullptr;
}

std::optional<NetworkKind> find_kind(const std::vector<TensorView>& tensors) {
  if (has_prefix(tensors, "model.ar_text_embedding.")) return NetworkKind::t2s;
  if (is_lora(tensors)) return NetworkKind::lora;
  if (has_prefix(tensors, "enc_p.")) return NetworkKind::acoustic;
  if (has_prefix(tensors, "feature_extractor.conv_layers.")) return NetworkKind::hubert;
  if (has_prefix(tensors, "bert.embeddings.")) return NetworkKind::bert;
  if (has(tensors, "layer3_ds.weight")) return NetworkKind::speaker_net;
  if (has_prefix(tensors, "conv_pre.") && has_prefix(tensors, "ups.0")) {
    return has_prefix(tensors, "activation_post.") ? NetworkKind::bigvgan : NetworkKind::hifigan;
  }
  return std::nullopt;
}

Result<Source> read_source(const fs::path& path) {
  auto opened = Checkpoint::open(path);
  if (!opened) return opened.error();
  Source source;
  source.file = std::make_shared<Checkpoint>(std::move(*opened));
  const std::string& label = source.file->label();
  const PickleValue& root = source.file->root();
  const PickleValue* state = find_state(root);
  if (state == nullptr) return bad_file(label, "wanted a dict of tensors");
  auto tensors = source.file->tensors(*state);
  if (!tensors) return tensors.error();
  source.tensors = std::move(*tensors);
  tidy_names(source.tensors);
  if (source.tensors.empty()) return bad_file(label, "holds no tensors");
  if (has_prefix(source.tensors, "ar_text_embedding.")) {
    for (TensorView& tensor : source.tensors) tensor.name.insert(0, "model.");
  }
  const auto kind = find_kind(source.tensors);
  if (!kind) {
    return bad_file(label, "no network of GPT-SoVITS: it has " + std::to_string(source.tensors.size()) +
                               " tensors, the first " + shown(source.tensors.front().name));
  }
  source.kind = *kind;
  std::set<std::string_view> names;
  for (const TensorView& tensor : source.tensors) {
    if (!names.insert(tensor.name).second) return bad_file(label, "tensor " + shown(tensor.name) + " twice");
  }
  source.config = root.find("config");
  if (const PickleValue* saved = root.find("hyper_parameters"); source.config == nullptr && saved != nullptr) {
    source.config = saved->find("config");
  }
  if (const PickleValue* rank = root.find("lora_rank"); rank != nullptr && rank->kind == Kind::integer) {
    source.rank = rank->integer;
  }
  return source;
}

/// config.<section>.<key> as an integer.
std::optional<std::int64_t> config_integer(const Source& source, const char* section, const char* key) {
  const PickleValue* part = source.config != nullptr ? source.config->find(section) : nullptr;
  const PickleValue* value = part != nullptr ? part->find(key) : nullptr;
  if (value == nullptr || value->kind != Kind::integer) return std::nullopt;
  return value->integer;
}
std::string config_text(const Source& source, const char* section, const char* key) {
  const PickleValue* part = source.config != nullptr ? source.config->find(section) : nullptr;
  const PickleValue* value = part != nullptr ? part->find(key) : nullptr;
  return value != nullptr && value->kind == Kind::text ? value->text : std::string();
}

// ---- Checks of tensors ----------------------------------------------------------------------------------------------

template <class Bits>
std::optional<std::size_t> first_special(std::span<const std::byte> data, Bits exponent) {
  const std::size_t n = data.size() / sizeof(Bits);
  for (std::size_t i = 0; i < n; ++i) {
    Bits bits = 0;
    std::memcpy(&bits, data.data() + i * sizeof(Bits), sizeof(Bits));
    if ((bits & exponent) == exponent) return i;
  }
  return std::nullopt;
}

/// The flat index of the first NaN or infinity.
std::optional<std::size_t> first_special(const TensorView& tensor) {
  switch (tensor.dtype) {
    case Dtype::f64:
      return first_special<std::uint64_t>(tensor.data, 0x7FF0000000000000U);
    case Dtype::f32:
      return first_special<std::uint32_t>(tensor.data, 0x7F800000U);
    case Dtype::f16:
      return first_special<std::uint16_t>(tensor.data, 0x7C00U);
    case Dtype::bf16:
      return first_special<std::uint16_t>(tensor.data, 0x7F80U);
    default:
      return std::nullopt;
  }
}

Result<void> check_finite(const std::string& label, const std::vector<TensorView>& tensors) {
  for (const TensorView& tensor : tensors) {
    const auto found = first_special(tensor);
    if (!found) continue;
    std::vector<std::int64_t> index(tensor.shape.size());
    auto rest = static_cast<std::int64_t>(*found);
    for (std::size_t axis = index.size(); axis-- > 0;) {
      index[axis] = rest % tensor.shape[axis];
      rest /= tensor.shape[axis];
    }
    return bad_file(label, "tensor " + shown(tensor.name) + ": not a finite number at " + to_text(index));
  }
  return {};
}

bool is_float(Dtype dtype) {
  return dtype == Dtype::f64 || dtype == Dtype::f32 || dtype == Dtype::f16 || dtype == Dtype::bf16;
}

Result<void> check_tensor(const std::string& label, const Index& index, const std::string& key,
                          const std::vector<std::int64_t>& shape) {
  const auto found = index.find(key);
  if (found == index.end()) return bad_file(label, "tensor " + shown(key) + ": missing");
  const TensorView& tensor = *found->second;
  if (tensor.shape != shape) {
    return bad_file(label,
                    "tensor " + shown(key) + ": got shape " + to_text(tensor.shape) + ", wanted " + to_text(shape));
  }
  if (!is_float(tensor.dtype)) {
    return bad_file(label, "tensor " + shown(key) + ": got type " + to_string(tensor.dtype) + ", wanted floats");
  }
  return {};
}

Index index_of(const std::vector<TensorView>& tensors) {
  Index index;
  for (const TensorView& tensor : tensors) index.emplace(tensor.name, &tensor);
  return index;
}

/// Every wanted tensor is there, in its shape, and a float. BERT's old names of a norm's gain and offset are known.
Result<void> check_wanted(const std::string& label, const std::vector<TensorView>& tensors,
                          const WantedTensors& wanted) {
  const Index index = index_of(tensors);
  for (const WantedTensor& want : wanted) {
    std::string key = want.key;
    if (want.may_be_split && !index.contains(key) && index.contains(key + "_v")) {
      std::vector<std::int64_t> gain(want.shape.size(), 1);
      gain[0] = want.shape[0];
      // HuBERT's positional convolution is the one that is normed per tap, along its last axis.
      if (key == "encoder.pos_conv_embed.conv.weight") gain = {1, 1, want.shape.back()};
      if (auto done = check_tensor(label, index, key + "_v", want.shape); !done) return done;
      if (auto done = check_tensor(label, index, key + "_g", gain); !done) return done;
      continue;
    }
    if (!index.contains(key) && key.find("LayerNorm.") != std::string::npos) {
      rename_part(key, ".weight", ".gamma");
      rename_part(key, ".bias", ".beta");
      if (!index.contains(key)) key = want.key;
    }
    if (auto done = check_tensor(label, index, key, want.shape); !done) return done;
  }
  return {};
}

// ---- Which form -----------------------------------------------------------------------------------------------------

/// What upstream writes over the first two bytes.
std::optional<Form> form_of_mark(std::string_view mark) {
  constexpr std::array<std::pair<std::string_view, Form>, 7> kMarks = {{{"00", Form::v1},
                                                                        {"01", Form::v2},
                                                                        {"02", Form::v3},
                                                                        {"03", Form::v3},
                                                                        {"04", Form::v4},
                                                                        {"05", Form::v2pro},
                                                                        {"06", Form::v2proplus}}};
  const auto found = std::ranges::find(kMarks, mark, &std::pair<std::string_view, Form>::first);
  return found == kMarks.end() ? std::nullopt : std::optional(found->second);
}

/// The official bases of v3 and v4, which have the same shapes and no mark, by the MD5 of their first 8192 bytes.
std::optional<Form> form_of_head(std::string_view md5) {
  if (md5 == "43797be674a37c1c83ee81081941ed0f") return Form::v3;
  if (md5 == "4f26b9476d0c5033e04162c486074374") return Form::v4;
  return std::nullopt;
}

/// The forms that tensors allow: v3 and v4 cannot be told apart. Empty: none.
std::vector<Form> forms_of_tensors(const Source& source, const SizeOverrides& sizes) {
  if (source.kind == NetworkKind::lora || has_prefix(source.tensors, "cfm.")) return {Form::v3, Form::v4};
  const auto rows = [&](std::string_view name) -> std::int64_t {
    const auto found = std::ranges::find(source.tensors, name, &TensorView::name);
    return found == source.tensors.end() || found->shape.empty() ? 0 : found->shape[0];
  };
  if (sizes.voice) {  // of a test: as wide as it says
    if (has(source.tensors, "sv_emb.weight")) return {Form::v2pro, Form::v2proplus};
    return {Form::v1, Form::v2};
  }
  if (has(source.tensors, "sv_emb.weight")) {
    if (rows("dec.conv_pre.weight") == 768) return {Form::v2proplus};
    return {Form::v2pro};
  }
  if (rows("enc_p.text_embedding.weight") == 322) return {Form::v1};
  return {Form::v2};
}

std::string alternatives(const std::vector<Form>& forms) {
  std::string out;
  for (const Form form : forms) out += (out.empty() ? "" : " or ") + std::string(to_string(form));
  return out;
}

Result<Form> decide_form(const Source& source, const ConvertRequest& request, std::vector<std::string>& notes) {
  const std::string& label = source.file->label();
  const std::vector<Form> allowed = forms_of_tensors(source, request.sizes);
  const auto is_allowed = [&](Form form) { return std::ranges::find(allowed, form) != allowed.end(); };
  std::optional<Form> marked;
  std::string by;
  if (!source.file->mark().empty()) {
    marked = form_of_mark(source.file->mark());
    by = "its version mark " + source.file->mark();
    if (!marked) return bad_file(label, by + " is not known, wanted 00 to 06");
  } else if ((marked = form_of_head(source.file->head_md5()))) {
    by = "its first bytes, those of an official file,";
  }
  if (marked && !is_allowed(*marked)) {
    return bad_file(label,
                    by + " says " + to_string(*marked) + ", but its tensors are those of " + alternatives(allowed));
  }
  if (request.form) {
    if (!is_allowed(*request.form)) {
      return bad_file(label, std::string("asked for as ") + to_string(*request.form) +
                                 ", but its tensors are those of " + alternatives(allowed));
    }
    if (marked && *marked != *request.form) {
      return bad_file(label, std::string("asked for as ") + to_string(*request.form) + ", but " + by + " says " +
                                 to_string(*marked));
    }
    return *request.form;
  }
  if (marked) return *marked;
  if (allowed.size() == 1) return allowed[0];
  const auto said = find_form(config_text(source, "model", "version"));
  if (said && is_allowed(*said)) return *said;
  if (is_allowed(Form::v3)) {
    notes.push_back(label +
                    ": nothing in it tells v3 from v4; taken as v3, as upstream does (--version v4 if it is not)");
    return Form::v3;
  }
  return allowed.back();
}

// ---- Writing --------------------------------------------------------------------------------------------------------

Result<void> sync_to_disk(const fs::path& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  const bool done = fd >= 0 && ::fsync(fd) == 0;
  const int error = errno;
  if (fd >= 0) ::close(fd);
  if (done) return {};
  return bad_file(path.string(), "cannot be written to disk: " + std::system_category().message(error));
}

/// Where a result is made: beside its place and under a name with a dot, so that nothing takes it for the result.
/// Removed with all it holds unless it was moved into place.
class Workplace {
 public:
  static Result<std::unique_ptr<Workplace>> make(const fs::path& out) {
    const fs::path target = fs::absolute(out).lexically_normal();
    const fs::path clean = target.has_filename() ? target : target.parent_path();
    std::error_code error;
    fs::create_directories(clean.parent_path(), error);
    const fs::path folder = clean.parent_path() / ("." + clean.filename().string() + ".part");
    fs::remove_all(folder, error);
    if (!fs::create_directory(folder, error) || error) {
      return bad_file(folder.string(), "cannot be made: " + error.message());
    }
    return std::unique_ptr<Workplace>(new Workplace(clean, folder));
  }
  ~Workplace() {
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
  }
  Workplace(const Workplace&) = delete;
  Workplace& operator=(const Workplace&) = delete;

  [[nodiscard]] const fs::path& folder() const { return folder_; }
  [[nodiscard]] const fs::path& target() const { return target_; }

  /// `made` (the folder itself or a file of it) becomes the target.
  Result<void> move_into_place(const fs::path& made, bool replace) {
    std::error_code error;
    fs::path old;
    if (replace && fs::exists(target_, error)) {
      old = target_.parent_path() / ("." + target_.filename().string() + ".old");
      fs::remove_all(old, error);
      fs::rename(target_, old, error);
      if (error) return bad_file(target_.string(), "cannot be replaced: " + error.message());
    }
    fs::rename(made, target_, error);
    if (error) {
      std::error_code ignored;
      if (!old.empty()) fs::rename(old, target_, ignored);
      return bad_file(target_.string(), "cannot be put in place: " + error.message());
    }
    if (!old.empty()) fs::remove_all(old, error);
    return {};
  }

 private:
  Workplace(fs::path target, fs::path folder) : target_(std::move(target)), folder_(std::move(folder)) {}
  fs::path target_;
  fs::path folder_;
};

/// Sizes that are left out when they are what the form publishes.
class SizesObject : public JsonObject {
 public:
  SizesObject& size(std::string_view key, std::int64_t value, std::int64_t published) {
    if (value != published) integer(key, value);
    return *this;
  }
  SizesObject& sizes(std::string_view key, const std::vector<std::int64_t>& value,
                     const std::vector<std::int64_t>& published) {
    if (value != published) raw(key, to_text(value));
    return *this;
  }
};

// ---- The conversion -------------------------------------------------------------------------------------------------

/// One safetensors file to be written.
struct Output {
  std::string name;
  std::string label;  ///< of its source, for errors
  std::vector<TensorView> tensors;
};

class Conversion {
 public:
  Conversion(const ConvertRequest& request, const ConvertProgress& progress) : request_(request), progress_(progress) {}

  Result<ConvertReport> run() {
    if (request_.files.empty()) return bad_request("no file to convert");
    std::error_code ignored;
    if (fs::exists(fs::symlink_status(request_.out, ignored)) && !request_.replace) {
      return bad_request(request_.out.string() + " is there already (--replace to convert anew)");
    }
    for (const fs::path& path : request_.files) {
      if (auto done = read(path); !done) return done.error();
    }
    const bool is_voice = std::ranges::any_of(sources_, [](const Source& source) {
      return source.kind == NetworkKind::t2s || source.kind == NetworkKind::acoustic ||
             source.kind == NetworkKind::lora;
    });
    auto done = is_voice ? convert_voice() : convert_single();
    if (!done) return done.error();
    return std::move(report_);
  }

 private:
  void tell(std::string_view what, std::uint64_t now, std::uint64_t total) const {
    if (progress_) progress_(what, now, total);
  }

  Result<void> read(const fs::path& path) {
    tell("reading " + path.filename().string(), 0, 0);
    auto source = read_source(path);
    if (!source) return source.error();
    std::error_code ignored;
    const std::uint64_t total = fs::file_size(path, ignored);
    std::uint64_t now = 0;
    const std::string what = "checking " + path.filename().string();
    if (auto done = source->file->check([&](std::size_t bytes) { tell(what, now += bytes, total); }); !done) {
      return done.error();
    }
    sources_.push_back(std::move(*source));
    return {};
  }

  /// The source of a kind; nullptr when there is none.
  Result<const Source*> find(NetworkKind kind) const {
    const Source* found = nullptr;
    for (const Source& source : sources_) {
      if (source.kind != kind) continue;
      if (found != nullptr) {
        return bad_request(found->file->label() + " and " + source.file->label() + " both hold a " + to_string(kind));
      }
      found = &source;
    }
    return found;
  }

  Result<void> convert_single() {
    if (sources_.size() != 1) {
      return bad_request(sources_[1].file->label() + ": a " + to_string(sources_[1].kind) +
                         " is converted by itself, or with the files of a voice");
    }
    Source& source = sources_[0];
    const std::string& label = source.file->label();
    if (request_.out.extension() != ".safetensors") {
      return bad_request(label + " holds a " + to_string(source.kind) + " alone: --out wants a FILE.safetensors, got " +
                         request_.out.string());
    }
    if (request_.form) return bad_request(label + " holds a " + to_string(source.kind) + ", which has no --version");
    WantedTensors wanted;
    switch (source.kind) {
      case NetworkKind::hubert:
        wanted = wanted_hubert(request_.sizes.hubert.value_or(HubertSizes{}));
        break;
      case NetworkKind::bert:
        wanted = wanted_bert(request_.sizes.bert.value_or(BertSizes{}));
        break;
      case NetworkKind::speaker_net:
        wanted = wanted_speaker_net(request_.sizes.speaker_net.value_or(SpeakerNetSizes{}));
        break;
      default: {
        const Form form = source.kind == NetworkKind::bigvgan ? Form::v3 : Form::v4;
        const VoiceSizes sizes = request_.sizes.voice.value_or(published_sizes(form));
        wanted = wanted_vocoder(form, sizes.vocoder, sizes.acoustic.mel_bands);
      }
    }
    if (auto done = check_wanted(label, source.tensors, wanted); !done) return done;
    outputs_.push_back({"network.safetensors", label, source.tensors});
    auto workplace = write();
    if (!workplace) return workplace.error();
    report_.files[0].path = (*workplace)->target();
    return (*workplace)->move_into_place((*workplace)->folder() / outputs_[0].name, request_.replace);
  }

  Result<void> convert_voice() {
    for (const Source& source : sources_) {
      if (source.kind == NetworkKind::hubert || source.kind == NetworkKind::bert ||
          source.kind == NetworkKind::speaker_net) {
        return bad_request(source.file->label() + " holds a " + to_string(source.kind) +
                           ", which is not part of a voice; convert it by itself");
      }
    }
    if (auto done = set_id(); !done) return done;
    const auto t2s = find(NetworkKind::t2s);
    if (!t2s) return t2s.error();
    const auto acoustic = find(NetworkKind::acoustic);
    if (!acoustic) return acoustic.error();
    const auto lora = find(NetworkKind::lora);
    if (!lora) return lora.error();
    if (*t2s == nullptr) return bad_request("a voice wants a T2S checkpoint (.ckpt) too; got only acoustic files");
    if (*acoustic == nullptr && *lora == nullptr) {
      return bad_request("a voice wants an acoustic checkpoint (.pth) beside " + (*t2s)->file->label());
    }
    const Source& main = *lora != nullptr ? **lora : **acoustic;
    const auto form = decide_form(main, request_, report_.notes);
    if (!form) return form.error();
    form_ = *form;
    report_.form = form_;
    sizes_ = request_.sizes.voice.value_or(published_sizes(form_));
    if (auto done = take_t2s(**t2s); !done) return done;
    const std::string main_label = main.file->label();
    const bool is_adapted = *lora != nullptr;
    const std::string base_label = *acoustic != nullptr ? (*acoustic)->file->label() : std::string();
    if (auto done = is_adapted ? take_lora(main_label, base_label) : take_acoustic(main_label, main.tensors); !done) {
      return done;
    }
    if (auto done = take_vocoder(); !done) return done;
    auto workplace = write();
    if (!workplace) return workplace.error();
    if (auto done = write_manifest((*workplace)->folder()); !done) return done;
    for (ConvertedFile& file : report_.files) file.path = (*workplace)->target() / file.path.filename();
    return (*workplace)->move_into_place((*workplace)->folder(), request_.replace);
  }

  Result<void> set_id() {
    const fs::path folder = request_.out.has_filename() ? request_.out : request_.out.parent_path();
    id_ = request_.id.empty() ? folder.filename().string() : request_.id;
    if (id_.empty() || id_.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_-") != std::string::npos) {
      return bad_request("id of the voice: got " + shown(id_) + ", wanted lower-case letters, digits, _ and - (--id)");
    }
    for (const std::string& text : {request_.name, request_.license}) {
      if (!utf8::is_valid(text)) return bad_request("name and license of the voice must be UTF-8");
    }
    return {};
  }

  Result<void> take_t2s(const Source& source) {
    const std::string& label = source.file->label();
    T2sSizes& sizes = sizes_.t2s;
    const std::int64_t phoneme_vocab = sizes.phoneme_vocab;
    // The checkpoint's own words; upstream ignores linear_units and takes 4 * hidden_dim.
    for (const auto& [key, value] : {std::pair{"hidden_dim", &sizes.hidden},
                                     {"head", &sizes.heads},
                                     {"n_layer", &sizes.layers},
                                     {"vocab_size", &sizes.vocab},
                                     {"phoneme_vocab_size", &sizes.phoneme_vocab}}) {
      const auto said = config_integer(source, "model", key);
      if (!said) continue;
      if (*said < 1 || *said > (1 << 20)) {
        return bad_file(label, std::string("config.model.") + key + ": got " + std::to_string(*said) +
                                   ", wanted a size from 1 to 1048576");
      }
      *value = *said;
    }
    if (const auto end = config_integer(source, "model", "EOS"); end && *end != sizes.vocab - 1) {
      return bad_file(label, "config.model.EOS: got " + std::to_string(*end) +
                                 ", wanted vocab_size - 1 = " + std::to_string(sizes.vocab - 1));
    }
    if (sizes.hidden % sizes.heads != 0) return bad_file(label, "config.model.head: wanted a divisor of hidden_dim");
    if (sizes.phoneme_vocab != phoneme_vocab) {
      return bad_file(label, "its phoneme vocabulary has " + std::to_string(sizes.phoneme_vocab) + " entries, wanted " +
                                 std::to_string(phoneme_vocab) + " for a voice of " + to_string(form_));
    }
    if (sizes.layers > 1000) return bad_file(label, "config.model.n_layer: wanted at most 1000");
    if (auto done = check_wanted(label, source.tensors, wanted_t2s(sizes)); !done) return done;
    const std::string beyond = "model.h.layers." + std::to_string(sizes.layers) + ".";
    if (has_prefix(source.tensors, beyond)) {
      return bad_file(label, "it has more layers than config.model.n_layer, " + std::to_string(sizes.layers));
    }
    std::vector<TensorView> tensors;
    for (const TensorView& tensor : source.tensors) {
      if (tensor.name.starts_with("model.") && is_float(tensor.dtype)) tensors.push_back(tensor);
    }
    return put("t2s.safetensors", label, std::move(tensors));
  }

  Result<void> take_acoustic(const std::string& label, const std::vector<TensorView>& all) {
    if (auto done = check_wanted(label, all, wanted_acoustic(form_, sizes_.acoustic)); !done) return done;
    std::vector<TensorView> tensors;
    for (const TensorView& tensor : all) {
      const bool is_training = tensor.name.starts_with("enc_q.") || tensor.name.ends_with("._codebook.inited") ||
                               tensor.name.ends_with("._codebook.cluster_size") ||
                               tensor.name.ends_with("._codebook.embed_avg") ||
                               tensor.name.ends_with(".num_batches_tracked");
      if (!is_training && is_float(tensor.dtype)) tensors.push_back(tensor);
    }
    return put("acoustic.safetensors", label, std::move(tensors));
  }

  /// Reading the base moves the sources: they are found again afterwards.
  Result<void> take_lora(const std::string& label, const std::string& base_label) {
    if (base_label.empty()) {
      const char* name = form_ == Form::v3 ? "s2Gv3.pth" : "gsv-v4-pretrained/s2Gv4.pth";
      if (auto done = read_official(name, "a LoRA wants its base"); !done) return done;
    }
    const auto lora = find(NetworkKind::lora);
    const auto base = find(NetworkKind::acoustic);
    if (!lora) return lora.error();
    if (!base) return base.error();
    if (*base == nullptr) return bad_request("the base of " + label + " holds something else");
    ConvertRequest asked = request_;
    asked.form = form_;
    std::vector<std::string> ignored;
    if (const auto form = decide_form(**base, asked, ignored); !form) return form.error();
    const std::uint64_t total = (*lora)->tensors.size();
    std::uint64_t now = 0;
    auto merged = merge_lora((*base)->tensors, (*lora)->tensors, (*lora)->rank, label, [&](std::size_t) {
      tell("merging " + fs::path(label).filename().string(), now += 2, total);
    });
    if (!merged) return merged.error();
    merged_ = std::move(*merged);
    report_.notes.push_back("the LoRA is merged with its base " + (*base)->file->label());
    return take_acoustic(label, merged_.tensors);
  }

  /// An official file of the models folder, which becomes one of the sources.
  Result<void> read_official(const char* name, const std::string& wants) {
    const fs::path path = request_.models_dir / name;
    std::error_code ignored;
    if (request_.models_dir.empty() || !fs::is_regular_file(path, ignored)) {
      return bad_request(wants + ": name the file " + fs::path(name).filename().string() +
                         " too, or get it with `sonorant models fetch`" +
                         (request_.models_dir.empty() ? "" : " (looked for at " + path.string() + ")"));
    }
    return read(path);
  }

  Result<void> take_vocoder() {
    const auto bigvgan = find(NetworkKind::bigvgan);
    if (!bigvgan) return bigvgan.error();
    const auto hifigan = find(NetworkKind::hifigan);
    if (!hifigan) return hifigan.error();
    if (form_ != Form::v3 && form_ != Form::v4) {
      const Source* stray = *bigvgan != nullptr ? *bigvgan : *hifigan;
      if (stray == nullptr) return {};
      return bad_request(stray->file->label() + " holds a vocoder, but a voice of " + to_string(form_) + " needs none");
    }
    const bool is_v3 = form_ == Form::v3;
    const Source* source = is_v3 ? *bigvgan : *hifigan;
    if (const Source* other = is_v3 ? *hifigan : *bigvgan; other != nullptr) {
      return bad_request(other->file->label() + " holds a " + to_string(other->kind) + ", but a voice of " +
                         to_string(form_) + " wants a " +
                         to_string(is_v3 ? NetworkKind::bigvgan : NetworkKind::hifigan));
    }
    if (source == nullptr) {
      const char* name = is_v3 ? "models--nvidia--bigvgan_v2_24khz_100band_256x/bigvgan_generator.pt"
                               : "gsv-v4-pretrained/vocoder.pth";
      if (auto done = read_official(name, std::string("a voice of ") + to_string(form_) + " wants its vocoder");
          !done) {
        return done;
      }
      source = &sources_.back();
      if (source->kind != (is_v3 ? NetworkKind::bigvgan : NetworkKind::hifigan)) {
        return bad_file(source->file->label(), std::string("holds a ") + to_string(source->kind));
      }
    }
    const std::string& label = source->file->label();
    const auto wanted = wanted_vocoder(form_, sizes_.vocoder, sizes_.acoustic.mel_bands);
    if (auto done = check_wanted(label, source->tensors, wanted); !done) return done;
    return put("vocoder.safetensors", label, source->tensors);
  }

  Result<void> put(const char* name, const std::string& label, std::vector<TensorView> tensors) {
    outputs_.push_back({name, label, std::move(tensors)});
    return {};
  }

  /// Everything that was found good, in a folder of its own.
  Result<std::unique_ptr<Workplace>> write() {
    std::uint64_t total = 0;
    for (const Output& output : outputs_) {
      tell("looking at the numbers of " + fs::path(output.label).filename().string(), 0, 0);
      if (auto done = check_finite(output.label, output.tensors); !done) return done.error();
      for (const TensorView& tensor : output.tensors) total += tensor.data.size();
    }
    auto workplace = Workplace::make(request_.out);
    if (!workplace) return workplace;
    std::error_code error;
    const auto space = fs::space((*workplace)->folder(), error);
    if (!error && space.available < total) {
      return bad_file((*workplace)->target().string(), "wants " + std::to_string(total) + " bytes, but only " +
                                                           std::to_string(space.available) + " are free there");
    }
    std::uint64_t now = 0;
    for (const Output& output : outputs_) {
      const fs::path path = (*workplace)->folder() / output.name;
      Digest digest = Digest::sha256();
      std::uint64_t bytes = 0;
      const auto heard = [&](std::span<const std::byte> block) {
        digest.update(block);
        bytes += block.size();
        tell("writing", std::min(now += block.size(), total), total);
      };
      if (auto done = write_safetensors(path, output.tensors, {}, heard); !done) return done.error();
      if (auto done = sync_to_disk(path); !done) return done.error();
      report_.files.push_back({path, bytes, digest.finish()});
    }
    return workplace;
  }

  Result<void> write_manifest(const fs::path& folder) {
    const VoiceSizes published = published_sizes(form_);
    JsonObject manifest;
    manifest.integer("format", 2).text("form", manifest_name(form_)).text("id", id_);
    manifest.text("name", request_.name.empty() ? id_ : request_.name).text("license", request_.license);
    manifest.raw("languages", R"(["zh", "en"])");
    manifest.integer("sample_rate_hz", form_ == Form::v3 ? 24000 : form_ == Form::v4 ? 48000 : 32000);
    manifest.raw("text", R"({"word_separator": ""})");

    const T2sSizes& t = sizes_.t2s;
    const T2sSizes& pt = published.t2s;
    SizesObject t2s;
    t2s.text("file", "t2s.safetensors");
    t2s.size("layers", t.layers, pt.layers).size("hidden", t.hidden, pt.hidden);
    t2s.size("heads", t.heads, pt.heads).size("phoneme_vocab", t.phoneme_vocab, pt.phoneme_vocab);
    t2s.size("vocab", t.vocab, pt.vocab).size("bert_dim", t.bert_dim, pt.bert_dim);
    manifest.raw("t2s", t2s.done());

    const AcousticSizes& a = sizes_.acoustic;
    const AcousticSizes& pa = published.acoustic;
    SizesObject acoustic;
    acoustic.text("file", "acoustic.safetensors");
    acoustic.size("codes", a.codes, pa.codes).size("code_dim", a.code_dim, pa.code_dim);
    acoustic.size("phonemes", a.phonemes, pa.phonemes).size("hidden", a.hidden, pa.hidden);
    acoustic.size("filter", a.filter, pa.filter).size("heads", a.heads, pa.heads);
    acoustic.size("layers_ssl", a.layers_ssl, pa.layers_ssl).size("layers_text", a.layers_text, pa.layers_text);
    acoustic.size("layers_post", a.layers_post, pa.layers_post).size("mrte_dim", a.mrte_dim, pa.mrte_dim);
    acoustic.size("mrte_heads", a.mrte_heads, pa.mrte_heads).size("ref_bins", a.ref_bins, pa.ref_bins);
    acoustic.size("style_dim", a.style_dim, pa.style_dim).size("ge_dim", a.ge_dim, pa.ge_dim);
    acoustic.size("ssl_dim", a.ssl_dim, pa.ssl_dim);
    const bool is_flow_matching = form_ == Form::v3 || form_ == Form::v4;
    if (is_flow_matching) {
      acoustic.size("feature_dim", a.feature_dim, pa.feature_dim).size("wns_layers", a.wns_layers, pa.wns_layers);
      acoustic.size("dit_dim", a.dit_dim, pa.dit_dim).size("dit_depth", a.dit_depth, pa.dit_depth);
      acoustic.size("dit_heads", a.dit_heads, pa.dit_heads);
      acoustic.size("dit_text_layers", a.dit_text_layers, pa.dit_text_layers);
      acoustic.size("mel_bands", a.mel_bands, pa.mel_bands);
    } else {
      acoustic.size("flow_layers", a.flow_layers, pa.flow_layers);
      acoustic.size("decoder_channels", a.decoder_channels, pa.decoder_channels);
      acoustic.sizes("upsample_rates", a.upsample_rates, pa.upsample_rates);
      acoustic.sizes("upsample_kernels", a.upsample_kernels, pa.upsample_kernels);
    }
    if (form_ == Form::v2pro || form_ == Form::v2proplus) {
      acoustic.size("speaker_dim", a.speaker_dim, pa.speaker_dim);
    }
    manifest.raw("acoustic", acoustic.done());
    if (is_flow_matching) {
      const VocoderSizes& v = sizes_.vocoder;
      const VocoderSizes& pv = published.vocoder;
      SizesObject vocoder;
      vocoder.text("file", "vocoder.safetensors");
      vocoder.size("channels", v.channels, pv.channels);
      vocoder.sizes("upsample_rates", v.upsample_rates, pv.upsample_rates);
      vocoder.sizes("upsample_kernels", v.upsample_kernels, pv.upsample_kernels);
      manifest.raw("vocoder", vocoder.done());
    }
    JsonObject sums;
    for (const ConvertedFile& file : report_.files) sums.text(file.path.filename().string(), file.sha256);
    manifest.raw("sha256", sums.done());

    const std::string text = manifest.done() + "\n";
    const fs::path path = folder / "manifest.json";
    std::ofstream out(path, std::ios::binary | std::ios::trunc);
    out << text;
    out.close();
    if (!out) return bad_file(path.string(), "cannot be written");
    if (auto done = sync_to_disk(path); !done) return done;
    report_.files.push_back({path, text.size(), sha256_hex(std::as_bytes(std::span(text)))});
    return {};
  }

  const ConvertRequest& request_;
  const ConvertProgress& progress_;
  ConvertReport report_;
  std::vector<Source> sources_;
  MergedTensors merged_;
  std::vector<Output> outputs_;
  Form form_ = Form::v2;
  VoiceSizes sizes_;
  std::string id_;
};

}  // namespace

const char* to_string(NetworkKind kind) noexcept {
  switch (kind) {
    case NetworkKind::t2s:
      return "text-to-semantic model";
    case NetworkKind::acoustic:
      return "SoVITS model";
    case NetworkKind::lora:
      return "LoRA of a SoVITS model";
    case NetworkKind::bigvgan:
      return "BigVGAN vocoder";
    case NetworkKind::hifigan:
      return "HiFi-GAN vocoder";
    case NetworkKind::hubert:
      return "HuBERT";
    case NetworkKind::bert:
      return "BERT";
    case NetworkKind::speaker_net:
      return "speaker network";
  }
  return "network";
}

Result<ConvertReport> convert(const ConvertRequest& request, const ConvertProgress& progress) {
  return Conversion(request, progress).run();
}

}  // namespace tts
