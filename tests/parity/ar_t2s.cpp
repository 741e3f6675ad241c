#include <algorithm>
#include <cmath>
#include <numeric>

#include "tests/parity/ar_common.h"

// ar_t2s_small.json and ar_t2s_full.json: prefill, cache, logits, tokens and return values of the text-to-semantic
// model, one sequence at a time and in batches.

namespace tts::parity {
namespace {

constexpr double kLogits = 1e-4;  // hidden states and logits
constexpr double kExact = 1e-5;   // inputs and caches

/// Largest difference of the logits' norms and, where the case has them, of their first 16 values.
class LogitsCheck {
 public:
  void add(std::span<const float> logits, const Json& norm, const Json* first16) {
    worst_norm_ = std::max(worst_norm_, std::abs(l2(logits) - norm.get<double>()));
    if (first16 == nullptr) return;
    for (std::size_t i = 0; i < first16->size(); ++i) {
      worst_value_ = std::max(worst_value_, std::abs(static_cast<double>(logits[i]) - (*first16)[i].get<double>()));
    }
    has_values_ = true;
  }
  void report(CaseReport& check) const {
    check.error("step_logits_l2", worst_norm_, kLogits);
    if (has_values_) check.error("step_logits_first16", worst_value_, kLogits);
  }

 private:
  double worst_norm_ = 0;
  double worst_value_ = 0;
  bool has_values_ = false;
};

void check_naive(const Fixture& fixture, const Json& c, CaseReport& check) {
  const T2S model = make_t2s(c);
  const std::int64_t d = model.config().hidden;
  const std::int64_t vocab = model.config().vocab;
  const Json& inputs = c.at("inputs");
  const T2SInput input = make_t2s_input(inputs);
  const std::vector<std::int32_t> prompt =
      inputs.at("prompts").is_null() ? std::vector<std::int32_t>() : to_tokens(make_input(inputs.at("prompts")));
  const auto n = static_cast<std::int64_t>(input.phonemes.size() + prompt.size());
  const Json& arrays = c.at("arrays");

  // Stored rows: all, or those of array_rows.
  const auto rows_of = [&](std::span<const float> values, std::int64_t rows) {
    const at::Tensor all = to_tensor(values, {rows, d});
    if (!c.contains("array_rows")) return all;
    return all.index_select(0, at::tensor(to_int64s(c.at("array_rows")), at::kLong));
  };
  const auto compare = [&](const char* quantity, std::span<const float> got, double tolerance) {
    if (!arrays.contains(quantity)) return;
    check.close(quantity, rows_of(got, n), fixture.array(arrays.at(quantity).get<std::string>()), tolerance);
  };
  compare("prefill_input", model.embed(input.phonemes, input.bert, prompt), kExact);

  SemanticDecoder::Options options;
  options.sampling = to_sampling(c.at("sampling"));
  options.max_tokens = max_tokens(c.at("sampling"));
  const FixtureNoise noise(c.contains("noise") ? c.at("noise") : Json());
  SemanticDecoder decoder(model, n + options.max_tokens);
  decoder.state().set_keep_hidden(true);
  decoder.start(input.phonemes, input.bert, prompt, options, noise);
  compare("prefill_hidden", decoder.state().prefill_hidden(), kLogits);
  if (c.contains("prefill_hidden_row_l2")) {
    double worst = 0;
    const std::span<const float> hidden = decoder.state().prefill_hidden();
    for (std::int64_t t = 0; t < n; ++t) {
      const double norm = l2(hidden.subspan(static_cast<std::size_t>(t * d), static_cast<std::size_t>(d)));
      worst =
          std::max(worst, std::abs(norm - c.at("prefill_hidden_row_l2")[static_cast<std::size_t>(t)].get<double>()));
    }
    check.error("prefill_hidden_row_l2", worst, kLogits);
  }
  const std::int64_t last = model.config().layers - 1;
  // The first layer's cache depends on the embedding alone; the last one's on every layer before it.
  compare("k_cache_last_layer", decoder.state().keys(last), kExact);
  compare("k_cache_layer0", decoder.state().keys(0), kExact);
  compare("v_cache_first_layer", decoder.state().values(0), kExact);
  compare("v_cache_layer23", decoder.state().values(last), kExact);

  std::vector<std::int32_t> sampled;
  std::vector<std::int32_t> argmax;
  std::vector<float> step_logits;
  LogitsCheck logits;
  for (;;) {
    const std::int64_t steps = decoder.steps();
    const bool more = decoder.next().has_value();
    if (decoder.steps() == steps) break;  // the limit: nothing was drawn
    const auto step = static_cast<std::size_t>(steps);
    const std::span<const float> raw = decoder.state().logits();
    step_logits.insert(step_logits.end(), raw.begin(), raw.end());
    logits.add(raw, c.at("step_logits_l2").at(step),
               c.contains("step_logits_first16") ? &c.at("step_logits_first16").at(step) : nullptr);
    sampled.push_back(decoder.last_draw().token);
    argmax.push_back(decoder.last_draw().argmax);
    if (!more) break;
  }
  if (arrays.contains("step_logits")) {
    check.close("step_logits", to_tensor(step_logits, {static_cast<std::int64_t>(sampled.size()), vocab}),
                fixture.array(arrays.at("step_logits").get<std::string>()), kLogits);
  }
  if (arrays.contains("step0_logits")) {
    check.close("step0_logits",
                to_tensor(std::span<const float>(step_logits).first(static_cast<std::size_t>(vocab)), {vocab}),
                fixture.array(arrays.at("step0_logits").get<std::string>()), kLogits);
  }
  logits.report(check);
  check.same("sampled_tokens", sampled == to_tokens(c.at("sampled_tokens")));
  if (c.contains("argmax_after_penalty")) {
    check.same("argmax_after_penalty", argmax == to_tokens(c.at("argmax_after_penalty")));
  }
  std::vector<std::int32_t> y = prompt;
  y.insert(y.end(), decoder.tokens().begin(), decoder.tokens().end());
  check.same("returned_y", y == to_tokens(c.at("returned_y")));
  const std::int64_t idx = prompt.empty() ? 0 : decoder.steps() - 1;
  check.same("returned_idx", idx == c.at("returned_idx").get<std::int64_t>());
}

/// Which positions each output of a prefill depends on, found by changing one input at a time: exactly the mask,
/// because the mask is transitive. Returns row-major [n, n], 1 = no influence.
std::vector<std::int64_t> measured_mask(const T2S& model, const T2SInput& input,
                                        const std::vector<std::int32_t>& prompt) {
  const auto n_text = input.phonemes.size();
  const std::size_t n = n_text + prompt.size();
  const auto d = static_cast<std::size_t>(model.config().hidden);
  T2S::State state = model.make_state(1, static_cast<std::int64_t>(n));
  state.set_keep_hidden(true);
  model.prefill(input.phonemes, input.bert, prompt, state);
  const std::vector<float> base(state.prefill_hidden().begin(), state.prefill_hidden().end());
  std::vector<std::int64_t> forbidden(n * n, 0);
  for (std::size_t j = 0; j < n; ++j) {
    std::vector<std::int32_t> phonemes = input.phonemes;
    std::vector<std::int32_t> tokens = prompt;
    if (j < n_text) {
      phonemes[j] = phonemes[j] == 0 ? 1 : 0;
    } else {
      tokens[j - n_text] = tokens[j - n_text] == 0 ? 1 : 0;
    }
    model.prefill(phonemes, input.bert, tokens, state);
    for (std::size_t i = 0; i < n; ++i) {
      const auto row = base.begin() + static_cast<std::ptrdiff_t>(i * d);
      const bool same = std::equal(row, row + static_cast<std::ptrdiff_t>(d),
                                   state.prefill_hidden().begin() + static_cast<std::ptrdiff_t>(i * d));
      forbidden[i * n + j] = same ? 1 : 0;
    }
  }
  return forbidden;
}

void check_batch(const Fixture& fixture, const Json& c, CaseReport& check) {
  const T2S model = make_t2s(c);
  const std::int64_t d = model.config().hidden;
  const std::int64_t vocab = model.config().vocab;
  const Json& inputs = c.at("inputs");
  const Json& arrays = c.at("arrays");
  const at::Tensor prompts = make_input(inputs.at("prompts"));
  const auto max_len = c.at("max_len").get<std::int64_t>();
  const std::int64_t limit = max_tokens(c.at("sampling"));
  const SamplingParams params = to_sampling(c.at("sampling"));
  std::vector<T2SInput> items;
  for (const Json& item : inputs.at("items")) items.push_back(make_t2s_input(item));
  const auto batch = static_cast<std::int64_t>(items.size());

  T2S::State state = model.make_state(batch, max_len + prompts.size(1) + limit);
  state.set_keep_hidden(true);
  std::vector<std::vector<std::int32_t>> history;
  double worst_input = 0;
  double worst_hidden = 0;
  bool mask_equal = true;
  for (std::int64_t b = 0; b < batch; ++b) {
    const T2SInput& item = items[static_cast<std::size_t>(b)];
    history.push_back(to_tokens(prompts[b]));
    model.prefill(item.phonemes, item.bert, history.back(), state, b);
    // The reference pads on the left; ours does not pad at all. Its real rows are compared.
    const std::int64_t n = state.length(b);
    const std::int64_t pad = max_len + prompts.size(1) - n;
    const auto worst = [&](const char* quantity, std::span<const float> got) {
      const at::Tensor want = fixture.array(arrays.at(quantity).get<std::string>())[b].narrow(0, pad, n);
      return (to_tensor(got, {n, d}) - want).abs().max().item<double>();
    };
    if (arrays.contains("prefill_input")) {
      worst_input =
          std::max(worst_input, worst("prefill_input", model.embed(item.phonemes, item.bert, history.back())));
    }
    if (arrays.contains("prefill_hidden")) {
      worst_hidden = std::max(worst_hidden, worst("prefill_hidden", state.prefill_hidden()));
    }
    if (arrays.contains("prefill_mask")) {
      const at::Tensor mask = fixture.array(arrays.at("prefill_mask").get<std::string>())[b];
      const at::Tensor want = mask.narrow(0, pad, n).narrow(1, pad, n).contiguous();
      const std::vector<std::int64_t> got = measured_mask(model, item, history.back());
      mask_equal = mask_equal && std::equal(got.begin(), got.end(), want.data_ptr<std::int64_t>());
      mask_equal = mask_equal && (pad == 0 || mask.narrow(1, 0, pad).min().item<std::int64_t>() == 1);
    }
  }
  if (arrays.contains("prefill_input")) check.error("prefill_input", worst_input, kExact);
  if (arrays.contains("prefill_hidden")) check.error("prefill_hidden", worst_hidden, kLogits);
  if (arrays.contains("prefill_mask")) check.same("prefill_mask", mask_equal);
  if (arrays.contains("step0_logits")) {
    std::vector<float> all;
    for (std::int64_t b = 0; b < batch; ++b) all.insert(all.end(), state.logits(b).begin(), state.logits(b).end());
    check.close("step0_logits", to_tensor(all, {batch, vocab}),
                fixture.array(arrays.at("step0_logits").get<std::string>()), kLogits);
  }

  // The reference's loop: finished rows leave, the limit ends all that remain without their last token.
  std::vector<std::int64_t> active(items.size());
  std::iota(active.begin(), active.end(), 0);
  std::vector<std::int64_t> idx(items.size(), 0);
  std::vector<std::vector<std::int32_t>> step_tokens;
  std::vector<std::vector<std::int32_t>> step_argmax;
  std::vector<float> first16;
  LogitsCheck norms;
  Sampler sampler;
  const Json noise_name = c.contains("noise") ? c.at("noise") : Json();
  for (std::int64_t step = 0; !active.empty(); ++step) {
    if (step > 0) {
      std::vector<std::int32_t> newest;
      for (const std::int64_t b : active) newest.push_back(history[static_cast<std::size_t>(b)].back());
      model.step(active, newest, state);
    }
    std::vector<std::int64_t> still;
    std::vector<std::int32_t> tokens;
    std::vector<std::int32_t> argmax;
    for (std::size_t r = 0; r < active.size(); ++r) {
      const std::int64_t b = active[r];
      const auto item = static_cast<std::size_t>(b);
      std::vector<float> logits(state.logits(b).begin(), state.logits(b).end());
      const auto s = static_cast<std::size_t>(step);
      norms.add(logits, c.at("step_logits_l2").at(s).at(r),
                c.contains("step_logits_first16") ? &c.at("step_logits_first16").at(s).at(r) : nullptr);
      first16.insert(first16.end(), logits.begin(), logits.begin() + 16);
      const Draw draw = sampler.draw(logits, history[item], params, FixtureNoise(noise_name, r), step);
      tokens.push_back(draw.token);
      argmax.push_back(draw.argmax);
      idx[item] = step;
      const bool finished = draw.ends(model.config().eos()) || step + 1 >= limit;
      if (finished) continue;  // its last token is dropped
      history[item].push_back(draw.token);
      still.push_back(b);
    }
    step_tokens.push_back(tokens);
    step_argmax.push_back(argmax);
    active = still;
  }
  if (arrays.contains("step_logits_first16")) {
    check.close("step_logits_first16", to_tensor(first16, {static_cast<std::int64_t>(first16.size()) / 16, 16}),
                fixture.array(arrays.at("step_logits_first16").get<std::string>()), kLogits);
  }
  norms.report(check);
  check.same("step_tokens", Json(step_tokens) == c.at("step_tokens"));
  if (c.contains("step_argmax_after_penalty")) {
    check.same("step_argmax_after_penalty", Json(step_argmax) == c.at("step_argmax_after_penalty"));
  }
  check.same("returned_y", Json(history) == c.at("returned_y"));
  check.same("returned_idx", Json(idx) == c.at("returned_idx"));
}

void check_t2s(const Fixture& fixture, Report& report) {
  for_each_case(fixture, report, [&](const Json& c, CaseReport& check) {
    if (c.at("kind") == "naive") {
      check_naive(fixture, c, check);
    } else {
      check_batch(fixture, c, check);
    }
  });
}

const Registration kSmall("ar_t2s_small", check_t2s);
const Registration kFull("ar_t2s_full", check_t2s);

}  // namespace
}  // namespace tts::parity
