#include "models/bert.h"

#include <string>
#include <vector>

#include "models/bf16_kernels.h"
#include "models/huggingface.h"
#include "tests/models/fake_weights.h"

namespace tts {
namespace {

using test::contains;
using test::FakeWeights;
using test::max_difference;
using test::model_error_of;

constexpr const char* kVocabulary = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n你\n好\n,\nhel\n##lo\n";

BertConfig tiny() {
  BertConfig config;
  config.vocab = 9;
  config.hidden = 16;
  config.layers = 4;
  config.heads = 2;
  config.ff = 24;
  config.positions = 12;
  return config;
}

Bert tiny_bert() {
  return Bert(WeightScope(std::make_shared<FakeWeights>())("bert"), tiny());
}

BertFeatures tiny_features() {
  return {WordPiece::from_lines(kVocabulary).value(), tiny_bert()};
}

at::Tensor rows(const at::Tensor& x, const std::vector<std::int64_t>& index) {
  return x.index_select(0, at::tensor(index));
}

TEST_SUITE("models/bert") {
  TEST_CASE("every tensor is needed, and named when it is missing or misshapen") {
    test::check_every_tensor([](const WeightScope& weights) { (void)Bert(weights("bert"), tiny()); });
  }

  TEST_CASE("of four layers two are read, and old names of norms are known") {
    const auto fake = std::make_shared<FakeWeights>();
    const Bert model(WeightScope(fake)("bert"), tiny());
    auto old = std::make_shared<TensorMap>();
    for (const auto& [key, shape] : std::map(fake->asked())) {
      CHECK_FALSE(contains(key, "encoder.layer.2"));
      std::string name = key;
      const std::size_t norm = key.find("LayerNorm.");
      if (norm != std::string::npos) {
        name = key.substr(0, norm) + (key.ends_with("weight") ? "LayerNorm.gamma" : "LayerNorm.beta");
      }
      old->put(name, fake->get(key, shape));
    }
    const std::vector<std::int32_t> ids = {2, 4, 5, 3};
    CHECK(Bert(WeightScope(old)("bert"), tiny()).forward(ids).equal(model.forward(ids)));
  }

  TEST_CASE("in bf16 it is near float32, or it is float32") {
    class Weights final : public WeightSource {
     public:
      explicit Weights(bool wild) : wild_(wild) {}
      bool has(std::string_view key) const override { return fake_.has(key); }
      at::Tensor get(const std::string& key, at::IntArrayRef shape) const override {
        at::Tensor weight = fake_.get(key, shape);
        if (!wild_) return weight;
        // Attention that a rounding of bf16 turns elsewhere.
        if (contains(key, "self.query.weight") || contains(key, "self.key.weight")) return weight * 3000;
        // Weights of what is always zero, beside which integers leave nothing of the others.
        weight = weight.clone();
        if (contains(key, "attention.output.LayerNorm")) weight[0].zero_();
        if (contains(key, "intermediate.dense.weight")) weight.select(1, 0).fill_(1e8);
        return weight;
      }

     private:
      FakeWeights fake_;
      bool wild_;
    };
    const std::vector<std::int32_t> ids = {2, 4, 5, 7, 3};
    BertConfig config = tiny();
    config.positions = 64;
    const auto make = [&](bool is_wild, PrecisionChoice wish) {
      return make_bert(WeightScope(std::make_shared<Weights>(is_wild))("bert"), config, wish);
    };
    const Bert plain = make(false, PrecisionChoice::fp32);
    const Bert chosen = make(false, PrecisionChoice::automatic);
    CHECK(plain.precision() == Precision::fp32);
    CHECK(chosen.precision() == (bf16_kernels() != nullptr ? Precision::bf16 : Precision::fp32));
    CHECK(max_difference(plain.forward(ids), chosen.forward(ids)) < 0.05);
    const Bert wild = make(true, PrecisionChoice::bf16);
    CHECK(wild.precision() == Precision::fp32);
    CHECK(wild.forward(ids).equal(make(true, PrecisionChoice::fp32).forward(ids)));
  }

  TEST_CASE("tokens see each other in both directions, and where they stand") {
    const Bert model = tiny_bert();
    const at::Tensor a = model.forward(std::vector<std::int32_t>{2, 4, 5, 3});
    CHECK((a.sizes().vec() == std::vector<std::int64_t>{4, 16}));
    CHECK(max_difference(a, model.forward(std::vector<std::int32_t>{2, 4, 6, 3})) > 1e-3);
    const at::Tensor twice = model.forward(std::vector<std::int32_t>{4, 4});
    CHECK(max_difference(twice[0], twice[1]) > 1e-3);
  }

  TEST_CASE("ids and lengths outside are refused") {
    const Bert model = tiny_bert();
    const auto message_of = [&](const std::vector<std::int32_t>& ids) {
      return model_error_of([&] { (void)model.forward(ids); });
    };
    CHECK(contains(message_of({2, 9}), "token 1: got 9, wanted 0..8"));
    CHECK(contains(message_of({-1}), "token 0: got -1"));
    CHECK(contains(message_of({}), "got 0 tokens, wanted 1 to 12"));
    CHECK(contains(message_of(std::vector<std::int32_t>(13, 4)), "got 13 tokens"));
    BertConfig config = tiny();
    config.layers = 2;
    CHECK(contains(model_error_of([&] { (void)Bert(WeightScope(std::make_shared<FakeWeights>()), config); }),
                   "2 layers"));
  }
}

TEST_SUITE("models/bert_features") {
  using Counts = std::vector<std::uint8_t>;

  TEST_CASE("a row per phoneme, that of its character") {
    const at::Tensor hidden = tiny_bert().forward(std::vector<std::int32_t>{2, 4, 5, 6, 1, 3});
    const at::Tensor got = tiny_features().features("你好,他", Counts{2, 1, 0, 3});
    CHECK(got.equal(rows(hidden, {1, 1, 2, 4, 4, 4})));
  }

  TEST_CASE("where tokens are not characters, a character has the token that covers it") {
    const at::Tensor hidden = tiny_bert().forward(std::vector<std::int32_t>{2, 4, 7, 8, 5, 3});
    CHECK(tiny_features().features("你hello 好", Counts(8, 1)).equal(rows(hidden, {1, 2, 2, 2, 3, 3, 3, 4})));
    const at::Tensor spaces = tiny_bert().forward(std::vector<std::int32_t>{2, 3});
    CHECK(tiny_features().features("  ", Counts{1, 1}).equal(rows(spaces, {0, 0})));
    CHECK((tiny_features().features("", Counts{}).sizes().vec() == std::vector<std::int64_t>{0, 16}));
  }

  TEST_CASE("a text longer than the positions is read in equal pieces") {
    const BertFeatures model = tiny_features();
    CHECK(model.max_characters() == 10);
    std::string text;
    for (int i = 0; i < 7; ++i) text += "你好,";
    const at::Tensor got = model.features(text, Counts(21, 1));
    CHECK(got.narrow(0, 0, 7).equal(model.features(text.substr(0, 17), Counts(7, 1))));
    CHECK(got.narrow(0, 7, 7).equal(model.features(text.substr(17, 17), Counts(7, 1))));
  }

  TEST_CASE("a segment has rows where Chinese is spoken, and zeros elsewhere") {
    const BertFeatures model = tiny_features();
    Phonemized spoken;
    spoken.phonemes.assign(9, 0);
    spoken.bert = {{"你好", {2, 1}, 1}, {",", {1}, 8}};
    const at::Tensor got = model.features(spoken);
    CHECK((got.sizes().vec() == std::vector<std::int64_t>{9, 16}));
    CHECK(got.narrow(0, 1, 3).equal(model.features("你好", Counts{2, 1})));
    CHECK(got.narrow(0, 8, 1).equal(model.features(",", Counts{1})));
    CHECK(got[0].abs().max().item<float>() == 0.0F);
    CHECK(got.narrow(0, 4, 4).abs().max().item<float>() == 0.0F);
    spoken.bert[1].phoneme_begin = 9;
    CHECK(contains(model_error_of([&] { (void)model.features(spoken); }), "got phonemes 9 to 10, the segment has 9"));
    spoken.bert.clear();
    CHECK(model.features(spoken).abs().max().item<float>() == 0.0F);
  }

  TEST_CASE("what does not fit is refused with its numbers") {
    const BertFeatures model = tiny_features();
    CHECK(model.dim() == 16);
    CHECK(contains(model_error_of([&] { (void)model.features("你好", Counts{1}); }), "got 1 counts, wanted 2"));
    const auto larger = WordPiece::from_lines(std::string(kVocabulary) + "好的\n").value();
    CHECK(contains(model_error_of([&] { (void)BertFeatures(larger, tiny_bert()); }), "id 9"));
  }
}

constexpr const char* kBertJson = R"({"architectures": ["BertForMaskedLM"], "hidden_act": "gelu", "hidden_size": 1024,
  "intermediate_size": 4096, "layer_norm_eps": 1e-12, "max_position_embeddings": 512, "num_attention_heads": 16,
  "num_hidden_layers": 24, "type_vocab_size": 2, "vocab_size": 21128})";
