// SPDX-License-Identifier: BSD-3-Clause
// What a translation unit for one instruction set offers: kernels for some element types.
#pragma once

#include <cstdint>

#include "cpu/key_gradients.h"
#include "semantics/element_type.h"
#include "semantics/problem.h"
#include "semantics/rotary.h"
#include "semantics/sequence.h"

namespace longattn {

// One tile of queries of one head. Both return the number of tiles visited.
using ForwardKernel = int64_t (*)(const ForwardProblem&, const Sequence&, int32_t head,
                                  int32_t first_row, void* scratch);
// Adds dk and dv where KeyGradients says.
using BackwardKernel = int64_t (*)(const BackwardProblem&, const KeyGradients&, const Sequence&,
                                   int32_t head, int32_t first_row, void* scratch);

// One row of a tensor of elements, from `dim` accumulators.
using WriteRowKernel = void (*)(const void* numbers, int32_t dim, const TensorView&, int64_t batch,
                                int64_t row, int32_t head);

// Rows [begin, end) of one head.
using RowDotKernel = void (*)(const RowDotProblem&, int64_t batch, int32_t head, int64_t begin,
                              int64_t end);

// Rows [begin, end), at most kMaxRotaryRows, of all heads of queries and keys. Backward adds to
// bias_sums, accumulators [q_heads + kv_heads, head_dim], where gradients of biases are wanted.
using RotaryKernel = void (*)(const RotaryProblem&, int64_t batch, int64_t begin, int64_t end,
                              void* bias_sums, void* scratch);
inline constexpr int64_t kMaxRotaryRows = 64;

struct Kernels {
  ForwardKernel forward;
  BackwardKernel backward;
  WriteRowKernel write_row;
  RowDotKernel row_dot;
  RotaryKernel rotate;
  RotaryKernel rotate_backward;
};

}  // namespace longattn
