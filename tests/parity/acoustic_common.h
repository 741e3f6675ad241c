#pragma once

#include <algorithm>
#include <cmath>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>

#include <ATen/ATen.h>

#include "models/layers.h"
#include "tests/parity/parity.h"
#include "tests/parity/scheme.h"

// What the acoustic_* fixtures share.

namespace tts::parity {

inline constexpr double kFeatureTolerance = 1e-5;
inline constexpr double kWaveTolerance = 5e-5;

/// The case's input labelled `arg`, with config.zero applied to its flat samples.
inline at::Tensor input_of(const Json& c, const std::string& arg) {
  for (const Json& input : c.at("inputs")) {
    if (input.at("arg") == arg) {
      at::Tensor tensor = make_input(input);
      if (c.at("config").contains("zero")) {
        const auto range = to_int64s(c.at("config").at("zero"));
        tensor.view({-1}).narrow(0, range.at(0), range.at(1) - range.at(0)).zero_();
      }
      return tensor;
    }
  }
  throw std::runtime_error("no input " + arg);
}

/// Compares `got` with output `name`: its stored samples and norm, and the whole tensor where the fixture has it.
inline void compare(const Fixture& fixture, const Json& c, CaseReport& check, const std::string& name,
                    const at::Tensor& got, double tolerance) {
  const Json& want = c.at("outputs").at(name);
  const double absmax = want.at("absmax").get<double>();
  const double scale = absmax > 0 ? absmax : 1.0;
  if (got.sizes().vec() != to_int64s(want.at("shape"))) {
    check.error(name + "(shape)", std::nan(""), 0);
    return;
  }
  const at::Tensor flat = got.reshape({-1}).to(at::kDouble).contiguous();
  const double* values = flat.data_ptr<double>();
  const auto n = flat.numel();
  double worst = 0;
  const auto at_index = [&](std::int64_t index, const Json& wanted) {
    worst = std::max(worst, std::abs(values[index] - wanted.get<double>()) / scale);
  };
  const Json& first = want.at("first");
  for (std::size_t i = 0; i < first.size(); ++i) at_index(static_cast<std::int64_t>(i), first[i]);
  const Json& strided = want.at("strided");
  const auto n_strided = static_cast<std::int64_t>(strided.size());
  for (std::int64_t j = 0; j < n_strided; ++j) {
    at_index(n < 24 ? j : j * n / n_strided, strided[static_cast<std::size_t>(j)]);
  }
  const double l2 = want.at("l2").get<double>();
  const double l2_error = std::abs(flat.norm().item<double>() - l2) / (l2 > 0 ? l2 : 1.0);
  if (std::isnan(l2_error)) worst = std::nan("");
  check.error(name, worst, tolerance);
  check.error(name + "(l2)", l2_error, tolerance);
  const std::string key = c.at("name").get<std::string>() + "/" + name;
  if (fixture.arrays && fixture.arrays->find(key) != nullptr) {
    check.close(name + "(all)", got, fixture.array(key), tolerance, scale);
  }
}

/// A probe that compares every intermediate result the case has.
inline Probe comparing(const Fixture& fixture, const Json& c, CaseReport& check) {
  return [&fixture, &c, &check](std::string_view name, const at::Tensor& value) {
    if (c.at("outputs").contains(std::string(name))) {
      compare(fixture, c, check, std::string(name), value, kFeatureTolerance);
    }
  };
}

inline WeightScope weights_of(const Json& c) {
  auto source = std::make_shared<SchemeSource>(c);
  // As published: these have no weight norm, or already folded.
  source->set_absent({"conv_post.weight"});
  return WeightScope(std::move(source));
}

}  // namespace tts::parity
