// SPDX-License-Identifier: BSD-3-Clause
// The CPU engine: cuts a problem into tiles of queries and runs them on the chosen kernels.
#pragma once

#include "cpu/kernels.h"

namespace longattn::cpu {

void forward(const ForwardProblem& problem, ElementType type, int threads);
void row_dot(const RowDotProblem& problem, ElementType type, int threads);

// The same bits for any number of threads. The workspace and the bias gradient are as large as
// backward_sizes says of the problem, of which it reads `writes` beside what all problems have.
void backward(const BackwardProblem& problem, ElementType type, int threads);
BackwardSizes backward_sizes(const BackwardProblem& problem, int threads);

// Tiles visited by forward and backward since the last call.
int64_t take_visited_tiles();

}  // namespace longattn::cpu
