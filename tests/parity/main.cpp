#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <map>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>

#include "tests/parity/parity.h"

namespace tts::parity {
namespace {

std::multimap<std::string, Handler>& handlers() {
  static std::multimap<std::string, Handler> registered;
  return registered;
}

}  // namespace

Registration::Registration(std::string name, Handler handler) {
  handlers().emplace(std::move(name), std::move(handler));
}

at::Tensor Fixture::array(const std::string& key) const {
  if (!arrays) throw std::runtime_error(name + ".safetensors is missing");
  const TensorView* view = arrays->find(key);
  if (view == nullptr) throw std::runtime_error(name + ".safetensors has no tensor " + key);
  const auto copy_as = [&](at::ScalarType type) {
    at::Tensor tensor = at::empty(view->shape, type);
    std::memcpy(tensor.data_ptr(), view->data.data(), view->data.size());
    return tensor;
  };
  switch (view->dtype) {
    case Dtype::f32:
      return copy_as(at::kFloat);
    case Dtype::u8:
      return copy_as(at::kByte).to(at::kLong);
    case Dtype::i32:
      return copy_as(at::kInt).to(at::kLong);
    case Dtype::i64:
      return copy_as(at::kLong);
    default:
      throw std::runtime_error(name + ".safetensors: unexpected type of " + key);
  }
}

void Report::check(const std::string& name, double error, double tolerance) {
  const bool pass = error <= tolerance;  // false for NaN
  std::printf("%s %.3g %.3g %s\n", name.c_str(), error, tolerance, pass ? "PASS" : "FAIL");
  ++(pass ? passed_ : failed_);
}

void Report::fail(const std::string& name, const std::string& reason) {
  std::printf("%s inf 0 FAIL\n", name.c_str());
  std::fflush(stdout);
  std::fprintf(stderr, "%s: %s\n", name.c_str(), reason.c_str());
  ++failed_;
}

void Report::skip(const std::string& name) {
  ++skips_[name];
}

void Report::end_file(int handlers) {
  for (const auto& [name, skips] : skips_) {
    if (skips < handlers) continue;
    std::printf("%s - - SKIP\n", name.c_str());
    ++skipped_;
  }
  skips_.clear();
}

void CaseReport::close(std::string_view quantity, const at::Tensor& got, const at::Tensor& want, double tolerance,
                       double scale) {
  const std::string full = name_ + "." + std::string(quantity);
  if (got.sizes() != want.sizes()) {
    std::ostringstream reason;
    reason << "got shape " << got.sizes() << ", wanted " << want.sizes();
    report_.fail(full, reason.str());
    return;
  }
  const double worst = got.numel() == 0 ? 0.0 : (got.to(at::kDouble) - want.to(at::kDouble)).abs().max().item<double>();
  report_.check(full, worst / scale, tolerance);
}

void CaseReport::error(std::string_view quantity, double error, double tolerance) {
  report_.check(name_ + "." + std::string(quantity), error, tolerance);
}

void CaseReport::same(std::string_view quantity, bool equal) {
  report_.check(name_ + "." + std::string(quantity), equal ? 0.0 : 1.0, 0.0);
}

void CaseReport::skip() {
  report_.skip(name_);
}

void for_each_case(const Fixture& fixture, Report& report,
                   const std::function<void(const Json& fixture_case, CaseReport& check)>& body) {
  for (const Json& fixture_case : fixture.json.at("cases")) {
    const std::string name = fixture.name + "/" + fixture_case.at("name").get<std::string>();
    CaseReport check(report, name);
    try {
      body(fixture_case, check);
    } catch (const std::exception& error) {
      report.fail(name, error.what());
    }
    std::fflush(stdout);
  }
}

namespace {

Fixture load(const std::filesystem::path& path) {
  Fixture fixture;
  fixture.name = path.stem().string();
  std::ifstream file(path);
  fixture.json = Json::parse(file);
  std::filesystem::path arrays = path;
  arrays.replace_extension(".safetensors");
  if (std::filesystem::exists(arrays)) {
    auto opened = SafeTensors::open(arrays);
    if (!opened) throw std::runtime_error(opened.error().detail);
    fixture.arrays = std::move(*opened);
  }
  return fixture;
}

int run(const std::filesystem::path& directory) {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    const std::string stem = entry.path().stem().string();
    if (entry.path().extension() == ".json" && (stem.starts_with("ar_") || stem.starts_with("acoustic_"))) {
      files.push_back(entry.path());
    }
  }
  std::sort(files.begin(), files.end());
  if (files.empty()) {
    std::fprintf(stderr, "parity: no ar_*.json or acoustic_*.json in %s\n", directory.c_str());
    return 1;
  }
  const c10::InferenceMode inference;
  at::set_num_threads(1);
  Report report;
  for (const std::filesystem::path& path : files) {
    try {
      const Fixture fixture = load(path);
      const auto [first, last] = handlers().equal_range(fixture.name);
      for (auto handler = first; handler != last; ++handler) handler->second(fixture, report);
      if (first == last) for_each_case(fixture, report, [](const Json&, CaseReport& check) { check.skip(); });
      report.end_file(std::max(1, static_cast<int>(std::distance(first, last))));
    } catch (const std::exception& error) {
      report.fail(path.stem().string(), error.what());
    }
  }
  if (report.skipped() > 0) {
    std::printf("%d cases skipped: they check stages that this build does not have\n", report.skipped());
  }
  std::printf("%d passed, %d failed\n", report.passed(), report.failed());
  return report.failed() == 0 && report.passed() > 0 ? 0 : 1;
}

}  // namespace
}  // namespace tts::parity

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: parity DIR    replays the parity fixtures (ar_*.json, acoustic_*.json) of DIR\n");
    return 2;
  }
  try {
    return tts::parity::run(argv[1]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "parity: %s\n", error.what());
    return 1;
  }
}
