// SPDX-License-Identifier: BSD-3-Clause
#include <launch/launch.h>

#include "cuda/host/dispatch.h"
#include "cuda/host/engine.h"
#include "cuda/host/grid.h"
#include "cuda/row_dot/kernel.cuh"
#include "semantics/integers.h"

namespace longattn::cuda {

void row_dot(const RowDotProblem& problem, ElementType type, void* stream) {
  const int64_t rows = problem.batch * problem.q_heads * problem.q_len;
  const unsigned grid = checked_grid(ceil_divide(rows, kRowsOfRowDot));
  if (grid == 0) return;
  with_element(type, [&]<class Element>(std::type_identity<Element>) {
    if (problem.out_is_accumulator) {
      launch("row_dot", &row_dot_kernel<Element, float>, grid, kRowDotThreads, 0, stream,
                  problem);
    } else {
      launch("row_dot", &row_dot_kernel<Element, Element>, grid, kRowDotThreads, 0, stream,
                  problem);
    }
  });
}

}  // namespace longattn::cuda