constexpr const char* kHubertJson = R"({"conv_bias": false, "conv_dim": [512, 512, 512, 512, 512, 512, 512],
  "conv_kernel": [10, 3, 3, 3, 3, 2, 2], "conv_stride": [5, 2, 2, 2, 2, 2, 2], "do_stable_layer_norm": false,
  "feat_extract_activation": "gelu", "feat_extract_norm": "group", "hidden_act": "gelu", "hidden_size": 768,
  "intermediate_size": 3072, "layer_norm_eps": 1e-05, "num_attention_heads": 12, "num_conv_pos_embedding_groups": 16,
  "num_conv_pos_embeddings": 128, "num_hidden_layers": 12})";
constexpr const char* kTokenizerJson = R"({"version": "1.0", "added_tokens": [],
  "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null,
    "lowercase": true},
  "pre_tokenizer": {"type": "BertPreTokenizer"},
  "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
    "max_input_chars_per_word": 100, "vocab": {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "你": 4, "e": 5, "é": 6,
    "##x": 7}}})";

std::string with(std::string json, const std::string& from, const std::string& to) {
  const std::size_t at = json.find(from);
  REQUIRE_MESSAGE(at != std::string::npos, from);
  return json.replace(at, from.size(), to);
}

template <class T>
std::string detail_of(const Result<T>& result) {
  REQUIRE(result.has_error());
  CHECK((result.error().code == Errc::bad_file));
  return result.error().detail;
}

