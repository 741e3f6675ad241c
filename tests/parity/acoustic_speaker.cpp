// The speaker embedding and its filter bank: some cases of acoustic_v2pro, whose others acoustic_vits.cpp has, or a
// file of their own.
#include <memory>

#include <ATen/ATen.h>

#include "models/eres2net.h"
#include "models/fbank.h"
#include "tests/parity/acoustic_common.h"

namespace tts::parity {
namespace {

void check_speaker(const Fixture& fixture, const Json& c, CaseReport& check) {
  const Eres2Net model{WeightScope(std::make_shared<SchemeSource>(c))};
  const Probe probe = comparing(fixture, c, check);
  const at::Tensor features = kaldi_fbank(input_of(c, "wav16k").view({-1}));
  probe("fbank", features.unsqueeze(0));
  (void)model.forward(features, &probe);
}

void replay(const Fixture& fixture, Report& report) {
  for_each_case(fixture, report, [&](const Json& c, CaseReport& check) {
    const std::string name = c.at("name").get<std::string>();
    if (name.starts_with("eres2netv2.")) return check_speaker(fixture, c, check);
    if (name.starts_with("fbank.")) {
      return compare(fixture, c, check, "fbank", kaldi_fbank(input_of(c, "wav16k").view({-1})), kFeatureTolerance);
    }
    check.skip();
  });
}

const Registration kWithDecoders("acoustic_v2pro", replay);
const Registration kAlone("acoustic_speaker", replay);

}  // namespace
}  // namespace tts::parity
