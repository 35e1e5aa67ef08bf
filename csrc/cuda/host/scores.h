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
  return {static_cast<float>(problem.softmax_scale * kLog2E)};
}

// visit(std::type_identity<Scores>) for the cheapest rule that will do.
template <class Visit>
void with_scores(const Problem& problem, Visit visit) {
  // The number that kernels get is asked: a tiny scale may have become 0 in it.
  if (score_parameters(problem).scale > 0.0f) return visit(std::type_identity<PlainScores>());
  return visit(std::type_identity<GeneralScores>());
}

}  // namespace longattn::cuda