TEST_SUITE("models/huggingface") {
  TEST_CASE("the published configurations are the defaults") {
    const BertConfig bert = parse_bert_config(kBertJson).value();
    CHECK(bert.vocab == BertConfig{}.vocab);
    CHECK(bert.hidden == BertConfig{}.hidden);
    CHECK(bert.layers == BertConfig{}.layers);
    CHECK(bert.heads == BertConfig{}.heads);
    CHECK(bert.ff == BertConfig{}.ff);
    CHECK(bert.positions == BertConfig{}.positions);
    CHECK(bert.types == BertConfig{}.types);
    CHECK(bert.eps == BertConfig{}.eps);
    const HubertConfig hubert = parse_hubert_config(kHubertJson).value();
    CHECK((hubert.conv_channels == HubertConfig{}.conv_channels));
    CHECK((hubert.conv_kernels == HubertConfig{}.conv_kernels));
    CHECK((hubert.conv_strides == HubertConfig{}.conv_strides));
    CHECK(hubert.hidden == HubertConfig{}.hidden);
    CHECK(hubert.layers == HubertConfig{}.layers);
    CHECK(hubert.heads == HubertConfig{}.heads);
    CHECK(hubert.ff == HubertConfig{}.ff);
    CHECK(hubert.position_kernel == HubertConfig{}.position_kernel);
    CHECK(hubert.position_groups == HubertConfig{}.position_groups);
    CHECK(hubert.eps == HubertConfig{}.eps);
  }

  TEST_CASE("other variants, missing keys and no JSON are refused by name") {
    CHECK(contains(detail_of(parse_bert_config(with(kBertJson, "\"gelu\"", "\"relu\""))), "hidden_act: \"relu\""));
    CHECK(contains(detail_of(parse_bert_config(with(kBertJson, "vocab_size\": 21128", "vocab\": 1"))), "vocab_size"));
    CHECK(contains(detail_of(parse_bert_config(with(kBertJson, ": 4096", ": 0"))), "intermediate_size: got 0"));
    CHECK(contains(detail_of(parse_bert_config(with(kBertJson, ": 4096", ": \"x\""))), "got \"x\""));
    CHECK(contains(detail_of(parse_bert_config(with(kBertJson, "1e-12", "-1"))), "layer_norm_eps"));
    CHECK(contains(detail_of(parse_bert_config("{")), "not JSON"));
    CHECK(contains(detail_of(parse_bert_config("[1]")), "wanted an object"));
    CHECK(contains(detail_of(parse_hubert_config(with(kHubertJson, "\"group\"", "\"layer\""))), "feat_extract_norm"));
    CHECK(contains(
        detail_of(parse_hubert_config(with(kHubertJson, "stable_layer_norm\": false", "stable_layer_norm\": true"))),
        "do_stable_layer_norm: true"));
    CHECK(contains(detail_of(parse_hubert_config(with(kHubertJson, "[10, 3", "[-10, 3"))), "conv_kernel"));
    CHECK(contains(detail_of(parse_hubert_config(with(kHubertJson, "[10, 3, 3, 3, 3, 2, 2]", "7"))), "conv_kernel"));
  }

  TEST_CASE("a tokeniser's JSON") {
    const WordPiece tokenizer = parse_tokenizer(kTokenizerJson).value();
    CHECK(tokenizer.cls() == 2);
    CHECK(tokenizer.encode("Éx")[0].id == 5);
    const WordPiece accents =
        parse_tokenizer(with(kTokenizerJson, "\"strip_accents\": null", "\"strip_accents\": false")).value();
    CHECK(accents.encode("Éx")[0].id == 6);
    CHECK(contains(detail_of(parse_tokenizer(with(kTokenizerJson, "BertNormalizer", "NFKC"))), "got NFKC"));
    CHECK(contains(detail_of(parse_tokenizer(with(kTokenizerJson, "\"WordPiece\"", "\"BPE\""))), "BPE"));
    CHECK(contains(detail_of(parse_tokenizer(with(kTokenizerJson, "\"e\": 5", "\"e\": -5"))), "vocab.e: got -5"));
    CHECK(contains(detail_of(parse_tokenizer(with(kTokenizerJson, "\"[SEP]\"", "\"SEP\""))), "[SEP]"));
    CHECK(contains(detail_of(parse_tokenizer(with(kTokenizerJson, "\"normalizer\"", "\"other\""))), "normalizer"));
  }

  TEST_CASE("a folder without a tokeniser is named") {
    CHECK(contains(detail_of(load_tokenizer("tests/data/golden")), "vocab.txt"));
    CHECK(contains(detail_of(read_bert_config("tests/data/golden/config.json")), "config.json"));
  }
}

}  // namespace
}  // namespace tts
