// SPDX-License-Identifier: BSD-3-Clause
// What the backward kernels are given, by value.
#pragma once

#include "cuda/schedule/key_work.h"
#include "cuda/scores/parameters.h"
#include "semantics/problem.h"

namespace longattn::cuda {

struct BackwardParameters {
  BackwardProblem problem;  // its `bands` pointer and its slices are not used here
  BandTable bands;
  ScoreParameters scores;
  SinkSlices sinks;
};

}  // namespace longattn::cuda
