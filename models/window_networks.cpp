#include "models/window_networks.h"

#include <algorithm>
#include <cmath>

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/baddbmm.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/conv1d.h>
#include <ATen/ops/flip.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/leaky_relu.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/lt.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/tanh.h>
#include <ATen/ops/zeros.h>

#include "models/sample_conv.h"

namespace tts {
namespace {

constexpr std::int64_t kRelative = 4;  // positions that enc_p embeds on either side
constexpr std::int64_t kCouplings = 4;
constexpr std::int64_t kKernel = 5;  // of the WaveNets
constexpr double kMasked = -1e9;

at::Tensor place(const at::Tensor& t, const Placement& placement) {
  return t.defined() ? t.to(placement.device, placement.type).contiguous() : t;
}

}  // namespace

at::Tensor length_mask(const at::Tensor& counts, std::int64_t n) {
  const at::Tensor at = at::arange(n, counts.options());
  return at.unsqueeze(0).lt(counts.unsqueeze(1)).to(at::kFloat).unsqueeze(2);
}

WindowLinear::WindowLinear(const at::Tensor& w, const at::Tensor& b, const Placement& placement)
    : weight(place(w.dim() == 3 ? w.squeeze(2) : w, placement)), bias(place(b, placement)) {}

WindowLinear::WindowLinear(const WeightScope& scope, std::int64_t in, std::int64_t out, bool pointwise_conv,
                           const Placement& placement)
    : WindowLinear(pointwise_conv ? scope.get("weight", {out, in, 1}) : scope.get("weight", {out, in}),
                   scope.get("bias", {out}), placement) {}

at::Tensor WindowLinear::operator()(const at::Tensor& x) const {
  return at::linear(x, weight, bias);
}

WindowConv::WindowConv(const at::Tensor& w, const at::Tensor& b, const Placement& placement, std::int64_t d)
    : weight(place(w, placement)), bias(place(b, placement)), dilation(d) {}

at::Tensor WindowConv::operator()(const at::Tensor& x) const {
  return at::conv1d(x, weight, bias, 1, (weight.size(2) - 1) / 2 * dilation, dilation);
}

WindowUpsampler::WindowUpsampler(const at::Tensor& w, const at::Tensor& b, std::int64_t r, const Placement& placement)
    : rate(r) {
  const Polyphase p = make_polyphase(w, b, rate);
  weight = place(p.weight.permute({0, 2, 1}), placement);
  bias = place(p.bias, placement);
  left = p.left;
  right = p.right;
}

at::Tensor WindowUpsampler::operator()(const at::Tensor& x) const {
  const std::int64_t frames = x.size(2);
  const std::int64_t out = weight.size(0) / rate;
  const at::Tensor y = at::conv1d(at::constant_pad_nd(x, {left, right}), weight, bias);
  return y.view({x.size(0), rate, out, frames}).permute({0, 2, 3, 1}).reshape({x.size(0), out, frames * rate});
}

WindowAttentionEncoder::WindowAttentionEncoder(const WeightScope& weights, std::int64_t layers, std::int64_t channels,
                                               std::int64_t heads, std::int64_t filter, const Placement& placement)
    : heads_(heads) {
  const std::int64_t width = channels / heads;
  const double scale = 1.0 / std::sqrt(static_cast<double>(width));
  constexpr std::int64_t kFfn = 3;
  const auto conv = [&](const WeightScope& scope, std::int64_t in, std::int64_t out) {
    return WindowConv(scope.get("weight", {out, in, kFfn}), scope.get("bias", {out}), placement);
  };
  for (std::int64_t i = 0; i < layers; ++i) {
    const WeightScope attention = weights("attn_layers", i);
    std::vector<at::Tensor> weight;
    std::vector<at::Tensor> bias;
    for (const char* name : {"conv_q", "conv_k", "conv_v"}) {
      const double factor = weight.empty() ? scale : 1.0;  // q is divided beforehand
      weight.push_back(attention(name).get("weight", {channels, channels, 1}) * factor);
      bias.push_back(attention(name).get("bias", {channels}) * factor);
    }
    const auto relative = [&](const char* name) {
      return place(attention.get(name, {1, 2 * kRelative + 1, width}).squeeze(0), placement);
    };
    const WeightScope norm1 = weights("norm_layers_1", i);
    const WeightScope norm2 = weights("norm_layers_2", i);
    layers_.push_back({
        .qkv = WindowLinear(at::cat(weight), at::cat(bias), placement),
        .out = WindowLinear(attention("conv_o"), channels, channels, true, placement),
        .relative_key = relative("emb_rel_k"),
        .relative_value = relative("emb_rel_v"),
        .gain1 = place(norm1.get("gamma", {channels}), placement),
        .bias1 = place(norm1.get("beta", {channels}), placement),
        .gain2 = place(norm2.get("gamma", {channels}), placement),
        .bias2 = place(norm2.get("beta", {channels}), placement),
        .ffn1 = conv(weights("ffn_layers", i)("conv_1"), channels, filter),
        .ffn2 = conv(weights("ffn_layers", i)("conv_2"), filter, channels),
    });
  }
}

at::Tensor WindowAttentionEncoder::forward(at::Tensor x, const at::Tensor& mask) const {
  const std::int64_t batch = x.size(0);
  const std::int64_t frames = x.size(1);
  const std::int64_t channels = x.size(2);
  const std::int64_t width = channels / heads_;
  const std::int64_t padded_width = frames + 2 * kRelative;
  const at::Tensor unseen = ((1.0 - mask) * kMasked).view({batch, 1, 1, frames});
  const at::Tensor heard = mask.transpose(1, 2);  // [batch, 1, frames]
  // Row a of `padded` holds, from column a on, its 2r + 1 terms for keys a - r .. a + r: column b + r is key b.
  const auto band_of = [&](const at::Tensor& t) {
    return t.as_strided({batch, heads_, frames, 2 * kRelative + 1},
                        {heads_ * frames * padded_width, frames * padded_width, padded_width + 1, 1});
  };
  for (const Layer& layer : layers_) {
    const at::Tensor qkv = layer.qkv(x).view({batch, frames, 3, heads_, width}).permute({2, 0, 3, 1, 4}).contiguous();
    const at::Tensor padded = at::zeros({batch, heads_, frames, padded_width}, x.options());
    band_of(padded).copy_(at::matmul(qkv[0], layer.relative_key.t()));
    const at::Tensor scores = at::matmul(qkv[0], qkv[1].transpose(2, 3)) + padded.narrow(3, kRelative, frames) + unseen;
    const at::Tensor p = at::softmax(scores, -1);
    padded.zero_();
    padded.narrow(3, kRelative, frames).copy_(p);
    const at::Tensor seen = at::matmul(p, qkv[2]) + at::matmul(band_of(padded), layer.relative_value);
    const at::Tensor attended = layer.out(seen.transpose(1, 2).reshape({batch, frames, channels}));
    x = at::layer_norm(x + attended, {channels}, layer.gain1, layer.bias1, 1e-5);
    at::Tensor h = at::relu(layer.ffn1(x.transpose(1, 2) * heard));
    h = layer.ffn2(h * heard);
    x = at::layer_norm(x + h.transpose(1, 2), {channels}, layer.gain2, layer.bias2, 1e-5);
  }
  return x;
}

WindowEncoder::WindowEncoder(const WeightScope& acoustic, const PublishedConfig& c, bool project, at::Device device)
    : hidden_(c.hidden),
      cross_heads_(c.mrte_heads),
      codes_(acoustic("quantizer").get("vq.layers.0._codebook.embed", {c.codes, c.code_dim}).to(device)),
      embedding_(acoustic("enc_p.text_embedding").get("weight", {c.phonemes, c.hidden}).to(device)),
      semantic_in_(acoustic("enc_p.ssl_proj"), c.code_dim, c.hidden, true, {device}),
      semantic_(acoustic("enc_p.encoder_ssl"), c.layers_ssl, c.hidden, c.heads, c.filter, {device}),
      text_(acoustic("enc_p.encoder_text"), c.layers_text, c.hidden, c.heads, c.filter, {device}),
      out_(acoustic("enc_p.encoder2"), c.layers_post, c.hidden, c.heads, c.filter, {device}),
      cross_in_(acoustic("enc_p.mrte.c_pre"), c.hidden, c.mrte_dim, true, {device}),
      cross_text_(acoustic("enc_p.mrte.text_pre"), c.hidden, c.mrte_dim, true, {device}),
      cross_q_(acoustic("enc_p.mrte.cross_attention.conv_q"), c.mrte_dim, c.mrte_dim, true, {device}),
      cross_k_(acoustic("enc_p.mrte.cross_attention.conv_k"), c.mrte_dim, c.mrte_dim, true, {device}),
      cross_v_(acoustic("enc_p.mrte.cross_attention.conv_v"), c.mrte_dim, c.mrte_dim, true, {device}),
      cross_o_(acoustic("enc_p.mrte.cross_attention.conv_o"), c.mrte_dim, c.mrte_dim, true, {device}),
      cross_out_(acoustic("enc_p.mrte.c_post"), c.mrte_dim, c.hidden, true, {device}) {
  if (project) project_ = WindowLinear(acoustic("enc_p.proj"), c.hidden, 2 * c.hidden, true, {device});
}

at::Tensor WindowEncoder::forward(const at::Tensor& tokens, const at::Tensor& phonemes, const at::Tensor& counts,
                                  const at::Tensor& ge) const {
  const std::int64_t batch = tokens.size(0);
  const std::int64_t frames = 2 * tokens.size(1);
  const std::int64_t n_phonemes = phonemes.size(1);
  const at::Tensor frame_mask = length_mask(counts.select(1, 0) * 2, frames);
  const at::Tensor phoneme_mask = length_mask(counts.select(1, 1), n_phonemes);

  const at::Tensor codes = codes_.index_select(0, tokens.reshape({-1}));
  const at::Tensor quantized =
      codes.unsqueeze(1).expand({codes.size(0), 2, codes.size(1)}).reshape({batch, frames, codes.size(1)});
  at::Tensor y = semantic_.forward(semantic_in_(quantized), frame_mask);

  const at::Tensor embedded = embedding_.index_select(0, phonemes.reshape({-1})).view({batch, n_phonemes, hidden_});
  const at::Tensor text = cross_text_(text_.forward(embedded, phoneme_mask));
  const at::Tensor c = cross_in_(y);
  const std::int64_t width = c.size(2) / cross_heads_;
  const auto split = [&](const at::Tensor& x) {
    return x.view({batch, x.size(1), cross_heads_, width}).transpose(1, 2);
  };
  const at::Tensor scores =
      at::matmul(split(cross_q_(c)), split(cross_k_(text)).transpose(2, 3)) / std::sqrt(static_cast<double>(width)) +
      ((1.0 - phoneme_mask) * kMasked).view({batch, 1, 1, n_phonemes});
  const at::Tensor seen = at::matmul(at::softmax(scores, -1), split(cross_v_(text)));
  const at::Tensor mixed = cross_o_(seen.transpose(1, 2).reshape({batch, frames, c.size(2)})) + c + ge.unsqueeze(1);
  y = out_.forward(cross_out_(mixed), frame_mask);
  return project_.weight.defined() ? project_(y) : y;
}

WindowWaveNet::WindowWaveNet(const WeightScope& weights, std::int64_t channels, std::int64_t layers,
                             std::int64_t kernel, const Placement& placement)
    : channels_(channels) {
  for (std::int64_t i = 0; i < layers; ++i) {
    const WeightScope in = weights("in_layers", i);
    in_.emplace_back(fold_weight_norm(in, "", {2 * channels, channels, kernel}), in.get("bias", {2 * channels}),
                     placement);
    const std::int64_t out = i + 1 < layers ? 2 * channels : channels;
    const WeightScope res_skip = weights("res_skip_layers", i);
    res_skip_.emplace_back(fold_weight_norm(res_skip, "", {out, channels, 1}), res_skip.get("bias", {out}), placement);
  }
}

at::Tensor WindowWaveNet::forward(at::Tensor x, const at::Tensor& condition, const at::Tensor& mask) const {
  const std::int64_t c = channels_;
  at::Tensor out;
  for (std::size_t i = 0; i < in_.size(); ++i) {
    const at::Tensor a = in_[i](x) + condition.narrow(1, static_cast<std::int64_t>(i) * 2 * c, 2 * c);
    const at::Tensor r = res_skip_[i](at::tanh(a.narrow(1, 0, c)) * at::sigmoid(a.narrow(1, c, c)));
    const bool last = i + 1 == in_.size();
    const at::Tensor skip = last ? r : r.narrow(1, c, c);
    out = out.defined() ? out + skip : skip;
    if (last) break;
    x = x + r.narrow(1, 0, c);
    if (mask.defined()) x = x * mask;
  }
  return mask.defined() ? out * mask : out;
}

WindowCouplingFlow::WindowCouplingFlow(const WeightScope& weights, const PublishedConfig& config,
                                       const Placement& placement)
    : placement_(placement), channels_(config.hidden), layers_(config.flow_layers) {
  const std::int64_t half = channels_ / 2;
  const std::int64_t condition = 2 * channels_ * layers_;
  for (std::int64_t i = 0; i < kCouplings; ++i) {
    const WeightScope coupling = weights("flows", 2 * i);  // the odd ones are the reversals, without weights
    const WeightScope pre = coupling("pre");
    const WeightScope post = coupling("post");
    const WeightScope wavenet = coupling("enc");
    couplings_.push_back(
        {.pre = WindowConv(pre.get("weight", {channels_, half, 1}), pre.get("bias", {channels_}), placement),
         .post = WindowConv(post.get("weight", {half, channels_, 1}), post.get("bias", {half}), placement),
         .wavenet = WindowWaveNet(wavenet, channels_, layers_, kKernel, placement)});
    conditions_.emplace_back(fold_weight_norm(wavenet, "cond_layer", {condition, config.ge_dim, 1}),
                             wavenet("cond_layer").get("bias", {condition}), Placement{});
  }
}

at::Tensor WindowCouplingFlow::prepare(const at::Tensor& ge) const {
  std::vector<at::Tensor> parts;
  for (const WindowLinear& condition : conditions_) parts.push_back(condition(ge));
  return at::cat(parts);
}

at::Tensor WindowCouplingFlow::reverse(const at::Tensor& z_p, const at::Tensor& condition) const {
  const std::int64_t half = channels_ / 2;
  const std::int64_t each = 2 * channels_ * layers_;
  const at::Tensor conditions = condition.to(placement_.type).unsqueeze(2);
  at::Tensor z = z_p.transpose(1, 2).to(placement_.type);
  for (std::size_t i = couplings_.size(); i-- > 0;) {
    const Coupling& coupling = couplings_[i];
    z = at::flip(z, {1});
    const at::Tensor a = z.narrow(1, 0, half);
    const at::Tensor h =
        coupling.wavenet.forward(coupling.pre(a), conditions.narrow(1, static_cast<std::int64_t>(i) * each, each));
    z = at::cat({a, z.narrow(1, half, half) - coupling.post(h)}, 1);
  }
  return z.to(at::kFloat).transpose(1, 2).contiguous();
}

WindowHifigan::WindowHifigan(const WeightScope& weights, const HifiganConfig& config, const Placement& placement)
    : config_(config), placement_(placement) {
  if (config.condition > 0) {
    condition_ = WindowLinear(weights("cond"), config.condition, config.channels, true, Placement{});
  }
  const WeightScope pre = weights("conv_pre");
  const WeightScope post = weights("conv_post");
  const std::int64_t narrowest = config.channels >> config.rates.size();
  pre_ = WindowConv(pre.get("weight", {config.channels, config.in, 7}), pre.get("bias", {config.channels}), placement);
  post_ = WindowConv(post.get("weight", {1, narrowest, 7}), config.out_bias ? post.get("bias", {1}) : at::Tensor(),
                     placement);
  std::int64_t channels = config.channels;
  std::int64_t n_block = 0;
  for (std::size_t i = 0; i < config.rates.size(); ++i) {
    const WeightScope up = weights("ups", static_cast<std::int64_t>(i));
    ups_.emplace_back(fold_weight_norm(up, "", {channels, channels / 2, config.kernels[i]}),
                      up.get("bias", {channels / 2}), config.rates[i], placement);
    channels /= 2;
    for (const std::int64_t kernel : config.block_kernels) {
      const WeightScope scope = weights("resblocks", n_block++);
      Block block;
      for (std::size_t m = 0; m < config.block_dilations.size(); ++m) {
        const auto conv = [&](const char* name, std::int64_t dilation) {
          const WeightScope at = scope(name, static_cast<std::int64_t>(m));
          return WindowConv(fold_weight_norm(at, "", {channels, channels, kernel}), at.get("bias", {channels}),
                            placement, dilation);
        };
        block.first.push_back(conv("convs1", config.block_dilations[m]));
        block.second.push_back(conv("convs2", 1));
      }
      blocks_.push_back(std::move(block));
    }
  }
}

at::Tensor WindowHifigan::prepare(const at::Tensor& ge) const {
  return condition_(ge);
}

at::Tensor WindowHifigan::forward(const at::Tensor& frames, const at::Tensor& condition) const {
  at::Tensor x = pre_(frames.transpose(1, 2).to(placement_.type));
  if (config_.condition > 0) x = x + condition.to(placement_.type).unsqueeze(2);
  const std::size_t per_stage = config_.block_kernels.size();
  for (std::size_t i = 0; i < ups_.size(); ++i) {
    x = ups_[i](at::leaky_relu(x, 0.1));
    at::Tensor sum;
    for (std::size_t j = 0; j < per_stage; ++j) {
      const Block& block = blocks_[i * per_stage + j];
      at::Tensor y = x;
      for (std::size_t m = 0; m < block.first.size(); ++m) {
        y = y + block.second[m](at::leaky_relu(block.first[m](at::leaky_relu(y, 0.1)), 0.1));
      }
      sum = sum.defined() ? sum + y : y;
    }
    x = sum / static_cast<double>(per_stage);
  }
  const at::Tensor wave = at::tanh(post_(at::leaky_relu(x, 0.01)));  // 0.01 here, 0.1 everywhere else
  return wave.to(at::kFloat).squeeze(1).contiguous();
}

std::int64_t WindowHifigan::context() const {
  return generator_context(config_, 0);
}

}  // namespace tts
