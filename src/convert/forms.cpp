#include "src/convert/forms.h"

#include <algorithm>
#include <array>
#include <utility>

namespace tts {
namespace {

struct FormRow {
  Form form;
  const char* name;
};
constexpr std::array<FormRow, 6> kForms = {{{Form::v1, "v1"},
                                            {Form::v2, "v2"},
                                            {Form::v2pro, "v2Pro"},
                                            {Form::v2proplus, "v2ProPlus"},
                                            {Form::v3, "v3"},
                                            {Form::v4, "v4"}}};

std::string lower(std::string_view text) {
  std::string out(text);
  std::ranges::transform(out, out.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  return out;
}

using Shape = std::vector<std::int64_t>;

/// Collects what a network must have.
class List {
 public:
  void tensor(std::string key, Shape shape) { wanted_.push_back({std::move(key), std::move(shape), false}); }
  /// weight (which weight norm may have split) and bias of a convolution; `n_out` is the bias's size.
  void conv(const std::string& name, Shape shape, std::int64_t n_out, bool has_bias = true) {
    wanted_.push_back({name + ".weight", std::move(shape), true});
    if (has_bias) tensor(name + ".bias", {n_out});
  }
  void conv(const std::string& name, Shape shape) {
    const std::int64_t n_out = shape[0];
    conv(name, std::move(shape), n_out);
  }
  /// Also a norm with its gain and offset.
  void linear(const std::string& name, Shape shape) {
    tensor(name + ".bias", {shape[0]});
    tensor(name + ".weight", std::move(shape));
  }
  void batch_norm(const std::string& name, std::int64_t n) {
    for (const char* part : {".weight", ".bias", ".running_mean", ".running_var"}) tensor(name + part, {n});
  }
  WantedTensors take() { return std::move(wanted_); }

 private:
  WantedTensors wanted_;
};

std::string at(const std::string& name, std::int64_t index) {
  return name + "." + std::to_string(index);
}

void text_side(List& list, const AcousticSizes& s) {
  const std::int64_t h = s.hidden;
  list.conv("enc_p.ssl_proj", {h, s.ssl_dim, 1});
  list.tensor("enc_p.text_embedding.weight", {s.phonemes, h});
  for (const auto& [name, layers] : {std::pair{"enc_p.encoder_ssl", s.layers_ssl},
                                     {"enc_p.encoder_text", s.layers_text},
                                     {"enc_p.encoder2", s.layers_post}}) {
    const std::string encoder = name;
    for (std::int64_t i = 0; i < layers; ++i) {
      const std::string attention = at(encoder + ".attn_layers", i);
      for (const char* part : {".conv_q", ".conv_k", ".conv_v", ".conv_o"}) list.conv(attention + part, {h, h, 1});
      for (const char* part : {".emb_rel_k", ".emb_rel_v"}) list.tensor(attention + part, {1, 9, h / s.heads});
      for (const char* norm : {".norm_layers_1", ".norm_layers_2"}) {
        for (const char* part : {".gamma", ".beta"}) list.tensor(at(encoder + norm, i) + part, {h});
      }
      list.conv(at(encoder + ".ffn_layers", i) + ".conv_1", {s.filter, h, 3});
      list.conv(at(encoder + ".ffn_layers", i) + ".conv_2", {h, s.filter, 3});
    }
  }
  for (const char* part : {"q", "k", "v", "o"}) {
    list.conv(std::string("enc_p.mrte.cross_attention.conv_") + part, {s.mrte_dim, s.mrte_dim, 1});
  }
  list.conv("enc_p.mrte.c_pre", {s.mrte_dim, h, 1});
  list.conv("enc_p.mrte.text_pre", {s.mrte_dim, h, 1});
  list.conv("enc_p.mrte.c_post", {h, s.mrte_dim, 1});

  list.linear("ref_enc.spectral.0.fc", {s.style_dim, s.ref_bins});
  list.linear("ref_enc.spectral.3.fc", {s.style_dim, s.style_dim});
  for (int i = 0; i < 2; ++i) {
    list.conv(at("ref_enc.temporal", i) + ".conv1.conv", {2 * s.style_dim, s.style_dim, 5});
  }
  for (const char* part : {"w_qs", "w_ks", "w_vs", "fc"}) {
    list.linear(std::string("ref_enc.slf_attn.") + part, {s.style_dim, s.style_dim});
  }
  list.linear("ref_enc.fc.fc", {s.ge_dim, s.style_dim});
  list.conv("ssl_proj", {s.ssl_dim, s.ssl_dim, 2});
  list.tensor("quantizer.vq.layers.0._codebook.embed", {s.codes, s.code_dim});
}

void wavenet(List& list, const std::string& name, std::int64_t channels, std::int64_t layers, std::int64_t ge_dim) {
  list.conv(name + ".cond_layer", {2 * channels * layers, ge_dim, 1});
  for (std::int64_t i = 0; i < layers; ++i) {
    list.conv(at(name + ".in_layers", i), {2 * channels, channels, 5});
    list.conv(at(name + ".res_skip_layers", i), {i + 1 < layers ? 2 * channels : channels, channels, 1});
  }
}

/// The upsampling stages of a HiFi-GAN: `ups_suffix` stands behind the index of an upsampling convolution.
void generator(List& list, const std::string& prefix, const char* ups_suffix, std::int64_t channels,
               const std::vector<std::int64_t>& kernels) {
  for (std::size_t i = 0; i < kernels.size(); ++i) {
    const std::int64_t in = channels >> i;
    const std::int64_t out = channels >> (i + 1);
    const auto stage = static_cast<std::int64_t>(i);
    list.conv(at(prefix + "ups", stage) + ups_suffix, {in, out, kernels[i]}, out);
    for (std::int64_t k = 0; k < 3; ++k) {
      constexpr std::array<std::int64_t, 3> kKernels = {3, 7, 11};
      const std::string block = at(prefix + "resblocks", 3 * stage + k);
      for (const char* convs : {".convs1", ".convs2"}) {
        for (std::int64_t j = 0; j < 3; ++j) {
          list.conv(at(block + convs, j), {out, out, kKernels[static_cast<std::size_t>(k)]});
        }
      }
    }
  }
}

void flow_matching(List& list, const AcousticSizes& s) {
  const std::int64_t f = s.feature_dim;
  const std::int64_t d = s.dit_dim;
  list.conv("bridge.0", {f, s.hidden, 1});
  list.conv("wns1.pre", {f, f, 1});
  list.conv("wns1.proj", {f, f, 1});
  wavenet(list, "wns1.enc", f, s.wns_layers, s.ge_dim);
  const std::string dit = "cfm.estimator.";
  for (const char* part : {"time_embed", "d_embed"}) {
    list.linear(dit + part + ".time_mlp.0", {d, 256});
    list.linear(dit + part + ".time_mlp.2", {d, d});
  }
  for (std::int64_t i = 0; i < s.dit_text_layers; ++i) {
    const std::string block = at(dit + "text_embed.text_blocks", i);
    list.linear(block + ".dwconv", {f, 1, 7});
    list.linear(block + ".norm", {f});
    list.linear(block + ".pwconv1", {2 * f, f});
    for (const char* part : {".grn.gamma", ".grn.beta"}) list.tensor(block + part, {1, 1, 2 * f});
    list.linear(block + ".pwconv2", {f, 2 * f});
  }
  list.linear(dit + "input_embed.proj", {d, 2 * s.mel_bands + f});
  for (const char* part : {"0", "2"}) {
    list.linear(dit + "input_embed.conv_pos_embed.conv1d." + part, {d, d / 16, 31});
  }
  for (std::int64_t i = 0; i < s.dit_depth; ++i) {
    const std::string block = at(dit + "transformer_blocks", i);
    list.linear(block + ".attn_norm.linear", {6 * d, d});
    for (const char* part : {".attn.to_q", ".attn.to_k", ".attn.to_v", ".attn.to_out.0"}) {
      list.linear(block + part, {d, d});
    }
    list.linear(block + ".ff.ff.0.0", {2 * d, d});
    list.linear(block + ".ff.ff.2", {d, 2 * d});
  }
  list.linear(dit + "norm_out.linear", {2 * d, d});
  list.linear(dit + "proj_out", {s.mel_bands, d});
}

void attentional_fusion(List& list, const std::string& name, std::int64_t channels) {
  list.linear(name + ".local_att.0", {channels / 4, 2 * channels, 1, 1});
  list.batch_norm(name + ".local_att.1", channels / 4);
  list.linear(name + ".local_att.3", {channels, channels / 4, 1, 1});
  list.batch_norm(name + ".local_att.4", channels);
}

}  // namespace

const char* to_string(Form form) noexcept {
  for (const FormRow& row : kForms) {
    if (row.form == form) return row.name;
  }
  return "v2";
}

std::string manifest_name(Form form) {
  return lower(to_string(form));
}

std::optional<Form> find_form(std::string_view name) {
  for (const FormRow& row : kForms) {
    if (lower(row.name) == lower(name)) return row.form;
  }
  return std::nullopt;
}

VoiceSizes published_sizes(Form form) {
  VoiceSizes sizes;
  if (form == Form::v1) {
    sizes.t2s.phoneme_vocab = 512;
    sizes.acoustic.phonemes = 322;
    sizes.acoustic.ref_bins = 1025;
  }
  if (form == Form::v2pro || form == Form::v2proplus) sizes.acoustic.ge_dim = 1024;
  if (form == Form::v2proplus) {
    sizes.acoustic.decoder_channels = 768;
    sizes.acoustic.upsample_kernels[0] = 20;
  }
  if (form == Form::v3) sizes.vocoder = {1536, {4, 4, 2, 2, 2, 2}, {8, 8, 4, 4, 4, 4}};
  return sizes;
}

WantedTensors wanted_t2s(const T2sSizes& s) {
  List list;
  const std::int64_t d = s.hidden;
  list.linear("model.bert_proj", {d, s.bert_dim});
  list.tensor("model.ar_text_embedding.word_embeddings.weight", {s.phoneme_vocab, d});
  list.tensor("model.ar_text_position.alpha", {1});
  list.tensor("model.ar_audio_embedding.word_embeddings.weight", {s.vocab, d});
  list.tensor("model.ar_audio_position.alpha", {1});
  for (std::int64_t i = 0; i < s.layers; ++i) {
    const std::string layer = at("model.h.layers", i);
    list.tensor(layer + ".self_attn.in_proj_weight", {3 * d, d});
    list.tensor(layer + ".self_attn.in_proj_bias", {3 * d});
    list.linear(layer + ".self_attn.out_proj", {d, d});
    list.linear(layer + ".linear1", {4 * d, d});
    list.linear(layer + ".linear2", {d, 4 * d});
    list.linear(layer + ".norm1", {d});
    list.linear(layer + ".norm2", {d});
  }
  list.tensor("model.ar_predict_layer.weight", {s.vocab, d});
  return list.take();
}

WantedTensors wanted_acoustic(Form form, const AcousticSizes& s) {
  List list;
  text_side(list, s);
  if (form == Form::v3 || form == Form::v4) {
    flow_matching(list, s);
    return list.take();
  }
  const std::int64_t h = s.hidden;
  list.conv("enc_p.proj", {2 * h, h, 1});
  for (std::int64_t i = 0; i < s.flow_layers; ++i) {
    const std::string flow = at("flow.flows", 2 * i);
    list.conv(flow + ".pre", {h, h / 2, 1});
    list.conv(flow + ".post", {h / 2, h, 1});
    wavenet(list, flow + ".enc", h, 4, s.ge_dim);
  }
  list.conv("dec.conv_pre", {s.decoder_channels, h, 7});
  list.conv("dec.cond", {s.decoder_channels, s.ge_dim, 1});
  generator(list, "dec.", "", s.decoder_channels, s.upsample_kernels);
  list.conv("dec.conv_post", {1, s.decoder_channels >> s.upsample_kernels.size(), 7}, 1, false);
  if (form == Form::v2pro || form == Form::v2proplus) {
    list.linear("sv_emb", {s.ge_dim, s.speaker_dim});
    list.linear("ge_to512", {s.mrte_dim, s.ge_dim});
    list.tensor("prelu.weight", {s.ge_dim});
  }
  return list.take();
}

WantedTensors wanted_vocoder(Form form, const VocoderSizes& s, std::int64_t mel_bands) {
  List list;
  const std::int64_t last = s.channels >> s.upsample_kernels.size();
  list.conv("conv_pre", {s.channels, mel_bands, 7});
  if (form == Form::v4) {
    generator(list, "", "", s.channels, s.upsample_kernels);
    list.conv("conv_post", {1, last, 7});
    return list.take();
  }
  generator(list, "", ".0", s.channels, s.upsample_kernels);
  for (std::size_t i = 0; i < 3 * s.upsample_kernels.size(); ++i) {
    const std::string block = at("resblocks", static_cast<std::int64_t>(i));
    for (std::int64_t j = 0; j < 6; ++j) {
      for (const char* part : {".act.alpha", ".act.beta"}) {
        list.tensor(at(block + ".activations", j) + part, {s.channels >> (i / 3 + 1)});
      }
    }
  }
  for (const char* part : {"alpha", "beta"}) list.tensor(std::string("activation_post.act.") + part, {last});
  list.conv("conv_post", {1, last, 7}, 1, false);
  return list.take();
}

WantedTensors wanted_hubert(const HubertSizes& s) {
  List list;
  for (std::int64_t i = 0; i < 7; ++i) {
    const std::int64_t kernel = i == 0 ? 10 : i < 5 ? 3 : 2;
    list.tensor(at("feature_extractor.conv_layers", i) + ".conv.weight", {s.channels, i == 0 ? 1 : s.channels, kernel});
  }
  list.linear("feature_extractor.conv_layers.0.layer_norm", {s.channels});
  list.linear("feature_projection.layer_norm", {s.channels});
  list.linear("feature_projection.projection", {s.hidden, s.channels});
  list.conv("encoder.pos_conv_embed.conv", {s.hidden, s.hidden / s.position_groups, s.position_kernel});
  list.linear("encoder.layer_norm", {s.hidden});
  for (std::int64_t i = 0; i < s.layers; ++i) {
    const std::string layer = at("encoder.layers", i);
    for (const char* part : {".attention.q_proj", ".attention.k_proj", ".attention.v_proj", ".attention.out_proj"}) {
      list.linear(layer + part, {s.hidden, s.hidden});
    }
    list.linear(layer + ".layer_norm", {s.hidden});
    list.linear(layer + ".final_layer_norm", {s.hidden});
    list.linear(layer + ".feed_forward.intermediate_dense", {s.inner, s.hidden});
    list.linear(layer + ".feed_forward.output_dense", {s.hidden, s.inner});
  }
  return list.take();
}

WantedTensors wanted_bert(const BertSizes& s) {
  List list;
  const std::string embeddings = "bert.embeddings.";
  list.tensor(embeddings + "word_embeddings.weight", {s.vocab, s.hidden});
  list.tensor(embeddings + "position_embeddings.weight", {s.positions, s.hidden});
  list.tensor(embeddings + "token_type_embeddings.weight", {2, s.hidden});
  list.linear(embeddings + "LayerNorm", {s.hidden});
  for (std::int64_t i = 0; i < s.layers; ++i) {
    const std::string layer = at("bert.encoder.layer", i);
    for (const char* part :
         {".attention.self.query", ".attention.self.key", ".attention.self.value", ".attention.output.dense"}) {
      list.linear(layer + part, {s.hidden, s.hidden});
    }
    list.linear(layer + ".attention.output.LayerNorm", {s.hidden});
    list.linear(layer + ".intermediate.dense", {s.inner, s.hidden});
    list.linear(layer + ".output.dense", {s.hidden, s.inner});
    list.linear(layer + ".output.LayerNorm", {s.hidden});
  }
  return list.take();
}

WantedTensors wanted_speaker_net(const SpeakerNetSizes& s) {
  List list;
  list.tensor("conv1.weight", {s.channels, 1, 3, 3});
  list.batch_norm("bn1", s.channels);
  std::int64_t in = s.channels;
  constexpr std::array<std::int64_t, 4> kBlocks = {3, 4, 6, 3};
  for (std::int64_t l = 0; l < 4; ++l) {
    const std::int64_t planes = s.channels << l;
    const std::int64_t width = planes * s.base_width / 64;
    const std::int64_t out = 4 * planes;
    for (std::int64_t i = 0; i < kBlocks[static_cast<std::size_t>(l)]; ++i) {
      const std::string block = at("layer" + std::to_string(l + 1), i);
      list.tensor(block + ".conv1.weight", {4 * width, in, 1, 1});
      list.batch_norm(block + ".bn1", 4 * width);
      for (std::int64_t j = 0; j < 4; ++j) {
        list.tensor(at(block + ".convs", j) + ".weight", {width, width, 3, 3});
        list.batch_norm(at(block + ".bns", j), width);
      }
      for (std::int64_t j = 0; j < 3 && l >= 2; ++j) attentional_fusion(list, at(block + ".fuse_models", j), width);
      list.tensor(block + ".conv3.weight", {out, 4 * width, 1, 1});
      list.batch_norm(block + ".bn3", out);
      if (i == 0) {
        list.tensor(block + ".shortcut.0.weight", {out, in, 1, 1});
        list.batch_norm(block + ".shortcut.1", out);
      }
      in = out;
    }
  }
  list.tensor("layer3_ds.weight", {in, in / 2, 3, 3});
  attentional_fusion(list, "fuse34", in);
  return list.take();
}

}  // namespace tts
