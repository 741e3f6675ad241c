#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include <c10/core/InferenceMode.h>

#include "models/acoustic_guard.h"
#include "models/cfm_windows.h"
#include "models/vits_windows.h"
#include "models/window_plan.h"
#include "tests/doctest.h"
#include "tests/models/small_voice.h"

namespace tts {
namespace {

const std::vector<std::int32_t> kWords{7, 90, 33, 120, 300, 18, 64, 5};

std::vector<std::int32_t> some_tokens(std::size_t n, std::size_t start = 0) {
  std::vector<std::int32_t> out;
  for (std::size_t i = start; i < start + n; ++i) out.push_back(static_cast<std::int32_t>((i * 29 + i * i) % 64));
  return out;
}

/// Largest difference over the largest value; infinite for different sizes.
double distance(const std::vector<float>& got, const std::vector<float>& want) {
  if (got.size() != want.size()) return INFINITY;
  float worst = 0;
  float largest = 1e-6F;
  for (std::size_t i = 0; i < got.size(); ++i) {
    worst = std::isfinite(got[i]) ? std::max(worst, std::abs(got[i] - want[i])) : INFINITY;
    largest = std::max(largest, std::abs(want[i]));
  }
  return worst / largest;
}

std::vector<float> speak(TokenRenderer& renderer, const std::vector<std::int32_t>& all, std::size_t chunk) {
  std::vector<float> out;
  for (std::size_t at = 0; at < all.size(); at += chunk) {
    const std::size_t n = std::min(chunk, all.size() - at);
    const auto part = renderer.push({all.data() + at, n}, false);
    out.insert(out.end(), part.begin(), part.end());
  }
  const auto part = renderer.push({}, true);
  out.insert(out.end(), part.begin(), part.end());
  return out;
}

WeightScope generated() {
  return WeightScope(std::make_shared<GeneratedWeights>());
}

/// A CPU that has no memory for more than `rows` windows at once, nor for the call number `lost` at all.
struct Scarce {
  std::int64_t rows = std::numeric_limits<std::int64_t>::max();
  int lost = -1;
  int calls = 0;
  std::int64_t most = 0;  ///< rows of the largest call that went through
};

class ScarceLane final : public DeviceLane {
 public:
  explicit ScarceLane(Scarce& scarce) : scarce_(scarce), inner_(make_device_lane(at::kCPU)) {}
  std::unique_ptr<DeviceCall> make_call(const std::vector<DeviceInput>& inputs, DeviceFunction function,
                                        bool recurring) override {
    return inner_->make_call(
        inputs,
        [this, function](const std::vector<at::Tensor>& in) {
          if (in[0].size(0) > scarce_.rows) throw DeviceOutOfMemory("out of memory");
          if (in[0].size(0) == 1 && scarce_.calls++ == scarce_.lost) throw DeviceOutOfMemory("out of memory");
          scarce_.most = std::max(scarce_.most, in[0].size(0));
          return function(in);
        },
        recurring);
  }

