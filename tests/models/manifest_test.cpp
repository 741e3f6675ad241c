#include "models/manifest.h"

#include <string>
#include <utility>
#include <vector>

#include "tests/doctest.h"

namespace tts {
namespace {

const std::string kGood = R"({
  "format": 1, "id": "starter", "name": "Starter", "languages": ["en"], "sample_rate_hz": 24000, "license": "CC-BY-4.0",
  "text": {"word_separator": "SP"},
  "t2s": {"file": "t2s.safetensors", "layers": 6, "hidden": 256, "heads": 4, "phoneme_vocab": 732, "vocab": 513,
          "bert_dim": 0, "sampling": {"top_k": 15, "top_p": 1.0, "temperature": 0.8, "repetition_penalty": 1.35,
          "min_tokens": 2}},
  "acoustic": {"file": "acoustic.safetensors", "codes": 512, "code_dim": 64, "phonemes": 732, "hidden": 192,
               "filter": 512, "heads": 2, "layers_ssl": 1, "layers_text": 3, "layers_post": 2,
               "attention_window": [16, 1], "mrte_dim": 256, "mrte_heads": 4, "ref_bins": 100, "style_dim": 128,
               "feature_dim": 256, "wns_layers": 2, "steps": 4,
               "estimator": {"type": "causal_convnext", "dim": 256, "ff": 768, "layers": 8, "kernel": 7}},
  "vocoder": {"file": "vocoder.safetensors", "type": "source_filter_istft", "dim": 256, "ff": 768, "layers": 6,
              "f0_dim": 128, "f0_ff": 256, "f0_layers": 3},
  "reference": {"file": "reference.safetensors"}
})";

std::string with(const std::string& from, const std::string& to) {
  std::string text = kGood;
  const auto at = text.find(from);
  REQUIRE(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

const std::string kPublished = R"({
  "format": 2, "form": "v2", "id": "anna", "name": "Anna", "license": "", "languages": ["zh", "en"],
  "sample_rate_hz": 32000, "text": {"word_separator": ""}, "t2s": {"file": "t2s.safetensors"},
  "acoustic": {"file": "acoustic.safetensors"}
})";

std::string published(const std::vector<std::pair<std::string, std::string>>& changes) {
  std::string text = kPublished;
  for (const auto& [from, to] : changes) {
    const auto at = text.find(from);
    REQUIRE(at != std::string::npos);
    text.replace(at, from.size(), to);
  }
  return text;
}

std::string fault_of(const std::string& json) {
  const auto manifest = parse_manifest(json, "voices/starter");
  REQUIRE(manifest.has_error());
  CHECK(manifest.error().code == Errc::bad_file);
  return manifest.error().detail;
}

