#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include "models/t2s.h"
#include "models/weights.h"

// The text-to-semantic transformer as plain ATen operators with an explicit mask: slow, short, and written
// independently of models/t2s.cpp, which is checked against it.

namespace tts::test {

/// Sizes of a model that takes no time; without features.
inline T2SConfig small_t2s_config(std::int64_t layers, std::int64_t hidden, std::int64_t heads) {
  T2SConfig config;
  config.layers = layers;
  config.hidden = hidden;
  config.heads = heads;
  config.phoneme_vocab = 30;
  config.vocab = 41;
  config.bert_dim = 0;
  return config;
}

/// Made-up phonemes or tokens.
inline std::vector<std::int32_t> random_ids(std::size_t n, std::int64_t below, std::uint32_t seed) {
  std::vector<std::int32_t> ids(n);
  for (std::int32_t& id : ids) {
    seed = seed * 1664525U + 1013904223U;
    id = static_cast<std::int32_t>((seed >> 8U) % static_cast<std::uint32_t>(below));
  }
  return ids;
}

/// The largest difference of two numbers at one place; infinite for different sizes.
inline double difference(std::span<const float> a, std::span<const float> b) {
  if (a.size() != b.size()) return INFINITY;
  double worst = 0;
  for (std::size_t i = 0; i < a.size(); ++i) worst = std::max(worst, std::abs(static_cast<double>(a[i]) - b[i]));
  return worst;
}

inline double cosine(std::span<const float> a, std::span<const float> b) {
  double ab = 0;
  double aa = 0;
  double bb = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    ab += static_cast<double>(a[i]) * b[i];
    aa += static_cast<double>(a[i]) * a[i];
    bb += static_cast<double>(b[i]) * b[i];
  }
  return ab / std::sqrt(aa * bb);
}

/// Random weights of a T2S under "model.", as a checkpoint of that precision has them.
inline std::shared_ptr<TensorMap> random_t2s_weights(const T2SConfig& c, std::uint64_t seed,
                                                     at::ScalarType rounded_to = at::kFloat) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  auto map = std::make_shared<TensorMap>();
  const auto put = [&](const std::string& key, at::IntArrayRef shape, double scale, double offset = 0.0) {
    map->put("model." + key, (at::randn(shape, generator, at::kFloat) * scale + offset).to(rounded_to));
  };
  const std::int64_t d = c.hidden;
  const std::int64_t a = c.attended();
  const std::int64_t f = c.ffn();
  const double s = 1.0 / std::sqrt(static_cast<double>(d));
  put("ar_text_embedding.word_embeddings.weight", {c.phoneme_vocab, d}, 1.0);
  put("ar_audio_embedding.word_embeddings.weight", {c.vocab, d}, 1.0);
  put("ar_text_position.alpha", {1}, 0.1, 1.0);
  put("ar_audio_position.alpha", {1}, 0.1, 1.0);
  if (c.bert_dim > 0) put("bert_proj.weight", {d, c.bert_dim}, 1.0 / std::sqrt(static_cast<double>(c.bert_dim)));
  put("bert_proj.bias", {d}, 0.1);
  for (std::int64_t i = 0; i < c.layers; ++i) {
    const std::string layer = "h.layers." + std::to_string(i) + ".";
    put(layer + "self_attn.in_proj_weight", {3 * a, d}, s);
    put(layer + "self_attn.in_proj_bias", {3 * a}, 0.1);
    put(layer + "self_attn.out_proj.weight", {d, a}, s);
    put(layer + "self_attn.out_proj.bias", {d}, 0.1);
    put(layer + "linear1.weight", {f, d}, s);
    put(layer + "linear1.bias", {f}, 0.1);
    put(layer + "linear2.weight", {d, f}, s / 2);
    put(layer + "linear2.bias", {d}, 0.1);
    for (const char* norm : {"norm1", "norm2"}) {
      put(layer + norm + ".weight", {d}, 0.1, 1.0);
      put(layer + norm + ".bias", {d}, 0.1);
    }
  }
  put("ar_predict_layer.weight", {c.vocab, d}, s);
  return map;
}

/// Reads them as a model on a GPU does (models/cuda/t2s_cuda.h, ReadTensor).
inline auto reader_of(std::shared_ptr<const TensorMap> map) {
  return [map = std::move(map)](const std::string& key, const std::vector<std::int64_t>& shape) {
    const at::Tensor tensor = map->get("model." + key, shape);
    return std::vector<float>(tensor.data_ptr<float>(), tensor.data_ptr<float>() + tensor.numel());
  };
}

