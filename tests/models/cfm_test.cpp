#include "models/cfm.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include <c10/core/InferenceMode.h>

#include "models/acoustic_guard.h"
#include "models/bf16_kernels.h"
#include "models/causal_flow.h"
#include "models/chunking.h"
#include "src/audio/click_detector.h"
#include "tests/doctest.h"
#include "tests/models/small_voice.h"

namespace tts {
namespace {

FlowGrid grid(const char* text) {
  return parse_flow_grid(text).value();
}

const std::vector<const char*> kGrids{"uniform", "cosine", "sway", "sway:-0.5", "sway:1"};

double distance(const at::Tensor& a, const at::Tensor& b) {
  if (a.sizes() != b.sizes()) return INFINITY;
  return (a - b).abs().max().item<double>() / b.abs().max().item<double>();
}

/// The end of x' = -2 t x + cos(w t) for w = 1 .. 6.
at::Tensor end_of_known_equation(const FlowSchedule& schedule) {
  const at::Tensor x = at::full({6}, 1.5, at::kDouble);
  const at::Tensor speeds = at::arange(1, 7, at::kDouble);
  const auto calls = flow_calls(schedule);
  std::size_t made = 0;
  solve_flow(x, schedule, [&](const at::Tensor& at_x, std::size_t call) {
    CHECK(call == made++);
    const double t = calls.at(call).t;
    return at_x * (-2.0 * t) + at::cos(speeds * t);
  });
  CHECK(made == calls.size());
  return x;
}

Dit small_dit() {
  return {WeightScope(std::make_shared<GeneratedWeights>()), small_config(ModelForm::v4).dit};
}

std::vector<float> speak(const CfmModel& model, const CfmModel::Speaker& speaker, const AcousticOptions& options) {
  std::vector<std::int32_t> tokens;
  for (int i = 0; i < 90; ++i) tokens.push_back((i * 29 + i * i) % 64);
  const auto stream = model.begin(std::vector<std::int32_t>{7, 90, 33, 120}, speaker, options);
  return stream->push(tokens, true);
}

CfmModel small_model(PublishedConfig config) {
  return {WeightScope(std::make_shared<GeneratedWeights>()), WeightScope(std::make_shared<GeneratedWeights>()), config};
}

CfmModel::Speaker speaker_of(const CfmModel& model) {
  const PreparedReference r = small_reference(model.config(), 1);
  return model.make_speaker(r.references[0], r.mel, r.prompt_tokens, r.prompt_phonemes);
}

}  // namespace

TEST_SUITE("models/cfm") {
  TEST_CASE("every grid rises from exactly 0 to exactly 1; the uniform one is upstream's") {
    for (const char* text : kGrids) {
      CAPTURE(text);
      for (const int steps : {1, 2, 3, 7, 8, 10, 32, 49, 128}) {
        CAPTURE(steps);
        const auto times = flow_times({.steps = steps, .grid = grid(text)});
        REQUIRE(times.size() == static_cast<std::size_t>(steps) + 1);
        CHECK(times.front() == 0.0);
        CHECK(times.back() == 1.0);
        CHECK(std::is_sorted(times.begin(), times.end(), std::less_equal<>()));
        for (const FlowSolver solver : {FlowSolver::euler, FlowSolver::midpoint, FlowSolver::heun}) {
          double covered = 0;
          for (const auto& [t, width] : flow_calls({.steps = steps, .solver = solver, .grid = grid(text)})) {
            CHECK(t >= 0.0);
            CHECK(t <= 1.0);
            covered += width;
          }
          CHECK(covered == doctest::Approx(1.0).epsilon(1e-12));
        }
      }
    }
    double t = 0.0;
    for (const auto& [at, width] : flow_calls({.steps = 10})) {
      CHECK(at == t);
      CHECK(width == 1.0 / 10);
      t += 1.0 / 10;
    }
    CHECK(flow_times({.steps = 3, .grid = grid("0,0.25,1")}) == std::vector<double>{0, 0.25, 1});
    CHECK(flow_times({.steps = 8, .grid = grid("cosine")}) == flow_times({.steps = 8, .grid = grid("sway")}));
    CHECK(flow_times({.steps = 2, .grid = grid("cosine")})[1] == doctest::Approx(1.0 - std::sqrt(0.5)));
    for (const int steps : {0, -1, 129}) CHECK_THROWS_AS((void)flow_times({.steps = steps}), ModelError);
    for (const double t : {-0.1, 2.1, std::nan("")}) CHECK_THROWS_AS((void)flow_times({.temperature = t}), ModelError);
    FlowGrid falling{.kind = FlowGrid::Kind::list, .sway = 0, .times = {0, 0.5, 0.5, 1}};
    CHECK_THROWS_AS((void)flow_times({.grid = falling}), ModelError);
  }

  TEST_CASE("each solver converges with its order, on every grid") {
    const at::Tensor exact = end_of_known_equation({.steps = 128, .solver = FlowSolver::midpoint}) * (4.0 / 3.0) -
                             end_of_known_equation({.steps = 64, .solver = FlowSolver::midpoint}) / 3.0;
    for (const char* text : kGrids) {
      for (const FlowSolver solver : {FlowSolver::euler, FlowSolver::midpoint, FlowSolver::heun}) {
        CAPTURE(text);
        CAPTURE(to_string(solver));
        const auto error = [&](int steps) {
          return distance(end_of_known_equation({.steps = steps, .solver = solver, .grid = grid(text)}), exact);
        };
        const double order = std::log2(error(24) / error(48));
        CHECK(order == doctest::Approx(solver == FlowSolver::euler ? 1.0 : 2.0).epsilon(0.15));
      }
    }
  }

  TEST_CASE("solvers and grids are written and read back; what is none is refused") {
    for (const FlowSolver solver : {FlowSolver::euler, FlowSolver::midpoint, FlowSolver::heun}) {
      CHECK(parse_flow_solver(to_string(solver)).value() == solver);
    }
    for (const char* text : {"uniform", "cosine", "sway:-0.5", "sway:1", "0,0.125,1"}) {
      CHECK(to_string(grid(text)) == text);
      CHECK(parse_flow_grid(to_string(grid(text))).value() == grid(text));
    }
    CHECK(!parse_flow_solver("rk4"));
    for (const char* text : {"", "linear", "sway:", "sway:x", "sway:-1.5", "sway:nan", "0,1,", "0", "0,0.5", "0.1,1",
                             "0,0.5,0.2,1", "0;1", "0,1e400", "1"}) {
      CAPTURE(text);
      CHECK(!parse_flow_grid(text));
    }
  }

  TEST_CASE("a choice replaces what it names and nothing else") {
    const FlowSchedule own{
        .steps = 8, .guidance = 0.5, .solver = FlowSolver::heun, .grid = grid("0,0.5,1"), .temperature = 0.8};
    CHECK(chosen_schedule(own, {}) == own);
    CHECK(chosen_schedule(own, {.steps = 4}) ==
          FlowSchedule{.steps = 4, .guidance = 0.5, .solver = FlowSolver::heun, .grid = {}, .temperature = 0.8});
    const FlowSchedule other = chosen_schedule(
        own, {.steps = 4, .guidance = 0.0, .solver = FlowSolver::euler, .grid = grid("cosine"), .temperature = 0.5});
    CHECK(other ==
          FlowSchedule{
              .steps = 4, .guidance = 0.0, .solver = FlowSolver::euler, .grid = grid("cosine"), .temperature = 0.5});
  }

  TEST_CASE("guidance in one batch of two gives what two calls give") {
    const c10::InferenceMode inference;
    const Dit dit = small_dit();
    at::manual_seed(4);
    const at::Tensor mu = at::randn({1, 41, dit.config().text_dim});
    const at::Tensor prompt = at::randn({1, 13, dit.config().mel});
    const at::Tensor noise = at::randn({1, 41, dit.config().mel});
    const FlowSchedule schedule{.steps = 3, .guidance = 0.7, .solver = FlowSolver::midpoint};
    const at::Tensor got = sample_flow(dit, mu, prompt, noise, make_flow_plan(dit, schedule));

    const at::Tensor x = noise.clone();
    x.narrow(1, 0, 13).zero_();
    at::Tensor known = at::zeros_like(x);
    known.narrow(1, 0, 13).copy_(prompt);
    const auto with = dit.window(known, dit.text(mu));
    const auto without = dit.window(at::zeros_like(known), dit.text(at::zeros_like(mu)));
    const auto calls = flow_calls(schedule);
    solve_flow(x, schedule, [&](const at::Tensor& at_x, std::size_t call) {
      const auto modulation = dit.modulation(dit.time(calls[call].t, calls[call].width));
      const at::Tensor v = dit.velocity(at_x, with, modulation);
      at::Tensor out = v + (v - dit.velocity(at_x, without, modulation)) * 0.7;
      out.narrow(1, 0, 13).zero_();
      return out;
    });
    CHECK(distance(got, x) < 1e-6);
    CHECK(got.narrow(1, 0, 13).abs().max().item<double>() == 0.0);
    const at::Tensor free = sample_flow(dit, mu, prompt, noise, make_flow_plan(dit, {.steps = 3}));
    CHECK(distance(got, free) > 1e-3);
  }

  TEST_CASE("more steps come closer to the flow's end, a second-order solver sooner") {
    const c10::InferenceMode inference;
    const Dit dit = small_dit();
    at::manual_seed(5);
    const at::Tensor mu = at::randn({1, 30, dit.config().text_dim});
    const at::Tensor prompt = at::randn({1, 8, dit.config().mel});
    const at::Tensor noise = at::randn({1, 30, dit.config().mel});
    // Random weights make a velocity that is rough in time: here time stands still.
    const auto modulation = dit.modulation(dit.time(0.3, 0.0));
    const auto end = [&](const FlowSchedule& schedule) {
      const at::Tensor x = noise.clone();
      const auto window = dit.window(at::zeros_like(x), dit.text(mu));
      solve_flow(x, schedule,
                 [&](const at::Tensor& at_x, std::size_t) { return dit.velocity(at_x, window, modulation); });
      return x;
    };
    const at::Tensor far = end({.steps = 64, .solver = FlowSolver::midpoint});
    const double coarse = distance(end({.steps = 4}), far);
    CHECK(distance(end({.steps = 8}), far) < 0.7 * coarse);
    CHECK(distance(end({.steps = 16}), far) < 0.4 * coarse);
    CHECK(distance(end({.steps = 4, .solver = FlowSolver::midpoint}), far) < 0.5 * coarse);
    CHECK(distance(end({.steps = 4, .solver = FlowSolver::heun}), far) < 0.5 * coarse);
  }

  TEST_CASE("the causal flow in any chunking equals the whole, with every solver") {
    const c10::InferenceMode inference;
    CausalFlowConfig config;
    config.features = 12;
    config.mel = 10;
    config.dim = 16;
    config.inner = 24;
    config.layers = 2;
    const CausalFlow flow(WeightScope(std::make_shared<GeneratedWeights>()), config);
    const at::Tensor mu = at::randn({37, 12});
    at::Tensor euler;
    for (const FlowSolver solver : {FlowSolver::euler, FlowSolver::midpoint, FlowSolver::heun}) {
      CAPTURE(to_string(solver));
      const auto schedule = flow.make_schedule({.steps = 3, .solver = solver, .grid = grid("cosine")});
      auto state = flow.initial_state(schedule, 9);
      const at::Tensor whole = flow.step(mu, state);
      for (const std::int64_t chunk : {1, 5, 16}) {
        auto parts_state = flow.initial_state(schedule, 9);
        std::vector<at::Tensor> parts;
        for (std::int64_t i = 0; i < 37; i += chunk) {
          parts.push_back(flow.step(mu.narrow(0, i, std::min<std::int64_t>(chunk, 37 - i)), parts_state));
        }
        CHECK(distance(at::cat(parts), whole) < 1e-5);
      }
      if (!euler.defined()) euler = whole;
      if (solver != FlowSolver::euler) CHECK(distance(whole, euler) > 1e-4);
    }
  }

  TEST_CASE("windows are cut the same way whenever the frames come, and cost the same per frame at any length") {
    const FlowWindowPolicy policy;
    constexpr std::int64_t kTotal = 1777;
    const auto cut = [&](std::int64_t chunk, std::int64_t total) {
      std::vector<std::int64_t> flat;
      std::int64_t index = 0;
      std::int64_t made = 0;
      for (std::int64_t known = std::min(chunk, total);; known = std::min(known + chunk, total)) {
        while (const auto window = flow_window(policy, index, made, known, known == total)) {
          flat.insert(flat.end(), {window->context, window->begin, window->end, window->until});
          CHECK(window->begin == made);
          CHECK(window->until <= known);
          made = window->end;
          ++index;
        }
        if (known == total) break;
      }
      CHECK(made == total);
      return flat;
    };
    const auto whole = cut(kTotal, kTotal);
    CHECK(cut(1, kTotal) == whole);
    CHECK(cut(100, kTotal) == whole);
    CHECK(whole[2] == policy.first);
    const auto cost = [&](std::int64_t total) {  // frames seen per frame made, a prompt of 150 included
      const auto flat = cut(total, total);
      std::int64_t seen = 0;
      for (std::size_t i = 0; i < flat.size(); i += 4) seen += 150 + flat[i] + flat[i + 3] - flat[i + 1];
      return static_cast<double>(seen) / static_cast<double>(total);
    };
    CHECK(cost(60'000) < 1.05 * cost(8'000));
    CHECK(cost(60'000) > 0.90 * cost(8'000));
  }

  TEST_CASE("the alignment of an overlap is the best there is") {
    at::manual_seed(6);
    const SplicePolicy policy{.max_shift = 1, .bend = 0.3};
    for (int round = 0; round < 20; ++round) {
      const at::Tensor before = at::randn({6, 2});
      const at::Tensor after = at::randn({7, 2});
      const auto cost = [&](const std::vector<std::int64_t>& shifts) {
        double sum = policy.bend * static_cast<double>(std::abs(shifts.back()));
        for (std::int64_t i = 0; i < 6; ++i) {
          const std::int64_t s = shifts[static_cast<std::size_t>(i)];
          if (i + s < 0 || i + s >= 7) return std::numeric_limits<double>::infinity();
          if (i > 0) {
            const auto bent = std::abs(s - shifts[static_cast<std::size_t>(i - 1)]);
            if (bent > 1) return std::numeric_limits<double>::infinity();
            sum += policy.bend * static_cast<double>(bent);
          }
          const double angle = (static_cast<double>(i) + 0.5) / 6.0 * M_PI / 2.0;
          const double heard = std::pow(std::sin(2.0 * angle), 2);
          sum += heard * (before[i] - after[i + s]).square().mean().item<double>();
        }
        return sum;
      };
      double best = std::numeric_limits<double>::infinity();
      for (int code = 0; code < 729; ++code) {
        std::vector<std::int64_t> shifts;
        for (int i = 0, rest = code; i < 6; ++i, rest /= 3) shifts.push_back(rest % 3 - 1);
        best = std::min(best, cost(shifts));
      }
      CHECK(cost(align_overlap(before, after, policy)) == doctest::Approx(best).epsilon(1e-5));
    }
  }

  TEST_CASE("a splice of equal versions changes nothing, a late version is found, and power neither rises nor falls") {
    at::manual_seed(7);
    const at::Tensor whole = at::randn({40, 20}) * 0.3;
    CHECK((splice_mel(whole.narrow(0, 5, 12), whole.narrow(0, 5, 20)) - whole.narrow(0, 5, 12))
              .abs()
              .max()
              .item<double>() < 1e-6);
    // The later version is two frames ahead where the splice begins, and has caught up behind it.
    at::Tensor ahead = whole.narrow(0, 7, 20).clone();
    ahead.narrow(0, 9, 11).copy_(whole.narrow(0, 14, 11));
    const auto shifts = align_overlap(whole.narrow(0, 5, 12), ahead);
    CHECK(shifts[4] == -2);
    CHECK(shifts[6] == -2);
    CHECK(std::abs(shifts[11]) <= 1);
    const at::Tensor quiet = at::full({8, 3}, -0.9);
    const at::Tensor loud = at::full({12, 3}, 0.4);
    const at::Tensor joined = splice_mel(quiet, loud);
    CHECK(joined.max().item<double>() <= 0.4 + 1e-6);
    CHECK(joined.min().item<double>() >= -0.9 - 1e-6);
    CHECK((joined.narrow(0, 1, 7) - joined.narrow(0, 0, 7)).min().item<double>() > 0.0);
    const double power = std::exp(14.0 * joined[3][0].item<double>());
    const double part = std::pow(std::sin(3.5 / 8.0 * M_PI / 2.0), 2);
    CHECK(power == doctest::Approx(part * std::exp(14.0 * 0.4) + (1 - part) * std::exp(14.0 * -0.9)).epsilon(1e-4));
    CHECK_THROWS_AS((void)splice_mel(loud, quiet), ModelError);
  }

  TEST_CASE("an utterance chooses steps, solver, grid, guidance and how much of the reference is seen") {
    const c10::InferenceMode inference;
    const CfmModel model = small_model(small_config(ModelForm::v4));
    const auto speaker = speaker_of(model);
    const auto plain = speak(model, speaker, {.seed = 2});
    const auto differs = [&](const AcousticOptions& options) {
      const auto other = speak(model, speaker, options);
      return other.size() == plain.size() && other != plain && other == speak(model, speaker, options);
    };
    CHECK(speak(model, speaker, {.seed = 2, .steps = 2}) == plain);
    CHECK(differs({.seed = 2, .steps = 4}));
    CHECK(differs({.seed = 2, .flow = {.solver = FlowSolver::heun}}));
    CHECK(differs({.seed = 2, .flow = {.grid = grid("cosine")}}));
    CHECK(differs({.seed = 2, .flow = {.guidance = 0.5}}));
    CHECK(differs({.seed = 2, .flow = {.temperature = 0.5}}));
    CHECK(speak(model, speaker, {.seed = 2, .flow = {.temperature = 0.0}}) ==
          speak(model, speaker, {.seed = 3, .flow = {.temperature = 0.0}}));
    CHECK(differs({.seed = 2, .prompt_frames = 20}));
    CHECK_THROWS_AS((void)speak(model, speaker, {.steps = -3}), ModelError);
    CHECK_THROWS_AS((void)speak(model, speaker, {.prompt_frames = -1}), ModelError);
    PublishedConfig config = small_config(ModelForm::v4);
    config.flow = {.steps = 4, .solver = FlowSolver::midpoint, .grid = grid("sway:-0.5")};
    const CfmModel other = small_model(config);
    CHECK(speak(other, speaker_of(other), {.seed = 2}) ==
          speak(model, speaker,
                {.seed = 2, .flow = {.steps = 4, .solver = FlowSolver::midpoint, .grid = grid("sway:-0.5")}}));
  }

  TEST_CASE("in bfloat16 v3 and v4 sound as in float32") {
    if (bf16_kernels() == nullptr) return;
    for (const ModelForm form : {ModelForm::v3, ModelForm::v4}) {
      CAPTURE(static_cast<int>(form));
      const PublishedConfig config = small_config(form);
      const WeightScope weights = WeightScope(std::make_shared<GeneratedWeights>()).with(Precision::bf16);
      const auto wanted = guard_wave(small_model(config));
      const auto got = guard_wave(CfmModel(weights, weights, config));
      CHECK(got != wanted);
      const AcousticDrift drift = acoustic_drift(wanted, got);
      CAPTURE(to_string(drift));
      CHECK(drift.passes());
    }
  }

  TEST_CASE("BigVGAN in any chunking equals the whole") {
    const c10::InferenceMode inference;
    BigvganConfig config;
    config.in = 8;
    config.channels = 64;
    const Bigvgan vocoder(WeightScope(std::make_shared<GeneratedWeights>()), config);
    at::manual_seed(8);
    for (const std::int64_t total : {1, 3, 83}) {
      const at::Tensor frames = at::randn({total, 8});
      const at::Tensor whole = vocoder.forward(frames.t().unsqueeze(0)).view({-1});
      REQUIRE(whole.size(0) == total * 256);
      for (const std::int64_t chunk : {1, 2, 7, 40, 83}) {
        CAPTURE(total);
        CAPTURE(chunk);
        Bigvgan::State state;
        std::vector<at::Tensor> parts;
        for (std::int64_t at = 0; at < total; at += chunk) {
          parts.push_back(vocoder.step(frames.narrow(0, at, std::min(chunk, total - at)), state, false));
        }
        parts.push_back(vocoder.step(frames.narrow(0, 0, 0), state, true));
        CHECK(distance(at::cat(parts), whole) < 1e-5);
        CHECK_THROWS_AS((void)vocoder.step(frames, state, true), ModelError);
      }
    }
  }

  TEST_CASE("the snake activation is a filter, a bend and a filter") {
    const c10::InferenceMode inference;
    const SnakeActivation activation(WeightScope(std::make_shared<GeneratedWeights>()), 40);
    at::manual_seed(9);
    const at::Tensor x = at::randn({700, 40}) * 4;
    const at::Tensor doubled = SnakeActivation::double_rate(x);
    const at::Tensor alpha = GeneratedWeights().get("act.alpha", {40}).exp();
    const at::Tensor beta = (GeneratedWeights().get("act.beta", {40}).exp() + 1e-9).reciprocal();
    const at::Tensor bent = doubled + at::sin(doubled * alpha).square() * beta;
    CHECK(distance(activation.bend(doubled), bent) < 1e-6);
    const at::Tensor ends = at::replication_pad1d(bent.t().unsqueeze(0), {5, 5}).squeeze(0);
    at::Tensor taps = at::empty({1, 1, 12});
    const auto filter = SnakeActivation::filter();
    std::copy(filter.begin(), filter.end(), taps.data_ptr<float>());
    CHECK(distance(activation(x), at::conv1d(ends.unsqueeze(1), taps, {}, 2).squeeze(1).t()) < 1e-6);
  }

  TEST_CASE("windows of v3 and v4 meet without clicks") {
    const c10::InferenceMode inference;
    for (const ModelForm form : {ModelForm::v3, ModelForm::v4}) {
      CAPTURE(to_string(form));
      const CfmModel model = small_model(small_config(form));
      const auto speaker = speaker_of(model);
      const auto rate = static_cast<int>(sample_rate_hz(form));
      // Speech of made-up weights is like noise, in which the click detector finds nothing: a bend at a seam that is
      // sharper than any elsewhere would be a click here.
      const auto bend = [](const std::vector<float>& x, std::size_t i) {
        return std::abs(x[i + 1] - 2 * x[i] + x[i - 1]);
      };
      for (const std::uint64_t seed : {1U, 2U, 3U, 4U}) {
        auto wave = speak(model, speaker, {.seed = seed});
        std::vector<bool> near_seam(wave.size());
        std::vector<std::size_t> seams;
        for (std::int64_t at = model.windows().first, size = 2 * at; at < 300; at += size, size *= 2) {
          for (const std::int64_t frame : {at, at + 6, at + 12}) {
            seams.push_back(static_cast<std::size_t>(frame * model.hop_samples()));
            for (std::size_t i = seams.back() - 8; i < seams.back() + 8; ++i) near_seam.at(i) = true;
          }
        }
        REQUIRE(seams.size() >= 3);
        float elsewhere = 0;
        float at_seams = 0;
        for (std::size_t i = 1; i + 1 < wave.size(); ++i) {
          float& most = near_seam[i] ? at_seams : elsewhere;
          most = std::max(most, bend(wave, i));
        }
        CHECK(at_seams <= elsewhere);
        CHECK(find_clicks(wave, rate, seams).empty());
        float peak = 0;
        for (const float x : wave) peak = std::max(peak, std::abs(x));
        wave[seams.front()] += 4 * peak;
        CHECK(bend(wave, seams.front()) > elsewhere);
      }
    }
  }
}

}  // namespace tts