 private:
  Scarce& scarce_;
  std::unique_ptr<DeviceLane> inner_;
};

}  // namespace

TEST_SUITE("models/windows") {
  TEST_CASE("windows give every output once, exactly, at the fixed widths") {
    std::mt19937 random(3);
    const auto sum_around = [](const std::vector<double>& x, std::int64_t at, std::int64_t reach) {
      double sum = 0;
      for (std::int64_t i = at - reach; i <= at + reach; ++i) {
        if (i >= 0 && i < static_cast<std::int64_t>(x.size())) {
          sum += x[static_cast<std::size_t>(i)] * static_cast<double>(1 + i - at + reach);
        }
      }
      return sum;
    };
    for (int round = 0; round < 300; ++round) {
      const auto context = static_cast<std::int64_t>(random() % 10);
      WindowPolicy policy{.context = context, .widths = {2 * context + 4, 2 * context + 9, 2 * context + 30}};
      const auto length = static_cast<std::int64_t>(random() % 120);
      std::vector<double> input;
      for (std::int64_t i = 0; i < length; ++i) input.push_back(std::sin(static_cast<double>(i * i)));
      std::vector<double> got;
      std::int64_t total = 0;
      do {
        total = std::min<std::int64_t>(length, total + static_cast<std::int64_t>(random() % 40));
        const bool ended = total == length;
        const auto done = static_cast<std::int64_t>(got.size());
        const std::int64_t kept = first_needed(policy, done);
        for (const Window& w : plan_windows(policy, done, total, ended)) {
          const auto& widths = policy.widths;
          const bool fixed = std::find(widths.begin(), widths.end(), w.width) != widths.end();
          CHECK((fixed || (ended && w.begin + w.width == total && w.width < widths.back())));
          REQUIRE(w.begin >= kept);
          REQUIRE(w.begin + w.skip == static_cast<std::int64_t>(got.size()));
          REQUIRE(w.take > 0);
          std::vector<double> seen;  // what the network is given; what is not known is anything
          for (std::int64_t i = w.begin; i < w.begin + w.width; ++i) {
            seen.push_back(i < total ? input[static_cast<std::size_t>(i)] : 1e9);
          }
          for (std::int64_t i = w.skip; i < w.skip + w.take; ++i) got.push_back(sum_around(seen, i, context));
        }
        CHECK(static_cast<std::int64_t>(got.size()) == (ended ? length : std::max(done, total - context)));
      } while (total < length);
      REQUIRE(got.size() == input.size());
      for (std::int64_t i = 0; i < length; ++i) {
        CHECK(got[static_cast<std::size_t>(i)] == doctest::Approx(sum_around(input, i, context)));
      }
    }
  }

  TEST_CASE("a call that fails is halved down to the one that is to blame") {
    std::vector<int> done;
    std::vector<std::size_t> failed;
    std::size_t largest = 0;
    run_in_batches(
        13, 8,
        [&](std::size_t first, std::size_t count) {
          if (first <= 5 && 5 < first + count) throw std::runtime_error("five");
          largest = std::max(largest, count);
          for (std::size_t i = first; i < first + count; ++i) done.push_back(static_cast<int>(i));
        },
        [&](std::size_t i, bool out_of_memory, const std::string& what) {
          CHECK(!out_of_memory);
          CHECK(what == "five");
          failed.push_back(i);
        });
    CHECK(failed == std::vector<std::size_t>{5});
    CHECK(done == std::vector<int>{0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 12});
    CHECK(largest == 5);
  }

  TEST_CASE("VITS in windows sounds as the streaming networks do, in any chunking, at any length") {
    const c10::InferenceMode inference;
    for (const ModelForm form : {ModelForm::v1, ModelForm::v2, ModelForm::v2pro}) {
      for (const bool awaited : {false, true}) {
        CAPTURE(to_string(form));
        CAPTURE(awaited);
        PublishedConfig config = small_config(form);
        if (awaited) config.lookahead = std::nullopt;
        const VitsModel plain(generated(), config);
        const VitsWindows windows(generated(), config);
        const auto references = small_reference(config, 2).references;
        const auto plain_speaker = plain.make_speaker(references);
        const auto speaker = windows.make_speaker(references);
        for (const std::size_t n : {1, 26, 66, 160}) {
          for (const double speed : {1.0, 1.3}) {
            if (n != 66 && (speed != 1.0 || form != ModelForm::v2)) continue;
            if (n == 160 && awaited) continue;
            CAPTURE(n);
            CAPTURE(speed);
            const auto all = some_tokens(n);
            const AcousticOptions options{.seed = 11, .speed = speed, .steps = 0};
            const auto want = speak(*plain.begin(kWords, plain_speaker, options), all, n);
            CHECK(want.size() == static_cast<std::size_t>(frames_at_speed(2 * static_cast<std::int64_t>(n), speed)) *
                                     static_cast<std::size_t>(windows.hop_samples()));
            CHECK(distance(speak(*windows.begin(kWords, speaker, options), all, n), want) < 1e-4);
            if (n == 66) CHECK(distance(speak(*windows.begin(kWords, speaker, options), all, 11), want) < 1e-4);
          }
        }
        if (awaited) CHECK(!windows.first_audio_tokens());
      }
    }
  }

  TEST_CASE("VITS in windows begins to sound when it says") {
    const VitsWindows windows(generated(), small_config(ModelForm::v2));
    const auto speaker = windows.make_speaker(small_reference(windows.config(), 1).references);
    const auto stream = windows.begin(kWords, speaker, {});
    const auto all = some_tokens(60);
    std::size_t first = 0;
    while (stream->push({all.data() + first, 1}, false).empty()) ++first;
    CHECK(first + 1 == static_cast<std::size_t>(*windows.first_audio_tokens()));
  }

  TEST_CASE("streams rendered together sound as they do alone, and none is touched by another's fault") {
    const c10::InferenceMode inference;
    const PublishedConfig config = small_config(ModelForm::v2);
    Scarce scarce;
    VitsWindows::Options limited;
    limited.max_batch = 4;
    limited.make_lane = [&](at::Device) { return std::make_unique<ScarceLane>(scarce); };
    const VitsWindows windows(generated(), config, limited);
    std::vector<VitsWindows::Speaker> speakers;
    for (int i = 0; i < 2; ++i) speakers.push_back(windows.make_speaker(small_reference(config, i + 1).references));
    auto spoiled = speakers[0];
    spoiled.flow[3] = std::numeric_limits<float>::quiet_NaN();

    constexpr std::size_t kStreams = 6;
    const auto tokens_of = [](std::size_t i) { return some_tokens(20 + 11 * i, i); };
    const auto words_of = [](std::size_t i) {
      return std::vector<std::int32_t>(3 + 9 * i, static_cast<std::int32_t>(i));
    };
    const auto options_of = [](std::size_t i) {
      return AcousticOptions{.seed = i, .speed = i % 3 == 2 ? 1.2 : 1.0, .steps = 0};
    };
    std::vector<std::vector<float>> alone;
    for (std::size_t i = 0; i < kStreams; ++i) {
      alone.push_back(speak(*windows.begin(words_of(i), speakers[i % 2], options_of(i)), tokens_of(i), 500));
    }
    std::mt19937 random(8);
    for (int round = 0; round < 6; ++round) {
      CAPTURE(round);
      scarce = {};
      if (round == 1) scarce.rows = 2;                                // room for two windows
      if (round == 2) scarce.rows = 1;                                // or one,
      if (round >= 3) scarce.lost = static_cast<int>(random() % 10);  // and once for none
      if (round >= 3) scarce.rows = 1;
      const std::size_t nan = round % 2 == 0 ? 4 : kStreams;
      const std::size_t bad = round % 3 == 0 ? 2 : kStreams;
      std::vector<std::unique_ptr<TokenRenderer>> streams;
      for (std::size_t i = 0; i < kStreams; ++i) {
        streams.push_back(windows.begin(words_of(i), i == nan ? spoiled : speakers[i % 2], options_of(i)));
      }
      std::vector<std::vector<float>> got(kStreams);
      std::vector<std::size_t> at(kStreams, 0);
      std::vector<std::optional<Error>> failures(kStreams);
      std::vector<std::size_t> left;
      for (std::size_t i = 0; i < kStreams; ++i) left.push_back(i);
      while (!left.empty()) {
        std::shuffle(left.begin(), left.end(), random);
        std::vector<std::vector<std::int32_t>> given;
        std::vector<TokenRenderer::Job> jobs;
        std::vector<std::size_t> who(left.begin(),
                                     left.begin() + static_cast<std::ptrdiff_t>(1 + random() % left.size()));
        for (const std::size_t i : who) {
          const auto all = tokens_of(i);
          const std::size_t n = std::min<std::size_t>(1 + random() % 50, all.size() - at[i]);
          given.emplace_back(all.begin() + static_cast<std::ptrdiff_t>(at[i]),
                             all.begin() + static_cast<std::ptrdiff_t>(at[i] + n));
          if (i == bad) given.back()[n / 2] = 64;
          at[i] += n;
          jobs.push_back({.stream = streams[i].get(), .tokens = given.back(), .last = at[i] == all.size()});
        }
        const RenderGroup group = jobs[0].stream->group(static_cast<std::int64_t>(jobs[0].tokens.size()), jobs[0].last);
        CHECK(group.networks == &windows);
        jobs[0].stream->push_together(jobs);
        for (std::size_t k = 0; k < who.size(); ++k) {
          const std::size_t i = who[k];
          failures[i] = jobs[k].failure;
          got[i].insert(got[i].end(), jobs[k].samples.begin(), jobs[k].samples.end());
          if (jobs[k].failure || jobs[k].last || random() % 60 == 0) {  // it is over, or cancelled
            std::erase(left, i);
            if (!jobs[k].failure && !jobs[k].last) streams[i].reset();
          }
        }
      }
      std::size_t lost = 0;
      for (std::size_t i = 0; i < kStreams; ++i) {
        CAPTURE(i);
        if (failures[i] && failures[i]->code == Errc::overloaded) {
          ++lost;
          CHECK(failures[i]->detail == "the device is out of memory");
          continue;
        }
        CHECK(failures[i].has_value() == (i == bad));
        if (failures[i] || i == nan) continue;
        const std::vector<float> begun(alone[i].begin(), alone[i].begin() + static_cast<std::ptrdiff_t>(got[i].size()));
        CHECK(distance(got[i], begun) < 1e-4);
        if (streams[i]) CHECK(got[i].size() == alone[i].size());
      }
      CHECK(lost == (round >= 3 ? 1 : 0));
      if (round == 0) CHECK(scarce.most > 1);
      if (round == 1) CHECK(scarce.most == 2);
    }
  }

  TEST_CASE("v3 and v4 in windows sound as the streaming networks do, in any chunking, alone and together") {
    const c10::InferenceMode inference;
    for (const ModelForm form : {ModelForm::v3, ModelForm::v4}) {
      for (const bool awaited : {false, true}) {
        CAPTURE(to_string(form));
        CAPTURE(awaited);
        PublishedConfig config = small_config(form);
        if (awaited) config.lookahead = std::nullopt;
        if (form == ModelForm::v4) {
          config.flow.guidance = 0.7;
          config.flow.temperature = 0.6;
        }
        const CfmModel plain(generated(), generated(), config);
        const CfmWindows windows(generated(), generated(), config, {});
        const PreparedReference r = small_reference(config, 1);
        const auto plain_speaker = plain.make_speaker(r.references[0], r.mel, r.prompt_tokens, r.prompt_phonemes);
        const auto speaker = windows.make_speaker(r.references[0], r.mel, r.prompt_tokens, r.prompt_phonemes);
        const std::vector<std::size_t> lengths =
            awaited ? std::vector<std::size_t>{70} : std::vector<std::size_t>{1, 33, 90};
        const auto options_of = [](std::size_t n) {
          return AcousticOptions{.seed = n, .speed = n == 33 ? 0.9 : 1.0, .prompt_frames = n == 90 ? 30 : 0};
        };
        std::vector<std::vector<float>> want;
        std::vector<std::vector<std::int32_t>> all;
        std::vector<std::unique_ptr<TokenRenderer>> streams;
        std::vector<TokenRenderer::Job> jobs;
        for (const std::size_t n : lengths) {
          CAPTURE(n);
          all.push_back(some_tokens(n));
          want.push_back(speak(*plain.begin(kWords, plain_speaker, options_of(n)), all.back(), n));
          CHECK(distance(speak(*windows.begin(kWords, speaker, options_of(n)), all.back(), 12), want.back()) < 1e-4);
          streams.push_back(windows.begin(kWords, speaker, options_of(n)));
        }
        for (std::size_t i = 0; i < lengths.size(); ++i) {
          jobs.push_back({.stream = streams[i].get(), .tokens = all[i], .last = true});
        }
        streams[0]->push_together(jobs);
        for (std::size_t i = 0; i < lengths.size(); ++i) {
          CAPTURE(lengths[i]);
          CHECK(!jobs[i].failure);
          CHECK(distance(jobs[i].samples, want[i]) < 1e-4);
        }
        if (awaited) continue;
        const auto stream = windows.begin(kWords, speaker, {});
        std::size_t first = 0;
        while (stream->push({all.back().data() + first, 1}, false).empty()) ++first;
        CHECK(first + 1 == static_cast<std::size_t>(*windows.first_audio_tokens()));
        const std::vector<std::int32_t> bad{64};
        CHECK_THROWS_AS((void)stream->push(bad, false), ModelError);
        CHECK(windows.begin(kWords, speaker, {})->push({}, true).empty());
      }
    }
  }

  TEST_CASE("numbers of a device are taken where they sound as float32 does") {
    const auto weights = std::make_shared<GeneratedWeights>();
    const PublishedConfig config = small_config(ModelForm::v2);
    std::vector<at::ScalarType> made;
    const auto make = [&](at::ScalarType type) {
      made.push_back(type);
      // This CPU may well know bfloat16; half is played by weights that are wrong.
      if (type == at::kHalf)
        return std::make_unique<const VitsWindows>(WeightScope(std::make_shared<GeneratedWeights>(3)), config);
      VitsWindows::Options options;
      options.placement.type = type;
      return std::make_unique<const VitsWindows>(WeightScope(weights), config, options);
    };
    using Types = std::vector<at::ScalarType>;
    const auto plain = make_guarded_windows<VitsWindows>(PrecisionChoice::fp32, "small", make);
    CHECK(made == Types{at::kFloat});
    made.clear();
    const auto reduced = make_guarded_windows<VitsWindows>(PrecisionChoice::automatic, "small", make);
    CHECK(made == Types{at::kFloat, at::kHalf, at::kBFloat16});
    const AcousticDrift drift = acoustic_drift(guard_wave(*plain), guard_wave(*reduced));
    CHECK(drift.passes());
    CHECK(drift.mean_db > 0);  // it is bfloat16 that was taken
    const auto half_fails = [&](at::ScalarType type) {
      if (type != at::kFloat) throw ModelError("not on this device");
      return make(type);
    };
    CHECK(guard_wave(*make_guarded_windows<VitsWindows>(PrecisionChoice::bf16, "small", half_fails)) ==
          guard_wave(*plain));
  }

  TEST_CASE("a device that this build knows nothing of is refused by name") {
    try {
      (void)make_device_lane(at::Device("xla:0"));
      CHECK(false);
    } catch (const ModelError& e) {
      CHECK(std::string(e.what()).find("xla:0") != std::string::npos);
    }
  }
}

}  // namespace tts
