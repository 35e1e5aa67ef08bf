// SPDX-License-Identifier: BSD-3-Clause
// Which of the compiled rules makes a problem's scores, and with which numbers.
#pragma once

#include <type_traits>

#include "cuda/scores/general.h"
#include "cuda/scores/plain.h"
#include "semantics/problem.h"
#include "semantics/softmax_state.h"

namespace longattn::cuda {

inline ScoreParameters score_parameters(const Problem& problem) {
  if (problem.softcap > 0) {
    // The exponent of e^(2 score / softcap), as a power of 2.
    return {static_cast<float>(2 * kLog2E * problem.softmax_scale / problem.softcap),
            static_cast<float>(problem.softcap * kLog2E)};
  }
  return {static_cast<float>(problem.softmax_scale * kLog2E), 0.0f};
}

// What the forward kernel asks of a scale besides.
enum class ScaleOf { kAnySign, kPositive };

// visit(std::type_identity<Scores>) for the cheapest rule that will do.
template <class Visit>
void with_scores(const Problem& problem, ScaleOf asked, Visit visit) {
  const bool scaled_only = problem.softcap == 0 && problem.bias.kind == BiasKind::kNone;
  // The number that kernels get is asked: a tiny scale may have become 0 in it.
  const bool positive = score_parameters(problem).scale > 0.0f;
  if (scaled_only && (positive || asked == ScaleOf::kAnySign)) {
    return visit(std::type_identity<PlainScores>());
  }
  return visit(std::type_identity<GeneralScores>());
}

}  // namespace longattn::cuda