/// Logits [tokens + 1, vocab] after the text alone and after each token: one forward pass over everything. With a
/// window a token beyond the first `n_prompt` sees of those beyond them only the newest `window`, itself included.
inline at::Tensor reference_logits(const T2SConfig& c, const TensorMap& map, std::span<const std::int32_t> phonemes,
                                   const at::Tensor& bert, std::span<const std::int32_t> tokens,
                                   std::int64_t n_prompt = 0, std::int64_t window = 0) {
  const std::int64_t d = c.hidden;
  const std::int64_t a = c.attended();
  const std::int64_t f = c.ffn();
  const auto w = [&](const std::string& key, at::IntArrayRef shape) { return map.get("model." + key, shape); };
  const auto ids = [](std::span<const std::int32_t> values) {
    return at::tensor(std::vector<std::int64_t>(values.begin(), values.end()), at::kLong);
  };
  const auto positions = [&](std::int64_t n) {
    const at::Tensor frequency =
        at::exp(at::arange(0, d, 2, at::kFloat) * (-std::log(10000.0) / static_cast<double>(d)));
    const at::Tensor angle = at::arange(n, at::kFloat).unsqueeze(1) * frequency.unsqueeze(0);
    return at::stack({angle.sin(), angle.cos()}, 2).reshape({n, d});
  };
  const auto n_text = static_cast<std::int64_t>(phonemes.size());
  const auto n_tokens = static_cast<std::int64_t>(tokens.size());
  const std::int64_t n = n_text + n_tokens;
  at::Tensor text = at::embedding(w("ar_text_embedding.word_embeddings.weight", {c.phoneme_vocab, d}), ids(phonemes));
  text = text + w("bert_proj.bias", {d}) + w("ar_text_position.alpha", {1}) * positions(n_text);
  if (bert.defined()) text = text + at::matmul(bert, w("bert_proj.weight", {d, c.bert_dim}).t());
  at::Tensor audio = at::embedding(w("ar_audio_embedding.word_embeddings.weight", {c.vocab, d}), ids(tokens));
  audio = audio + w("ar_audio_position.alpha", {1}) * positions(n_tokens);
  at::Tensor x = at::cat({text, audio}, 0);

  at::Tensor forbidden = at::ones({n, n}, at::kBool).triu(1);
  forbidden.narrow(0, 0, n_text).narrow(1, 0, n_text).fill_(false);
  for (std::int64_t i = n_prompt; window > 0 && i < n_tokens; ++i) {
    const std::int64_t left = std::max<std::int64_t>(0, i - window + 1 - n_prompt);
    forbidden[n_text + i].narrow(0, n_text + n_prompt, left).fill_(true);
  }
  for (std::int64_t i = 0; i < c.layers; ++i) {
    const std::string layer = "h.layers." + std::to_string(i) + ".";
    const at::Tensor qkv =
        at::linear(x, w(layer + "self_attn.in_proj_weight", {3 * a, d}), w(layer + "self_attn.in_proj_bias", {3 * a}));
    const auto heads = [&](std::int64_t part) {  // [heads, n, a / heads]
      return qkv.narrow(1, part * a, a).reshape({n, c.heads, a / c.heads}).transpose(0, 1);
    };
    at::Tensor scores = at::matmul(heads(0), heads(1).transpose(1, 2)) / std::sqrt(static_cast<double>(a / c.heads));
    scores = scores.masked_fill(forbidden, -INFINITY).softmax(-1);
    const at::Tensor attended = at::matmul(scores, heads(2)).transpose(0, 1).reshape({n, a});
    const auto norm = [&](const at::Tensor& t, const std::string& name) {
      return at::layer_norm(t, {d}, w(layer + name + ".weight", {d}), w(layer + name + ".bias", {d}), 1e-5);
    };
    x = norm(x + at::linear(attended, w(layer + "self_attn.out_proj.weight", {d, a}),
                            w(layer + "self_attn.out_proj.bias", {d})),
             "norm1");
    const at::Tensor inner = at::linear(x, w(layer + "linear1.weight", {f, d}), w(layer + "linear1.bias", {f})).relu();
    x = norm(x + at::linear(inner, w(layer + "linear2.weight", {d, f}), w(layer + "linear2.bias", {d})), "norm2");
  }
  return at::matmul(x.narrow(0, n_text - 1, n_tokens + 1), w("ar_predict_layer.weight", {c.vocab, d}).t());
}

inline T2S random_t2s(const T2SConfig& config, std::uint64_t seed, const Kernels& set = kernels()) {
  return {config, WeightScope(random_t2s_weights(config, seed))("model"), set};
}

}  // namespace tts::test
