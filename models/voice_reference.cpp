#include "models/voice_reference.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include <ATen/ops/empty.h>
#include <ATen/ops/isfinite.h>

#include "src/core/safetensors.h"

namespace tts {
namespace {

/// The tensors of one reference file, each taken with a check of its shape and values.
class Reader {
 public:
  explicit Reader(const std::filesystem::path& path) : path_(path.string()) {
    Result<SafeTensors> file = SafeTensors::open(path);
    if (!file) {
      throw ModelError(file.error().detail);
    }
    file_ = std::make_unique<SafeTensors>(std::move(*file));
  }

  [[nodiscard]] bool has(const std::string& name) const { return file_->find(name) != nullptr; }

  [[noreturn]] void fail(const std::string& name, const std::string& what) const {
    throw ModelError(path_ + ": " + name + ": " + what);
  }

  /// Integers, each in [0, limit); none when the tensor is absent.
  [[nodiscard]] std::vector<std::int32_t> ids(const std::string& name, std::int64_t limit) const {
    const TensorView* view = file_->find(name);
    std::vector<std::int32_t> out;
    if (view == nullptr) {
      return out;
    }
    if (view->shape.size() != 1 || (view->dtype != Dtype::i32 && view->dtype != Dtype::i64)) {
      fail(name, "got " + tts::to_string(at::IntArrayRef(view->shape)) + " of " + to_string(view->dtype) +
                     ", wanted [n] of I32 or I64");
    }
    const std::size_t width = size_of(view->dtype);
    for (std::int64_t i = 0; i < view->numel(); ++i) {
      std::int64_t value = 0;
      if (view->dtype == Dtype::i64) {
        std::memcpy(&value, view->data.data() + static_cast<std::size_t>(i) * width, width);
      } else {
        std::int32_t narrow = 0;
        std::memcpy(&narrow, view->data.data() + static_cast<std::size_t>(i) * width, width);
        value = narrow;
      }
      if (value < 0 || value >= limit) {
        fail(name,
             "got " + std::to_string(value) + " at " + std::to_string(i) + ", wanted 0.." + std::to_string(limit - 1));
      }
      out.push_back(static_cast<std::int32_t>(value));
    }
    return out;
  }

  /// Finite numbers of this shape; -1 accepts any size of at least one.
  [[nodiscard]] at::Tensor floats(const std::string& name, std::vector<std::int64_t> wanted) const {
    const TensorView* view = file_->find(name);
    if (view == nullptr) {
      fail(name, "missing");
    }
    bool same = view->shape.size() == wanted.size();
    for (std::size_t i = 0; same && i < wanted.size(); ++i) {
      same = wanted[i] < 0 ? view->shape[i] > 0 : view->shape[i] == wanted[i];
    }
    if (!same) {
      fail(name,
           "got " + tts::to_string(at::IntArrayRef(view->shape)) + ", wanted " + tts::to_string(wanted) + " (-1: any)");
    }
    const Result<std::vector<float>> values = to_floats(*view);
    if (!values) {
      throw ModelError(values.error().detail);
    }
    at::Tensor out = at::empty(view->shape, at::kFloat);
    std::memcpy(out.data_ptr(), values->data(), values->size() * sizeof(float));
    if (!at::isfinite(out).all().item<bool>()) {
      fail(name, "holds a value that is not finite");
    }
    return out;
  }

