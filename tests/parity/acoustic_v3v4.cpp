// The v3/v4 acoustic networks: acoustic_v3v4, acoustic_dit_full, acoustic_vocoders, acoustic_frontend.
#include <algorithm>
#include <array>
#include <cmath>
#include <memory>
#include <vector>

#include <ATen/ATen.h>

#include "models/bigvgan.h"
#include "models/cfm.h"
#include "models/chunking.h"
#include "models/dit.h"
#include "models/feature_encoder.h"
#include "models/hifigan.h"
#include "models/mel.h"
#include "models/quantizer.h"
#include "models/reference_encoder.h"
#include "models/semantic_encoder.h"
#include "tests/parity/acoustic_common.h"

namespace tts::parity {
namespace {

SemanticEncoderConfig with_projection() {
  SemanticEncoderConfig config;
  config.project = true;
  return config;
}

FeatureEncoderConfig at_rate(bool v4) {
  FeatureEncoderConfig config;
  config.rate = v4 ? 2.0 : 1.875;
  config.frames_per_code = v4 ? 4.0 : 3.875;
  return config;
}

DitConfig small_dit() {
  DitConfig config;
  config.dim = 128;
  config.depth = 2;
  config.heads = 2;
  return config;
}

/// Everything of SynthesizerTrnV3 before the flow.
struct Conditioning {
  explicit Conditioning(const WeightScope& weights, bool v4)
      : reference(weights("ref_enc")),
        quantizer(weights("quantizer")),
        semantic(weights("enc_p"), with_projection()),
        features(weights, at_rate(v4)) {}

  at::Tensor encode(const at::Tensor& codes, const at::Tensor& phonemes, const at::Tensor& ge, double speed,
                    const Probe* probe) const {
    const at::Tensor frames = quantizer.decode(codes);
    at::Tensor y = semantic.encode(frames, semantic.encode_text(phonemes, probe), ge, probe);
    if (speed != 1.0) y = resize_linear(y, frames_at_speed(y.size(0), speed));
    if (probe != nullptr) {
      (*probe)("enc_p.proj(stats)", semantic.project(y).t().unsqueeze(0));
      (*probe)("bridge", features.bridge(y).t().unsqueeze(0));
    }
    return features.forward(y, features.prepare(ge), features.valid_frames(codes.numel(), speed), probe);
  }

