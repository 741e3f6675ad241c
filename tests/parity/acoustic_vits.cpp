// The forms v1, v2, v2Pro and v2ProPlus: acoustic_v2, acoustic_v2pro, acoustic_streaming.
#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

#include "models/chunking.h"
#include "models/semantic_tokenizer.h"
#include "models/vits_model.h"
#include "tests/parity/acoustic_common.h"

namespace tts::parity {
namespace {

ModelForm form_of(const std::string& name) {
  if (name.starts_with("v1.")) return ModelForm::v1;
  if (name.starts_with("v2Pro.")) return ModelForm::v2pro;
  if (name.starts_with("v2ProPlus.")) return ModelForm::v2proplus;
  return ModelForm::v2;
}

/// [1, channels, frames] -> [frames, channels].
at::Tensor rows_of(const at::Tensor& x) {
  return x.squeeze(0).t().contiguous();
}

bool has_input(const Json& c, const std::string& arg) {
  return std::any_of(c.at("inputs").begin(), c.at("inputs").end(), [&](const Json& i) { return i.at("arg") == arg; });
}

std::vector<SovitsFront::Reference> references_of(const Json& c) {
  std::vector<SovitsFront::Reference> out;
  for (int i = 0; has_input(c, "refer" + std::to_string(i)); ++i) {
    SovitsFront::Reference reference;
    reference.spectrogram = rows_of(input_of(c, "refer" + std::to_string(i)));
    if (has_input(c, "sv_emb" + std::to_string(i))) {
      reference.embedding = input_of(c, "sv_emb" + std::to_string(i)).view({-1});
    }
    out.push_back(std::move(reference));
  }
  return out;
}

/// Compares on the way. Upstream adds the second embedding in place, so in Pro what the fixture's array calls ref_enc
/// is the sum, while the samples in its JSON were taken before.
VitsModel::Speaker make_speaker(const VitsModel& model, const Fixture& fixture, const Json& c, CaseReport& check) {
  if (!has_speaker_network(model.config().form)) {
    const Probe probe = comparing(fixture, c, check);
    return model.make_speaker(references_of(c), &probe);
  }
  Fixture samples;
  samples.name = fixture.name;
  const Probe of_samples = comparing(samples, c, check);
  const Probe of_all = comparing(fixture, c, check);
  const Probe probe = [&](std::string_view name, const at::Tensor& value) {
    if (name.starts_with("ref_enc+sv_emb")) {
      const std::string key = "ref_enc" + std::string(name.substr(14));
      const std::string full = c.at("name").get<std::string>() + "/" + key;
      if (fixture.arrays && fixture.arrays->find(full) != nullptr) {
        check.close(key + "(all)", value, fixture.array(full), kFeatureTolerance, value.abs().max().item<double>());
      }
    } else {
      (name == "ref_enc" || name.starts_with("ref_enc#") ? of_samples : of_all)(name, value);
    }
  };
  return model.make_speaker(references_of(c), &probe);
}

void check_decode(const Fixture& fixture, const Json& c, CaseReport& check) {
  const VitsModel model(weights_of(c), published_config(form_of(c.at("name").get<std::string>())));
  const Probe probe = comparing(fixture, c, check);
  const VitsModel::Speaker speaker = make_speaker(model, fixture, c, check);
  const at::Tensor wave = model.decode(input_of(c, "codes").view({-1}), input_of(c, "text").view({-1}), speaker,
                                       c.at("config").at("speed").get<double>(), rows_of(input_of(c, "noise")), &probe);
  compare(fixture, c, check, "wav", wave.view({1, 1, -1}), kWaveTolerance);
}

/// Upstream's joint of two pieces: f2 at the best offset, faded in over the tail of f1; both without what is not joint.
at::Tensor join_tail(const at::Tensor& f1, const at::Tensor& f2, std::int64_t overlap) {
  return overlap_add_aligned({f1, f2}, overlap, 320);
}

/// Upstream's own streaming, which cuts the latents, draws new noise for every chunk and repairs the joints.
void check_streaming(const Fixture& fixture, const Json& c, CaseReport& check) {
  const Json& settings = c.at("config");
  const VitsModel model(weights_of(c), published_config(ModelForm::v2));
  const auto references = references_of(c);
  const VitsModel::Speaker speaker = model.make_speaker(references);
  const at::Tensor codes = input_of(c, "codes").view({-1});
  const at::Tensor phonemes = input_of(c, "text").view({-1});
  const auto overlap_tokens = settings.at("overlap_length").get<std::int64_t>();
  const auto overlap_samples = settings.at("overlap_size").get<std::int64_t>();
  const auto text = model.front().encoder().encode_text(phonemes);

  at::Tensor last_latent, last_wave;
  std::vector<at::Tensor> emitted;
  std::int64_t known = 0;
  const Json& chunks = settings.at("chunks");
  for (std::size_t i = 0; i < chunks.size(); ++i) {
    const auto n = chunks[i].get<std::int64_t>();
    known += n;
    at::Tensor latent =
        model.front().encoder().encode(model.front().quantize(codes.narrow(0, 0, known)), text, speaker.front.text_ge);
    if (i > 0) {
      const std::int64_t keep = 2 * (n + overlap_tokens);
      latent = latent.narrow(0, latent.size(0) - keep, keep).clone();
      const std::int64_t joint = 2 * overlap_tokens;
      for (std::int64_t k = 0; k < joint; ++k) {
        const auto window = [&](std::int64_t index) {
          return std::sin(std::numbers::pi * static_cast<double>(index) / static_cast<double>(2 * joint));
        };
        latent[k] = latent[k] * window(k) + last_latent[last_latent.size(0) - joint + k] * window(joint + k);
      }
    }
    const std::string number = std::to_string(i);
    compare(fixture, c, check, "latent" + number, latent.t().unsqueeze(0), kFeatureTolerance);
    const at::Tensor wave = model.decode_frames(latent, speaker, rows_of(input_of(c, "noise" + number)));
    compare(fixture, c, check, "chunk" + number + ".raw", wave, kWaveTolerance);
    at::Tensor out = wave;
    if (i == 0) {
      out = wave.narrow(0, 0, wave.size(0) - overlap_samples);
    } else if (i + 1 < chunks.size()) {
      const at::Tensor joined = join_tail(last_wave, wave, overlap_samples);
      const std::int64_t seam = last_wave.size(0) - overlap_samples;
      out = joined.narrow(0, seam, joined.size(0) - seam - overlap_samples);
    }
    compare(fixture, c, check, "chunk" + number + ".emitted", out, kWaveTolerance);
    emitted.push_back(out);
    last_latent = latent;
    last_wave = wave;
  }
  compare(fixture, c, check, "all", at::cat(emitted), kWaveTolerance);
  const at::Tensor whole = model.decode(codes, phonemes, speaker, 1.0, rows_of(input_of(c, "noise_full")));
  compare(fixture, c, check, "offline", whole.view({1, 1, -1}), kWaveTolerance);
}

void check_overlap_add(const Fixture& fixture, const Json& c, CaseReport& check) {
  const auto overlap = c.at("config").at("overlap_len").get<std::int64_t>();
  const at::Tensor a = input_of(c, "a");
  at::Tensor b = input_of(c, "b");
  b.narrow(0, 200, overlap).mul_(0.2).add_(a.narrow(0, a.size(0) - overlap, overlap));
  compare(fixture, c, check, "y", overlap_add_aligned({a, b}, overlap, 320), kFeatureTolerance);
}

const Registration kV2("acoustic_v2", [](const Fixture& fixture, Report& report) {
  for_each_case(fixture, report, [&](const Json& c, CaseReport& check) {
    const std::string name = c.at("name").get<std::string>();
    const WeightScope weights = weights_of(c);
    const PublishedConfig config = published_config(form_of(name));
    if (name.find(".decode") != std::string::npos) {
      check_decode(fixture, c, check);
    } else if (name == "v2.extract_latent") {
      const Probe probe = comparing(fixture, c, check);
      const SemanticTokenizer tokenizer(weights);
      const at::Tensor codes = tokenizer.encode(rows_of(input_of(c, "ssl")), &probe);
      compare(fixture, c, check, "codes", codes.view({1, 1, -1}), kFeatureTolerance);  // less than a code's distance
    } else if (name == "v2.dec_only") {
      const Probe probe = comparing(fixture, c, check);
      HifiganConfig decoder;
      decoder.in = config.hidden;
      decoder.rates = config.upsample_rates;
      decoder.kernels = config.upsample_kernels;
      decoder.condition = config.ge_dim;
      decoder.out_bias = false;
      const Hifigan dec(weights("dec"), decoder);
      compare(fixture, c, check, "wav", dec.forward(input_of(c, "x"), input_of(c, "g"), &probe).unsqueeze(1),
              kWaveTolerance);
    } else if (name == "v2.flow_reverse") {
      const CouplingFlow flow(weights("flow"));
      const at::Tensor z = flow.reverse(rows_of(input_of(c, "x")), flow.prepare(input_of(c, "g").view({-1})));
      compare(fixture, c, check, "z", z.t().unsqueeze(0), kFeatureTolerance);
    } else if (name == "v2.weights_check") {
      for (const auto& [key, want] : c.at("outputs").items()) {
        const auto shape = to_int64s(want.at("shape"));
        const auto folded = key.find(" effective weight");
        if (key.ends_with("weight_g")) {  // made from its pair
          const std::string v = key.substr(0, key.size() - 1) + "v";
          const auto& outputs = c.at("outputs");
          (void)weights.get(v, outputs.contains(v) ? to_int64s(outputs.at(v).at("shape"))
                                                   : std::vector<std::int64_t>{shape[0], 192, 5});
        }
        compare(fixture, c, check, key,
                folded == std::string::npos ? weights.get(key, shape)
                                            : fold_weight_norm(weights, key.substr(0, folded), shape),
                kFeatureTolerance);
      }
    } else {
      check.skip();
    }
  });
});

const Registration kV2Pro("acoustic_v2pro", [](const Fixture& fixture, Report& report) {
  for_each_case(fixture, report, [&](const Json& c, CaseReport& check) {
    if (c.at("name").get<std::string>().find(".decode") != std::string::npos) return check_decode(fixture, c, check);
    check.skip();
  });
});

const Registration kStreaming("acoustic_streaming", [](const Fixture& fixture, Report& report) {
  for_each_case(fixture, report, [&](const Json& c, CaseReport& check) {
    const std::string name = c.at("name").get<std::string>();
    if (name == "sola") return check_overlap_add(fixture, c, check);
    if (name.ends_with(".decode_streaming")) return check_streaming(fixture, c, check);
    check.skip();
  });
});

}  // namespace
}  // namespace tts::parity
