// SPDX-License-Identifier: BSD-3-Clause
// What the backward kernels are given, by value.
#pragma once

#include "cuda/scores/parameters.h"
#include "semantics/problem.h"

namespace longattn::cuda {

// Key tiles that hold sinks are seen by nearly every query: their queries are cut into slices, so
// that one tile does not outlast all others. Slice 0 adds to dk and dv itself, the others leave
// their shares in a workspace, added up in a fixed order afterwards.
struct SinkSlices {
  int32_t count;  // slices of a tile that holds sinks; 1: no slicing
  int32_t rows;   // sink rows of a sequence, rounded up to whole tiles
  int64_t sequences;
  float* dk;      // [count - 1, sequences, kv_heads, rows, head_dim]
  float* dv;      // [count - 1, sequences, kv_heads, rows, value_dim]
};

struct BackwardParameters {
  BackwardProblem problem;  // its `bands` pointer and its slices are not used here
  BandTable bands;
  ScoreParameters scores;
  SinkSlices sinks;
};

}  // namespace longattn::cuda
