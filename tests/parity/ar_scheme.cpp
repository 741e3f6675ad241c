#include <cstdio>
#include <cstring>
#include <string>

#include "tests/parity/parity.h"
#include "tests/parity/scheme.h"

// ar_scheme.json: worked values of the scheme itself. A mismatch here explains every later one.

namespace tts::parity {
namespace {

std::string hex(std::uint64_t value, int digits) {
  char text[32];
  std::snprintf(text, sizeof(text), "0x%0*llx", digits, static_cast<unsigned long long>(value));
  return text;
}

bool first_values_equal(const at::Tensor& tensor, const Json& want) {
  const at::Tensor flat = tensor.flatten().to(at::kDouble);
  const auto* got = flat.data_ptr<double>();
  for (std::size_t i = 0; i < want.size(); ++i) {
    if (got[i] != want[i].get<double>()) return false;
  }
  return true;
}

void check_parameter(const Json& p, const SchemeSource& source, CaseReport& check) {
  const auto key = p.at("key").get<std::string>();
  const std::uint64_t hash = fnv1a64(key);
  if (p.contains("fnv1a64")) check.same("hash", p.at("fnv1a64") == hex(hash, 16));
  if (p.contains("raw")) {
    bool equal = true;
    for (std::size_t i = 0; i < p.at("raw").size(); ++i) equal = equal && p.at("raw")[i] == hex(raw_at(hash, i), 16);
    check.same("raw", equal);
  }
  if (p.contains("v_first")) {
    const std::string v_key = key.substr(0, key.size() - 1) + "v";
    check.same("weight_v", first_values_equal(source.get(v_key, {768, 48, 128}), p.at("v_first")));
  }
  const at::Tensor tensor = source.get(key, to_int64s(p.at("shape")));
  check.same("values", first_values_equal(tensor, p.at("first")));
  if (p.contains("first_hex")) {
    bool equal = true;
    for (std::size_t i = 0; i < p.at("first_hex").size(); ++i) {
      std::uint32_t bits = 0;
      std::memcpy(&bits, tensor.data_ptr<float>() + i, sizeof(bits));
      equal = equal && p.at("first_hex")[i] == hex(bits, 8);
    }
    check.same("bits", equal);
  }
}

void check_input(const Json& input, CaseReport& check) {
  if (input.at("kind") != "exp") {
    check.same("values", first_values_equal(make_input(input), input.at("first")));
    return;
  }
  const Json& want = input.at("first");
  const std::vector<float> q =
      exponential_noise(input.at("name").get<std::string>(), static_cast<std::int64_t>(want.size()));
  bool equal = true;
  for (std::size_t i = 0; i < want.size(); ++i) equal = equal && static_cast<double>(q[i]) == want[i].get<double>();
  check.same("values", equal);
}

const Registration kScheme("ar_scheme", [](const Fixture& fixture, Report& report) {
  const SchemeSource source;
  for (const Json& parameter : fixture.json.at("parameters")) {
    CaseReport check(report, fixture.name + "/" + parameter.at("key").get<std::string>());
    check_parameter(parameter, source, check);
  }
  for (const Json& input : fixture.json.at("inputs")) {
    CaseReport check(report, fixture.name + "/" + input.at("name").get<std::string>());
    check_input(input, check);
  }
});

}  // namespace
}  // namespace tts::parity
