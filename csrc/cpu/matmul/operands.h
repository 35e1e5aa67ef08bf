// SPDX-License-Identifier: BSD-3-Clause
// The two operands of every product in the engine: sum[m][lane] += left(m, s) * right[s][lane].
#pragma once

#include <cstddef>

namespace longattn {

// Scalars, spread over the lanes. A unit is what one multiply step consumes: a number, or a pair
// of 16-bit numbers. Strides are in bytes, so that rows of K and V serve as they lie in memory.
struct LeftOperand {
  const char* data;
  ptrdiff_t row_bytes;   // from m to m + 1
  ptrdiff_t step_bytes;  // from s to s + 1
};

// Lane vectors: units [steps][stride].
template <class Unit>
struct RightOperand {
  const Unit* data;
  ptrdiff_t stride;
};

}  // namespace longattn
