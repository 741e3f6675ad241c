#include "src/convert/convert.h"

#include <cmath>
#include <fstream>
#include <limits>
#include <set>
#include <string>

#include <simdjson.h>

#include "src/core/digest.h"
#include "src/core/safetensors.h"
#include "tests/app/temporary_folder.h"
#include "tests/convert/torch_file.h"
#include "tests/doctest.h"

TEST_SUITE("convert/convert") {
  using namespace tts;
  using namespace tts::testing;
  namespace fs = std::filesystem;

  static VoiceSizes small_sizes(Form form) {
    VoiceSizes sizes = published_sizes(form);
    sizes.t2s = {2, 16, 4, form == Form::v1 ? 10 : 12, 33, 8};
    AcousticSizes& a = sizes.acoustic;
    a.codes = 32, a.code_dim = 8, a.phonemes = 10, a.hidden = 8, a.filter = 12, a.layers_ssl = 1, a.layers_text = 2;
    a.layers_post = 1, a.mrte_dim = 16, a.ref_bins = 20, a.style_dim = 8, a.ssl_dim = 8, a.flow_layers = 2;
    a.ge_dim = form == Form::v2pro || form == Form::v2proplus ? 24 : 16;
    a.decoder_channels = 64, a.speaker_dim = 40, a.feature_dim = 16, a.wns_layers = 2, a.dit_dim = 32, a.dit_depth = 2;
    a.dit_heads = 2, a.dit_text_layers = 1, a.mel_bands = 10;
    sizes.vocoder.channels = 128;
    return sizes;
  }

  namespace {
  /// Files of a small voice and what is asked for with them.
  struct Fixture {
    explicit Fixture(Form form_given, Dtype dtype = Dtype::f16) : form(form_given), sizes(small_sizes(form)) {
      t2s = make_state(wanted_t2s(sizes.t2s), dtype, false);
      acoustic = make_state(wanted_acoustic(form, sizes.acoustic), dtype, true);
      t2s_options.model = {{"hidden_dim", 16},
                           {"head", 4},
                           {"n_layer", 2},
                           {"vocab_size", 33},
                           {"phoneme_vocab_size", sizes.t2s.phoneme_vocab},
                           {"EOS", 32},
                           {"linear_units", 2048}};
      acoustic_options.version = to_string(form);
      acoustic_options.has_hparams = true;
      if (form == Form::v3 || form == Form::v4) {
        vocoder =
            make_state(wanted_vocoder(form, sizes.vocoder, sizes.acoustic.mel_bands), Dtype::f32, form == Form::v3);
        vocoder_options.state_key = form == Form::v3 ? "generator" : "";
      }
      request.out = folder.path() / "anna";
      request.sizes.voice = sizes;
    }

    void write() {
      request.files = {folder.write("s1.ckpt", torch_bytes(t2s, t2s_options)),
                       folder.write("s2.pth", torch_bytes(acoustic, acoustic_options))};
      if (!vocoder.empty()) request.files.push_back(folder.write("vocoder.pth", torch_bytes(vocoder, vocoder_options)));
    }
    std::set<std::string> listing() const {
      std::set<std::string> names;
      for (const auto& entry : fs::recursive_directory_iterator(folder.path())) names.insert(entry.path().string());
      return names;
    }
    ConvertReport converted() {
      write();
      auto report = convert(request);
      REQUIRE(report);
      CHECK(fs::is_regular_file(request.out / "manifest.json"));
      return *report;
    }
    /// Nothing appears, and the error is one line with `words`.
    void refused(std::string_view words) {
      write();
      refused_as_is(words);
    }
    void refused_as_is(std::string_view words) {
      CAPTURE(words);
      const auto before = listing();
      const auto report = convert(request);
      REQUIRE(!report);
      CAPTURE(report.error().detail);
      CHECK(report.error().detail.find(words) != std::string::npos);
      CHECK(report.error().detail.find('\n') == std::string::npos);
      CHECK(listing() == before);
    }

    TemporaryFolder folder;
    Form form;
    VoiceSizes sizes;
    TestState t2s, acoustic, vocoder;
    TorchOptions t2s_options, acoustic_options, vocoder_options;
    ConvertRequest request;
  };
  }  // namespace

  /// Every tensor of `state` is in the file, byte for byte, and no other.
  static void same_tensors(const fs::path& file, const TestState& state) {
    CAPTURE(file.string());
    const auto tensors = SafeTensors::open(file);
    REQUIRE(tensors);
    CHECK(tensors->tensors().size() == state.size());
    for (const auto& item : state) {
      const std::string& name = item.first;
      const TestTensor& tensor = item.second;
      CAPTURE(name);
      const TensorView* view = tensors->find(name);
      REQUIRE(view != nullptr);
      CHECK(view->dtype == tensor.dtype);
      CHECK(view->shape == tensor.shape);
      const bool is_same = view->data.size() == tensor.data.size() &&
                           std::memcmp(view->data.data(), tensor.data.data(), tensor.data.size()) == 0;
      CHECK(is_same);
    }
  }

  TEST_CASE("every form becomes a voice folder with its tensors bit for bit") {
    for (const Form form : {Form::v1, Form::v2, Form::v2pro, Form::v2proplus, Form::v3, Form::v4}) {
      for (const Dtype dtype : {Dtype::f16, Dtype::f32, Dtype::bf16}) {
        if (dtype != Dtype::f16 && form != Form::v2) continue;
        CAPTURE(to_string(form));
        Fixture fixture(form, dtype);
        const TestState kept = fixture.acoustic;
        fixture.acoustic.emplace_back("enc_q.pre.weight", make_tensor("q", {8, 20, 1}, dtype));
        fixture.acoustic.emplace_back("quantizer.vq.layers.0._codebook.inited", make_tensor("i", {1}, dtype));
        fixture.acoustic.emplace_back("quantizer.vq.layers.0._codebook.cluster_size", make_tensor("c", {32}, dtype));
        fixture.acoustic.emplace_back("quantizer.vq.layers.0._codebook.embed_avg", make_tensor("e", {32, 8}, dtype));
        const ConvertReport report = fixture.converted();
        CHECK(report.form == form);
        CHECK(report.notes.empty());
        same_tensors(fixture.request.out / "t2s.safetensors", fixture.t2s);
        same_tensors(fixture.request.out / "acoustic.safetensors", kept);
        if (!fixture.vocoder.empty()) same_tensors(fixture.request.out / "vocoder.safetensors", fixture.vocoder);

        const std::string text = read_text(fixture.request.out / "manifest.json");
        simdjson::dom::parser parser;
        const simdjson::padded_string padded(text);
        simdjson::dom::element manifest = parser.parse(padded);
        CHECK(std::int64_t(manifest["format"]) == 2);
        CHECK(std::string(std::string_view(manifest["form"])) == manifest_name(form));
        CHECK(std::string(std::string_view(manifest["id"])) == "anna");
        CHECK(std::int64_t(manifest["sample_rate_hz"]) == (form == Form::v3   ? 24000
                                                           : form == Form::v4 ? 48000
                                                                              : 32000));
        CHECK(std::int64_t(manifest["t2s"]["layers"]) == 2);
        CHECK(std::int64_t(manifest["acoustic"]["hidden"]) == 8);
        for (const ConvertedFile& file : report.files) {
          const std::string bytes = read_text(file.path);
          CHECK(bytes.size() == file.bytes);
          CHECK(sha256_hex(std::as_bytes(std::span(bytes))) == file.sha256);
          if (file.path.filename() == "manifest.json") continue;
          CHECK(std::string_view(manifest["sha256"][file.path.filename().string()]) == file.sha256);
        }
      }
    }
  }

  TEST_CASE("the manifest of published sizes is the short one") {
    Fixture fixture(Form::v2);
    fixture.request.name = "Anna \"A\"";
    fixture.request.license = "own voice";
    // Sizes of the published form in the manifest only; what is in the files is small.
    const ConvertReport report = fixture.converted();
    const std::string text = read_text(fixture.request.out / "manifest.json");
    CHECK(text.starts_with(
        "{\"format\": 2, \"form\": \"v2\", \"id\": \"anna\", \"name\": \"Anna \\\"A\\\"\", \"license\": "
        "\"own voice\", \"languages\": [\"zh\", \"en\"], \"sample_rate_hz\": 32000, \"text\": "
        "{\"word_separator\": \"\"}, \"t2s\": {\"file\": \"t2s.safetensors\", \"layers\": 2"));
    CHECK(text.find("\"heads\": 2") == std::string::npos);  // the published number of the acoustic model
    CHECK(text.find("upsample_rates") == std::string::npos);
  }

  TEST_CASE("version marks, words and wishes must agree") {
    for (const auto& row : {std::pair{"00", Form::v1},
                            {"01", Form::v2},
                            {"02", Form::v3},
                            {"05", Form::v2pro},
                            {"06", Form::v2proplus}}) {
      const char* mark = row.first;
      const Form form = row.second;
      CAPTURE(mark);
      Fixture fixture(form);
      fixture.acoustic_options.mark = mark;
      fixture.acoustic_options.version.clear();
      CHECK(fixture.converted().form == form);
    }
    Fixture unknown(Form::v2);
    unknown.acoustic_options.mark = "07";
    unknown.refused("its version mark 07 is not known");
    Fixture pro(Form::v2);
    pro.acoustic_options.mark = "05";
    pro.refused("s2.pth: its version mark 05 says v2Pro, but its tensors are those of v1 or v2");
    Fixture wish(Form::v2pro);
    wish.acoustic_options.mark = "05";
    wish.request.form = Form::v2proplus;
    wish.refused("asked for as v2ProPlus, but its version mark 05 says v2Pro");
    Fixture wrong(Form::v2);
    wrong.request.form = Form::v4;
    wrong.refused("asked for as v4, but its tensors are those of v1 or v2");
    Fixture free(Form::v4);
    free.acoustic_options.version.clear();
    free.request.form = Form::v4;
    CHECK(free.converted().form == Form::v4);
    // Nothing tells: as upstream, v3, and said so.
    Fixture silent(Form::v3);
    silent.acoustic_options.version.clear();
    const ConvertReport report = silent.converted();
    CHECK(report.form == Form::v3);
    REQUIRE(report.notes.size() == 1);
    CHECK(report.notes[0].find("--version v4") != std::string::npos);
  }

  TEST_CASE("published sizes tell the forms apart") {
    for (const Form form : {Form::v1, Form::v2, Form::v2pro, Form::v2proplus}) {
      CAPTURE(to_string(form));
      Fixture fixture(form);
      const VoiceSizes published = published_sizes(form);
      fixture.acoustic = make_state(wanted_acoustic(form, fixture.sizes.acoustic), Dtype::f16, false);
      // Only the tensors that are looked at have their published rows; the first that has not is the fault.
      find(fixture.acoustic, "enc_p.text_embedding.weight") =
          make_tensor("t", {published.acoustic.phonemes, 1}, Dtype::f16);
      find(fixture.acoustic, "dec.conv_pre.weight") =
          make_tensor("d", {published.acoustic.decoder_channels, 1}, Dtype::f16);
      find(fixture.t2s, "model.ar_text_embedding.word_embeddings.weight") = make_tensor("e", {1, 1}, Dtype::f16);
      fixture.request.sizes = {};
      fixture.t2s_options.model["phoneme_vocab_size"] = 1;
      fixture.acoustic_options.version.clear();
      fixture.refused(std::string("for a voice of ") + to_string(form));
    }
  }

  TEST_CASE("a T2S in all its wrappings") {
    Fixture lightning(Form::v2);
    lightning.t2s_options.state_key = "state_dict";
    lightning.t2s_options.is_lightning = true;
    (void)lightning.converted();
    same_tensors(lightning.request.out / "t2s.safetensors", lightning.t2s);

    Fixture bare(Form::v2);
    const TestState with_prefix = bare.t2s;
    for (auto& [name, tensor] : bare.t2s) name.erase(0, std::string("model.").size());
    (void)bare.converted();
    same_tensors(bare.request.out / "t2s.safetensors", with_prefix);

    Fixture parallel(Form::v2);
    const TestState plain = parallel.acoustic;
    for (auto& [name, tensor] : parallel.acoustic) name.insert(0, "module.");
    (void)parallel.converted();
    same_tensors(parallel.request.out / "acoustic.safetensors", plain);

    Fixture zip64(Form::v2);
    zip64.t2s_options.zip.is_zip64 = true;
    (void)zip64.converted();
    same_tensors(zip64.request.out / "t2s.safetensors", zip64.t2s);
  }

  TEST_CASE("weight norm is kept as a pair, in either spelling, or folded") {
    Fixture newer(Form::v2);
    const TestState pairs = newer.acoustic;
    for (auto& [name, tensor] : newer.acoustic) {
      if (name.ends_with("weight_g")) name.replace(name.size() - 8, 8, "parametrizations.weight.original0");
      if (name.ends_with("weight_v")) name.replace(name.size() - 8, 8, "parametrizations.weight.original1");
    }
    (void)newer.converted();
    same_tensors(newer.request.out / "acoustic.safetensors", pairs);
    Fixture folded(Form::v2);
    folded.acoustic = make_state(wanted_acoustic(Form::v2, folded.sizes.acoustic), Dtype::f16, false);
    (void)folded.converted();
    same_tensors(folded.request.out / "acoustic.safetensors", folded.acoustic);
    Fixture half(Form::v2);
    drop(half.acoustic, "dec.ups.1.weight_g");
    half.refused("s2.pth: tensor dec.ups.1.weight_g: missing");
  }

  TEST_CASE("LoRA: W + B A over the base, every other tensor from the LoRA") {
    for (const Form form : {Form::v3, Form::v4}) {
      for (const bool is_named : {true, false}) {
        CAPTURE(to_string(form));
        Fixture fixture(form);
        constexpr std::int64_t kRank = 4;
        const std::int64_t d = fixture.sizes.acoustic.dit_dim;
        TestState lora;
        std::vector<std::string> adapted;
        for (int block = 0; block < 2; ++block) {
          for (const char* part : {"to_q", "to_k", "to_v", "to_out.0"}) {
            const std::string name = "transformer_blocks." + std::to_string(block) + ".attn." + part;
            adapted.push_back("cfm.estimator." + name + ".weight");
            const std::string wrapped = "cfm.base_model.model.estimator." + name;
            lora.emplace_back(wrapped + ".lora_A.default.weight", make_tensor(name + "A", {kRank, d}, Dtype::f16));
            lora.emplace_back(wrapped + ".lora_B.default.weight", make_tensor(name + "B", {d, kRank}, Dtype::f16));
          }
        }
        lora.emplace_back("bridge.0.bias", make_tensor("other bias", {16}, Dtype::f16));
        fixture.write();
        const fs::path base =
            fixture.folder.write("models/" + std::string(form == Form::v3 ? "" : "gsv-v4-pretrained/") +
                                     (form == Form::v3 ? "s2Gv3.pth" : "s2Gv4.pth"),
                                 torch_bytes(fixture.acoustic, fixture.acoustic_options));
        TorchOptions options;
        options.mark = form == Form::v3 ? "03" : "04";
        options.has_hparams = true;
        options.lora_rank = kRank;
        options.model = {{"gin_channels", 512}};
        fixture.request.files[1] = fixture.folder.write("lora.pth", torch_bytes(lora, options));
        if (is_named) {
          fixture.request.files.insert(fixture.request.files.begin(), base);
        } else {
          fixture.refused_as_is("a LoRA wants its base: name the file");
          fixture.request.models_dir = fixture.folder.path() / "models";
        }
        const auto report = convert(fixture.request);
        REQUIRE(report);
        CHECK(report->form == form);
        const auto merged = SafeTensors::open(fixture.request.out / "acoustic.safetensors");
        REQUIRE(merged);
        CHECK(merged->tensors().size() == fixture.acoustic.size());
        double largest = 0;
        for (const auto& item : fixture.acoustic) {
          const std::string& name = item.first;
          const TestTensor& tensor = item.second;
          CAPTURE(name);
          const TensorView* view = merged->find(name);
          REQUIRE(view != nullptr);
          const auto at = std::find(adapted.begin(), adapted.end(), name);
          if (at == adapted.end()) {
            const std::string& want = name == "bridge.0.bias" ? lora.back().second.data : tensor.data;
            CHECK(view->dtype == Dtype::f16);
            CHECK(std::memcmp(view->data.data(), want.data(), want.size()) == 0);
            continue;
          }
          CHECK(view->dtype == Dtype::f32);
          const auto got = to_floats(*view).value();
          const auto floats = [](const TestTensor& t) {
            return to_floats({"", t.dtype, t.shape, std::as_bytes(std::span(t.data))}).value();
          };
          const auto pair = 2 * static_cast<std::size_t>(at - adapted.begin());
          const auto w = floats(tensor);
          const auto a = floats(lora[pair].second);
          const auto b = floats(lora[pair + 1].second);
          const auto n = static_cast<std::size_t>(d);
          for (std::size_t o = 0; o < n; ++o) {
            for (std::size_t i = 0; i < n; ++i) {
              double sum = 0;
              for (std::size_t k = 0; k < kRank; ++k) sum += static_cast<double>(b[o * kRank + k]) * a[k * n + i];
              largest = std::max(largest, std::abs(got[o * n + i] - (w[o * n + i] + sum)));
            }
          }
        }
        CHECK(largest < 1e-6);
      }
    }
  }

  TEST_CASE("a LoRA that does not fit its base is refused") {
    Fixture fixture(Form::v3);
    const std::int64_t d = fixture.sizes.acoustic.dit_dim;
    const std::string q = "cfm.base_model.model.estimator.transformer_blocks.0.attn.to_q";
    fixture.write();
    const auto with = [&](const TestState& lora, std::int64_t rank, const char* mark) {
      TorchOptions options;
      options.mark = mark;
      options.lora_rank = rank;
      fixture.request.files.resize(3);
      fixture.request.files.push_back(fixture.folder.write("lora.pth", torch_bytes(lora, options)));
    };
    const TestTensor a = make_tensor("a", {4, d}, Dtype::f16);
    const TestTensor b = make_tensor("b", {d, 4}, Dtype::f16);
    with({{q + ".lora_A.default.weight", a}}, 4, "03");
    fixture.refused_as_is("only one of A and B");
    with({{q + ".lora_A.default.weight", a}, {q + ".lora_B.default.weight", b}}, 8, "03");
    fixture.refused_as_is(
        "lora.pth: adapter of cfm.estimator.transformer_blocks.0.attn.to_q.weight: got A [4, 32] and B "
        "[32, 4], wanted rank 8");
    with({{q + ".lora_A.default.weight", make_tensor("a", {4, d + 1}, Dtype::f16)}, {q + ".lora_B.default.weight", b}},
         4, "03");
    fixture.refused_as_is("wanted rank 4 and a product of [32, 32]");
    with({{q + "_x.lora_A.default.weight", a}, {q + "_x.lora_B.default.weight", b}}, 4, "03");
    fixture.refused_as_is("the base has no such tensor");
    with({{q + ".lora_A.default.weight", a},
          {q + ".lora_B.default.weight", b},
          {"bridge.0.bias", make_tensor("x", {17}, Dtype::f16)}},
         4, "03");
    fixture.refused_as_is("tensor bridge.0.bias: got shape [17], wanted the base's [16]");
  }

  TEST_CASE("networks that prepare references are converted alone, with their keys") {
    TemporaryFolder folder;
    ConvertRequest request;
    request.sizes.hubert = HubertSizes{8, 16, 24, 2, 6, 4};
    request.sizes.bert = BertSizes{40, 10, 16, 24, 2};
    request.sizes.speaker_net = SpeakerNetSizes{16, 64};
    const auto check = [&](const char* name, TestState state, const TestState& wanted, const char* key) {
      CAPTURE(name);
      TorchOptions options;
      options.state_key = key;
      request.files = {folder.write("model.bin", torch_bytes(state, options))};
      request.out = folder.path() / (std::string(name) + ".safetensors");
      const auto report = convert(request);
      REQUIRE(report);
      CHECK(!report->form);
      CHECK(report->files.at(0).path == request.out);
      same_tensors(request.out, wanted);
      // One tensor less, and nothing is left.
      const std::string lost = state.back().first;
      state.pop_back();
      request.files = {folder.write("model.bin", torch_bytes(state, options))};
      request.out = folder.path() / "less.safetensors";
      const auto less = convert(request);
      REQUIRE(!less);
      CHECK(less.error().detail.find(": missing") != std::string::npos);
      CHECK(!fs::exists(request.out));
      CHECK(!fs::exists(folder.path() / ".less.safetensors.part"));
    };
    const TestState hubert = make_state(wanted_hubert(*request.sizes.hubert), Dtype::f16, true);
    check("hubert", hubert, hubert, "");
    TestState newer = hubert;
    find(newer, "encoder.pos_conv_embed.conv.weight_g");
    for (auto& [name, tensor] : newer) {
      if (name.ends_with("weight_g")) name.replace(name.size() - 8, 8, "parametrizations.weight.original0");
      if (name.ends_with("weight_v")) name.replace(name.size() - 8, 8, "parametrizations.weight.original1");
    }
    check("hubert_newer", newer, hubert, "");
    TestState bert = make_state(wanted_bert(*request.sizes.bert), Dtype::f16, false);
    bert.emplace(bert.begin(), "bert.embeddings.position_ids", TestTensor{Dtype::i64, {1, 2}, std::string(16, '\0')});
    check("bert", bert, bert, "");
    for (auto& [name, tensor] : bert) {
      if (name.ends_with("LayerNorm.weight")) name.replace(name.size() - 6, 6, "gamma");
      if (name.ends_with("LayerNorm.bias")) name.replace(name.size() - 4, 4, "beta");
    }
    check("bert_old", bert, bert, "");
    const TestState speaker = make_state(wanted_speaker_net(*request.sizes.speaker_net), Dtype::f32, false);
    check("speaker", speaker, speaker, "");
    for (const Form form : {Form::v3, Form::v4}) {
      request.sizes.voice = small_sizes(form);
      const TestState vocoder =
          make_state(wanted_vocoder(form, request.sizes.voice->vocoder, request.sizes.voice->acoustic.mel_bands),
                     Dtype::f32, form == Form::v3);
      check(to_string(form), vocoder, vocoder, form == Form::v3 ? "generator" : "");
    }
  }

  TEST_CASE("a lone network wants a file, a voice wants all its parts") {
    Fixture fixture(Form::v4);
    fixture.write();
    const auto files = fixture.request.files;
    fixture.request.files = {files[0]};
    fixture.refused_as_is("a voice wants an acoustic checkpoint");
    fixture.request.files = {files[1]};
    fixture.refused_as_is("a voice wants a T2S checkpoint");
    fixture.request.files = {files[0], files[1]};
    fixture.refused_as_is("a voice of v4 wants its vocoder: name the file vocoder.pth too");
    fixture.request.files = {files[2]};
    fixture.refused_as_is("--out wants a FILE.safetensors");
    fixture.request.files = {files[0], files[1], files[2], files[1]};
    fixture.refused_as_is("both hold a SoVITS model");
    fixture.request.files = {};
    fixture.refused_as_is("no file");
    fixture.request.files = {fixture.folder.path() / "none.pth"};
    fixture.refused_as_is("none.pth: cannot open");
    fixture.request.files = files;
    fixture.request.id = "Anna B";
    fixture.refused_as_is("id of the voice");
    Fixture v2(Form::v2);
    v2.write();
    v2.request.files.push_back(files[2]);
    v2.refused_as_is("a voice of v2 needs none");
  }

  TEST_CASE("whatever is wrong in a file is one line, and nothing is left") {
    const std::string nan_bits("\x00\x7e", 2);
    Fixture nan(Form::v2);
    find(nan.acoustic, "enc_p.mrte.c_pre.weight_v").data.replace(2 * 11, 2, nan_bits);
    nan.refused("s2.pth: tensor enc_p.mrte.c_pre.weight_v: not a finite number at [1, 3, 0]");
    Fixture infinite(Form::v2, Dtype::f32);
    const float infinity = -std::numeric_limits<float>::infinity();
    std::memcpy(find(infinite.t2s, "model.h.layers.1.norm1.bias").data.data(), &infinity, 4);
    infinite.refused("s1.ckpt: tensor model.h.layers.1.norm1.bias: not a finite number at [0]");
    Fixture brain(Form::v2, Dtype::bf16);
    find(brain.acoustic, "dec.conv_post.weight_v").data.replace(0, 2, std::string("\xc0\x7f", 2));
    brain.refused("s2.pth: tensor dec.conv_post.weight_v: not a finite number at [0, 0, 0]");
    // What is left out may hold anything.
    Fixture training(Form::v2);
    training.acoustic.emplace_back("enc_q.x", TestTensor{Dtype::f16, {1}, nan_bits});
    (void)training.converted();

    Fixture missing(Form::v2);
    drop(missing.acoustic, "flow.flows.2.post.bias");
    missing.refused("s2.pth: tensor flow.flows.2.post.bias: missing");
    Fixture no_layer(Form::v2);
    drop(no_layer.t2s, "model.h.layers.1.linear2.weight");
    no_layer.refused("s1.ckpt: tensor model.h.layers.1.linear2.weight: missing");
    Fixture shape(Form::v2);
    find(shape.acoustic, "ref_enc.fc.fc.weight") = make_tensor("x", {16, 9}, Dtype::f16);
    shape.refused("s2.pth: tensor ref_enc.fc.fc.weight: got shape [16, 9], wanted [16, 8]");
    Fixture integers(Form::v2);
    find(integers.acoustic, "dec.conv_post.weight_v") = {Dtype::i64, {1, 2, 7}, std::string(112, '\0')};
    integers.refused("tensor dec.conv_post.weight_v: got type I64, wanted floats");
    Fixture vocab(Form::v2);
    vocab.t2s_options.model["phoneme_vocab_size"] = 10;
    vocab.refused("s1.ckpt: its phoneme vocabulary has 10 entries, wanted 12 for a voice of v2");
    Fixture end(Form::v2);
    end.t2s_options.model["EOS"] = 33;
    end.refused("config.model.EOS: got 33, wanted vocab_size - 1 = 32");
    Fixture layers(Form::v2);
    layers.t2s_options.model["n_layer"] = 1;
    layers.refused("more layers than config.model.n_layer, 1");
    Fixture size(Form::v2);
    size.t2s_options.model["hidden_dim"] = -16;
    size.refused("config.model.hidden_dim: got -16");
    Fixture other(Form::v2);
    other.acoustic = {{"unet.down.0.weight", make_tensor("u", {2}, Dtype::f32)}};
    other.refused("s2.pth: no network of GPT-SoVITS: it has 1 tensors, the first unet.down.0.weight");
    Fixture compressed(Form::v2);
    compressed.acoustic_options.zip.method = 8;
    compressed.refused("compressed (method 8)");

    Fixture damaged(Form::v2);
    damaged.write();
    std::string bytes = read_text(damaged.request.files[1]);
    bytes[bytes.find(find(damaged.acoustic, "ssl_proj.weight_v").data)] ^= 4;
    damaged.folder.write("s2.pth", bytes);
    damaged.refused_as_is("damaged: its checksum");
    Fixture hostile(Form::v2);
    hostile.write();
    hostile.folder.write("s2.pth", zip_bytes({{"archive/data.pkl", "cposix\nsystem\n(S'touch owned'\ntR."}}));
    hostile.refused_as_is("s2.pth: data.pkl: at byte 14: refused: posix.system is not on the list");
    for (std::size_t n = 0; n < bytes.size(); n += bytes.size() / 23) {
      hostile.folder.write("s2.pth", bytes.substr(0, n));
      hostile.refused_as_is("s2.pth: ");
    }
  }

  TEST_CASE("a result is replaced only when asked, and a failure leaves the old one") {
    Fixture fixture(Form::v2);
    (void)fixture.converted();
    fixture.refused_as_is("anna is there already");
    const std::string before = read_text(fixture.request.out / "manifest.json");
    fixture.request.replace = true;
    drop(fixture.acoustic, "ssl_proj.bias");
    fixture.refused("ssl_proj.bias: missing");
    CHECK(read_text(fixture.request.out / "manifest.json") == before);
    fixture.acoustic = make_state(wanted_acoustic(Form::v2, fixture.sizes.acoustic), Dtype::f32, true);
    (void)fixture.converted();
    CHECK(read_text(fixture.request.out / "manifest.json") != before);
    // What an earlier, killed run has left is swept away.
    fs::create_directories(fixture.folder.path() / ".anna.part/old");
    (void)fixture.converted();
    CHECK(!fs::exists(fixture.folder.path() / ".anna.part"));
  }

  TEST_CASE("progress is told for reading, checking and writing") {
    Fixture fixture(Form::v2);
    fixture.write();
    std::set<std::string> heard;
    std::uint64_t last = 0, total = 0;
    const auto report = convert(fixture.request, [&](std::string_view what, std::uint64_t now, std::uint64_t whole) {
      heard.emplace(what);
      if (what != "writing") return;
      CHECK(now >= last);
      last = now;
      total = whole;
    });
    REQUIRE(report);
    CHECK(heard.contains("reading s1.ckpt"));
    CHECK(heard.contains("checking s2.pth"));
    CHECK(last == total);
    CHECK(total > 0);
  }
}