 private:
  std::string path_;
  std::unique_ptr<SafeTensors> file_;
};

}  // namespace

PreparedReference load_reference(const VoiceManifest& manifest) {
  if (manifest.reference.empty()) {
    throw ModelError((manifest.folder / "manifest.json").string() + ": got no reference, wanted a prepared voice");
  }
  const Reader file(manifest.reference);
  PreparedReference out;
  const auto phonemes = manifest.published ? manifest.published->phonemes : manifest.acoustic.config.phonemes;
  out.prompt_tokens = file.ids("prompt_tokens", manifest.t2s.config.vocab - 1);
  out.prompt_phonemes = file.ids("prompt_phonemes", std::min(manifest.t2s.config.phoneme_vocab, phonemes));
  if (out.prompt_tokens.empty() != out.prompt_phonemes.empty()) {
    file.fail(out.prompt_tokens.empty() ? "prompt_tokens" : "prompt_phonemes",
              "got none, wanted both or neither of prompt_tokens and prompt_phonemes");
  }
  if (!manifest.published) return out;
  const PublishedConfig& config = *manifest.published;
  if (out.prompt_tokens.empty() && uses_flow_matching(config.form)) {
    file.fail("prompt_tokens", "missing: " + std::string(to_string(config.form)) + " needs the reference's text");
  }
  if (file.has("prompt_bert")) {
    const at::Tensor bert = file.floats(
        "prompt_bert", {static_cast<std::int64_t>(out.prompt_phonemes.size()), manifest.t2s.config.bert_dim});
    out.prompt_bert.assign(bert.data_ptr<float>(), bert.data_ptr<float>() + bert.numel());
  }
  for (int i = 0; i == 0 || file.has("spectrogram." + std::to_string(i)); ++i) {
    const std::string number = std::to_string(i);
    SovitsFront::Reference reference;
    reference.spectrogram = file.floats("spectrogram." + number, {-1, -1});
    if (reference.spectrogram.size(1) < config.ref_bins) {
      file.fail("spectrogram." + number, "got " + std::to_string(reference.spectrogram.size(1)) +
                                             " bins, wanted at least " + std::to_string(config.ref_bins));
    }
    if (has_speaker_network(config.form)) {
      reference.embedding = file.floats("speaker_embedding." + number, {config.speaker_dim});
    }
    out.references.push_back(std::move(reference));
  }
  if (uses_flow_matching(config.form)) {
    out.mel = file.floats("mel", {-1, config.dit.mel});
  }
  return out;
}

Result<void> save_reference(const std::filesystem::path& file, const PreparedReference& reference) {
  std::vector<TensorView> tensors;
  std::vector<at::Tensor> kept;  // the views' memory
  const auto add = [&](std::string name, const void* data, std::size_t bytes, Dtype dtype,
                       std::vector<std::int64_t> shape) {
    tensors.push_back({std::move(name), dtype, std::move(shape), {static_cast<const std::byte*>(data), bytes}});
  };
  const auto add_ids = [&](std::string name, const std::vector<std::int32_t>& ids) {
    if (!ids.empty()) {
      add(std::move(name), ids.data(), ids.size() * sizeof(std::int32_t), Dtype::i32,
          {static_cast<std::int64_t>(ids.size())});
    }
  };
  const auto add_floats = [&](std::string name, const at::Tensor& values) {
    if (values.defined()) {
      kept.push_back(values.contiguous());
      add(std::move(name), kept.back().data_ptr<float>(), static_cast<std::size_t>(values.numel()) * sizeof(float),
          Dtype::f32, values.sizes().vec());
    }
  };
  add_ids("prompt_tokens", reference.prompt_tokens);
  add_ids("prompt_phonemes", reference.prompt_phonemes);
  if (!reference.prompt_bert.empty()) {
    const auto rows = static_cast<std::int64_t>(reference.prompt_phonemes.size());
    if (rows == 0 || reference.prompt_bert.size() % static_cast<std::size_t>(rows) != 0) {
      return Error{Errc::internal, "prompt_bert: got " + std::to_string(reference.prompt_bert.size()) +
                                       " values, wanted as many for each of " + std::to_string(rows) + " phonemes"};
    }
    add("prompt_bert", reference.prompt_bert.data(), reference.prompt_bert.size() * sizeof(float), Dtype::f32,
        {rows, static_cast<std::int64_t>(reference.prompt_bert.size()) / rows});
  }
  for (std::size_t i = 0; i < reference.references.size(); ++i) {
    add_floats("spectrogram." + std::to_string(i), reference.references[i].spectrogram);
    add_floats("speaker_embedding." + std::to_string(i), reference.references[i].embedding);
  }
  add_floats("mel", reference.mel);
  add_floats("mel_shift", reference.mel_shift);
  add_floats("fit.style", reference.fit.style);
  add_floats("fit.conditioning", reference.fit.conditioning);
  add_floats("fit.norms", reference.fit.norms);
  add_floats("fit.out_norm", reference.fit.out_norm);
  return write_safetensors(file, tensors);
}

}  // namespace tts
