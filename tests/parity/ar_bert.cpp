// The Chinese BERT: ar_bert.
#include <cmath>
#include <map>
#include <memory>
#include <vector>

#include <ATen/ATen.h>

#include "models/bert.h"
#include "tests/parity/parity.h"
#include "tests/parity/scheme.h"

namespace tts::parity {
namespace {

constexpr double kTolerance = 1e-4;
constexpr double kNormTolerance = 1e-5;  // relative
constexpr std::int32_t kCls = 101;
constexpr std::int32_t kSep = 102;

BertConfig config_of(const Json& c) {
  BertConfig config;
  config.vocab = c.at("vocab").get<std::int64_t>();
  config.hidden = c.at("hidden").get<std::int64_t>();
  config.layers = c.at("layers").get<std::int64_t>();
  config.heads = c.at("heads").get<std::int64_t>();
  config.ff = c.at("ffn").get<std::int64_t>();
  config.positions = c.at("max_pos").get<std::int64_t>();
  config.types = c.at("types").get<std::int64_t>();
  config.eps = c.at("eps").get<double>();
  return config;
}

std::vector<std::int32_t> integers_of(const Json& description) {
  const at::Tensor values = make_input(description).to(at::kInt);
  return {values.data_ptr<std::int32_t>(), values.data_ptr<std::int32_t>() + values.numel()};
}

void check_bert(const Fixture& fixture, const Json& c, CaseReport& check) {
  const Bert model(WeightScope(std::make_shared<SchemeSource>(c))("bert"), config_of(c.at("config")));
  std::vector<std::int32_t> ids = {kCls};
  for (const std::int32_t id : integers_of(c.at("chars"))) ids.push_back(id);
  ids.push_back(kSep);
  check.same("token_ids", ids == c.at("token_ids").get<std::vector<std::int32_t>>());
  at::Tensor embedding;
  const Probe probe = [&](std::string_view name, const at::Tensor& value) {
    if (name == "embedding_output") embedding = value;
  };
  const at::Tensor hidden = model.forward(ids, &probe);
  const auto word2ph = integers_of(c.at("word2ph"));
  check.same("word2ph", word2ph == c.at("word2ph_values").get<std::vector<std::int32_t>>());
  const at::Tensor feature =
      repeat_rows(hidden.narrow(0, 1, hidden.size(0) - 2),
                  std::vector<std::uint8_t>(word2ph.begin(), word2ph.end()));  // [phonemes, hidden]

  const auto array = [&](const char* name) { return fixture.array(c.at("arrays").at(name).get<std::string>()); };
  const at::Tensor rows = at::tensor(to_int64s(c.at("array_rows")));
  check.close("embedding_output", embedding.index_select(0, rows), array("embedding_output"), kTolerance);
  check.close("hidden", hidden.index_select(0, rows), array("hidden"), kTolerance);
  if (c.at("arrays").contains("feature")) check.close("feature", feature.t(), array("feature"), kTolerance);
  check.same("feature_shape", feature.t().sizes().vec() == to_int64s(c.at("feature_shape")));
  const Json& columns = c.at("feature_col_l2");
  double worst = columns.size() == static_cast<std::size_t>(feature.size(0)) ? 0.0 : 1.0;
  for (std::size_t i = 0; worst < 1 && i < columns.size(); ++i) {
    const auto want = columns.at(i).get<double>();
    const double got = feature[static_cast<std::int64_t>(i)].to(at::kDouble).norm().item<double>();
    worst = std::max(worst, std::abs(got - want) / want);
  }
  check.error("feature(l2)", worst, kNormTolerance);
}

const Registration kBert("ar_bert", [](const Fixture& fixture, Report& report) {
  for_each_case(fixture, report, [&](const Json& c, CaseReport& check) { check_bert(fixture, c, check); });
});

}  // namespace
}  // namespace tts::parity
