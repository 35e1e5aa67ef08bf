// SPDX-License-Identifier: BSD-3-Clause
// What a forward kernel is given, by value: the bands travel along, nothing is read from the host.
#pragma once

#include "cuda/scores/parameters.h"
#include "semantics/problem.h"

namespace longattn::cuda {

struct ForwardParameters {
  ForwardProblem problem;  // its `bands` pointer is not used here
  BandTable bands;
  ScoreParameters scores;
};

}  // namespace longattn::cuda
