// SPDX-License-Identifier: BSD-3-Clause
// The CPU engine: cuts a problem into tiles of queries and runs them on the chosen kernels.
#pragma once

#include "cpu/kernels.h"

namespace longattn::cpu {

void forward(const ForwardProblem& problem, ElementType type, int threads);
void backward(const BackwardProblem& problem, ElementType type, int threads);
void row_dot(const RowDotProblem& problem, ElementType type, int threads);

// Slices of queries that the backward pass gives dk and dv buffers of their own, to be added up by
// the caller. Depends on the problem alone: gradients are the same bits for any thread count.
int32_t backward_slices(const SequenceLayout& layout, int32_t kv_heads);

// Tiles visited by forward and backward since the last call.
int64_t take_visited_tiles();

}  // namespace longattn::cpu
