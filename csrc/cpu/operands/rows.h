// SPDX-License-Identifier: BSD-3-Clause
// Some rows of a tensor, and the four roles they can play in a product.
#pragma once

#include <cstddef>

#include "cpu/matmul/operands.h"
#include "semantics/portable.h"

namespace longattn::inline LONGATTN_ISA {

template <class Element>
struct Rows {
  const Element* data;
  ptrdiff_t stride;  // elements between rows
  int count;
  int dim;
};

// The same rows as left operands: m = row, summed over dim; and m = dim, summed over rows.
struct LeftRoles {
  LeftOperand by_row;
  LeftOperand by_dim;
};

enum class Need { kByRow, kByDim, kBoth };

constexpr int round_up(int value, int granule) { return (value + granule - 1) / granule * granule; }

}  // namespace longattn::inline LONGATTN_ISA
