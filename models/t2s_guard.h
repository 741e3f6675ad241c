#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tts {

class TokenModel;

/// What a T2S says to the guard inputs: a few English texts, each with a prompt and a continuation that the float32
/// model drew itself, so that the numbers are those of speech and the same for the same weights.
struct T2SAnswers {
  std::vector<std::int32_t> tokens;  ///< [inputs, kGuardTokens]: prompt, then continuation
  std::vector<float> logits;         ///< [answers, vocab]: after the prompt and after each token but the last
  std::int64_t vocab = 0;
};

inline constexpr std::int64_t kGuardTokens = 24;
inline constexpr std::int64_t kGuardPrompt = 8;

/// Draws the tokens, or is told those of `follow`.
[[nodiscard]] T2SAnswers answer_guard(const TokenModel& model, const T2SAnswers* follow = nullptr);

/// How far answers are from those of full precision. Logits count without their mean, which no draw depends on.
struct T2SDrift {
  double cosine = 1;      ///< smallest over the answers
  double largest = 0;     ///< largest difference of a logit, in deviations of its answer
  double divergence = 0;  ///< mean Kullback-Leibler divergence of the distributions, nats
  /// Share of answers whose best token is one that full precision finds about as likely as its own best: the same, or
  /// at least three quarters as probable, because which of two equals is ahead says nothing.
  double top1 = 1;
  double top5 = 1;  ///< the same of the five best: mean share that is about as probable as the fifth, or more
};

[[nodiscard]] T2SDrift measure_drift(const T2SAnswers& full, const T2SAnswers& low);
/// Which bound it is past, with what it is and the bound; empty: none. closely: what nobody asked for must be so near
/// that hardly a draw in a hundred changes.
[[nodiscard]] std::string guard_fault(const T2SDrift& drift, bool closely = false);
/// As key=value pairs.
[[nodiscard]] std::string to_string(const T2SDrift& drift);

}  // namespace tts