  ReferenceEncoder reference;
  Quantizer quantizer;
  SemanticEncoder semantic;
  FeatureEncoder features;
};

at::Tensor spectrogram_frames(const at::Tensor& spectrogram) {
  return spectrogram.squeeze(0).t().contiguous();
}

void check_conditioning(const Fixture& fixture, const Json& c, CaseReport& check) {
  const Conditioning model(weights_of(c), c.at("config").at("version") == "v4");
  const Probe probe = comparing(fixture, c, check);
  const at::Tensor ge = model.reference.encode(spectrogram_frames(input_of(c, "refer")), &probe);
  probe("ref_enc", ge.view({1, -1, 1}));
  probe("ge", ge.view({1, -1, 1}));
  const at::Tensor fea = model.encode(input_of(c, "codes").view({-1}), input_of(c, "text").view({-1}), ge,
                                      c.at("config").at("speed").get<double>(), &probe);
  probe("fea", fea.t().unsqueeze(0));
}

at::Tensor frames_last_to_first(const at::Tensor& x) {
  return x.transpose(1, 2).contiguous();
}

void check_dit(const Fixture& fixture, const Json& c, CaseReport& check, const DitConfig& config) {
  const Json& settings = c.at("config");
  const Dit dit(weights_of(c)("cfm.estimator"), config);
  const Probe probe = comparing(fixture, c, check);
  at::Tensor x = frames_last_to_first(input_of(c, "x"));
  at::Tensor prompt = frames_last_to_first(input_of(c, "cond"));
  if (settings.contains("prompt_len")) {
    const auto n = settings.at("prompt_len").get<std::int64_t>();
    prompt.narrow(1, n, prompt.size(1) - n).zero_();
    x.narrow(1, 0, n).zero_();
  }
  const at::Tensor text = dit.text(frames_last_to_first(input_of(c, "mu")), &probe);
  const at::Tensor time = dit.time(settings.at("t").get<double>(), settings.at("d").get<double>(), &probe);
  (void)dit.velocity(x, dit.window(prompt, text), dit.modulation(time), &probe);
}

void check_sampling(const Fixture& fixture, const Json& c, CaseReport& check) {
  const Dit dit(weights_of(c)("cfm.estimator"), small_dit());
  const FlowPlan plan = make_flow_plan(
      dit, {.steps = c.at("config").at("steps").get<int>(), .guidance = c.at("config").at("cfg_rate").get<double>()});
  const at::Tensor mel = sample_flow(dit, input_of(c, "mu"), frames_last_to_first(input_of(c, "prompt")),
                                     frames_last_to_first(input_of(c, "noise")), plan);
  compare(fixture, c, check, "mel", mel.transpose(1, 2), kFeatureTolerance);
}

/// The fixture's stand-in for a vocoder. mel [frames, 100], in log scale -> [frames * hop].
at::Tensor stand_in_vocoder(const at::Tensor& mel, std::int64_t hop) {
  const at::Tensor bins = at::remainder(at::arange(hop, at::kLong) * 7, 100);
  return (mel.index_select(1, bins) / 16.0).reshape({-1});
}

void check_chunked(const Fixture& fixture, const Json& c, CaseReport& check, bool batched) {
  const Json& settings = c.at("config");
  const bool v4 = settings.at("version") == "v4";
  const std::int64_t hop = v4 ? 480 : 256;
  const auto overlap = settings.at("overlapped_len").get<std::int64_t>();
  const WeightScope weights = weights_of(c);
  const Conditioning model(weights, v4);
  const Dit dit(weights("cfm.estimator"), small_dit());

  const at::Tensor ge = model.reference.encode(spectrogram_frames(input_of(c, "refer_spec")));
  const at::Tensor reference_features =
      model.encode(input_of(c, "prompt_codes"), input_of(c, "prompt_phones"), ge, 1.0, nullptr);
  const at::Tensor reference_mel = normalize_mel(MelFrontEnd(v4 ? kMelV4 : kMelV3)(input_of(c, "ref_wav").view({-1})));
  const FlowPrompt prompt =
      make_flow_prompt(reference_mel, reference_features, settings.at("T_ref").get<std::int64_t>());
  const FlowPlan plan = make_flow_plan(dit, {.steps = settings.at("steps").get<int>()});
  int call = 0;
  const FlowWindow flow = [&](const at::Tensor& mu, const at::Tensor& window_prompt) {
    const at::Tensor noise = frames_last_to_first(input_of(c, "noise" + std::to_string(call++)));
    return sample_flow(dit, mu, window_prompt, noise, plan);
  };
  const auto window = settings.at("T_chunk").get<std::int64_t>();
  at::Tensor features = model.encode(input_of(c, "codes"), input_of(c, "phones"), ge, 1.0, nullptr);
  if (!batched) {
    const at::Tensor mel = denormalize_mel(sample_serial(prompt, features, window, flow));
    compare(fixture, c, check, "mel_denorm", mel.t().unsqueeze(0), kFeatureTolerance);
    compare(fixture, c, check, "audio", stand_in_vocoder(mel, hop), kFeatureTolerance);
    return;
  }
  const std::int64_t n_first = features.size(0);
  const at::Tensor second = model.encode(input_of(c, "codes_b"), input_of(c, "phones_b"), ge, 1.0, nullptr);
  features = at::cat({features, second});
  BatchedMel mel = sample_batched(prompt, features, window, overlap, flow);
  mel.mel = denormalize_mel(mel.mel);
  compare(fixture, c, check, "mel_denorm", mel.mel.t().unsqueeze(0), kFeatureTolerance);
  const at::Tensor wave = join_batched(stand_in_vocoder(mel.mel, hop), mel, overlap, hop);
  compare(fixture, c, check, "audio0", wave.narrow(0, 0, n_first * hop), kFeatureTolerance);
  const std::int64_t rest = std::min(second.size(0) * hop, wave.size(0) - n_first * hop);
  compare(fixture, c, check, "audio1", wave.narrow(0, n_first * hop, rest), kFeatureTolerance);
}

const Registration kConditioning("acoustic_v3v4", [](const Fixture& fixture, Report& report) {
  for_each_case(fixture, report, [&](const Json& c, CaseReport& check) {
    const std::string name = c.at("name").get<std::string>();
    if (name.find("decode_encp") != std::string::npos) return check_conditioning(fixture, c, check);
    if (name == "dit_small.forward") return check_dit(fixture, c, check, small_dit());
    if (name.starts_with("cfm_small.")) return check_sampling(fixture, c, check);
    if (name.ends_with("chunked_serial")) return check_chunked(fixture, c, check, false);
    if (name.ends_with("chunked_batched")) return check_chunked(fixture, c, check, true);
    check.skip();
  });
});

const Registration kDitFull("acoustic_dit_full", [](const Fixture& fixture, Report& report) {
  for_each_case(fixture, report, [&](const Json& c, CaseReport& check) { check_dit(fixture, c, check, DitConfig{}); });
});

void check_bigvgan(const Fixture& fixture, const Json& c, CaseReport& check) {
  const Bigvgan vocoder(weights_of(c));
  const Probe probe = comparing(fixture, c, check);
  const at::Tensor wave = vocoder.forward(input_of(c, "mel"), &probe);
  compare(fixture, c, check, "wav", wave.unsqueeze(1), kWaveTolerance);
  if (c.at("outputs").contains("upsample.filter")) {
    const auto taps = SnakeActivation::filter();
    at::Tensor filter = at::empty({1, 1, 12}, at::kDouble);
    std::copy(taps.begin(), taps.end(), filter.data_ptr<double>());
    probe("upsample.filter", filter);
    probe("downsample.filter", filter);
  }
}

const Registration kVocoders("acoustic_vocoders", [](const Fixture& fixture, Report& report) {
  for_each_case(fixture, report, [&](const Json& c, CaseReport& check) {
    const std::string name = c.at("name").get<std::string>();
    const Probe probe = comparing(fixture, c, check);
    if (name.starts_with("v4.vocoder")) {
      auto source = std::make_shared<SchemeSource>(c);
      source->set_absent({"*weight_v", "*weight_g"});
      const Hifigan vocoder{WeightScope(source)};
      compare(fixture, c, check, "wav", vocoder.forward(input_of(c, "mel"), {}, &probe).unsqueeze(1), kWaveTolerance);
    } else if (name.starts_with("v3.bigvgan")) {
      check_bigvgan(fixture, c, check);
    } else if (name == "bigvgan.activation1d") {
      const SnakeActivation activation(weights_of(c)("resblocks.0.activations.0"), 768);
      const auto shown = [](const at::Tensor& x) { return x.t().unsqueeze(0); };
      const at::Tensor x = input_of(c, "x").squeeze(0).t().contiguous();
      const at::Tensor up = SnakeActivation::double_rate(x);
      probe("up", shown(up));
      probe("act", shown(activation.bend(up)));
      probe("y", shown(activation(x)));
    } else {
      check.skip();
    }
  });
});

const Registration kFrontEnd("acoustic_frontend", [](const Fixture& fixture, Report& report) {
  for_each_case(fixture, report, [&](const Json& c, CaseReport& check) {
    const std::string name = c.at("name").get<std::string>();
    const Probe probe = comparing(fixture, c, check);
    const at::Tensor wave = input_of(c, "wav").view({-1});
    if (name == "spectrogram.v2") {
      probe("spec", reference_spectrogram(wave).t().unsqueeze(0));
    } else if (name.starts_with("mel.")) {
      const MelFrontEnd front_end(name.starts_with("mel.v4") ? kMelV4 : kMelV3);
      const at::Tensor mel = front_end(wave).t().unsqueeze(0);
      probe("mel", mel);
      probe("mel_norm", normalize_mel(mel));
      probe("filterbank", front_end.filterbank());
    } else if (name.starts_with("resample.")) {
      const auto underscore = name.find('_');
      probe("y", resample_sinc(wave, std::stoll(name.substr(9)), std::stoll(name.substr(underscore + 1))).unsqueeze(0));
    } else {
      check.skip();
    }
  });
});

}  // namespace
}  // namespace tts::parity
