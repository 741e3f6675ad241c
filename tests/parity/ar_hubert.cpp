// The Chinese HuBERT: ar_hubert.
#include <cmath>
#include <map>
#include <memory>

#include <ATen/ATen.h>

#include "models/hubert.h"
#include "tests/parity/parity.h"
#include "tests/parity/scheme.h"

namespace tts::parity {
namespace {

constexpr double kTolerance = 1e-4;
constexpr double kNormTolerance = 1e-5;  // relative

HubertConfig config_of(const Json& c) {
  HubertConfig config;
  config.conv_channels = to_int64s(c.at("conv_dim"));
  config.conv_kernels = to_int64s(c.at("conv_kernel"));
  config.conv_strides = to_int64s(c.at("conv_stride"));
  config.hidden = c.at("hidden").get<std::int64_t>();
  config.layers = c.at("layers").get<std::int64_t>();
  config.heads = c.at("heads").get<std::int64_t>();
  config.ff = c.at("ffn").get<std::int64_t>();
  config.position_kernel = c.at("pos_k").get<std::int64_t>();
  config.position_groups = c.at("pos_groups").get<std::int64_t>();
  config.eps = c.at("eps").get<double>();
  return config;
}

double relative_error(const at::Tensor& got, const Json& want) {
  const auto norm = want.get<double>();
  return std::abs(got.to(at::kDouble).norm().item<double>() - norm) / norm;
}

at::Tensor rows_of(const at::Tensor& x, const Json& rows) {
  return x.index_select(0, at::tensor(to_int64s(rows)));
}

void check_hubert(const Fixture& fixture, const Json& c, CaseReport& check) {
  const Hubert model(WeightScope(std::make_shared<SchemeSource>(c)), config_of(c.at("config")));
  const at::Tensor input = make_input(c.at("input"));
  const at::Tensor wave = at::constant_pad_nd(input, {0, c.at("zero_tail").get<std::int64_t>()});
  std::map<std::string, at::Tensor> stages;
  const Probe probe = [&](std::string_view name, const at::Tensor& value) { stages[std::string(name)] = value; };
  const at::Tensor hidden = model.forward(wave, &probe);
  check.same("frames", hidden.size(0) == c.at("frames").get<std::int64_t>() &&
                           model.frames(wave.size(0)) == c.at("frames").get<std::int64_t>());
  for (const auto& [name, l2] : c.at("stage_l2").items()) {
    check.error(name + "(l2)", relative_error(stages.at(name), l2), kNormTolerance);
  }
  const auto array = [&](const char* name) { return fixture.array(c.at("arrays").at(name).get<std::string>()); };
  const Json& rows = c.at("frame_rows");
  check.close("conv0", stages.at("conv0").narrow(0, 0, 8).narrow(1, 0, 64), array("conv0_ch0-7_t0-63"), kTolerance);
  check.close("conv6", stages.at("conv6").narrow(0, 0, 8), array("conv6_ch0-7"), kTolerance);
  check.close("projection", rows_of(stages.at("projection"), rows.at("projection")), array("projection"), kTolerance);
  check.close("encoder_in", rows_of(stages.at("encoder_in"), rows.at("encoder_in")), array("encoder_in"), kTolerance);
  check.close("last_hidden_state", rows_of(hidden, c.at("array_rows")), array("last_hidden_state"), kTolerance);
  const Json& row_l2 = c.at("row_l2");
  double worst = 0;
  for (std::int64_t row = 0; row < hidden.size(0); ++row) {
    worst = std::max(worst, relative_error(hidden[row], row_l2.at(static_cast<std::size_t>(row))));
  }
  check.error("rows(l2)", worst, kNormTolerance);
}

const Registration kHubert("ar_hubert", [](const Fixture& fixture, Report& report) {
  for_each_case(fixture, report, [&](const Json& c, CaseReport& check) { check_hubert(fixture, c, check); });
});

}  // namespace
}  // namespace tts::parity