TEST_SUITE("models/manifest") {
  TEST_CASE("a manifest becomes a typed struct") {
    const auto m = parse_manifest(kGood, "voices/starter");
    REQUIRE(m.has_value());
    CHECK(m->id == "starter");
    CHECK(m->languages == std::vector<std::string>{"en"});
    CHECK(m->word_separator == "SP");
    CHECK(m->t2s.file == "voices/starter/t2s.safetensors");
    CHECK(m->t2s.config.vocab == 513);
    CHECK(m->t2s.config.eos() == 512);
    CHECK(m->t2s.config.max_tokens == 1500);
    CHECK(m->t2s.sampling.temperature == doctest::Approx(0.8));
    CHECK(m->t2s.sampling.min_tokens == 2);
    CHECK(m->acoustic.config.attention_window->left == 16);
    CHECK(m->acoustic.config.attention_window->right == 1);
    CHECK(m->acoustic.config.postfilter == 0.0);
    CHECK(m->acoustic.config.estimator.features == 256);
    CHECK(m->acoustic.config.estimator.inner == 768);
    CHECK(m->vocoder.config.f0_inner == 256);
    CHECK(m->vocoder.config.gain_db == 0);
    CHECK(
        parse_manifest(with("\"f0_layers\": 3", "\"f0_layers\": 3, \"gain_db\": -1.5"), ".")->vocoder.config.gain_db ==
        -1.5);
    CHECK(m->reference == "voices/starter/reference.safetensors");
  }

  TEST_CASE("pruned widths are named, in both formats; with head_dim the heads need not divide the hidden width") {
    CHECK(parse_manifest(kGood, ".")->t2s.config.ffn() == 1024);
    CHECK(parse_manifest(kGood, ".")->t2s.config.attended() == 256);
    const auto m = parse_manifest(
        with("\"heads\": 4, \"phoneme_vocab\"", "\"heads\": 3, \"head_dim\": 64, \"filter\": 640, \"phoneme_vocab\""),
        ".");
    REQUIRE(m.has_value());
    CHECK(m->t2s.config.ffn() == 640);
    CHECK(m->t2s.config.attended() == 192);
    CHECK(
        fault_of(with("\"heads\": 4, \"phoneme_vocab\"", "\"heads\": 3, \"phoneme_vocab\"")).find("t2s.heads: got 3") !=
        std::string::npos);
    CHECK(fault_of(with("\"heads\": 4, \"phoneme_vocab\"", "\"heads\": 4, \"filter\": 0, \"phoneme_vocab\""))
              .find("t2s.filter: wanted an integer") != std::string::npos);
    const auto p = parse_manifest(
        published({{"\"t2s.safetensors\"", "\"t2s.safetensors\", \"heads\": 11, \"head_dim\": 32, \"filter\": 1280"},
                   {"\"v2\"", "\"v4\""},
                   {"32000", "48000"},
                   {"\"acoustic.safetensors\"}",
                    "\"acoustic.safetensors\", \"dit_filter\": 1280}, \"vocoder\": {\"file\": \"v.safetensors\"}"}}),
        ".");
    REQUIRE(p.has_value());
    CHECK(p->t2s.config.ffn() == 1280);
    CHECK(p->t2s.config.attended() == 352);
    CHECK(p->published->dit.filter == 1280);
  }

  TEST_CASE("a starter model may have a tokenizer, and a voice of it names it") {
    CHECK_FALSE(parse_manifest(kGood, ".")->tokenizer.has_value());
    const auto m = parse_manifest(
        with("\"reference\"",
             R"("tokenizer": {"file": "tokens.safetensors", "dim": 96, "layers": 2, "mel_bands": 80}, "reference")"),
        "voices/starter");
    REQUIRE(m.has_value());
    REQUIRE(m->tokenizer.has_value());
    CHECK(m->tokenizer->file == "voices/starter/tokens.safetensors");
    CHECK(m->tokenizer->config.dim == 96);
    CHECK(m->tokenizer->config.layers == 2);
    CHECK(fault_of(with("\"reference\"", R"("tokenizer": {"file": "t", "dim": 96, "layers": 2}, "reference")"))
              .find("tokenizer.mel_bands: missing") != std::string::npos);
    const std::string head = R"({"format": 1, "id": "ann", "name": "Ann", "languages": ["en"], "sample_rate_hz": 24000,
 "license": "", "text": {"word_separator": "SP"}, "model": "starter")";
    const auto voice = parse_manifest(head + R"(, "reference": {"file": "reference.safetensors"}})", "voices/ann");
    REQUIRE(voice.has_value());
    CHECK(voice->model == "voices/starter");
    CHECK(voice->network_folder() == "voices/starter");
    CHECK(voice->t2s.file.empty());
    CHECK(fault_of(head + "}").find("reference: missing") != std::string::npos);
    CHECK(fault_of(head + R"(, "t2s": {}, "reference": {"file": "r"}})").find("t2s: unknown key") != std::string::npos);
  }

  TEST_CASE("null is global attention") {
    const auto m = parse_manifest(with("[16, 1]", "null"), ".");
    REQUIRE(m.has_value());
    CHECK_FALSE(m->acoustic.config.attention_window.has_value());
  }

  TEST_CASE("a fault names the file and the path of the key") {
    struct Fault {
      const char* from;
      const char* to;
      const char* named;
    };
    for (const Fault& fault : {
             Fault{"\"format\": 1", "\"format\": 3", "format: wanted"},
             Fault{"\"format\": 1", "\"format\": 2", "form: missing"},
             Fault{"\"heads\": 4, \"phoneme_vocab\"", "\"phoneme_vocab\"", "t2s.heads: missing"},
             Fault{"\"steps\": 4", "\"steps\": 4, \"stpes\": 4", "acoustic.stpes: unknown key"},
             Fault{"\"steps\": 4", "\"steps\": 0", "acoustic.steps: wanted"},
             Fault{"\"steps\": 4", "\"steps\": 4.5", "acoustic.steps: wanted an integer"},
             Fault{"\"steps\": 4", "\"steps\": 4, \"steps\": 4", "acoustic.steps: given twice"},
             Fault{"\"steps\": 4", "\"steps\": 4, \"solver\": \"rk4\"", "acoustic.solver: got \"rk4\""},
             Fault{"\"steps\": 4", "\"steps\": 4, \"grid\": \"1,0\"", "acoustic.grid: got a list"},
             Fault{"\"steps\": 4", "\"steps\": 4, \"guidance\": 1", "acoustic.guidance: unknown key"},
             Fault{"\"steps\": 4", "\"steps\": 4, \"temperature\": 2.5", "acoustic.temperature: wanted"},
             Fault{"\"steps\": 4", "\"steps\": 4, \"postfilter\": 2.5", "acoustic.postfilter: wanted"},
             Fault{"[16, 1]", "[16]", "acoustic.attention_window: wanted"},
             Fault{"[16, 1]", "[16, -1]", "acoustic.attention_window[1]: wanted"},
             Fault{"causal_convnext", "dit", "acoustic.estimator.type: got \"dit\""},
             Fault{"acoustic.safetensors", "../acoustic.safetensors", "acoustic.file: got"},
             Fault{"acoustic.safetensors", "a/b.safetensors", "acoustic.file: got"},
             Fault{"\"vocab\": 513", "\"vocab\": 512", "t2s.vocab: got 512"},
             Fault{"\"phonemes\": 732", "\"phonemes\": 322", "t2s.phoneme_vocab: got 732"},
             Fault{"\"heads\": 2", "\"heads\": 5", "acoustic.heads: got 5"},
             Fault{"[\"en\"]", "[]", "languages: wanted"},
             Fault{"\"id\": \"starter\"", "\"id\": \"a/b\"", "id: got"},
             Fault{"\"temperature\": 0.8", "\"temperature\": 0", "t2s.sampling.temperature: wanted"},
             Fault{"\"f0_layers\": 3", "\"f0_layers\": 3, \"gain_db\": 41", "vocoder.gain_db: wanted"},
             Fault{"{\"word_separator\": \"SP\"}", "[]", "text: wanted an object"},
         }) {
      CAPTURE(fault.to);
      const std::string detail = fault_of(with(fault.from, fault.to));
      CHECK(detail.find("voices/starter/manifest.json: ") == 0);
      CHECK(detail.find(fault.named) != std::string::npos);
    }
  }

  TEST_CASE("text that is not JSON is refused at every length") {
    for (std::size_t n = 0; n < kGood.size(); n += 7) {
      CHECK(parse_manifest(kGood.substr(0, n), ".").has_error());
    }
    CHECK(parse_manifest("[1]", ".").has_error());
    CHECK(load_manifest("tests/data/no-such-voice").has_error());
  }

  TEST_CASE("a manifest of a published form is short: what it leaves out is as published") {
    const auto m = parse_manifest(kPublished, "voices/anna");
    REQUIRE(m.has_value());
    REQUIRE(m->published.has_value());
    CHECK(m->published->form == ModelForm::v2);
    CHECK(m->published->decoder_channels == 512);
    CHECK(m->published->lookahead == 8);
    CHECK(m->t2s.config.layers == 24);
    CHECK(m->t2s.config.vocab == 1025);
    CHECK(m->t2s.sampling.top_k == 15);
    CHECK(m->sample_rate_hz == 32000);
    CHECK(m->pause_ms == 300);
    CHECK(m->acoustic.file == "voices/anna/acoustic.safetensors");
    CHECK(m->reference.empty());
    CHECK(m->network_folder() == "voices/anna");
    CHECK_FALSE(parse_manifest(kGood, ".")->published.has_value());

    const auto v4 = parse_manifest(
        published({{"\"v2\"", "\"v4\""},
                   {"32000", "48000"},
                   {"\"acoustic.safetensors\"}",
                    "\"acoustic.safetensors\", \"steps\": 4, \"solver\": \"heun\", \"grid\": \"0,0.5,1\", "
                    "\"temperature\": 0.8, "
                    "\"guidance\": 0.5, \"prompt_frames\": 200, \"lookahead_tokens\": null}, "
                    "\"vocoder\": {\"file\": \"vocoder.safetensors\"}, \"reference\": {\"file\": \"r.safetensors\"}"}}),
        "v");
    REQUIRE(v4.has_value());
    CHECK(v4->published->flow.steps == 4);
    CHECK(v4->published->flow.solver == FlowSolver::heun);
    CHECK(v4->published->flow.grid.times == std::vector<double>{0, 0.5, 1});
    CHECK(v4->published->flow.guidance == 0.5);
    CHECK(v4->published->flow.temperature == 0.8);
    CHECK(v4->published->prompt_frames == 200);
    CHECK_FALSE(v4->published->lookahead.has_value());
    CHECK(v4->vocoder.file == "v/vocoder.safetensors");
    CHECK(v4->reference == "v/r.safetensors");
  }

  TEST_CASE("faults of a published form's manifest are named") {
    struct Fault {
      const char* from;
      const char* to;
      const char* named;
    };
    for (const Fault& fault : {
             Fault{"\"form\": \"v2\"", "\"form\": \"v5\"", "form: got \"v5\""},
             Fault{"32000", "24000", "sample_rate_hz: wanted"},
             Fault{"\"t2s.safetensors\"", "\"../t2s.safetensors\"", "t2s.file: got"},
             Fault{"\"t2s.safetensors\"", "\"t.safetensors\", \"heads\": 7", "t2s.heads: got 7"},
             Fault{"\"t2s.safetensors\"", "\"t.safetensors\", \"vocab\": 1024", "t2s.vocab: got 1024"},
             Fault{"\"acoustic.safetensors\"", "\"a.safetensors\", \"steps\": 4", "acoustic.steps: unknown key"},
             Fault{"\"acoustic.safetensors\"", "\"a.safetensors\", \"ge_dim\": 1024", "acoustic.ge_dim: got 1024"},
             Fault{"\"acoustic.safetensors\"", "\"a.safetensors\", \"lookahead_tokens\": -1",
                   "acoustic.lookahead_tokens"},
             Fault{"\"acoustic.safetensors\"", "\"a.safetensors\", \"upsample_rates\": [10, 8, 2, 2]",
                   "acoustic.upsample_rates: got a product of 320"},
             Fault{"\"acoustic.safetensors\"", "\"a.safetensors\", \"upsample_kernels\": [16, 16, 8, 2, 3]",
                   "acoustic.upsample_kernels: wanted"},
             Fault{"\"acoustic.safetensors\"", "\"a.safetensors\", \"decoder_channels\": 48",
                   "acoustic.decoder_channels"},
             Fault{"\"t2s\": {", "\"model\": \"base\", \"t2s\": {", "reference: missing"},
             Fault{"\"t2s\": {", "\"model\": \"../base\", \"t2s\": {", "model: got"},
             Fault{"\"t2s\": {", "\"reference\": {\"file\": \"r\"}, \"model\": \"base\", \"t2s\": {",
                   "acoustic: unknown key"},
             Fault{"\"t2s\": {", "\"sha256\": {\"a\": \"XY\"}, \"t2s\": {", "sha256.a: got"},
             Fault{"\"form\": \"v2\"", "\"form\": \"v1\", \"vocoder\": {}", "vocoder: unknown key"},
         }) {
      CAPTURE(fault.named);
      CHECK(fault_of(published({{fault.from, fault.to}})).find(fault.named) != std::string::npos);
    }
  }
}

}  // namespace
}  // namespace tts
