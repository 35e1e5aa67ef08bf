// SPDX-License-Identifier: BSD-3-Clause
// The CPU engine: cuts a problem into tiles of queries and runs them on the chosen kernels.
#pragma once

#include "cpu/kernels.h"

namespace longattn::cpu {

void forward(const ForwardProblem& problem, ElementType type, int threads);
void row_dot(const RowDotProblem& problem, ElementType type, int threads);

// Adds to dq, dk and dv; the same bits for any number of threads. The
// workspace and the bias gradient are as large as backward_sizes says.
void backward(const BackwardProblem& problem, ElementType type, int threads);
BackwardSizes backward_sizes(const Problem& problem);

// Tiles visited by forward and backward since the last call.
int64_t take_visited_tiles();

}  // namespace longattn::cpu
