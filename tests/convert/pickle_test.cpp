#include "src/convert/pickle.h"

#include <string>
#include <utility>

#include "src/core/log.h"

#include "tests/convert/torch_file.h"
#include "tests/doctest.h"

TEST_SUITE("convert/pickle") {
  using namespace tts;
  using namespace tts::testing;
  using Kind = PickleValue::Kind;

  static Result<Pickle> parsed(const std::string& bytes) {
    return Pickle::parse(std::as_bytes(std::span(bytes)), "data.pkl");
  }
  static void refused(const std::string& bytes, std::string_view words) {
    CAPTURE(words);
    const auto pickle = parsed(bytes);
    REQUIRE(!pickle);
    CAPTURE(pickle.error().detail);
    CHECK(pickle.error().detail.starts_with("data.pkl: at byte "));
    CHECK(pickle.error().detail.find(words) != std::string::npos);
    CHECK(pickle.error().detail.find('\n') == std::string::npos);
  }
  static std::string written(PickleWriter & out) {
    return out.raw(".").bytes;
  }

  TEST_CASE("plain values of all protocols") {
    // {"none": None, "yes": True, "int": -5, "big": 2**40, "real": 0.5, "list": [1, "a"], "tuple": (1, 2)}
    PickleWriter out;
    out.raw("}(").text("none").raw("N").text("yes").raw("\x88").text("int").raw("J").little(0xFFFFFFFBU, 4);
    out.text("big")
        .raw("\x8a\x06")
        .little(1ULL << 40U, 6)
        .text("real")
        .raw(std::string_view("G\x3f\xe0\0\0\0\0\0\0", 9));
    out.text("list").raw("](K").little(1, 1).text("a").raw("e").text("tuple").raw("K\x01K\x02\x86").raw("u");
    const auto pickle = parsed(written(out));
    REQUIRE(pickle);
    CHECK(pickle->size() == out.bytes.size());
    const PickleValue& root = pickle->root();
    CHECK(root.find("none")->kind == Kind::none);
    CHECK(root.find("yes")->integer == 1);
    CHECK(root.find("int")->integer == -5);
    CHECK(root.find("big")->integer == 1LL << 40U);
    CHECK(root.find("real")->real == 0.5);
    CHECK(root.find("list")->items.at(1)->text == "a");
    CHECK(root.find("tuple")->items.size() == 2);
    CHECK(root.find("nothing") == nullptr);
    CHECK(root.find("real")->find("x") == nullptr);

    // Protocol 0, as text, and protocol 4 with frame and memo.
    const auto old = parsed("(lp0\nI12\naI01\naF2.5\naL7L\na.");
    CHECK(!old);  // PUT by text is not known
    const auto text = parsed("(I12\nI01\nF2.5\nL7L\nl.");
    REQUIRE(text);
    CHECK(text->root().items.at(0)->integer == 12);
    CHECK(text->root().items.at(1)->kind == Kind::boolean);
    CHECK(text->root().items.at(2)->real == 2.5);
    CHECK(text->root().items.at(3)->integer == 7);
    const auto framed = parsed(std::string("\x80\x04\x95\x0b\0\0\0\0\0\0\0\x8c\x01k\x94h\0\x86.", 19));
    REQUIRE(framed);
    CHECK(framed->root().items.at(0) == framed->root().items.at(1));
  }

  TEST_CASE("of equal keys the last counts") {
    PickleWriter out;
    out.raw("}(").text("a").integer(1).text("a").integer(2).raw("u");
    CHECK(parsed(written(out))->root().find("a")->integer == 2);
  }

  TEST_CASE("tensors, and configurations as dicts") {
    PickleWriter out;
    out.raw("}(").text("t");
    write_tensor(out, make_tensor("t", {2, 3}, Dtype::bf16), "7");
    out.text("h").global("utils", "HParams").raw(")\x81}(").text("gin").integer(512).raw("ub").raw("u");
    const auto pickle = parsed(written(out));
    REQUIRE(pickle);
    const PickleValue& tensor = *pickle->root().find("t");
    REQUIRE(tensor.kind == Kind::tensor);
    CHECK(tensor.shape == std::vector<std::int64_t>{2, 3});
    CHECK(tensor.strides == std::vector<std::int64_t>{3, 1});
    CHECK(tensor.items.at(0)->dtype == Dtype::bf16);
    CHECK(tensor.items.at(0)->text == "7");
    CHECK(pickle->root().find("h")->find("gin")->integer == 512);
  }

  TEST_CASE("names that are not on the list are refused by name") {
    for (const auto& [module, name] : {std::pair{"os", "system"},
                                       {"posix", "system"},
                                       {"builtins", "eval"},
                                       {"builtins", "getattr"},
                                       {"__builtin__", "exec"},
                                       {"subprocess", "Popen"},
                                       {"torch", "load"},
                                       {"torch.hub", "load"},
                                       {"numpy.core.multiarray", "_reconstruct"},
                                       {"utils", "HParams.__init__"},
                                       {"collections", "OrderedDict "},
                                       {"torch.serialization", "_get_layout"},
                                       {"functools", "partial"},
                                       {"", ""}}) {
      PickleWriter by_line;
      refused(written(by_line.global(module, name).raw("(X\x02").little(0, 3).raw("id").raw("tR")),
              log_value(std::string(module) + "." + name));
      PickleWriter by_stack;
      refused(written(by_stack.text(module).text(name).raw("\x93)R")), "not on the list");
    }
    refused("\x80\x02(ios\nsystem\n.", "os.system");
    refused(std::string("\x80\x02\x82\x01.", 5), "extension registry");
    refused("\x80\x02Pid\n.", "opcode 0x50");
    refused(std::string("\x80\x05\x97.", 4), "opcode 0x97");
  }

  TEST_CASE("listed names are only used as what they are") {
    PickleWriter out;
    refused(written(out.global("torch", "FloatStorage").raw(")R")), "not called");
    PickleWriter no_storage;
    refused(written(no_storage.global("torch._utils", "_rebuild_tensor_v2").integers({1, 0}).raw("R")),
            "tensor: wanted");
    PickleWriter view;
    view.raw("(").text("storage").global("torch", "FloatStorage").text("0").text("cpu").integer(4).raw("K\x01tQ");
    refused(written(view), "views are not read");
    PickleWriter wrong;
    refused(written(wrong.raw("(").text("module").integer(1).integer(1).integer(1).integer(1).raw("tQ")),
            "persistent id");
    PickleWriter state;
    refused(written(state.raw("]}b")), "BUILD");
    PickleWriter append;
    refused(written(append.raw("}K\x01").raw("a")), "APPEND: got a dict");
    PickleWriter negative;
    negative.global("torch._utils", "_rebuild_tensor_v2").raw("((").text("storage").global("torch", "FloatStorage");
    negative.text("0").text("cpu").integer(4).raw("tQ").integer(0).integers({-1}).integers({1}).raw("tR");
    refused(written(negative), "not negative");
  }

  TEST_CASE("stack and memo do not go astray") {
    refused(".", "the end leaves 0");
    refused("NN.", "the end leaves 2");
    refused("0.", "stack is empty");
    refused("t.", "no mark");
    refused("(0N(a.", "stack is empty");
    refused("N(a.", "stack is empty");
    refused(std::string("h\0.", 3), "never put");
    refused("}(Nu.", "key without a value");
    refused("\x80\x06N.", "protocol 6");
    refused("Iabc\n.", "not an integer");
    refused("X\xff\xff\xff\xffN.", "cut off");
  }

  TEST_CASE("a list may hold itself") {
    const auto pickle = parsed(std::string("]q\0h\0a.", 8));
    REQUIRE(pickle);
    CHECK(pickle->root().items.at(0) == &pickle->root());
  }

  TEST_CASE("containers cannot be copied without end") {
    // Each BUILD doubles what the object holds.
    PickleWriter out;
    out.global("utils", "HParams").raw(")\x81q").little(0, 1).raw("}(").text("a").integer(1).raw("ub");
    for (int i = 0; i < 64; ++i) out.raw("h").little(0, 1).raw("b");
    refused(written(out), "items");
    PickleWriter deep;
    deep.raw(std::string(Pickle::kMaxValues + 1, '('));
    refused(deep.bytes, "marks");
    PickleWriter wide;
    wide.raw(std::string(Pickle::kMaxValues + 1, 'N'));
    refused(wide.bytes, "values");
  }

  TEST_CASE("a pickle that is cut off anywhere is refused") {
    PickleWriter out;
    out.raw("}(").text("t");
    write_tensor(out, make_tensor("t", {2, 3}, Dtype::f32), "7");
    out.text("n").integer(70000).raw("u");
    const std::string good = written(out);
    REQUIRE(parsed(good));
    for (std::size_t n = 0; n < good.size(); ++n) CHECK(!parsed(good.substr(0, n)));
  }
}
